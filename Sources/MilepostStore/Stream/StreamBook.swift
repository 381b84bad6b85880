// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// What is remembered of connections that take every click: cursors, counts, held clicks, what was last written where.
///
/// A delivered click leaves a count and no row; rows exist for what did not succeed and for what is held (decisions 25).
public protocol StreamBook: Sendable {
    /// Where a connection is in the log; begins at the newest click when it has no place yet.
    func streamPlace(of connection: ConnectionID) async throws -> StreamPlace
    /// Forgets the place, for a plugin that takes no clicks: should a later version take them, it begins at that moment.
    func closeStream(_ connection: ConnectionID) async throws
    /// Moves the cursor together with everything that came of the clicks behind it.
    func commitStream(_ commit: StreamCommit) async throws
    /// Counts since the connection was made, of one connection or of all.
    func streamCounts(connection: ConnectionID?) async throws -> [ConnectionID: [StreamCount: Int64]]
    /// When the first unfinished delivery of these actions is due; nil when there is none.
    func nextStreamDue(connection: ConnectionID, actions: [String]) async throws -> Timestamp?
    /// As `claimDue` of `Outbox`, for deliveries of one action only.
    func claimDue(
        connection: ConnectionID, action: String, owner: String, now: Timestamp, limit: Int
    ) async throws -> [ClaimedDelivery]

    /// Held clicks of a workspace, of one connection or of all, newest first.
    func heldClicks(
        workspace: WorkspaceID, connection: ConnectionID?, states: Set<HeldClick.State>, cursor: String?, limit: Int
    ) async throws -> Page<HeldClick>
    /// Those that still wait for an identity and carry one of the ids, or any id; ascending by position.
    func waitingClicks(
        connection: ConnectionID, carrying ids: AdvertisementClicks, after: ClickPosition, limit: Int
    ) async throws -> [HeldClick]
    /// Lets held clicks go out with the next batch.
    func markDue(connection: ConnectionID, _ positions: [ClickPosition], at: Timestamp) async throws
    func dueClicks(connection: ConnectionID, limit: Int) async throws -> [HeldClick]
    /// Ends what was held long enough, and lets go out what should be tried again; says how many ended and when the next
    /// one is to be looked at.
    func sweepHeld(connection: ConnectionID, now: Timestamp, limit: Int) async throws -> HeldSweep

    /// The clicks behind a delivery of the stream.
    func streamClicks(of delivery: DeliveryID) async throws -> [ClickPosition]

    /// When the values on contacts were clicked that are written there already, by `ContactMatch.key`.
    func touches(connection: ConnectionID, contacts: [String]) async throws -> [String: TouchTimes]

    /// Held clicks, deliveries and last-touch records that name a contact (PRV-01).
    func streamExport(workspace: WorkspaceID, contact: String) async throws -> StreamExport

    /// What is known about one click on one connection.
    func streamTrace(connection: ConnectionID, click: StoredClick) async throws -> StreamTrace
}

public struct StreamPlace: Sendable, Equatable {
    /// Clicks up to here came before the connection.
    public var started: ClickPosition
    /// Clicks up to here have been dealt with.
    public var position: ClickPosition
    /// Stretches ahead that passed while the connection was disconnected (decisions 11).
    public var gaps: [Gap]

    /// Clicks after one position, through another.
    public struct Gap: Sendable, Equatable {
        public var after: ClickPosition
        public var through: ClickPosition

        public init(after: ClickPosition, through: ClickPosition) {
            self.after = after
            self.through = through
        }
    }

    public init(started: ClickPosition, position: ClickPosition, gaps: [Gap] = []) {
        self.started = started
        self.position = position
        self.gaps = gaps
    }

    public func isSkipped(_ position: ClickPosition) -> Bool {
        gaps.contains { $0.after < position && position <= $0.through }
    }
}

/// What is counted: an outcome of clicks, for one action or (empty) for the click as such.
public struct StreamCount: Hashable, Sendable {
    public var action: String
    public var outcome: String

    public init(action: String = "", outcome: String) {
        self.action = action
        self.outcome = outcome
    }

    public static let held = StreamCount(outcome: "held")
    public static let released = StreamCount(outcome: "released")
    public static let expired = StreamCount(outcome: "expired")
    public static let erased = StreamCount(outcome: "erased")
    public static let skipped = StreamCount(outcome: "skipped")
}

/// What came of a batch of clicks on one connection; stored as a whole or not at all.
public struct StreamCommit: Sendable {
    /// A delivery that did not succeed, with the clicks it stands for.
    public struct Failure: Sendable {
        public var delivery: Delivery
        public var key: CrossingKey
        public var attempt: AttemptRecord?
        public var clicks: [ClickPosition]

