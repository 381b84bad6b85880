// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostStore

/// What each rolling rule made of the clicks, as gauges.
enum RuleGauges {
    /// Rules with series of their own; those of all others are added up under the rule `other`.
    static let maximumRules = 300

    static func refresh(_ metrics: MetricsRegistry, _ store: any Store) async throws {
        var rows: [(workspace: String, rule: String, counts: RuleCounts)] = []
        var rest = RuleCounts()
        for workspace in try await store.ruleWorkspaces().sorted() {
            for rule in try await store.rules(workspace: workspace) {
                if rows.count < maximumRules {
                    rows.append((workspace.rawValue, rule.id, rule.counts))
                } else {
                    rest.add(rule.counts)
                }
            }
        }
        if rest != RuleCounts() { rows.append(("other", "other", rest)) }
        metrics.clear("milepost_rule_clicks")
        for (workspace, rule, counts) in rows {
            for (outcome, clicks) in counts.byOutcome {
                metrics.set(
                    "milepost_rule_clicks", Double(clicks),
                    ["workspace": workspace, "rule": rule, "outcome": outcome])
            }
        }
    }
}

extension RuleCounts {
    fileprivate var byOutcome: [(String, Int64)] {
        [("counted", counted), ("bots", bots), ("anonymous", anonymous), ("excluded", excluded), ("late", late)]
    }

    fileprivate mutating func add(_ other: RuleCounts) {
        counted += other.counted
        bots += other.bots
        anonymous += other.anonymous
        excluded += other.excluded
        late += other.late
    }
}
