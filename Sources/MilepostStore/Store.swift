// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// Everything the daemon remembers. Policy is the engine's: a store keeps, finds and counts.
///
/// Any thread may call; every method suspends instead of blocking. Each method is one transaction and durable (on disk,
/// `fsync`ed) when it returns. Errors are `StoreError`.
///
/// Shaped so that another engine (PostgreSQL, a log, a column store) can stand in: no SQL and no row ids leak.
public protocol Store: ClickLedger, ClickLog, StreamBook, LinkBook, ConnectionBook, Outbox, AccessBook, PluginStorage,
    VaultRecords, ManagedBook, TokenBook, RuleBook, EndpointBook, VendorEventBook, InterceptBook
{
    /// How the storage is: space, size, schema, whether writes are stopped and why.
    func health() async -> StoreHealth
    /// Flushes and closes. Later calls throw `StoreError.closed`.
    func close() async
}

/// Why the store could not do it.
public struct StoreError: Error, Sendable, CustomStringConvertible {
    public enum Code: String, Sendable {
        /// The disk is full: nothing was stored; the same call may work later (REST 507).
        case storageFull = "storage_full"
        /// The file is damaged or not ours: writes are stopped until it is restored (decisions 28).
        case corrupt = "storage_corrupt"
        /// A schema newer than this daemon.
        case schemaTooNew = "schema_too_new"
        /// Totals differed after a change of the schema that was tried on a copy: the database was not touched.
        case upgradeDiffers = "upgrade_differs"
        /// The older schema has no place for something that is in the store; nothing was changed.
        case downgradeLosesData = "downgrade_loses_data"
        /// The backup's file cannot be made or filled where it was asked for; the store itself is well (REST 422).
        case backupUnwritable = "backup_unwritable"
        /// Another daemon holds the data directory.
        case locked
        case notFound = "not_found"
        /// A unique key says that it is there already, or a version moved on.
        case conflict
        case closed
        case failed
    }
    public let code: Code
    /// For the operator: what was tried, what was seen, what to do.
    public let detail: String

    public init(code: Code, detail: String) {
        self.code = code
        self.detail = detail
    }

    public var description: String { "\(code.rawValue): \(detail)" }
}

public struct StoreHealth: Sendable, Equatable {
    public var isWritable: Bool
    /// Why not; nil while writable.
    public var problem: StoreError.Code?
    public var detail: String?
    public var schemaVersion: Int
    public var databaseBytes: Int64
    public var walBytes: Int64
    public var freeDiskBytes: Int64
    public var workspaces: Int
    public var links: Int

    public init(
        isWritable: Bool, problem: StoreError.Code? = nil, detail: String? = nil, schemaVersion: Int,
        databaseBytes: Int64, walBytes: Int64, freeDiskBytes: Int64, workspaces: Int, links: Int
    ) {
        self.isWritable = isWritable
        self.problem = problem
        self.detail = detail
        self.schemaVersion = schemaVersion
        self.databaseBytes = databaseBytes
        self.walBytes = walBytes
        self.freeDiskBytes = freeDiskBytes
        self.workspaces = workspaces
        self.links = links
    }
}

/// A page of a list and where the next one starts (opaque to the caller; nil at the end).
public struct Page<Item: Sendable>: Sendable {
    public var items: [Item]
    public var next: String?

    public init(items: [Item], next: String? = nil) {
        self.items = items
        self.next = next
    }
}

// MARK: - Clicks

/// A click with the hash that says whether it was seen before.
public struct IdentifiedClick: Sendable {
    public var click: Click
    /// First 16 bytes of SHA-256 over workspace and event id: what `dedupe_days` remembers (decisions 7).
    public var identity: [UInt8]

    public init(click: Click, identity: [UInt8]) {
        self.click = click
        self.identity = identity
    }
}

/// The log of clicks and their running totals (invariants 1 and 2).
public protocol ClickLedger: Sendable {
    /// Stores clicks and moves totals in the same transaction; calls that arrive together share one commit.
    ///
    /// - Returns: one flag a click, in order: true when it is new, false when it was counted before (also earlier in
    ///   the same call).
    /// - Throws: `storageFull` with nothing of this call stored.
    func append(_ clicks: [IdentifiedClick], workspace: WorkspaceID, receivedAt: Timestamp) async throws -> [Bool]

