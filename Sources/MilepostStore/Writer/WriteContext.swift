// SPDX-License-Identifier: Apache-2.0

import GRDB
import MilepostModel

/// What a write may use: the connection inside its transaction, the writer's memory, and the totals that are still to
/// be written. Lives for one transaction, on the writer's thread.
struct WriteContext {
    let db: Database
    let state: WriterState
    let totals: PendingTotals

    /// The number of a workspace's row.
    ///
    /// - Throws: `notFound` when nobody has made it yet (decisions 35).
    func workspaceRow(_ id: WorkspaceID) throws -> Int64 {
        if let row = state.workspace(id.rawValue) { return row }
        guard
            let row = try Int64.fetchOne(
                db.cachedStatement(sql: "SELECT id FROM workspaces WHERE name = ?"), arguments: [id.rawValue])
        else { throw StoreError.noWorkspace(id) }
        state.remember(workspace: id.rawValue, row: row, isNew: false)
        return row
    }

    /// The number of a link's row, made with totals of zero when the link is new.
    func linkRow(_ name: String, workspace: Int64) throws -> Int64 {
        if let row = state.link(name, workspace: workspace) { return row }
        let found = try Int64.fetchOne(
            db.cachedStatement(sql: "SELECT id FROM links WHERE workspace = ? AND name = ?"),
            arguments: [workspace, name])
        if let found {
            state.remember(link: name, workspace: workspace, row: found, isNew: false)
            return found
        }
        try db.cachedStatement(sql: "INSERT INTO links (workspace, name) VALUES (?, ?)")
            .execute(arguments: [workspace, name])
        let row = db.lastInsertedRowID
        try db.cachedStatement(sql: "INSERT INTO link_totals (link, workspace, sequence) VALUES (?, ?, ?)")
            .execute(arguments: [row, workspace, state.nextSequence()])
        state.remember(link: name, workspace: workspace, row: row, isNew: true)
        return row
    }

    /// Makes the link "changed" for the next tick.
    func touch(link row: Int64) throws {
        try db.cachedStatement(sql: "UPDATE link_totals SET sequence = ? WHERE link = ?")
            .execute(arguments: [state.nextSequence(), row])
    }

    /// Writes what was only summed up in memory. Every read of totals within the transaction comes after it.
    func flush() throws {
        try totals.write(to: db, sequence: state.nextSequence)
    }

    /// Stores the sequence with the changes it numbers.
    func storeSequence() throws {
        try db.cachedStatement(sql: "UPDATE counters SET value = ? WHERE name = 'sequence'")
            .execute(arguments: [state.sequence])
    }
}
