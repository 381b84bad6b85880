// SPDX-License-Identifier: Apache-2.0

/// Contacts' progress under many rules, click by click: what the evaluator and a simulation have in common.
///
/// Holds what it was given and what clicks touched, and nothing else: whoever keeps progress elsewhere hands in what a
/// stretch of clicks needs.
public struct RuleFold: Sendable {
    public struct Key: Hashable, Sendable {
        /// Into `rules`.
        public var rule: Int
        public var contact: String

        public init(rule: Int, contact: String) {
            self.rule = rule
            self.contact = contact
        }
    }

    public let rules: [RollingRule]
    public private(set) var progress: [Key: ContactProgress]

    public init(rules: [RollingRule], progress: [Key: ContactProgress] = [:]) {
        self.rules = rules
        self.progress = progress
    }

    /// Takes a click of `contact` under one rule.
    ///
    /// - Returns: what it did, and the progress after it.
    public mutating func take(
        _ key: Key, time: Int64, isBot: Bool, now: Int64
    ) -> (effect: ContactProgress.Effect, progress: ContactProgress) {
        let rule = rules[key.rule]
        let effect = progress[key, default: ContactProgress()].take(time: time, isBot: isBot, now: now, under: rule)
        return (effect, progress[key] ?? ContactProgress())
    }
}