    /// Links whose totals or facts changed after `sequence`, ascending by sequence, with `through` = the last sequence
    /// that this answer covers completely. Costs by what changed, not by what exists (invariant 10).
    ///
    /// - Parameter floor: leave out links whose total is lower; they are counted in `examined` and not read.
    func changedLinks(
        workspace: WorkspaceID, after sequence: Int64, floor: TotalFloor?, limit: Int
    ) async throws -> ChangedLinks

    /// The sequence of the newest change.
    func currentSequence() async throws -> Int64

    /// The campaign triple that most clicks of the scope carried, ties by text; nil when none carried one.
    func mostFrequentUTM(workspace: WorkspaceID, scope: Scope, audience: Audience) async throws -> UTM?

    /// Compares totals with a recount over retained clicks plus what earlier days carried; empty when all is right.
    func auditTotals() async throws -> [TotalMismatch]

    /// Drops click days and forms older than `clicks`, identities older than `dedupe`, finished deliveries older than
    /// `deliveries`. Totals stay. Returns what went. In chunks: never holds the writer for long.
    func enforceRetention(clicksBefore: Timestamp, dedupeBefore: Timestamp, deliveriesBefore: Timestamp) async throws
        -> RetentionResult

    /// Clicks of one contact, for export (PRV-01); oldest first.
    func clicks(workspace: WorkspaceID, contact: String, cursor: String?, limit: Int) async throws -> Page<Click>
    /// Takes every trace of a contact out of clicks, forms and payloads; totals stay (PRV-02).
    func eraseContact(workspace: WorkspaceID, contact: String) async throws -> ErasureResult
}

extension ClickLedger {
    /// All that changed, whatever its total.
    public func changedLinks(
        workspace: WorkspaceID, after sequence: Int64, limit: Int
    ) async throws -> ChangedLinks {
        try await changedLinks(workspace: workspace, after: sequence, floor: nil, limit: limit)
    }
}

/// The lowest total that anybody is interested in.
public struct TotalFloor: Sendable, Equatable {
    public var audience: Audience
    public var clicks: Int64

    public init(audience: Audience, clicks: Int64) {
        self.audience = audience
        self.clicks = clicks
    }
}

public struct ChangedLinks: Sendable {
    public var links: [Link]
    /// How many had changed, those below the floor included.
    public var examined: Int
    public var through: Int64
    /// Whether more changes lie past `through`.
    public var hasMore: Bool

    public init(links: [Link], examined: Int, through: Int64, hasMore: Bool) {
        self.links = links
        self.examined = examined
        self.through = through
        self.hasMore = hasMore
    }
}

public struct TotalMismatch: Sendable, Equatable {
    public var workspace: WorkspaceID
    public var link: LinkID
    public var stored: ClickTotals
    public var recounted: ClickTotals

    public init(workspace: WorkspaceID, link: LinkID, stored: ClickTotals, recounted: ClickTotals) {
        self.workspace = workspace
        self.link = link
        self.stored = stored
        self.recounted = recounted
    }
}

public struct RetentionResult: Sendable, Equatable {
    public var daysDropped: Int
    public var identitiesDropped: Int
    public var deliveriesDropped: Int
    public var formsDropped: Int

    public init(daysDropped: Int = 0, identitiesDropped: Int = 0, deliveriesDropped: Int = 0, formsDropped: Int = 0) {
        self.daysDropped = daysDropped
        self.identitiesDropped = identitiesDropped
        self.deliveriesDropped = deliveriesDropped
        self.formsDropped = formsDropped
    }
}

public struct ErasureResult: Sendable, Equatable {
    public var clicks: Int
    public var deliveries: Int
    public var forms: Int
    public var held: Int

    public init(clicks: Int = 0, deliveries: Int = 0, forms: Int = 0, held: Int = 0) {
        self.clicks = clicks
        self.deliveries = deliveries
        self.forms = forms
        self.held = held
    }
}

// MARK: - Links, members, workspaces

/// Facts about links and people; changing a link's facts makes it "changed" for the next tick.
public protocol LinkBook: Sendable {
    func ensureWorkspace(_ id: WorkspaceID, at: Timestamp) async throws -> Workspace
    func workspace(_ id: WorkspaceID) async throws -> Workspace?
    func workspaces() async throws -> [Workspace]
    func setPlan(_ workspace: WorkspaceID, plan: String?, trialStartedAt: Timestamp?) async throws
    /// The matrix of plans that a host product handed in (PLAN-05), by name; empty when the configuration's counts.
    func plans() async throws -> [PlanRecord]
    /// Puts a whole matrix in the place of the last one; an empty one gives way to the configuration's.
    func replacePlans(_ plans: [PlanRecord]) async throws

