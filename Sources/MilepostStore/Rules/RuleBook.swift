// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// Rolling rules and what came of them. What a rule means is `MilepostRules`' business: here it is a document.
public protocol RuleBook: Sendable {
    /// In the order of their ids, by byte.
    func rules(workspace: WorkspaceID) async throws -> [StoredRule]
    func rule(_ id: String, workspace: WorkspaceID) async throws -> StoredRule?
    /// Workspaces that have rules or crossings that wait for their records.
    func ruleWorkspaces() async throws -> [WorkspaceID]
    /// Creates or replaces rules, all or none. One that counts anew gets empty windows that are filled from history, and
    /// fires for no click that is in the log already (invariant 9).
    func saveRules(_ drafts: [RuleDraft], workspace: WorkspaceID, at: Timestamp) async throws -> [StoredRule]
    /// False when there is none. What waits for its records is dropped with a reason; history stays.
    func deleteRule(_ id: String, workspace: WorkspaceID, at: Timestamp) async throws -> Bool
    /// Notes what a check against the vendor found.
    func setWarnings(rule number: Int64, _ warnings: [Reason], checkedAt: Timestamp) async throws

    /// How far the workspace's rules have read the log.
    func ruleCursor(workspace: WorkspaceID) async throws -> RuleCursor
    /// How far these contacts have come, in the order of `keys`; nil for those without a row. Quickest in the order of
    /// the rules' numbers and contacts.
    func ruleProgress(_ keys: [RuleContact]) async throws -> [RuleProgress?]
    /// Everybody under one rule who has come anywhere, by contact.
    func ruleProgress(rule number: Int64, after contact: String?, limit: Int) async throws -> [(
        contact: String, progress: RuleProgress
    )]
    /// Clicks that wait for their contact under these rules and carry one of the ids; ascending by position.
    func ruleWaiting(
        rules: [Int64], workspace: WorkspaceID, carrying ids: AdvertisementClicks
    ) async throws -> [RuleWaiting]
    /// Stores windows, firings, counts, what waits for its contact and the cursor in one transaction.
    ///
    /// - Throws: `conflict` when the cursor is not where the evaluation began: somebody else was faster.
    func commitRules(_ evaluation: RuleEvaluation) async throws

    /// Crossings that wait for their records and are due; for each click and integration only the first rule's, so that
    /// rules take turns in the order of their ids (Z-12).
    func waitingFirings(workspace: WorkspaceID, now: Timestamp, limit: Int) async throws -> [RuleFiring]
    /// When the next one is due; nil when none waits.
    func nextFiring() async throws -> Timestamp?
    /// Records that rules with earlier ids move for the same click.
    func movedTargets(connection: ConnectionID, position: ClickPosition) async throws -> Set<String>
    /// Ends the wait of a firing: its decisions, and a crossing and a delivery for each record it acts on, in one
    /// transaction. Does nothing when it does not wait any more. Returns the deliveries really made.
    func settleFiring(_ settlement: FiringSettlement) async throws -> [Delivery]
    /// Puts a firing off.
    func deferFiring(_ number: Int64, until: Timestamp, reason: Reason, at: Timestamp) async throws

    /// Newest first.
    func firings(
        workspace: WorkspaceID, matching: FiringFilter, cursor: String?, limit: Int
    ) async throws -> Page<RuleFiring>
    /// Drops windows that say nothing any more and finished firings, both older than given, and what belonged to rules
    /// that are gone. In chunks.
    func enforceRuleRetention(windowsBefore: Timestamp, firingsBefore: Timestamp) async throws -> Int
}

public struct RuleDraft: Sendable, Equatable {
    public var id: String
    public var document: JSONValue
    public var isManaged: Bool
    public var warnings: [Reason]
    /// The stored rule counts the same clicks in the same way, so its windows go on.
    public var keepsWindows: Bool
    /// Milliseconds of history that new windows look back over.
    public var window: Int64

    public init(
        id: String, document: JSONValue, isManaged: Bool = false, warnings: [Reason] = [], keepsWindows: Bool = false,
        window: Int64
    ) {
        self.id = id
        self.document = document
        self.isManaged = isManaged
        self.warnings = warnings
        self.keepsWindows = keepsWindows
        self.window = window
    }
}

public struct StoredRule: Sendable, Equatable {
    /// Names this rule's windows and firings; never given twice.
    public var number: Int64
    public var workspace: WorkspaceID
    public var id: String
    public var document: JSONValue
    public var isManaged: Bool
    public var warnings: [Reason]
    /// Clicks up to here count and fire nothing.
    public var countsFrom: ClickPosition
    /// How far the windows are filled from history; nil once they follow the workspace's cursor.
    public var filled: RuleCursor?
    public var createdAt: Timestamp
    public var changedAt: Timestamp
    public var checkedAt: Timestamp
    public var counts: RuleCounts
}

/// Clicks that a rule looked at, by what became of them. Filling windows from history counts too.
public struct RuleCounts: Sendable, Equatable {
    public var counted: Int64 = 0
    public var bots: Int64 = 0
    public var anonymous: Int64 = 0
    public var excluded: Int64 = 0
    /// Older than the window when they came.
    public var late: Int64 = 0

    public init() {}
}

public struct RuleCursor: Sendable, Hashable {
    public var position: ClickPosition
    /// The number of the last form that was dealt with: forms come between clicks.
    public var form: Int64
    /// The latest time of receipt seen so far: where windows end. It does not step back with the clock.
    public var now: Timestamp

    public init(position: ClickPosition, form: Int64 = 0, now: Timestamp) {
        self.position = position
        self.form = form
        self.now = now
    }

