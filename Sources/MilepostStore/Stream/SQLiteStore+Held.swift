// SPDX-License-Identifier: Apache-2.0

import GRDB
public import MilepostModel

extension SQLiteStore {
    public func heldClicks(
        workspace: WorkspaceID, connection: ConnectionID?, states: Set<HeldClick.State>, cursor: String?, limit: Int
    ) async throws -> Page<HeldClick> {
        let limit = PageBounds.clamped(limit)
        let (before, beforeConnection) = try Self.heldCursor(cursor)
        let states = states.isEmpty ? Set(HeldClick.State.allCases) : states
        return try await read("listing held clicks") { db in
            guard let row = try Self.workspaceRow(workspace, db) else { return Page(items: []) }
            // One state at a time follows the index; together they would be sorted first, and there may be millions.
            var rows: [Row] = []
            for state in states {
                rows += try Row.fetchAll(
                    db,
                    sql: """
                        SELECT h.*, c.id AS connection_id
                        FROM held_clicks h JOIN connections c ON c.number = h.connection
                        WHERE h.workspace = ? AND h.state = ? AND (? IS NULL OR c.id = ?)
                            AND (h.position, h.connection) < (?, ?)
                        ORDER BY h.position DESC, h.connection DESC LIMIT ?
                        """,
                    arguments: [
                        row, state.rawValue, connection?.rawValue, connection?.rawValue, before, beforeConnection,
                        limit + 1,
                    ])
            }
            rows.sort {
                ($0["position"] as Int64, $0["connection"] as Int64) > ($1["position"], $1["connection"])
            }
            let items = rows.prefix(limit).map(HeldRow.held(from:))
            guard rows.count > limit else { return Page(items: items) }
            let last = rows[limit - 1]
            return Page(items: items, next: "\(last["position"] as Int64)-\(last["connection"] as Int64)")
        }
    }

    private static func heldCursor(_ text: String?) throws -> (Int64, Int64) {
        guard let text else { return (.max, .max) }
        let parts = text.split(separator: "-").compactMap { Int64($0) }
        guard parts.count == 2 else {
            throw StoreError(code: .notFound, detail: "the cursor '\(text.prefix(40))' is not one of this list's")
        }
        return (parts[0], parts[1])
    }

    public func waitingClicks(
        connection: ConnectionID, carrying ids: AdvertisementClicks, after: ClickPosition, limit: Int
    ) async throws -> [HeldClick] {
        try await read("looking for clicks whose identity turned up") { db in
            guard let (number, workspace) = try HeldRow.numbers(of: connection, db) else { return [] }
            func fetch(_ condition: String, _ arguments: StatementArguments) throws -> [HeldClick] {
                try Row.fetchAll(
                    db,
                    sql: """
                        SELECT h.*, ? AS connection_id FROM held_clicks h
                        WHERE h.connection = ? AND h.state = 'held' AND h.position > ? AND \(condition)
                        ORDER BY h.position LIMIT ?
                        """,
                    arguments: [connection.rawValue, number, after.rawValue] + arguments + [limit]
                ).map(HeldRow.held(from:))
            }
            if ids.isEverything { return try fetch("(h.gclid IS NOT NULL OR h.fbclid IS NOT NULL)", []) }
            var found: [ClickPosition: HeldClick] = [:]
            for (column, values) in [("gclid", ids.google), ("fbclid", ids.facebook)] {
                for value in values {
                    for held in try fetch("h.workspace = ? AND h.\(column) = ?", [workspace, value]) {
                        found[held.position] = held
                    }
                }
            }
            return Array(found.values.sorted { $0.position < $1.position }.prefix(limit))
        }
    }

    public func markDue(connection: ConnectionID, _ positions: [ClickPosition], at: Timestamp) async throws {
        guard !positions.isEmpty else { return }
        try await writer.write(.change, weight: positions.count) { context in
            guard let (number, _) = try HeldRow.numbers(of: connection, context.db) else { return }
            let update = try context.db.cachedStatement(
                sql: """
                    UPDATE held_clicks SET state = 'due', changed_at = ?
                    WHERE connection = ? AND position = ? AND state = 'held'
                    """)
            for position in positions {
                try update.execute(arguments: [at.milliseconds, number, position.rawValue])
            }
        }
    }

    public func dueClicks(connection: ConnectionID, limit: Int) async throws -> [HeldClick] {
        try await read("reading held clicks that are due") { db in
            guard let (number, _) = try HeldRow.numbers(of: connection, db) else { return [] }
            return try Row.fetchAll(
                db.cachedStatement(
                    sql: """
                        SELECT h.*, ? AS connection_id FROM held_clicks h INDEXED BY held_clicks_due
                        WHERE connection = ? AND state = 'due' ORDER BY position LIMIT ?
                        """), arguments: [connection.rawValue, number, limit]
            ).map(HeldRow.held(from:))
        }
    }

