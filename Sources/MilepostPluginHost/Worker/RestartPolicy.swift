// SPDX-License-Identifier: Apache-2.0

package import MilepostModel

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
    private var crashes: [(at: UInt64, records: Set<DeliveryID>)] = []
    /// Crashes remembered; with the back-off more than this do not fit into a sensible window.
    private static let remembered = 256

    package init(_ configuration: PluginHostConfiguration) {
        base = configuration.backoffBase.nanoseconds
        cap = configuration.backoffCap.nanoseconds
        crashesToQuarantine = configuration.quarantineCrashes
        window = configuration.quarantineWindow.nanoseconds
    }

    /// - Parameter records: those in flight. A record that crashes the plugin again and again is its own trouble (it
    ///   becomes a dead letter); only different ones speak against the plugin (decisions 20). A crash with nothing in
    ///   flight always does.
    package mutating func crashed(at now: UInt64, records: Set<DeliveryID> = []) -> Verdict {
        crashes.removeAll { now &- $0.at > window }
        crashes.append((now, records))
        if crashes.count > Self.remembered { crashes.removeFirst() }
        if differentCauses >= crashesToQuarantine { return .quarantine }
        let doublings = min(crashes.count - 1, 40)
        let (delay, overflow) = base.multipliedReportingOverflow(by: 1 << UInt64(doublings))
        return .restart(at: now.addingSaturating(overflow ? cap : min(delay, cap)))
    }

    /// Crashes that no single record explains: those whose records do not meet, the smallest sets first, since a crash
    /// of one record alone says more than one of a batch.
    private var differentCauses: Int {
        var charged: Set<DeliveryID> = []
        var causes = 0
        for crash in crashes.sorted(by: { $0.records.count < $1.records.count })
        where charged.isDisjoint(with: crash.records) {
            causes += 1
            charged.formUnion(crash.records)
        }
        return causes
    }

    /// An administrator's word: what was is forgotten.
    package mutating func forgive() { crashes = [] }
}
