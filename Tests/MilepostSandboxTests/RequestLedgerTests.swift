// SPDX-License-Identifier: Apache-2.0

import MilepostSandbox
import Testing

@Suite("the ledger of requests")
struct RequestLedgerTests {
    @Test("old entries go when there are too many, or when their bodies are too much, and numbers stay")
    func bounds() {
        for (bytes, limit) in [(0, RequestLedger.limit), (1 << 20, RequestLedger.byteLimit >> 20)] {
            var ledger = RequestLedger()
            let request = VendorRequest(method: "POST", target: "/x", body: [UInt8](repeating: 0x20, count: bytes))
            for number in 1...limit + 1 {
                #expect(ledger.add(request, at: Instant(milliseconds: 0), isTokenGood: true) == number)
            }
            #expect(ledger.dropped == limit / 10)
            #expect(ledger.entries.count == limit + 1 - limit / 10)
            #expect(ledger.entry(limit / 10) == nil && ledger.entry(limit / 10 + 1)?.number == limit / 10 + 1)
            ledger.update(limit + 1) { $0.status = 200 }
            #expect(ledger.entries.last?.status == 200)
            ledger.removeAll()
            #expect(ledger.entries.isEmpty && ledger.dropped == limit + 1)
            #expect(ledger.add(request, at: Instant(milliseconds: 0), isTokenGood: true) == limit + 2)
        }
    }
}
