// SPDX-License-Identifier: Apache-2.0

/// Whether and how a connection's plugin judges what other connections of its workspace are about to do (section I).
public struct InterceptPolicy: Hashable, Sendable, Codable {
    /// What becomes of a record when its judge fails, is late or answers rubbish (HOOK-06).
    public enum OnFailure: String, Sendable, Codable, CaseIterable { case proceed, hold }

    public var isOn: Bool
    /// Nil: what the plugin's manifest advises.
    public var onFailure: OnFailure?
    /// How long one question may take; nil: what the plugin's manifest says.
    public var budgetMilliseconds: Int64?
    /// Integrations (`pipedrive@second`) or plugins (`pipedrive`: all of its connections) that it judges; nil: all.
    public var only: [String]?
    /// The lower, the earlier it is asked; equal ones in the order of their names.
    public var order: Int64

    /// What a budget may be: shorter could not be kept, longer would hold up the workspace.
    public static let budgets: ClosedRange<Int64> = 100...30_000
    public static let orders: ClosedRange<Int64> = -1000...1000

    public init(
        isOn: Bool = false, onFailure: OnFailure? = nil, budgetMilliseconds: Int64? = nil, only: [String]? = nil,
        order: Int64 = 0
    ) {
        self.isOn = isOn
        self.onFailure = onFailure
        self.budgetMilliseconds = budgetMilliseconds
        self.only = only
        self.order = order
    }

    enum CodingKeys: String, CodingKey {
        case only, order
        case isOn = "on"
        case onFailure = "on_failure"
        case budgetMilliseconds = "budget_ms"
    }

    public func judges(_ integration: IntegrationName) -> Bool {
        guard let only else { return true }
        return only.contains(integration.description) || only.contains(integration.plugin.rawValue)
    }
}

/// One answer of one judge about one delivery, as it is kept and shown.
public struct InterceptDecision: Sendable, Equatable {
    /// What the judge said; `failed` when it said nothing that could be used.
    public enum Verdict: String, Sendable, Codable, CaseIterable { case `continue`, change, drop, hold, failed }
    /// What came of it. `passed`: this judge has let it through and is not asked again.
    public enum Effect: String, Sendable, Codable, CaseIterable { case passed, held, dropped }

    public var delivery: DeliveryID
    /// `deal.before` or `rule.before`.
    public var point: String
    public var judge: ConnectionID
    public var integration: IntegrationName
    /// 1 for the first question of this judge about this delivery.
    public var ask: Int
    public var askedAt: Timestamp
    public var answeredAt: Timestamp
    public var verdict: Verdict
    public var effect: Effect
    /// A stable word for a failure.
    public var code: String?
    /// The judge's own reason, or what was wrong with its answer.
    public var message: String?
    /// When it is asked again.
    public var until: Timestamp?
    /// What it changed, as it was written into the payload.
    public var changes: JSONValue?

    public init(
        delivery: DeliveryID, point: String, judge: ConnectionID, integration: IntegrationName, ask: Int,
        askedAt: Timestamp, answeredAt: Timestamp, verdict: Verdict, effect: Effect, code: String? = nil,
        message: String? = nil, until: Timestamp? = nil, changes: JSONValue? = nil
    ) {
        self.delivery = delivery
        self.point = point
        self.judge = judge
        self.integration = integration
        self.ask = ask
        self.askedAt = askedAt
        self.answeredAt = answeredAt
        self.verdict = verdict
        self.effect = effect
        self.code = code
        self.message = message
        self.until = until
        self.changes = changes
    }

    /// The code of a decision that a person took in the judge's place.
    public static let releasedByHand = "released_by_hand"

    /// One line for a person: who, what, how long, why.
    public var sentence: String {
        if code == Self.releasedByHand {
            return "released by hand, \(integration) was not asked again" + (message.map { ": \($0)" } ?? "")
        }
        let said =
            switch verdict {
            case .continue: "let it through"
            case .change: "changed \(changedNames)"
            case .drop: "vetoed it"
            case .hold: "holds it" + (until.map { " until \($0)" } ?? "")
            case .failed:
                switch effect {
                case .passed: "failed, and it went on without a judgement"
                case .held: "failed, and it waits" + (until.map { " until \($0)" } ?? "")
                case .dropped: "failed too often"
                }
            }
        let why = message.map { ": \($0)" } ?? ""
        return "\(integration) \(said) after \((answeredAt - askedAt).wholeMilliseconds) ms\(why)"
    }

    private var changedNames: String {
        var names = ["title", "pipeline", "stage"].filter { changes?[$0] != nil }
        names += (changes?["fields"]?.object ?? [:]).keys.sorted().map { "field \($0)" }
        return names.isEmpty ? "nothing" : names.joined(separator: ", ")
    }
}
