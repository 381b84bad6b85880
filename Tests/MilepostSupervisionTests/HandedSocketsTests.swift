// SPDX-License-Identifier: Apache-2.0

import Foundation
import Glibc
import MilepostSupervision
import Testing

@Suite struct HandedSocketsTests {
    private func take(_ environment: [String: String], as process: Int32 = 42) throws(HandedSocketError)
        -> [HandedSocket]
    {
        try HandedSocket.take(environment: environment, processID: process)
    }

    @Test("EXT-14: nothing is taken that no manager handed over, or that it handed to another process")
    func notOurs() throws {
        #expect(try take([:]) == [])
        #expect(try take(["LISTEN_FDS": "1"]) == [])
        #expect(try take(["LISTEN_FDS": "1", "LISTEN_PID": "43"]) == [])
        #expect(try take(["LISTEN_PID": "42"]) == [])
        #expect(try take(["LISTEN_FDS": "0", "LISTEN_PID": "42"]) == [])
    }

    @Test(
        "EXT-14: a count that makes no sense is an error and no descriptor is touched",
        arguments: ["", "-1", "x", "1 ", "33", "99999999999999999999", "1\n", "0x1"])
    func senseless(count: String) {
        let error = #expect(throws: HandedSocketError.self) {
            try take(["LISTEN_FDS": count, "LISTEN_PID": "42"])
        }
        #expect(error?.description.contains("milepost.socket") == true)
    }

    @Test("EXT-14: a listening socket is known by its address, and closes on exec from then on")
    func addresses() throws {
        for (family, host) in [(AF_INET, "127.0.0.1"), (AF_INET6, "[::1]")] {
            let descriptor = socket(family, Int32(SOCK_STREAM.rawValue), 0)
            defer { close(descriptor) }
            // Bound by listening: the kernel gives it a port, and the address of any.
            try #require(listen(descriptor, 1) == 0)
            let taken = try HandedSocket(descriptor: descriptor, name: "http")
            #expect(taken.port.map { $0 > 0 } == true && taken.name == "http")
            #expect(taken.address == "\(host == "127.0.0.1" ? "0.0.0.0" : "[::]"):\(taken.port!)")
            #expect(fcntl(descriptor, F_GETFD) & FD_CLOEXEC != 0)
        }
    }

    @Test("EXT-14: what takes no connections is refused with its errno and the unit's name")
    func unusable() throws {
        let datagram = socket(AF_INET, Int32(SOCK_DGRAM.rawValue), 0)
        let silent = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var ends: [Int32] = [0, 0]
        unsafe pipe(&ends)
        defer { for one in [datagram, silent] + ends { close(one) } }
        for (descriptor, errno) in [(datagram, EINVAL), (silent, EINVAL), (ends[0], ENOTSOCK), (1 << 20, EBADF)] {
            let error = #expect(throws: HandedSocketError.self) { try HandedSocket(descriptor: descriptor, name: "x") }
            #expect(error?.description.contains("errno \(errno)") == true, "\(error?.description ?? "")")
            #expect(error?.description.contains("Accept=no") == true)
        }
    }

    @Test("EXT-18: a start that takes long asks the manager for more time")
    func moreTime() {
        #expect(
            ServiceNews.extends(.seconds(90), status: "copies\nX=1").text
                == "EXTEND_TIMEOUT_USEC=90000000\nSTATUS=copies")
    }
}