        public init(delivery: Delivery, key: CrossingKey, attempt: AttemptRecord?, clicks: [ClickPosition]) {
            self.delivery = delivery
            self.key = key
            self.attempt = attempt
            self.clicks = clicks
        }
    }
    public struct Hold: Sendable, Equatable {
        public var position: ClickPosition
        public var reason: HeldClick.Cause
        public var until: Timestamp
        /// When to try again although nothing arrived; nil: never.
        public var retryAt: Timestamp?
        public var googleClickID: String?
        public var facebookClickID: String?

        public init(
            position: ClickPosition, reason: HeldClick.Cause, until: Timestamp, retryAt: Timestamp? = nil,
            googleClickID: String? = nil, facebookClickID: String? = nil
        ) {
            self.position = position
            self.reason = reason
            self.until = until
            self.retryAt = retryAt
            self.googleClickID = googleClickID
            self.facebookClickID = facebookClickID
        }
    }
    /// How the clicks of one link in the batch were treated: all fired, or none and why.
    public struct LinkTreatment: Sendable, Equatable {
        public var link: LinkID
        public var first: ClickPosition
        public var last: ClickPosition
        public var exclusion: Reason?

        public init(link: LinkID, first: ClickPosition, last: ClickPosition, exclusion: Reason?) {
            self.link = link
            self.first = first
            self.last = last
            self.exclusion = exclusion
        }
    }

    public var connection: ConnectionID
    public var workspace: WorkspaceID
    public var at: Timestamp
    /// Where the cursor goes; nil when the clicks came from the held ones.
    public var position: ClickPosition?
    public var failures: [Failure] = []
    public var holds: [Hold] = []
    /// Held clicks that are done with: delivered, or a delivery of their own now.
    public var released: [ClickPosition] = []
    /// Held clicks that fire nothing any more, although their identity turned up.
    public var dropped: [ClickPosition] = []
    /// Deliveries that are taken back, because their clicks are held now.
    public var withdrawn: [DeliveryID] = []
    public var links: [LinkTreatment] = []
    public var touches: [String: TouchTimes] = [:]
    public var counts: [StreamCount: Int64] = [:]

    public init(connection: ConnectionID, workspace: WorkspaceID, at: Timestamp, position: ClickPosition?) {
        self.connection = connection
        self.workspace = workspace
        self.at = at
        self.position = position
    }

    public mutating func count(_ what: StreamCount, _ clicks: Int = 1) {
        counts[what, default: 0] += Int64(clicks)
    }
}

/// A click that waits until somebody knows whose it is (RES-03).
public struct HeldClick: Sendable, Equatable {
    public enum State: String, Sendable, CaseIterable {
        case held
        /// Its identity turned up; it leaves with the next batch.
        case due
        case released
        case expired
    }
    public enum Cause: String, Sendable {
        /// Neither the click nor a form says who it was.
        case unmatched
        /// The vendor has no such contact.
        case contactUnknown = "contact_unknown"
        /// The link fires nothing any more.
        case excluded
    }
    public var connection: ConnectionID
    public var position: ClickPosition
    public var state: State
    public var reason: Cause
    public var heldAt: Timestamp
    public var until: Timestamp
    public var changedAt: Timestamp

    public init(
        connection: ConnectionID, position: ClickPosition, state: State, reason: Cause, heldAt: Timestamp,
        until: Timestamp, changedAt: Timestamp
    ) {
        self.connection = connection
        self.position = position
        self.state = state
        self.reason = reason
        self.heldAt = heldAt
        self.until = until
        self.changedAt = changedAt
    }
}

public struct HeldSweep: Sendable, Equatable {
    public var expired: Int
    /// Tried again because their time for it has come.
    public var retried: Int
    public var nextAt: Timestamp?

    public init(expired: Int, retried: Int, nextAt: Timestamp?) {
        self.expired = expired
        self.retried = retried
        self.nextAt = nextAt
    }
}

/// When the clicks happened that a contact's campaign values come from.
public struct TouchTimes: Sendable, Equatable {
    public var source: Timestamp?
    public var medium: Timestamp?
    public var campaign: Timestamp?
    public var term: Timestamp?
    public var content: Timestamp?

    public init(
        source: Timestamp? = nil, medium: Timestamp? = nil, campaign: Timestamp? = nil, term: Timestamp? = nil,
        content: Timestamp? = nil
    ) {
        self.source = source
        self.medium = medium
        self.campaign = campaign
        self.term = term
        self.content = content
    }
}

/// What the store knows about a click on a connection.
public struct StreamTrace: Sendable, Equatable {
    public var place: StreamPlace?
    public var isSkipped: Bool
    public var exclusion: Reason?
    public var held: HeldClick?
    public var deliveries: [Delivery]

    public init(
        place: StreamPlace?, isSkipped: Bool, exclusion: Reason?, held: HeldClick?, deliveries: [Delivery]
    ) {
        self.place = place
        self.isSkipped = isSkipped
        self.exclusion = exclusion
        self.held = held
        self.deliveries = deliveries
    }
}
