// SPDX-License-Identifier: Apache-2.0

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
}