    func link(_ id: LinkID, workspace: WorkspaceID) async throws -> Link?
    func links(workspace: WorkspaceID, folder: String?, cursor: String?, limit: Int) async throws -> Page<Link>
    /// Creates or changes. Moving between folders: see `MilepostRules.FolderRule`.
    func changeLink(_ id: LinkID, workspace: WorkspaceID, change: LinkChange, at: Timestamp) async throws -> Link
    /// Sum over the links that are in the folder now, and the three that contributed most (CFG-08), ties by id. Links
    /// that fire nothing (flagged test or internal, owner opted out) count neither in the sum nor in the three (EXC-04).
    func folder(_ name: String, workspace: WorkspaceID, audience: Audience) async throws -> FolderTotals

    func setOptOut(_ member: String, workspace: WorkspaceID, isOptedOut: Bool, at: Timestamp) async throws
    func hasOptedOut(_ member: String, workspace: WorkspaceID) async throws -> Bool
    func optedOutMembers(workspace: WorkspaceID) async throws -> Set<String>

    /// Stores form submissions; a repeated id is stored once.
    func appendForms(_ forms: [FormSubmission], workspace: WorkspaceID, receivedAt: Timestamp) async throws -> [Bool]
    func forms(workspace: WorkspaceID, contact: String, limit: Int) async throws -> [FormSubmission]
    /// Looks through the newest forms of all workspaces for persons that cannot be told apart; only workspaces with some.
    func formTroubles(newest: Int) async throws -> [FormTroubles]
}

/// What a plan allows, as `MilepostRules.PlanMatrix` reads it.
public struct PlanRecord: Sendable, Equatable {
    public var name: String
    public var fires: Bool
    /// Plugins whose connections fire; nil means all.
    public var integrations: Set<String>?
    /// Days from the trial's start for which it fires; nil means without end.
    public var trialDays: Int?

    public init(name: String, fires: Bool = true, integrations: Set<String>? = nil, trialDays: Int? = nil) {
        self.name = name
        self.fires = fires
        self.integrations = integrations
        self.trialDays = trialDays
    }
}

public struct FolderTotals: Sendable, Equatable {
    public var name: String
    public var totals: ClickTotals
    public var top: [Link]

    public init(name: String, totals: ClickTotals, top: [Link]) {
        self.name = name
        self.totals = totals
        self.top = top
    }
}

/// A form a visitor sent in: what ties an advertisement's click id to a contact.
public struct FormSubmission: Sendable, Equatable {
    public var id: EventID
    public var time: Timestamp
    public var contactID: String?
    public var email: String?
    public var googleClickID: String?
    public var facebookClickID: String?
    public var fields: JSONValue

    public init(
        id: EventID, time: Timestamp, contactID: String? = nil, email: String? = nil, googleClickID: String? = nil,
        facebookClickID: String? = nil, fields: JSONValue = .object([:])
    ) {
        self.id = id
        self.time = time
        self.contactID = contactID
        self.email = email
        self.googleClickID = googleClickID
        self.facebookClickID = facebookClickID
        self.fields = fields
    }
}

// MARK: - Connections and crossings

public protocol ConnectionBook: Sendable {
    /// Adds to what somebody should know of the connection; what it bears already is not repeated.
    func noteWarnings(id: ConnectionID, _ warnings: [Reason]) async throws
    /// Puts warnings in the place of those whose code begins so; the others stay.
    func replaceWarnings(id: ConnectionID, beginning: String, with warnings: [Reason]) async throws
    /// Stores a connection and its sealed credentials together (PCON-12) and marks what the totals of this moment have
    /// already reached (THR-19): every scope at or above a threshold without a crossing gets one that did not fire, with
    /// `baseline` as its reason; nil fires for the current state instead. Replaces a connection of the same integration
    /// but keeps its id and history (PCON-13). The cursor moves to the current sequence unless `baseline` is nil.
    func saveConnection(
        _ connection: Connection, credentials: [SealedCredential], baseline: Reason?, at: Timestamp
    ) async throws -> Connection
    func connection(_ integration: IntegrationName, workspace: WorkspaceID) async throws -> Connection?
    func connection(id: ConnectionID) async throws -> Connection?
    /// All of a workspace, or of all workspaces when nil; disconnected ones too.
    func connections(workspace: WorkspaceID?) async throws -> [Connection]
    /// Changes settings. For each threshold that is new in `policy`, and for every threshold when the aggregation or the
    /// audience changed, scopes already at or above it get a crossing that did not fire (CFG-03, invariant 9).
    func changeConnection(
        id: ConnectionID, policy: ThresholdPolicy?, settings: JSONValue?, warnings: [Reason]?,
        account: Connection.Account?,
        credentials: [SealedCredential], baseline: Reason, at: Timestamp
    ) async throws -> Connection
    /// Moves the state; false when it was there already (REA-01: changes once), and when a disconnected connection would
    /// only wait for something else: being connected again is its one way out. Moving to `active` adds the time since
    /// `stateSince` to `waited` of the connection's unfinished deliveries: caps stand still meanwhile (decisions 9). What
    /// waits is `held` with the connection's reason while it is not active, and is let go as it was when it is.
    func setState(id: ConnectionID, _ state: Connection.State, reason: Reason?, at: Timestamp) async throws -> Bool

