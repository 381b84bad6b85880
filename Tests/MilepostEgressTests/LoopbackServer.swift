// SPDX-License-Identifier: Apache-2.0

import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// A vendor on loopback, over plain sockets, so that a test can break the connection wherever it likes.
///
/// One thread accepts, one per connection reads a request, keeps it and does what the script says for it.
final class LoopbackServer: Sendable {
    struct Request: Sendable {
        let method: String
        let target: String
        let headers: [String: String]
        let body: [UInt8]
        /// Which connection it came on, from 1.
        let connection: Int
    }

    enum Action: Sendable {
        /// Answers and keeps the connection.
        case reply(status: Int = 200, headers: [(String, String)] = [], body: [UInt8] = [])
        /// Sends these bytes as they are, then closes.
        case raw([UInt8])
        /// Sends these bytes as they are and keeps the connection.
        case rawKeepAlive([UInt8])
        /// Has read the request and closes without a word.
        case close
        /// Reads nothing more and answers nothing, until the peer or the test closes.
        case hang
    }

    private struct State {
        var requests: [Request] = []
        var connections = 0
        var sockets: [Int32] = []
        var isClosed = false
    }

    let port: Int
    private let listener: Int32
    private let script: @Sendable (Request, _ index: Int) -> Action
    private let state = Mutex(State())

    /// - Parameter script: what to do with the n-th request, from 0 over all connections.
    init(_ script: @escaping @Sendable (Request, _ index: Int) -> Action) {
        self.script = script
        listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let listener = listener
        unsafe withUnsafeMutablePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer in
                precondition(unsafe bind(listener, pointer, length) == 0, "bind: \(errno)")
                precondition(unsafe getsockname(listener, pointer, &length) == 0, "getsockname: \(errno)")
            }
        }
        precondition(listen(listener, 64) == 0, "listen: \(errno)")
        port = Int(UInt16(bigEndian: address.sin_port))
        Self.thread { [self] in accept() }
    }

    var url: String { "http://127.0.0.1:\(port)" }
    var requests: [Request] { state.withLock { $0.requests } }
    var connections: Int { state.withLock { $0.connections } }

    func close() {
        let sockets = state.withLock { state in
            state.isClosed = true
            return state.sockets
        }
        shutdown(listener, Int32(SHUT_RDWR))
        for socket in sockets { shutdown(socket, Int32(SHUT_RDWR)) }
    }

    private func accept() {
        while true {
            let socket = Glibc.accept(listener, nil, nil)
            guard socket >= 0 else { break }
            let number = state.withLock { state -> Int? in
                if state.isClosed { return nil }
                state.connections += 1
                state.sockets.append(socket)
                return state.connections
            }
            guard let number else {
                Glibc.close(socket)
                break
            }
            Self.thread { [self] in serve(socket, number) }
        }
        Glibc.close(listener)
    }

    private func serve(_ socket: Int32, _ number: Int) {
        defer {
            state.withLock { $0.sockets.removeAll { $0 == socket } }
            Glibc.close(socket)
        }
        var pending: [UInt8] = []
        while let request = read(socket, &pending, number) {
            let index = state.withLock { state in
                state.requests.append(request)
                return state.requests.count - 1
            }
            switch script(request, index) {
            case .reply(let status, let headers, let body):
                var text = "HTTP/1.1 \(status) Whatever\r\nContent-Length: \(body.count)\r\n"
                for (name, value) in headers { text += "\(name): \(value)\r\n" }
                guard write(socket, Array((text + "\r\n").utf8) + body) else { return }
            case .raw(let bytes):
                _ = write(socket, bytes)
                return
            case .rawKeepAlive(let bytes): guard write(socket, bytes) else { return }
            case .close: return
            case .hang:
                _ = fill(socket, &pending)
                return
            }
        }
    }

    private func read(_ socket: Int32, _ pending: inout [UInt8], _ number: Int) -> Request? {
        let mark = Array("\r\n\r\n".utf8)
        var end = 0
        while true {
            if let found = (0..<max(0, pending.count - 3)).first(where: { pending[$0..<($0 + 4)].elementsEqual(mark) })
            {
                end = found
                break
            }
            guard fill(socket, &pending) else { return nil }
        }
        let head = String(decoding: pending[..<end], as: UTF8.self).split(separator: "\r\n")
        pending.removeFirst(end + 4)
        guard let line = head.first else { return nil }
        let words = line.split(separator: " ")
        var headers: [String: String] = [:]
        for line in head.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else { continue }
            headers[line[..<colon].lowercased()] = String(line[line.index(after: colon)...].drop { $0 == " " })
        }
        let length = headers["content-length"].flatMap { Int($0) } ?? 0
        while pending.count < length { guard fill(socket, &pending) else { return nil } }
        let body = Array(pending[..<length])
        pending.removeFirst(length)
        return Request(
            method: String(words[0]), target: String(words[1]), headers: headers, body: body, connection: number)
    }

    private func fill(_ socket: Int32, _ pending: inout [UInt8]) -> Bool {
        var chunk = [UInt8](repeating: 0, count: 65_536)
        let count = unsafe chunk.withUnsafeMutableBytes { unsafe recv(socket, $0.baseAddress, $0.count, 0) }
        guard count > 0 else { return false }
        pending += chunk[..<count]
        return true
    }

    private func write(_ socket: Int32, _ bytes: [UInt8]) -> Bool {
        var sent = 0
        while sent < bytes.count {
            let count = unsafe bytes[sent...].withUnsafeBytes {
                unsafe send(socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { return false }
            sent += count
        }
        return true
    }

    private static func thread(_ body: @escaping @Sendable () -> Void) {
        final class Box: Sendable {
            let body: @Sendable () -> Void
            init(_ body: @escaping @Sendable () -> Void) { self.body = body }
        }
        var thread = pthread_t()
        let context = unsafe Unmanaged.passRetained(Box(body)).toOpaque()
        let status = unsafe pthread_create(
            &thread, nil,
            { context in
                unsafe Unmanaged<Box>.fromOpaque(context!).takeRetainedValue().body()
                return nil
            }, context)
        precondition(status == 0)
        pthread_detach(thread)
    }
}