    public func sweepHeld(connection: ConnectionID, now: Timestamp, limit: Int) async throws -> HeldSweep {
        let next = try await read("looking for held clicks whose time is over") { try HeldRow.next(connection, $0) }
        guard let next, next <= now else { return HeldSweep(expired: 0, retried: 0, nextAt: next) }
        return try await writer.write(.change, weight: limit) { context in
            guard let (number, _) = try HeldRow.numbers(of: connection, context.db) else {
                return HeldSweep(expired: 0, retried: 0, nextAt: nil)
            }
            func move(_ state: HeldClick.State, _ column: String) throws -> Int {
                try context.db.execute(
                    sql: """
                        UPDATE held_clicks SET state = ?, changed_at = ? WHERE connection = ? AND position IN (
                            SELECT position FROM held_clicks
                            WHERE connection = ? AND state = 'held' AND \(column) <= ? ORDER BY \(column) LIMIT ?)
                        """,
                    arguments: [state.rawValue, now.milliseconds, number, number, now.milliseconds, limit])
                return context.db.changesCount
            }
            let expired = try move(.expired, "until")
            let retried = try move(.due, "retry_at")
            try context.count([.expired: Int64(expired)], connection: connection)
            return HeldSweep(
                expired: expired, retried: retried, nextAt: try HeldRow.next(connection, context.db))
        }
    }
}

/// How a held click lies in `held_clicks`.
enum HeldRow {
    static func held(from row: Row) -> HeldClick {
        HeldClick(
            connection: ConnectionID(row["connection_id"]), position: ClickPosition(row["position"]),
            state: HeldClick.State(rawValue: row["state"]) ?? .held,
            reason: HeldClick.Cause(rawValue: row["reason"]) ?? .unmatched,
            heldAt: Timestamp(milliseconds: row["held_at"]), until: Timestamp(milliseconds: row["until"]),
            changedAt: Timestamp(milliseconds: row["changed_at"]))
    }

    static func numbers(of connection: ConnectionID, _ db: Database) throws -> (connection: Int64, workspace: Int64)? {
        try Row.fetchOne(
            db.cachedStatement(
                sql: """
                    SELECT c.number, w.id FROM connections c JOIN workspaces w ON w.name = c.workspace WHERE c.id = ?
                    """), arguments: [connection.rawValue]
        ).map { ($0[0], $0[1]) }
    }

    /// When the next held click ends or is to be tried again.
    static func next(_ connection: ConnectionID, _ db: Database) throws -> Timestamp? {
        guard let (number, _) = try numbers(of: connection, db) else { return nil }
        let times = try ["until", "retry_at"].compactMap { column in
            try Int64.fetchOne(
                db.cachedStatement(
                    sql: """
                        SELECT \(column) FROM held_clicks
                        WHERE connection = ? AND state = 'held' AND \(column) IS NOT NULL ORDER BY \(column) LIMIT 1
                        """), arguments: [number])
        }
        return times.min().map(Timestamp.init(milliseconds:))
    }
}

extension WriteContext {
    /// One that is held again keeps its first moment and its end; only the reason and the next try are new.
    func store(_ holds: [StreamCommit.Hold], of commit: StreamCommit) throws {
        guard !holds.isEmpty, let (number, workspace) = try HeldRow.numbers(of: commit.connection, db) else { return }
        let insert = try db.cachedStatement(
            sql: """
                INSERT INTO held_clicks (connection, position, workspace, state, reason, held_at, until, changed_at,
                    retry_at, gclid, fbclid)
                VALUES (?1, ?2, ?3, 'held', ?4, ?5, ?6, ?5, ?7, ?8, ?9)
                ON CONFLICT DO UPDATE SET state = 'held', reason = excluded.reason, retry_at = excluded.retry_at,
                    changed_at = excluded.changed_at
                """)
        for hold in holds {
            try insert.execute(arguments: [
                number, hold.position.rawValue, workspace, hold.reason.rawValue, commit.at.milliseconds,
                hold.until.milliseconds, hold.retryAt?.milliseconds, hold.googleClickID, hold.facebookClickID,
            ])
        }
    }

    func finish(_ positions: [ClickPosition], as state: HeldClick.State, of commit: StreamCommit) throws {
        guard !positions.isEmpty, let (number, _) = try HeldRow.numbers(of: commit.connection, db) else { return }
        let update = try db.cachedStatement(
            sql: """
                UPDATE held_clicks SET state = ?, changed_at = ?, reason = iif(? = 'expired', 'excluded', reason)
                WHERE connection = ? AND position = ?
                """)
        for position in positions {
            try update.execute(arguments: [
                state.rawValue, commit.at.milliseconds, state.rawValue, number, position.rawValue,
            ])
        }
    }
}
