// SPDX-License-Identifier: Apache-2.0

import MilepostServer
import Testing

@Suite("trusted proxies")
struct TrustedProxiesTests {
    @Test("the client is the last address that no trusted proxy wrote about itself")
    func client() {
        let proxies = TrustedProxies(["10.0.0.0/8", "::1", "192.168.1.7", "nonsense", "1.2.3.4/99"])
        let table: [(String?, [String], String?)] = [
            ("203.0.113.9", ["1.1.1.1"], "203.0.113.9"),  // a stranger may write what it likes
            ("10.1.2.3", ["203.0.113.9"], "203.0.113.9"),
            ("10.1.2.3", ["6.6.6.6, 203.0.113.9, 10.9.9.9"], "203.0.113.9"),
            ("10.1.2.3", ["6.6.6.6", "203.0.113.9"], "203.0.113.9"),
            ("::1", ["2001:db8::1"], "2001:db8::1"), ("192.168.1.7", ["8.8.8.8"], "8.8.8.8"),
            ("192.168.1.8", ["8.8.8.8"], "192.168.1.8"), ("1.2.3.4", ["8.8.8.8"], "1.2.3.4"),
            ("10.1.2.3", [], "10.1.2.3"), ("10.1.2.3", ["unknown, 10.0.0.5"], "10.0.0.5"), (nil, ["8.8.8.8"], nil),
            ("10.1.2.3", ["<script>"], "10.1.2.3"), ("11.0.0.1", ["8.8.8.8"], "11.0.0.1"),
        ]
        for (peer, forwarded, expected) in table {
            #expect(proxies.client(peer: peer, forwarded: forwarded) == expected, "\(peer ?? "-") \(forwarded)")
        }
        #expect(TrustedProxies().client(peer: "10.1.2.3", forwarded: ["8.8.8.8"]) == "10.1.2.3")
    }
}
