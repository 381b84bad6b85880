// SPDX-License-Identifier: Apache-2.0

import Foundation
import MilepostServer
import NIOCore
import Testing

@Suite("an address that cannot be listened at")
struct ListenErrorTests {
    @Test(
        "says which, of which setting, and the cure",
        arguments: [
            (EADDRINUSE, "address_in_use", "ss -ltnp"), (EACCES, "address_forbidden", "milepost.socket"),
            (EADDRNOTAVAIL, "address_unavailable", "ip address"),
        ])
    func causes(number: Int32, code: String, cure: String) throws {
        let error = try #require(ListenError(IOError(errnoCode: number, reason: "bind"), at: "[::1]:443"))
        #expect(error.code.rawValue == code)
        #expect(error.description.hasPrefix("\(code): "))
        for part in ["[::1]:443", "'listen'", cure] { #expect(error.detail.contains(part), "\(error.detail)") }
        #expect(!error.detail.contains("errno") && !error.detail.contains("descriptor"))
    }

    @Test("is told apart from every other error")
    func others() {
        #expect(ListenError(IOError(errnoCode: EIO, reason: "bind"), at: "a:1") == nil)
        #expect(ListenError(CancellationError(), at: "a:1") == nil)
    }
}
