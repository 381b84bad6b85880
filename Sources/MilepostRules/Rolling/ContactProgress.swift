// SPDX-License-Identifier: Apache-2.0

import MilepostModel

/// How far one contact has come under one rule: its window, and whether the next crossing fires.
public struct ContactProgress: Sendable, Hashable {
    public var window: ClickWindow
    /// Counts re-arms: part of a crossing's key (decisions 5).
    public var arming: Int64
    /// Whether reaching the threshold is a crossing. Not so after one, until the count has fallen below it (RULE-15).
    public var isArmed: Bool
    /// Clicks taken for a machine's, which a rule that counts people left out (EXC-06).
    public var botClicks: Int64

    public init(
        window: ClickWindow = ClickWindow(), arming: Int64 = 0, isArmed: Bool = true, botClicks: Int64 = 0
    ) {
        self.window = window
        self.arming = arming
        self.isArmed = isArmed
        self.botClicks = botClicks
    }

    /// What a click did.
    public enum Effect: Sendable, Equatable {
        /// A machine's, under a rule that counts people.
        case ignoredBot
        /// Happened before the window that ends now began.
        case tooOld
        case counted
        /// Counted, and the count reached the threshold.
        case crossed
    }

    /// Takes one click.
    ///
    /// - Parameters:
    ///   - time: when it happened. One that claims to come after `now` counts as of `now`: a clock that runs ahead must not
    ///     keep a click out of the window that its own arrival ends.
    ///   - now: the window's end; never less than at the click before.
    public mutating func take(time: Int64, isBot: Bool, now: Int64, under rule: RollingRule) -> Effect {
        settle(now: now, under: rule)
        if isBot, rule.audience == .people {
            botClicks += 1
            return .ignoredBot
        }
        let counted = min(time, now)
        guard counted > now - rule.trigger.window else { return .tooOld }
        window.insert(counted, capacity: rule.trigger.threshold)
        guard isArmed, window.count >= rule.trigger.threshold else { return .counted }
        isArmed = false
        return .crossed
    }

    /// Lets time pass: clicks leave the window, and a count that fell below the threshold arms the rule again.
    public mutating func settle(now: Int64, under rule: RollingRule) {
        window.expire(through: now - rule.trigger.window)
        if !isArmed, rule.rearm == .onRecross, window.count < rule.trigger.threshold {
            isArmed = true
            arming += 1
        }
    }

    /// Clicks that are missing before the threshold is reached; 0 when it is.
    public func missing(under rule: RollingRule) -> Int { max(0, rule.trigger.threshold - window.count) }

    /// Whether it says no more than a contact who never clicked: such a row need not be kept.
    public var isBlank: Bool { window.count == 0 && isArmed && arming == 0 && botClicks == 0 }
}
