// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// Where a reader is in the log of clicks: everything up to and including it has been read.
///
/// Positions follow the order of receipt and only ever grow: not a clock that steps back, an erasure or retention lets a
/// later click have a lower one. They have gaps.
public struct ClickPosition: RawRepresentable, Hashable, Sendable, Comparable, CustomStringConvertible {
    public var rawValue: Int64
    public init(rawValue: Int64) { self.rawValue = rawValue }
    public init(_ rawValue: Int64) { self.rawValue = rawValue }

    /// Before the first click.
    public static let start = ClickPosition(0)

    public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
    public var description: String { String(rawValue) }
}

/// A click as the log has it, with the facts of its link as they are now.
public struct StoredClick: Sendable, Equatable {
    public var position: ClickPosition
    public var workspace: WorkspaceID
    public var click: Click
    /// Its totals are not read: they are zero.
    public var link: Link
    public var receivedAt: Timestamp

    public init(
        position: ClickPosition, workspace: WorkspaceID, click: Click, link: Link, receivedAt: Timestamp
    ) {
        self.position = position
        self.workspace = workspace
        self.click = click
        self.link = link
        self.receivedAt = receivedAt
    }
}

/// Clicks in order of receipt, and how far the answer covers the log.
public struct ClickPage: Sendable, Equatable {
    public var clicks: [StoredClick]
    /// The position to go on after: clicks of other workspaces up to here were passed over.
    public var through: ClickPosition
    /// Whether the log goes on past `through`.
    public var hasMore: Bool

    public init(clicks: [StoredClick], through: ClickPosition, hasMore: Bool) {
        self.clicks = clicks
        self.through = through
        self.hasMore = hasMore
    }
}

/// A form submission with its place among the clicks: it came after the click at `position` and before the next.
public struct LoggedForm: Sendable, Equatable {
    public var form: FormSubmission
    /// Grows with every form of the store.
    public var number: Int64
    /// 0 for forms from before places were kept: they came before every click.
    public var position: ClickPosition
    public var receivedAt: Timestamp

    public init(form: FormSubmission, number: Int64, position: ClickPosition, receivedAt: Timestamp) {
        self.form = form
        self.number = number
        self.position = position
        self.receivedAt = receivedAt
    }
}

/// The log of clicks for readers with a cursor of their own (ING-04).
public protocol ClickLog: Sendable {
    /// Raised when something was stored that readers of the log may wait for.
    var arrivals: ArrivalSignal { get }
    /// Clicks after `position`, at most `limit`, of one workspace or of all. A call looks at a bounded stretch of the log,
    /// so an answer may be empty and have more.
    func readClicks(after position: ClickPosition, workspace: WorkspaceID?, limit: Int) async throws -> ClickPage
    /// The position of the newest click there is or ever was.
    func newestClickPosition() async throws -> ClickPosition
    /// The clicks at these positions that are still there, in order.
    func clicks(at positions: [ClickPosition]) async throws -> [StoredClick]
    /// The click with this id, found by the hash of its identity; nil when its day is dropped or it never came.
    func storedClick(_ id: EventID, workspace: WorkspaceID, identity: [UInt8]) async throws -> StoredClick?

    /// Form submissions that carried one of the ids and say who sent them, the latest first.
    func identifyingForms(
        workspace: WorkspaceID, googleClickID: String?, facebookClickID: String?, limit: Int
    ) async throws -> [LoggedForm]
    /// Such forms in order of receipt, with either id: those after the form numbered `after`, up to `last` when it is given,
    /// that came while the newest click was in `positions`.
    func loggedForms(
        workspace: WorkspaceID, in positions: ClosedRange<ClickPosition>, after: Int64, last: Int64?, limit: Int
    ) async throws -> [LoggedForm]
}

extension ClickLog {
    /// As `readClicks`, going on until `limit` clicks are found or the log ends.
    public func clicks(
        after position: ClickPosition, workspace: WorkspaceID?, limit: Int
    ) async throws -> [StoredClick] {
        var found: [StoredClick] = []
        var cursor = position
        while found.count < limit {
            let page = try await readClicks(after: cursor, workspace: workspace, limit: limit - found.count)
            found += page.clicks
            cursor = page.through
            if !page.hasMore { break }
        }
        return found
    }
}
