// SPDX-License-Identifier: Apache-2.0

/// When a crashed worker comes back: pure, so that its story can be told without processes.
package struct RestartPolicy {
    package enum Verdict: Equatable {
        case restart(at: UInt64)
        case quarantine
    }

    let base: UInt64
    let cap: UInt64
    let crashesToQuarantine: Int
    let window: UInt64
    private var crashes: [UInt64] = []

    package init(_ configuration: PluginHostConfiguration) {
        base = configuration.backoffBase.nanoseconds
        cap = configuration.backoffCap.nanoseconds
        crashesToQuarantine = configuration.quarantineCrashes
        window = configuration.quarantineWindow.nanoseconds
    }

    package mutating func crashed(at now: UInt64) -> Verdict {
        crashes.removeAll { now &- $0 > window }
        crashes.append(now)
        if crashes.count >= crashesToQuarantine { return .quarantine }
        let doublings = min(crashes.count - 1, 40)
        let (delay, overflow) = base.multipliedReportingOverflow(by: 1 << UInt64(doublings))
        return .restart(at: now.addingSaturating(overflow ? cap : min(delay, cap)))
    }

    /// An administrator's word: what was is forgotten.
    package mutating func forgive() { crashes = [] }
}
