// SPDX-License-Identifier: Apache-2.0

/// A workspace's connection to one account of one vendor.
public struct Connection: Sendable, Equatable {
    public let id: ConnectionID
    public let workspace: WorkspaceID
    public let integration: IntegrationName
    public var state: State
    public var stateSince: Timestamp
    /// A stable code and a sentence for the operator; nil while active.
    public var stateReason: Reason?
    /// The core's own settings.
    public var policy: ThresholdPolicy
    /// The plugin's settings, a JSON object as it was accepted.
    public var settings: JSONValue
    public var account: Account?
    /// The name, in the plugin's manifest, of the one credential that it holds; nil where an older daemon made it, which
    /// knew one only.
    public var credential: String?
    public var warnings: [Reason]
    /// Changes up to and including this sequence number have been evaluated.
    public var cursor: Int64
    /// Made from a file by `milepost apply`: REST changes answer 409 (decisions 32).
    public var isManaged: Bool
    public var connectedAt: Timestamp
    /// Kept by the store; what a caller puts here is not stored.
    public var health = EndpointHealth()

    /// Deliveries leave only while `active`; in every other state they are held, and caps stand still (decisions 9).
    ///
    /// `plan`: what crosses while the workspace's plan fires nothing is marked as passed and never fires (PLAN-03,
    /// PLAN-06); what had crossed before waits for a plan that fires. It follows `active` only: a dead token is said
    /// first.
    public enum State: String, Sendable, Codable, CaseIterable {
        case active
        case needsReauth = "needs_reauth"
        case permission
        case needsTarget = "needs_target"
        case dailyBudget = "daily_budget"
        case disabled
        case quarantined
        case plan
        case disconnected
    }

    public struct Account: Sendable, Equatable, Codable {
        public var id: String
        public var label: String?
        public var domain: String?
        public var userID: String?
        public var userLabel: String?

        public init(
            id: String, label: String? = nil, domain: String? = nil, userID: String? = nil, userLabel: String? = nil
        ) {
            self.id = id
            self.label = label
            self.domain = domain
            self.userID = userID
            self.userLabel = userLabel
        }

        enum CodingKeys: String, CodingKey {
            case id, label, domain
            case userID = "user_id"
            case userLabel = "user_label"
        }
    }

    public init(
        id: ConnectionID, workspace: WorkspaceID, integration: IntegrationName, state: State = .active,
        stateSince: Timestamp, stateReason: Reason? = nil, policy: ThresholdPolicy = ThresholdPolicy(),
        settings: JSONValue = .object([:]), account: Account? = nil, warnings: [Reason] = [], cursor: Int64 = 0,
        isManaged: Bool = false, connectedAt: Timestamp, credential: String? = nil
    ) {
        self.id = id
        self.workspace = workspace
        self.integration = integration
        self.state = state
        self.stateSince = stateSince
        self.stateReason = stateReason
        self.policy = policy
        self.settings = settings
        self.account = account
        self.warnings = warnings
        self.cursor = cursor
        self.isManaged = isManaged
        self.connectedAt = connectedAt
        self.credential = credential
    }
}

/// Why something is as it is: `code` is stable (API, logs, metrics), `message` is a sentence for a person.
public struct Reason: Hashable, Sendable, Codable {
    public var code: String
    public var message: String

    public init(code: String, message: String) {
        self.code = code
        self.message = message
    }
}

/// How a connection turns totals into crossings.
public struct ThresholdPolicy: Hashable, Sendable, Codable {
    /// Ascending, positive, without repeats. Default 100, 1,000, 10,000 (THR-07).
    public var thresholds: [Int64]
    public var aggregation: Aggregation
    public var audience: Audience
    /// Nil: the defaults of `StreamPolicy`.
    public var stream: StreamPolicy?
    /// Nil: the defaults of `EndpointPolicy`.
    public var endpoint: EndpointPolicy?
    /// Nil: the connection judges nothing.
    public var intercept: InterceptPolicy?

    public enum Aggregation: String, Sendable, Codable, CaseIterable { case link, folder }

    /// Longest list of thresholds a connection may have (CFG-05).
    public static let maximumCount = 32
    public static let defaultThresholds: [Int64] = [100, 1000, 10_000]

    public init(
        thresholds: [Int64] = ThresholdPolicy.defaultThresholds, aggregation: Aggregation = .link,
        audience: Audience = .all, stream: StreamPolicy? = nil, endpoint: EndpointPolicy? = nil,
        intercept: InterceptPolicy? = nil
    ) {
        self.thresholds = thresholds
        self.aggregation = aggregation
        self.audience = audience
        self.stream = stream
        self.endpoint = endpoint
        self.intercept = intercept
    }

    enum CodingKeys: String, CodingKey {
        case thresholds, aggregation, stream, endpoint, intercept
        case audience = "count"
    }
}
