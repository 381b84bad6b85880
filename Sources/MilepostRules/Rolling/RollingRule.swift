// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// When one contact clicks often enough within a rolling window, a record of the vendor's moves on (section Q).
public struct RollingRule: Hashable, Sendable {
    /// Unique in its workspace. Rules that meet on one record take turns in the order of their ids (Z-12).
    public var id: String
    public var name: String
    public var trigger: Trigger
    /// Who acts: the plugin, or one of its connections.
    public var integration: IntegrationName
    public var action: Action
    public var guards: Guards
    public var mode: Mode
    public var rearm: Rearm
    public var deals: DealPolicy
    public var audience: Audience
    /// Allows a `to_stage` that stands before `from_stage` in the vendor's own order (RULE-09).
    public var isForced: Bool

    public struct Trigger: Hashable, Sendable {
        public var scope: Scope
        /// Milliseconds; the window at a moment is half-open, `(moment - window, moment]`.
        public var window: Int64
        /// Clicks of one contact within the window that make the rule fire; inclusive.
        public var threshold: Int

        public init(scope: Scope, window: Int64, threshold: Int) {
            self.scope = scope
            self.window = window
            self.threshold = threshold
        }
    }

    /// Whose clicks count together: those on all links that carry a tag (RULE-13), or those on one link (RULE-10).
    public enum Scope: Hashable, Sendable {
        case tag(String)
        case link(LinkID)

        public var kind: String {
            switch self {
            case .tag: "tag"
            case .link: "link"
            }
        }

        public var id: String {
            switch self {
            case .tag(let name): name
            case .link(let id): id.rawValue
            }
        }
    }

    public struct Action: Hashable, Sendable {
        /// The plugin's action or one of its aliases, without the integration.
        public var type: String
        public var pipeline: String
        public var fromStage: String
        public var toStage: String

        public init(type: String, pipeline: String, fromStage: String, toStage: String) {
            self.type = type
            self.pipeline = pipeline
            self.fromStage = fromStage
            self.toStage = toStage
        }
    }

    public struct Guards: Hashable, Sendable {
        public var requiresContact: Bool
        /// Records worth less are left alone (RULE-08); one without an amount is too.
        public var minimumAmount: DecimalAmount?

        public init(requiresContact: Bool = true, minimumAmount: DecimalAmount? = nil) {
            self.requiresContact = requiresContact
            self.minimumAmount = minimumAmount
        }
    }

    /// `observe` writes down what would have fired and does nothing (RULE-19).
    public enum Mode: String, Sendable, CaseIterable { case act, observe }

    /// Whether a contact whose count fell below the threshold can cross it again (RULE-15).
    public enum Rearm: String, Sendable, CaseIterable {
        case once
        case onRecross = "on_recross"
    }

    /// Which of several records of a contact move (RULE-17).
    public enum DealPolicy: String, Sendable, CaseIterable { case all, primary, newest, largest }

    public init(
        id: String, name: String, trigger: Trigger, integration: IntegrationName, action: Action,
        guards: Guards = Guards(), mode: Mode = .act, rearm: Rearm = .onRecross, deals: DealPolicy = .all,
        audience: Audience = .people, isForced: Bool = false
    ) {
        self.id = id
        self.name = name
        self.trigger = trigger
        self.integration = integration
        self.action = action
        self.guards = guards
        self.mode = mode
        self.rearm = rearm
        self.deals = deals
        self.audience = audience
        self.isForced = isForced
    }

    /// Longest threshold. A window keeps the newest `threshold` clicks of a contact, so this also bounds its memory; a
    /// contact who clicks more often than that within a window is no person.
    public static let maximumThreshold = 10_000
    /// One minute to four hundred days, in milliseconds.
    public static let windowRange: ClosedRange<Int64> = 60_000...(400 * 86_400_000)
    /// Rules of one workspace.
    public static let maximumCount = 1000

    /// Whether `other` counts the same clicks in the same way: only then do the stored windows stay right.
    public func countsLike(_ other: RollingRule) -> Bool {
        trigger == other.trigger && audience == other.audience
    }
}

extension RollingRule {
    /// The rule as a document that `RollingRuleReader` reads back to the same rule: what is stored and what REST answers.
    public var json: JSONValue {
        var trigger: [String: JSONValue] = [
            "contact_window": .string(WindowLength.text(self.trigger.window)),
            "click_threshold": .integer(Int64(self.trigger.threshold)),
        ]
        switch self.trigger.scope {
        case .tag(let name): trigger["link_tag"] = .string(name)
        case .link(let id): trigger["link"] = .string(id.rawValue)
        }
        return [
            "id": .string(id), "name": .string(name), "trigger": .object(trigger),
            "integration": .string(integration.description),
            "action": [
                "type": .string(action.type), "pipeline": .string(action.pipeline),
                "from_stage": .string(action.fromStage), "to_stage": .string(action.toStage),
            ],
            "guard": [
                "require_associated_contact": .bool(guards.requiresContact),
                "deal_amount_min": JSONValue(guards.minimumAmount?.text),
            ],
            "mode": .string(mode.rawValue), "rearm": .string(rearm.rawValue), "deals": .string(deals.rawValue),
            "count": .string(audience.rawValue), "force": .bool(isForced),
        ]
    }
}