    /// The thresholds among `thresholds` that each scope has no crossing for yet.
    func unreached(connection: ConnectionID, scopes: [Scope], thresholds: [Int64]) async throws -> [Scope: [Int64]]
    /// Stores crossings, makes the deliveries of those that fire, and moves the cursor, in one transaction. A crossing whose
    /// key exists is left out with its delivery (invariant 3). Returns the deliveries really made.
    func commitEvaluation(
        connection: ConnectionID, crossings: [Crossing], deliveries: [Delivery], cursor: Int64
    ) async throws -> [Delivery]
    func crossings(connection: ConnectionID, scope: Scope) async throws -> [Crossing]
    /// Highest threshold reached (fired or not) per connection for a scope.
    func highestReached(workspace: WorkspaceID, scope: Scope) async throws -> [ConnectionID: Int64]

    /// Takes the workspace's lock for `owner` until `until`; true when got or already owned. An expired one can be taken.
    /// It guards dispatchers of one store against each other and ends with its process.
    func lockWorkspace(_ workspace: WorkspaceID, owner: String, now: Timestamp, until: Timestamp) async throws -> Bool
    func unlockWorkspace(_ workspace: WorkspaceID, owner: String) async throws
}

// MARK: - Outbox

/// Deliveries, their journal and their log (invariants 4 and 5).
public protocol Outbox: Sendable {
    /// Takes up to `limit` deliveries of the connection that are due (`pending`, `retrying`, `uncertain` with
    /// `nextAttemptAt` nil or past) into `inFlight` under `owner`, oldest first, attempts plus one. Two callers never get
    /// the same one. Answers each with its journal and the state it came from.
    ///
    /// - Parameter actions: left out; somebody else takes them.
    func claimDue(
        connection: ConnectionID, owner: String, now: Timestamp, limit: Int, excluding actions: [String]
    ) async throws -> [ClaimedDelivery]

    /// Writes the intent of a step before its request may leave (invariant 4). Durable on return.
    func storeIntent(deliveries: [DeliveryID], step: String, attempt: Int, at: Timestamp) async throws
    /// Writes how the request ended, before the plugin hears of it.
    func storeOutcome(
        deliveries: [DeliveryID], step: String, wire: String, httpStatus: Int?, body: String?, at: Timestamp
    ) async throws
    /// Writes that a step is finished, with what the plugin wants to know next time.
    func storeStep(delivery: DeliveryID, step: String, result: JSONValue, at: Timestamp) async throws
    /// Removes the open knowledge of a step after reconcile said "not applied".
    func clearStep(delivery: DeliveryID, step: String) async throws

    /// Ends a claim: state, reason, remote id and when it is due again, with the attempts' log lines.
    func settle(_ outcomes: [DeliveryOutcome]) async throws

    /// After a crash: what `inFlight` deliveries of owners other than `owner` become. With an open step: `uncertain`;
    /// without: `retrying` at once. Workspace locks of other owners are free again. Returns how many of each.
    ///
    /// For the start only: whoever calls holds the data directory's lock, so no other process lives, and no dispatcher of
    /// this one works yet.
    func recoverClaims(exceptOwner owner: String, at: Timestamp) async throws -> (uncertain: Int, retrying: Int)
    /// The same while the daemon works, for what `owner` left of one connection: it claimed them, and storing what came of
    /// them failed, or it was cancelled. Returns how many.
    ///
    /// For whoever alone delivers these actions of the connection, before it claims.
    ///
    /// - Parameter delivers: which actions the caller looks after.
    func recoverClaims(
        of connection: ConnectionID, owner: String, at: Timestamp, where delivers: @escaping @Sendable (String) -> Bool
    ) async throws -> Int

