// SPDX-License-Identifier: Apache-2.0

import Foundation
import Glibc
import MilepostSupervision
import Testing

@Suite struct ServiceManagerTests {
    @Test("EXT-14: every kind of news is the datagram that sd_notify(3) defines")
    func texts() {
        #expect(ServiceNews.ready(status: "takes work").text == "READY=1\nSTATUS=takes work")
        #expect(ServiceNews.reloading(at: 7).text == "RELOADING=1\nMONOTONIC_USEC=7\nSTATUS=reloading")
        #expect(ServiceNews.stopping(status: "draining").text == "STOPPING=1\nSTATUS=draining")
        #expect(ServiceNews.watchdog.text == "WATCHDOG=1")
    }

    @Test("a status cannot smuggle in another assignment", arguments: ["\n", "\r\n", "\0", "\r"])
    func oneLine(separator: String) {
        #expect(ServiceNews.status("fine\(separator)MAINPID=1").text == "STATUS=fine")
    }

    @Test("EXT-14: the watchdog is fed twice in its period, and only by the process that is meant")
    func watchdog() {
        func interval(_ environment: [String: String]) -> Duration? {
            ServiceManager(
                environment: environment.merging(["NOTIFY_SOCKET": "@x"]) { own, _ in own }, processID: 42
            ).watchdogInterval
        }
        #expect(interval(["WATCHDOG_USEC": "30000000"]) == .seconds(15))
        #expect(interval(["WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "42"]) == .seconds(15))
        #expect(interval(["WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "43"]) == nil)
        for wrong in ["", "0", "-5", "soon", "99999999999999999999"] {
            #expect(interval(["WATCHDOG_USEC": wrong]) == nil, "\(wrong)")
        }
        #expect(interval([:]) == nil)
        #expect(ServiceManager(environment: ["WATCHDOG_USEC": "30000000"], processID: 42).watchdogInterval == nil)
    }

    @Test("EXT-14: news reaches a socket at a path and one with an abstract name", arguments: [true, false])
    func delivery(isAbstract: Bool) throws {
        let name = "\(isAbstract ? "@" : "/tmp/")milepost-notify-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        let socket = try Listener(name)
        defer { socket.close() }
        let manager = ServiceManager(environment: ["NOTIFY_SOCKET": name], processID: getpid())
        try manager.tell(.ready(status: "takes work"))
        try manager.tell(.watchdog)
        #expect(socket.receive() == "READY=1\nSTATUS=takes work")
        #expect(socket.receive() == "WATCHDOG=1")
    }

    @Test("a manager that is gone is an error that names the socket; no manager is none")
    func unreachable() throws {
        try ServiceManager(environment: [:], processID: 1).tell(.watchdog)
        try ServiceManager(environment: ["NOTIFY_SOCKET": "relative"], processID: 1).tell(.watchdog)
        let gone = ServiceManager(environment: ["NOTIFY_SOCKET": "/nonexistent/notify"], processID: 1)
        let error = #expect(throws: SupervisionError.self) { try gone.tell(.watchdog) }
        #expect(error?.description.contains("/nonexistent/notify") == true)
        let long = ServiceManager(
            environment: ["NOTIFY_SOCKET": "/" + String(repeating: "a", count: 200)], processID: 1)
        #expect(throws: SupervisionError.self) { try long.tell(.watchdog) }
    }
}

/// The manager's end.
private struct Listener {
    let descriptor: Int32
    let path: String?

    init(_ name: String) throws {
        descriptor = socket(AF_UNIX, Int32(SOCK_DGRAM.rawValue), 0)
        path = name.hasPrefix("/") ? name : nil
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        var bytes = Array(name.utf8)
        if path == nil { bytes[0] = 0 }
        unsafe withUnsafeMutableBytes(of: &address.sun_path) { unsafe $0.copyBytes(from: bytes) }
        let size = socklen_t(MemoryLayout<sa_family_t>.size + bytes.count)
        let descriptor = self.descriptor
        let result = unsafe withUnsafePointer(to: &address) {
            unsafe $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe bind(descriptor, $0, size) }
        }
        try #require(result == 0)
    }

    func receive() -> String {
        var room = [UInt8](repeating: 0, count: 512)
        let count = unsafe recv(descriptor, &room, room.count, Int32(MSG_DONTWAIT))
        return String(decoding: room.prefix(max(0, count)), as: UTF8.self)
    }

    func close() {
        Glibc.close(descriptor)
        if let path { unsafe unlink(path) }
    }
}
