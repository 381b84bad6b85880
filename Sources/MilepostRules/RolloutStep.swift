// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// A step of a manifest's `rollout`: how a plugin's maker advises to begin (HCON-10). Pure.
public struct RolloutStep: Sendable, Equatable {
    /// What makes a step done. `by_hand` happens at the vendor or in somebody's head, where the core cannot look.
    public enum Kind: String, Sendable { case byHand = "by_hand", connected, rule }

    public enum State: String, Sendable {
        case done
        /// It begins by itself and needs time: `dueAt` says until when.
        case waiting
        /// Nothing of it has begun.
        case open
        case byHand = "by_hand"
    }

    /// What the core knows of a connection's beginnings.
    public struct Facts: Sendable {
        public var connectedAt: Timestamp
        /// When the oldest of its rolling rules was made; nil without one.
        public var firstRuleAt: Timestamp?
        public var now: Timestamp

        public init(connectedAt: Timestamp, firstRuleAt: Timestamp?, now: Timestamp) {
            self.connectedAt = connectedAt
            self.firstRuleAt = firstRuleAt
            self.now = now
        }
    }

    public let id: String
    public let title: String
    public let text: String?
    let kind: Kind
    /// Days that must have gone by since the connection, or since its first rule, was made; 0 to 3650.
    let days: Int64

    /// Nil for an entry that is none: advice that cannot be read is no reason to refuse a plugin.
    public init?(_ entry: JSONValue) {
        guard let id = entry["id"]?.string, let title = entry["title"]?.string else { return nil }
        self.id = id
        self.title = title
        text = entry["text"]?.string
        kind = entry["done_by"]?.string.flatMap(Kind.init(rawValue:)) ?? .byHand
        days = max(0, min(entry["days"]?.integer ?? 0, 3650))
    }

    public func progress(_ facts: Facts) -> (state: State, dueAt: Timestamp?) {
        let since: Timestamp?
        switch kind {
        case .byHand: return (.byHand, nil)
        case .connected: since = facts.connectedAt
        case .rule: since = facts.firstRuleAt
        }
        guard let since else { return (.open, nil) }
        let due = since + .seconds(days * 86_400)
        return facts.now >= due ? (.done, nil) : (.waiting, due)
    }
}
