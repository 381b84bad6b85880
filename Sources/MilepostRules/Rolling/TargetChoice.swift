// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// A record of the vendor's that a rule may act on: an open deal of the contact, as the plugin found it.
public struct RuleTarget: Hashable, Sendable {
    public var id: String
    public var pipeline: String
    public var stage: String
    public var amount: DecimalAmount?
    public var currency: String?
    public var createdAt: Timestamp?
    public var isPrimary: Bool
    public var isClosed: Bool
    public var name: String?

    public init(
        id: String, pipeline: String, stage: String, amount: DecimalAmount? = nil, currency: String? = nil,
        createdAt: Timestamp? = nil, isPrimary: Bool = false, isClosed: Bool = false, name: String? = nil
    ) {
        self.id = id
        self.pipeline = pipeline
        self.stage = stage
        self.amount = amount
        self.currency = currency
        self.createdAt = createdAt
        self.isPrimary = isPrimary
        self.isClosed = isClosed
        self.name = name
    }

    /// Reads one of `rule_targets`; nil when it lacks what a rule decides by. Vendors number their records and stages or
    /// name them, so both are taken.
    public init?(_ value: JSONValue) {
        func word(_ key: String) -> String? {
            let text = value[key]?.string ?? value[key]?.integer.map(String.init)
            return text.flatMap { $0.isEmpty || $0.utf8.count > 256 ? nil : $0 }
        }
        guard let id = word("id"), let pipeline = word("pipeline"), let stage = word("stage") else { return nil }
        self.init(
            id: id, pipeline: pipeline, stage: stage, amount: word("amount").flatMap(DecimalAmount.init),
            currency: word("currency"), createdAt: value["created_at"]?.string.flatMap { Timestamp(rfc3339: $0) },
            isPrimary: value["is_primary"]?.bool ?? false, isClosed: value["is_closed"]?.bool ?? false,
            name: word("name"))
    }
}

/// Which of a contact's records a firing rule acts on, and why on no other (RULE-06, RULE-08, RULE-17, Z-12).
public enum TargetChoice {
    public struct Decision: Hashable, Sendable {
        public var target: RuleTarget
        /// Nil when the rule acts on it.
        public var refusal: Reason?

        public init(target: RuleTarget, refusal: Reason? = nil) {
            self.target = target
            self.refusal = refusal
        }
    }

    /// Guards first, then the policy among those that passed: `largest` means the largest that may move.
    ///
    /// - Parameter moved: records that a rule with an earlier id moves for the same click.
    /// - Returns: one decision a record, in the order of their ids.
    public static func decide(
        _ rule: RollingRule, among targets: [RuleTarget], moved: Set<String> = []
    ) -> [Decision] {
        var seen: Set<String> = []
        let distinct = targets.filter { seen.insert($0.id).inserted }.sorted(by: comesFirst)
        var decisions = distinct.map { Decision(target: $0, refusal: obstacle(rule, $0, moved)) }
        let eligible = decisions.filter { $0.refusal == nil }.map(\.target)
        guard rule.deals != .all, let chosen = choose(rule.deals, among: eligible) else {
            if rule.deals == .primary { refuseRest(&decisions, but: [], rule.deals) }
            return decisions
        }
        refuseRest(&decisions, but: [chosen.id], rule.deals)
        return decisions
    }

    private static func obstacle(_ rule: RollingRule, _ target: RuleTarget, _ moved: Set<String>) -> Reason? {
        if target.isClosed { return Reason(code: "deal_closed", message: "Deal \(target.id) is closed.") }
        if target.pipeline != rule.action.pipeline {
            return Reason(
                code: "other_pipeline",
                message: "Deal \(target.id) is in pipeline \(target.pipeline), the rule is for \(rule.action.pipeline)."
            )
        }
        if target.stage != rule.action.fromStage {
            return Reason(
                code: "not_in_from_stage",
                message: "Deal \(target.id) is in stage \(target.stage), not in \(rule.action.fromStage).")
        }
        if let minimum = rule.guards.minimumAmount {
            guard let amount = target.amount else {
                return Reason(
                    code: "amount_unknown",
                    message: "Deal \(target.id) has no amount, and the rule asks for at least \(minimum.text).")
            }
            if amount < minimum {
                return Reason(
                    code: "amount_too_small",
                    message: "Deal \(target.id) is worth \(amount.text), the rule asks for at least \(minimum.text).")
            }
        }
        if moved.contains(target.id) {
            return Reason(
                code: "moved_by_other_rule",
                message: "Deal \(target.id) is moved by a rule with an earlier id for the same click.")
        }
        return nil
    }

    private static func choose(_ policy: RollingRule.DealPolicy, among targets: [RuleTarget]) -> RuleTarget? {
        switch policy {
        case .all: nil
        case .primary: targets.first(where: \.isPrimary)
        // Ties go to the first id, so that every run chooses the same one.
        case .newest: targets.reduce(nil) { best, next in isNewer(next, than: best) ? next : best }
        case .largest: targets.reduce(nil) { best, next in isLarger(next, than: best) ? next : best }
        }
    }

    private static func isNewer(_ target: RuleTarget, than best: RuleTarget?) -> Bool {
        guard let best else { return true }
        guard let created = target.createdAt else { return false }
        return best.createdAt.map { created > $0 } ?? true
    }

    private static func isLarger(_ target: RuleTarget, than best: RuleTarget?) -> Bool {
        guard let best else { return true }
        guard let amount = target.amount else { return false }
        return best.amount.map { amount > $0 } ?? true
    }

    private static func refuseRest(
        _ decisions: inout [Decision], but chosen: Set<String>, _ policy: RollingRule.DealPolicy
    ) {
        for index in decisions.indices where decisions[index].refusal == nil {
            let id = decisions[index].target.id
            guard !chosen.contains(id) else { continue }
            decisions[index].refusal = Reason(
                code: "not_chosen", message: "The rule moves the \(policy.rawValue) deal only, which \(id) is not.")
        }
    }

    /// Numbers by size, other ids by byte.
    private static func comesFirst(_ left: RuleTarget, _ right: RuleTarget) -> Bool {
        if let first = UInt64(left.id), let second = UInt64(right.id), first != second { return first < second }
        return left.id.utf8.lexicographicallyPrecedes(right.id.utf8)
    }
}
