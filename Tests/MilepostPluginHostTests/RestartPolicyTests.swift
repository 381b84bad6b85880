// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostPluginHost
import Testing

struct RestartPolicyTests {
    private static let second: UInt64 = 1_000_000_000

    private func policy() -> RestartPolicy {
        var configuration = PluginHostConfiguration()
        configuration.backoffBase = .seconds(1)
        configuration.backoffCap = .seconds(3)
        configuration.quarantineCrashes = 5
        configuration.quarantineWindow = .seconds(600)
        return RestartPolicy(configuration)
    }

    @Test("the wait doubles up to its cap, and the fifth crash in ten minutes is the last")
    func doubles() {
        var policy = policy()
        let waits = (1...5).map { crash -> UInt64? in
            let now = UInt64(crash) * 10 * Self.second
            if case .restart(let at) = policy.crashed(at: now) { return (at - now) / Self.second }
            return nil
        }
        #expect(waits == [1, 2, 3, 3, nil])
    }

    @Test("crashes older than the window are forgotten, and so are forgiven ones")
    func forgets() {
        var policy = policy()
        for crash in 0..<20 {
            let now = UInt64(crash) * 601 * Self.second
            #expect(policy.crashed(at: now) == .restart(at: now + Self.second))
        }
        for _ in 0..<3 { _ = policy.crashed(at: 20_000 * Self.second) }
        policy.forgive()
        #expect(policy.crashed(at: 20_000 * Self.second) == .restart(at: 20_001 * Self.second))
    }

    @Test("decisions 20: one record that crashes the plugin for ever does not quarantine it, five different ones do")
    func countsDifferentRecords() {
        func verdicts(_ crashes: [Set<DeliveryID>]) -> [RestartPolicy.Verdict] {
            var policy = policy()
            return crashes.enumerated().map { policy.crashed(at: UInt64($0) * Self.second, records: $1) }
        }
        #expect(!verdicts(Array(repeating: ["poison"], count: 50)).contains(.quarantine))
        // In a batch first, and alone afterwards.
        let batch: Set<DeliveryID> = ["a", "b", "c", "d", "e"]
        #expect(!verdicts([batch, ["c"], ["c"], ["c"], ["c"], ["c"]]).contains(.quarantine))
        #expect(verdicts([batch, ["a"], ["b"], ["c"], ["d"], ["e"]]).last == .quarantine)
        // With nothing in flight there is nothing but the plugin to blame.
        #expect(verdicts([[], [], [], [], []]).last == .quarantine)
    }
}
