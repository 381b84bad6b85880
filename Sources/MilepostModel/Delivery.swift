// SPDX-License-Identifier: Apache-2.0

/// What a delivery is about: a link, all links of a folder, a contact under a rolling rule, or an event of a vendor.
public struct Scope: Hashable, Sendable, Codable {
    public enum Kind: String, Sendable, Codable { case link, folder, rule, event }
    public var kind: Kind
    /// The link's id, the folder's name, `rule id/number of its firing`, or the event's id.
    public var id: String

    public init(kind: Kind, id: String) {
        self.kind = kind
        self.id = id
    }
}

/// What makes a delivery the only one of its kind, ever (invariant 3, decisions 5).
public struct CrossingKey: Hashable, Sendable {
    public var connection: ConnectionID
    public var scope: Scope
    public var threshold: Int64
    /// 0 for totals; counts re-arms of a rolling rule (RULE-15).
    public var arming: Int64
    /// The remote record where a rule acts on several (RULE-17), else empty.
    public var target: String

    public init(connection: ConnectionID, scope: Scope, threshold: Int64, arming: Int64 = 0, target: String = "") {
        self.connection = connection
        self.scope = scope
        self.threshold = threshold
        self.arming = arming
        self.target = target
    }
}

/// A threshold that was reached, whether or not it fired (invariant 8).
public struct Crossing: Sendable, Equatable {
    public var key: CrossingKey
    public var workspace: WorkspaceID
    public var at: Timestamp
    public var totals: ClickTotals
    /// The delivery it made, or nil when it did not fire.
    public var delivery: DeliveryID?
    /// Why it did not fire; nil when it did.
    public var reason: Reason?

    public init(
        key: CrossingKey, workspace: WorkspaceID, at: Timestamp, totals: ClickTotals, delivery: DeliveryID? = nil,
        reason: Reason? = nil
    ) {
        self.key = key
        self.workspace = workspace
        self.at = at
        self.totals = totals
        self.delivery = delivery
        self.reason = reason
    }
}

/// One thing to make happen at a vendor.
public struct Delivery: Sendable, Equatable {
    public let id: DeliveryID
    public let workspace: WorkspaceID
    public let connection: ConnectionID
    public let integration: IntegrationName
    /// The plugin's action, e.g. `deal`.
    public let action: String
    public let scope: Scope
    public let threshold: Int64
    public let payload: JSONValue
    public var state: State
    public var attempts: Int
    public var reason: Reason?
    public var remoteID: String?
    public var remoteURL: String?
    public let createdAt: Timestamp
    public var updatedAt: Timestamp
    /// Not before this moment; nil: with the next tick.
    public var nextAttemptAt: Timestamp?
    /// Time spent waiting in states in which the caps stand still (decisions 9).
    public var waited: Duration

    public enum State: String, Sendable, Codable, CaseIterable {
        /// Made, not yet tried.
        case pending
        /// Waits for something outside: its connection (whose reason it carries), or an identity.
        case held
        /// A worker has it now.
        case inFlight = "in_flight"
        /// A request may have been applied; nothing is sent before reconcile has answered.
        case uncertain
        /// Not applied, to be tried again.
        case retrying
        case delivered
        /// Decided not to happen, with the reason.
        case dropped
        /// Given up, with the reason: can be replayed.
        case dead

        /// Nothing more happens to it by itself.
        public var isOver: Bool {
            switch self {
            case .delivered, .dropped, .dead: true
            case .pending, .held, .inFlight, .uncertain, .retrying: false
            }
        }
    }

    public init(
        id: DeliveryID, workspace: WorkspaceID, connection: ConnectionID, integration: IntegrationName, action: String,
        scope: Scope, threshold: Int64, payload: JSONValue, state: State = .pending, attempts: Int = 0,
        reason: Reason? = nil, remoteID: String? = nil, remoteURL: String? = nil, createdAt: Timestamp,
        updatedAt: Timestamp, nextAttemptAt: Timestamp? = nil, waited: Duration = .zero
    ) {
        self.id = id
        self.workspace = workspace
        self.connection = connection
        self.integration = integration
        self.action = action
        self.scope = scope
        self.threshold = threshold
        self.payload = payload
        self.state = state
        self.attempts = attempts
        self.reason = reason
        self.remoteID = remoteID
        self.remoteURL = remoteURL
        self.createdAt = createdAt
        self.updatedAt = updatedAt
        self.nextAttemptAt = nextAttemptAt
        self.waited = waited
    }
}

/// What is known about one step of a delivery (invariants 4 and 5).
public struct JournalEntry: Sendable, Equatable {
    public var delivery: DeliveryID
    /// The plugin's name for the step, e.g. `deal`, `note`.
    public var step: String
    public var state: State
    public var attempt: Int
    /// When the intent was written, before the request could leave.
    public var intentAt: Timestamp?
    public var answeredAt: Timestamp?
    /// `never_sent`, `maybe_sent`, `answered`; nil while nobody knows (the daemon died).
    public var wire: String?
    public var httpStatus: Int?
    /// The answer's body, scrubbed and capped; UTF-8 text.
    public var body: String?
    /// What the plugin stored when the step was finished.
    public var result: JSONValue?

    public enum State: String, Sendable, Codable {
        /// Written before the request left; nothing else is known.
        case intent
        /// The request ended; `wire` says how. The plugin has not confirmed the step.
        case answered
        /// The plugin (or reconcile) confirmed the step: never repeated.
        case done
    }

    public init(
        delivery: DeliveryID, step: String, state: State, attempt: Int, intentAt: Timestamp? = nil,
        answeredAt: Timestamp? = nil, wire: String? = nil, httpStatus: Int? = nil, body: String? = nil,
        result: JSONValue? = nil
    ) {
        self.delivery = delivery
        self.step = step
        self.state = state
        self.attempt = attempt
        self.intentAt = intentAt
        self.answeredAt = answeredAt
        self.wire = wire
        self.httpStatus = httpStatus
        self.body = body
        self.result = result
    }

    /// Whether a request of this step may have changed the vendor without our knowing: intent without an answer, or an
    /// end of which nobody can say that it was not applied. 429 and 503 mean not applied (decisions 3).
    public var leavesOutcomeOpen: Bool {
        switch state {
        case .done: return false
        case .intent: return true
        case .answered:
            guard wire != "never_sent" else { return false }
            guard wire == "answered", let status = httpStatus else { return true }
            return (200..<300).contains(status) || (status >= 500 && status != 503)
        }
    }
}

/// One try of a delivery, for the delivery log (EXT-20).
public struct AttemptRecord: Sendable, Equatable {
    public var delivery: DeliveryID
    public var attempt: Int
    public var startedAt: Timestamp
    public var finishedAt: Timestamp
    /// `deliver` or `reconcile`; `replay` where somebody had it begin anew.
    public var verb: String
    /// The verdict's class, e.g. `ok`, `retry`, `uncertain`.
    public var verdict: String
    public var code: String?
    public var message: String?
    public var httpStatus: Int?

    public static let replay = "replay"

    public init(
        delivery: DeliveryID, attempt: Int, startedAt: Timestamp, finishedAt: Timestamp, verb: String, verdict: String,
        code: String? = nil, message: String? = nil, httpStatus: Int? = nil
    ) {
        self.delivery = delivery
        self.attempt = attempt
        self.startedAt = startedAt
        self.finishedAt = finishedAt
        self.verb = verb
        self.verdict = verdict
        self.code = code
        self.message = message
        self.httpStatus = httpStatus
    }
}
