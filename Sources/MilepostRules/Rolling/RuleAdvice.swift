// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// Warns about rules that are likely to do something else than their author hopes (RULE-18). Warnings never refuse.
public enum RuleAdvice {
    /// Days of clicks that a threshold should be judged by.
    public static let daysOfData = 14

    /// - Parameters:
    ///   - firstClick: the oldest click that is known; nil when there is none.
    ///   - retentionDays: for how long clicks are kept; nil when that is not known.
    public static func warnings(
        _ rule: RollingRule, firstClick: Timestamp?, retentionDays: Int? = nil, now: Timestamp
    ) -> [Reason] {
        var found: [Reason] = []
        let days = firstClick.map { max(0, (now - $0).wholeMilliseconds / 86_400_000) } ?? 0
        if days < daysOfData {
            found.append(
                Reason(
                    code: "little_history",
                    message:
                        "Only \(days) days of clicks are known; a threshold set before \(daysOfData) days of them is a "
                        + "guess. Set mode: observe for a while, or simulate the rule over an import."))
        }
        if case .tag(let tag) = rule.trigger.scope, let word = coldWord(in: tag) {
            found.append(
                Reason(
                    code: "cold_outreach_tag",
                    message: "The tag \(tag) reads like cold outreach (\(word)): clicks of people who did not ask for "
                        + "mail say little about a deal, and mail scanners click every link."))
        }
        if let retentionDays, rule.trigger.window > Int64(retentionDays) * 86_400_000 {
            found.append(
                Reason(
                    code: "window_beyond_retention",
                    message:
                        "The window is longer than the \(retentionDays) days for which clicks are kept: a rule that is "
                        + "new or was changed cannot look back further than those."))
        }
        if !rule.guards.requiresContact {
            found.append(
                Reason(
                    code: "anonymous_clicks_fire_nothing",
                    message:
                        "require_associated_contact is false, and yet a click without a contact fires nothing: there "
                        + "is no deal to find for it."))
        }
        return found
    }

    private static let coldWords = ["cold", "outreach", "outbound", "prospecting", "spray", "scrape"]

    private static func coldWord(in tag: String) -> String? {
        let words = tag.lowercased().split { !$0.isLetter && !$0.isNumber }.map(String.init)
        return coldWords.first { words.contains($0) }
    }
}
