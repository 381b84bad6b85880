// SPDX-License-Identifier: Apache-2.0

import Foundation
import Logging
import MilepostServer
import ServiceLifecycle
import Testing

@Suite("sockets that were handed over")
struct HandedListenerTests {
    @Test("EXT-14: who connects before the engine works waits, and who is silent when the end comes is still heard")
    func waitingAndFarewell() async throws {
        let socket = try ListeningSocket()
        try await World.run(isActive: false, isStarting: true) { world in
            let (running, isRunning) = AsyncStream.makeStream(of: Void.self)
            let service = world.server.service(
                on: socket.duplicate(), limits: ListenerSettings(host: "", port: 0, maximumConnections: 4),
                frameworkLogger: Logger(label: "framework") { _ in LineLog().handler }
            ) { isRunning.yield() }
            let group = ServiceGroup(
                configuration: .init(
                    services: [.init(service: service)], logger: Logger(label: "group") { _ in LineLog().handler }))
            let end = Task { try await group.run() }
            let early = Task {
                try await HTTPExchange.send(
                    Array("GET /readyz HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n".utf8), port: socket.port)
            }
            // The ordinary listener of the same server answers meanwhile, so nothing but the waiting keeps this one.
            #expect(try await world.send("GET", "/readyz").status == 503)
            world.role.activate(world.engine)
            for await _ in running { break }
            let answer = try await early.value
            #expect(answer.status == 200)
            #expect(answer.headers["date"] == "Sat, 21 Nov 2026 12:00:00 GMT")

            let silent = try ClientSocket(port: socket.port)
            let kept = try ClientSocket(port: socket.port)
            #expect(try await kept.ask().hasPrefix("HTTP/1.1 200"))
            await group.triggerGracefulShutdown()
            // The news takes a moment; until then, and once more after it, each request is answered.
            var last = ""
            while !last.lowercased().contains("\r\nconnection: close\r\n") {
                last = try await silent.ask()
                try #require(last.hasPrefix("HTTP/1.1 200"))
            }
            try await end.value
            #expect(try await kept.isAtEnd())
        }
        // The queue outlives the daemon: it takes connections, and nobody is turned away.
        _ = try ClientSocket(port: socket.port)
    }

    @Test("EXT-14: a daemon that is stopped before it takes work leaves the queue to the next one")
    func stoppedEarly() async throws {
        let socket = try ListeningSocket()
        try await World.run(isActive: false) { world in
            let service = world.server.service(
                on: socket.duplicate(), limits: ListenerSettings(host: "", port: 0),
                frameworkLogger: Logger(label: "framework") { _ in LineLog().handler }
            ) { Issue.record("nobody should be served") }
            let group = ServiceGroup(
                configuration: .init(
                    services: [.init(service: service)], logger: Logger(label: "group") { _ in LineLog().handler }))
            let end = Task { try await group.run() }
            let waiting = try ClientSocket(port: socket.port)
            await group.triggerGracefulShutdown()
            // The service returns before it is asked to; the group calls that an early end.
            _ = await end.result
            _ = waiting
        }
    }
}

/// The service manager's end.
private final class ListeningSocket: Sendable {
    let descriptor: Int32
    let port: Int

    init() throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var size = socklen_t(MemoryLayout<sockaddr_in>.size)
        let descriptor = self.descriptor
        let result = unsafe withUnsafeMutablePointer(to: &address) {
            unsafe $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe bind(descriptor, $0, size) == 0 && listen(descriptor, 16) == 0
                    && getsockname(descriptor, $0, &size) == 0
            }
        }
        try #require(result)
        port = Int(UInt16(bigEndian: address.sin_port))
    }

    deinit { close(descriptor) }

    /// As a child inherits it.
    func duplicate() -> Int32 { dup(descriptor) }
}

/// A connection that says its request when it is told to.
private final class ClientSocket: Sendable {
    private let descriptor: Int32

    init(port: Int) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var patience = timeval(tv_sec: 20, tv_usec: 0)
        let length = socklen_t(MemoryLayout<timeval>.size)
        unsafe setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, length)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = in_port_t(port).bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let descriptor = self.descriptor
        let result = unsafe withUnsafePointer(to: &address) {
            unsafe $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                unsafe connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        try #require(result == 0)
    }

    deinit { close(descriptor) }

    /// Blocks, hence a thread of its own.
    func ask() async throws -> String {
        try await Self.onThread { [descriptor] in
            let request = Array("GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n".utf8)
            guard unsafe Glibc.send(descriptor, request, request.count, Int32(MSG_NOSIGNAL)) == request.count else {
                throw HTTPExchange.Failure(step: "send")
            }
            var room = [UInt8](repeating: 0, count: 4096)
            let count = unsafe recv(descriptor, &room, room.count, 0)
            guard count > 0 else { throw HTTPExchange.Failure(step: "recv \(count)") }
            return String(decoding: room.prefix(count), as: UTF8.self)
        }
    }

    func isAtEnd() async throws -> Bool {
        try await Self.onThread { [descriptor] in
            var room = [UInt8](repeating: 0, count: 16)
            return unsafe recv(descriptor, &room, room.count, 0) == 0
        }
    }

    private static func onThread<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value
    {
        try await withCheckedThrowingContinuation { done in
            Thread.detachNewThread { done.resume(with: Result { try body() }) }
        }
    }
}
