// SPDX-License-Identifier: Apache-2.0

import GRDB
import MilepostModel

/// What the writer remembers between transactions: numbers of workspaces and links, days that have a table, and the
/// sequence. A transaction that fails takes back what it added (`rollBack(to:)`), else a cached number would name a row
/// that was never stored.
///
/// Confined to the writer's thread.
final class WriterState {
    private(set) var sequence: Int64
    /// Whether this transaction has a sequence number that later changes of it may share.
    private var sharesSequence = false
    private var workspaces: [String: Int64] = [:]
    private var links: [Int64: [String: Int64]] = [:]
    private var linkCount = 0
    /// Days that have a table, with its base.
    private var days: [Int32: Int64]
    /// The newest click's.
    private(set) var clickPosition: Int64
    private let cachedLinks: Int

    /// Prepared for this transaction; gone with it, so that no statement outlives a table or the connection.
    var clickStatements: (day: Int32, identity: RawStatement, insert: DayTable.Insert)?

    private var addedWorkspaces: [String] = []
    private var addedLinks: [(workspace: Int64, name: String)] = []
    private var addedDays: [Int32] = []
    private var removedDays: [(day: Int32, base: Int64)] = []

    init(sequence: Int64, clickPosition: Int64, days: [DayTable], cachedLinks: Int) {
        self.sequence = sequence
        self.clickPosition = clickPosition
        self.days = Dictionary(days.map { ($0.day, $0.base) }, uniquingKeysWith: { first, _ in first })
        self.cachedLinks = cachedLinks
    }

    // MARK: Sequence

    /// The number of the change being written: one per transaction, unless somebody read it as a cursor in between.
    func nextSequence() -> Int64 {
        if !sharesSequence {
            sequence += 1
            sharesSequence = true
        }
        return sequence
    }

    /// The newest number, as a cursor: changes that follow in the same transaction get a greater one, or the cursor's
    /// owner would never see them.
    func sealedSequence() -> Int64 {
        sharesSequence = false
        return sequence
    }

    /// The position of the click being written: one more than any click ever had.
    func nextClickPosition() -> Int64 {
        clickPosition += 1
        return clickPosition
    }

    // MARK: Numbers

    func workspace(_ name: String) -> Int64? { workspaces[name] }

    /// - Parameter isNew: the row was inserted by this transaction.
    func remember(workspace name: String, row: Int64, isNew: Bool) {
        workspaces[name] = row
        if isNew { addedWorkspaces.append(name) }
    }

    func link(_ name: String, workspace: Int64) -> Int64? { links[workspace]?[name] }

    func remember(link name: String, workspace: Int64, row: Int64, isNew: Bool) {
        if linkCount >= cachedLinks {
            links.removeAll(keepingCapacity: true)
            linkCount = 0
        }
        if links[workspace, default: [:]].updateValue(row, forKey: name) == nil { linkCount += 1 }
        if isNew { addedLinks.append((workspace, name)) }
    }

    /// Nil when the day has no table.
    func base(of day: Int32) -> Int64? { days[day] }

    func remember(_ table: DayTable) {
        if days.updateValue(table.base, forKey: table.day) == nil { addedDays.append(table.day) }
    }

    func forget(day: Int32) {
        clickStatements = nil
        if let base = days.removeValue(forKey: day) { removedDays.append((day, base)) }
    }

    // MARK: Taking back

    struct Mark {
        fileprivate let sequence: Int64
        fileprivate let clickPosition: Int64
        fileprivate let sharesSequence: Bool
        fileprivate let workspaces: Int
        fileprivate let links: Int
        fileprivate let days: Int
        fileprivate let removedDays: Int
    }

    func begin() -> Mark {
        sharesSequence = false
        addedWorkspaces.removeAll(keepingCapacity: true)
        addedLinks.removeAll(keepingCapacity: true)
        addedDays.removeAll(keepingCapacity: true)
        removedDays.removeAll(keepingCapacity: true)
        return mark()
    }

    func mark() -> Mark {
        Mark(
            sequence: sequence, clickPosition: clickPosition, sharesSequence: sharesSequence,
            workspaces: addedWorkspaces.count, links: addedLinks.count, days: addedDays.count,
            removedDays: removedDays.count)
    }

    func rollBack(to mark: Mark) {
        clickStatements = nil
        sequence = mark.sequence
        clickPosition = mark.clickPosition
        sharesSequence = mark.sharesSequence
        for name in addedWorkspaces[mark.workspaces...] { workspaces[name] = nil }
        for link in addedLinks[mark.links...] where links[link.workspace]?.removeValue(forKey: link.name) != nil {
            linkCount -= 1
        }
        for day in addedDays[mark.days...] { days[day] = nil }
        for removed in removedDays[mark.removedDays...] { days[removed.day] = removed.base }
        addedWorkspaces.removeSubrange(mark.workspaces...)
        addedLinks.removeSubrange(mark.links...)
        addedDays.removeSubrange(mark.days...)
        removedDays.removeSubrange(mark.removedDays...)
    }
}