    func delivery(_ id: DeliveryID, workspace: WorkspaceID) async throws -> Delivery?
    func journal(of id: DeliveryID) async throws -> [JournalEntry]
    func attempts(of id: DeliveryID) async throws -> [AttemptRecord]
    func deliveries(workspace: WorkspaceID, matching: DeliveryFilter, cursor: String?, limit: Int) async throws
        -> Page<Delivery>
    /// Puts dead or dropped deliveries back to `pending` with attempts 0 and age from now; journals stay, so finished steps
    /// are not repeated; those with an open step become `uncertain`. Returns how many. Each at most once.
    func replay(workspace: WorkspaceID, matching: DeliveryFilter, limit: Int, at: Timestamp) async throws -> Int
    /// How many deliveries of the connection are `held`.
    func heldDeliveries(of connection: ConnectionID) async throws -> Int
    /// Remembers that the daemon works at this moment; `recordRun` does so too.
    func heartbeat(at: Timestamp) async throws
    /// At the start: adds the time since the last sign of life to `waited` of what was due meanwhile, in one transaction
    /// with a new sign of life, so that a gap counts once however often the start is repeated. A daemon that is stopped
    /// cannot try, so the caps stand still (decisions 9). Returns the gap.
    func resume(at: Timestamp) async throws -> Duration
    /// How many deliveries are in each state, per connection.
    func deliveryCounts() async throws -> [ConnectionID: [Delivery.State: Int]]
    /// The oldest delivery that is not finished, per connection.
    func oldestUnfinished() async throws -> [ConnectionID: Timestamp]
}

extension Outbox {
    /// Deliveries of whatever action.
    public func claimDue(
        connection: ConnectionID, owner: String, now: Timestamp, limit: Int
    ) async throws -> [ClaimedDelivery] {
        try await claimDue(connection: connection, owner: owner, now: now, limit: limit, excluding: [])
    }
}

public struct ClaimedDelivery: Sendable, Equatable {
    public var delivery: Delivery
    /// Before the claim: `pending`, `retrying` or `uncertain`.
    public var cameFrom: Delivery.State
    public var journal: [JournalEntry]
    /// A crash of the plugin was charged to it before: it must be alone with the plugin. Set by the dispatcher.
    public var isSuspect = false

    public init(delivery: Delivery, cameFrom: Delivery.State, journal: [JournalEntry]) {
        self.delivery = delivery
        self.cameFrom = cameFrom
        self.journal = journal
    }
}

public struct DeliveryOutcome: Sendable, Equatable {
    public var delivery: DeliveryID
    public var state: Delivery.State
    public var reason: Reason?
    public var remoteID: String?
    public var remoteURL: String?
    public var nextAttemptAt: Timestamp?
    /// The waiting does not count against the attempt cap (decisions 9).
    public var refundsAttempt: Bool
    public var attempt: AttemptRecord?
    public var at: Timestamp

    public init(
        delivery: DeliveryID, state: Delivery.State, reason: Reason? = nil, remoteID: String? = nil,
        remoteURL: String? = nil, nextAttemptAt: Timestamp? = nil, refundsAttempt: Bool = false,
        attempt: AttemptRecord? = nil, at: Timestamp
    ) {
        self.delivery = delivery
        self.state = state
        self.reason = reason
        self.remoteID = remoteID
        self.remoteURL = remoteURL
        self.nextAttemptAt = nextAttemptAt
        self.refundsAttempt = refundsAttempt
        self.attempt = attempt
        self.at = at
    }
}

public struct DeliveryFilter: Sendable, Equatable {
    public var states: Set<Delivery.State>
    public var connection: ConnectionID?
    public var link: LinkID?
    public var folder: String?
    public var since: Timestamp?
    public var id: DeliveryID?
    public var reasonCode: String?
    /// Part of the reason's text.
    public var search: String?

    public init(
        states: Set<Delivery.State> = [], connection: ConnectionID? = nil, link: LinkID? = nil, folder: String? = nil,
        since: Timestamp? = nil, id: DeliveryID? = nil, reasonCode: String? = nil, search: String? = nil
    ) {
        self.states = states
        self.connection = connection
        self.link = link
        self.folder = folder
        self.since = since
        self.id = id
        self.reasonCode = reasonCode
        self.search = search
    }
}