    /// Whether everything has been dealt with that `other` stands for.
    public func hasReached(_ other: RuleCursor) -> Bool { position >= other.position && form >= other.form }
}

/// A click that nobody could be named for when it came: it counts under the rule once a form says who clicked.
public struct RuleWaiting: Sendable, Hashable {
    public var rule: Int64
    public var position: ClickPosition
    /// A form that is received later comes too late.
    public var until: Timestamp
    public var googleClickID: String?
    public var facebookClickID: String?

    public init(
        rule: Int64, position: ClickPosition, until: Timestamp, googleClickID: String?, facebookClickID: String?
    ) {
        self.rule = rule
        self.position = position
        self.until = until
        self.googleClickID = googleClickID
        self.facebookClickID = facebookClickID
    }
}

public struct RuleContact: Hashable, Sendable {
    public var rule: Int64
    public var contact: String

    public init(rule: Int64, contact: String) {
        self.rule = rule
        self.contact = contact
    }
}

public struct RuleProgress: Sendable, Equatable {
    /// The window as `MilepostRules.ClickWindow` encodes it.
    public var window: [UInt8]
    public var arming: Int64
    public var isArmed: Bool
    public var botClicks: Int64

    public init(window: [UInt8], arming: Int64, isArmed: Bool, botClicks: Int64) {
        self.window = window
        self.arming = arming
        self.isArmed = isArmed
        self.botClicks = botClicks
    }
}

/// A stretch of the log, evaluated.
public struct RuleEvaluation: Sendable {
    public var workspace: WorkspaceID
    /// Numbers of the rules whose windows are filled from history; nil: all rules that follow the cursor.
    public var filling: [Int64]?
    public var from: RuleCursor
    public var to: RuleCursor
    public var progress: [(key: RuleContact, progress: RuleProgress)] = []
    public var firings: [RuleFiring] = []
    public var counts: [Int64: RuleCounts] = [:]
    /// Clicks that wait from now on.
    public var waiting: [RuleWaiting] = []
    /// Clicks that waited and do not any more.
    public var identified: [RuleWaiting] = []

    public init(workspace: WorkspaceID, filling: [Int64]?, from: RuleCursor, to: RuleCursor) {
        self.workspace = workspace
        self.filling = filling
        self.from = from
        self.to = to
    }
}

/// A contact reached a rule's threshold.
public struct RuleFiring: Sendable, Equatable {
    public enum State: String, Sendable, CaseIterable {
        /// Which records it acts on is not known yet.
        case waiting
        /// Decided: `targets` says what became of each record.
        case done
        /// The rule only observes.
        case observed
        /// Reached by clicks from before the rule was made or changed.
        case baseline
    }
    /// Given by the store; 0 before.
    public var number: Int64
    public var workspace: WorkspaceID
    public var rule: Int64
    public var ruleID: String
    /// The rule as it was then.
    public var document: JSONValue
    public var integration: IntegrationName
    /// What tells contacts apart.
    public var contact: String
    /// The contact as plugins are told: `id`, `email`, `via`.
    public var person: JSONValue
    public var threshold: Int64
    public var arming: Int64
    public var counted: Int64
    public var position: ClickPosition
    public var click: EventID
    public var clickTime: Timestamp
    public var link: LinkID
    public var at: Timestamp
    public var state: State
    /// One object a record: `id`, `name`, `delivery` or `reason`.
    public var targets: JSONValue
    public var attempts: Int
    public var nextAttemptAt: Timestamp?
    public var reason: Reason?

    public init(
        number: Int64 = 0, workspace: WorkspaceID, rule: Int64, ruleID: String, document: JSONValue,
        integration: IntegrationName, contact: String, person: JSONValue, threshold: Int64, arming: Int64,
        counted: Int64, position: ClickPosition, click: EventID, clickTime: Timestamp, link: LinkID, at: Timestamp,
        state: State, targets: JSONValue = .array([]), attempts: Int = 0, nextAttemptAt: Timestamp? = nil,
        reason: Reason? = nil
    ) {
        self.number = number
        self.workspace = workspace
        self.rule = rule
        self.ruleID = ruleID
        self.document = document
        self.integration = integration
        self.contact = contact
        self.person = person
        self.threshold = threshold
        self.arming = arming
        self.counted = counted
        self.position = position
        self.click = click
        self.clickTime = clickTime
        self.link = link
        self.at = at
        self.state = state
        self.targets = targets
        self.attempts = attempts
        self.nextAttemptAt = nextAttemptAt
        self.reason = reason
    }
}

public struct FiringSettlement: Sendable {
    public var firing: RuleFiring
    public var connection: ConnectionID?
    public var reason: Reason?
    public var targets: JSONValue
    /// Pairs of what is stored for each record that is acted on.
    public var crossings: [Crossing]
    public var deliveries: [Delivery]
    public var at: Timestamp

    public init(
        firing: RuleFiring, connection: ConnectionID?, reason: Reason?, targets: JSONValue = .array([]),
        crossings: [Crossing] = [], deliveries: [Delivery] = [], at: Timestamp
    ) {
        self.firing = firing
        self.connection = connection
        self.reason = reason
        self.targets = targets
        self.crossings = crossings
        self.deliveries = deliveries
        self.at = at
    }
}

public struct FiringFilter: Sendable, Equatable {
    public var rule: String?
    public var contact: String?
    public var position: ClickPosition?

    public init(rule: String? = nil, contact: String? = nil, position: ClickPosition? = nil) {
        self.rule = rule
        self.contact = contact
        self.position = position
    }
}
