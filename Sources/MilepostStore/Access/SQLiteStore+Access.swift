// SPDX-License-Identifier: Apache-2.0

import GRDB
public import MilepostModel

extension SQLiteStore {
    public func saveToken(_ token: AccessToken) async throws {
        try await write { context in
            try context.db.execute(
                sql: """
                    INSERT INTO tokens (id, name, hash, scopes, workspace, created_at, expires_at)
                    VALUES (?, ?, ?, ?, ?, ?, ?)
                    ON CONFLICT (id) DO UPDATE SET name = excluded.name, hash = excluded.hash, scopes = excluded.scopes,
                        workspace = excluded.workspace, expires_at = excluded.expires_at
                    """,
                arguments: [
                    token.id, token.name, token.hash.blob, token.scopes.map(\.rawValue).joined(separator: " "),
                    token.workspace?.rawValue, token.createdAt.milliseconds, token.expiresAt?.milliseconds,
                ])
        }
    }

    public func token(hash: [UInt8]) async throws -> AccessToken? {
        try await read("looking up a token") { db in
            try Row.fetchOne(
                db.cachedStatement(sql: "SELECT * FROM tokens WHERE hash = ?"), arguments: [hash.blob]
            ).map(Self.token(from:))
        }
    }

    public func tokens() async throws -> [AccessToken] {
        try await read("listing tokens") { db in
            try Row.fetchAll(db, sql: "SELECT * FROM tokens ORDER BY created_at, id").map(Self.token(from:))
        }
    }

    public func deleteToken(id: String) async throws -> Bool {
        try await write { context in
            try context.db.execute(sql: "DELETE FROM tokens WHERE id = ?", arguments: [id])
            return context.db.changesCount == 1
        }
    }

    private static func token(from row: Row) -> AccessToken {
        let scopes: String = row["scopes"]
        let workspace: String? = row["workspace"]
        let expiry: Int64? = row["expires_at"]
        return AccessToken(
            id: row["id"], name: row["name"], hash: [UInt8](blob: row["hash"]),
            scopes: scopes.split(separator: " ").compactMap { AccessScope(rawValue: String($0)) },
            workspace: workspace.map(WorkspaceID.init(rawValue:)),
            createdAt: Timestamp(milliseconds: row["created_at"]),
            expiresAt: expiry.map(Timestamp.init(milliseconds:)))
    }

    // MARK: Audit

    public func audit(_ entry: AuditEntry) async throws {
        try await write { context in
            try context.db.execute(
                sql: "INSERT INTO audit (at, actor, action, target, detail) VALUES (?, ?, ?, ?, ?)",
                arguments: [
                    entry.at.milliseconds, entry.actor, entry.action, entry.target, entry.detail.description,
                ])
        }
    }

    /// Newest first.
    public func auditEntries(cursor: String?, limit: Int) async throws -> Page<AuditEntry> {
        let limit = PageBounds.clamped(limit)
        let before = try PageBounds.number(cursor, else: .max)
        return try await read("listing the audit log") { db in
            let rows = try Row.fetchAll(
                db, sql: "SELECT * FROM audit WHERE number < ? ORDER BY number DESC LIMIT ?",
                arguments: [before, limit + 1])
            let entries = rows.prefix(limit).map { row in
                AuditEntry(
                    id: row["number"], at: Timestamp(milliseconds: row["at"]), actor: row["actor"],
                    action: row["action"], target: row["target"], detail: StoredJSON.value(row["detail"]))
            }
            return Page(items: entries, next: rows.count > limit ? entries.last.map { String($0.id) } : nil)
        }
    }

    // MARK: Schedule

    /// Runs kept for each schedule.
    private static let keptRuns = 50

    public func recordRun(_ run: ScheduleRun, cursors: [ConnectionID: CursorMove]) async throws {
        try await write { context in
            for (connection, move) in cursors {
                try context.db.cachedStatement(sql: "UPDATE connections SET cursor = ? WHERE id = ? AND cursor = ?")
                    .execute(arguments: [move.through, connection.rawValue, move.from])
            }
            try context.db.execute(
                sql: """
                    INSERT INTO schedule_runs (schedule, started_at, finished_at, succeeded, summary)
                    VALUES (?, ?, ?, ?, ?)
                    """,
                arguments: [
                    run.schedule, run.startedAt.milliseconds, run.finishedAt.milliseconds, run.succeeded,
                    run.summary.description,
                ])
            try context.db.execute(
                sql: """
                    DELETE FROM schedule_runs WHERE schedule = ?1 AND number <= (
                        SELECT number FROM schedule_runs WHERE schedule = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)
                    """, arguments: [run.schedule, Self.keptRuns])
            try context.beat(run.finishedAt)
        }
    }

    public func lastRun(of schedule: String) async throws -> ScheduleRun? {
        try await read("reading the last run of '\(schedule)'") { db in
            try Row.fetchOne(
                db, sql: "SELECT * FROM schedule_runs WHERE schedule = ? ORDER BY number DESC LIMIT 1",
                arguments: [schedule]
            ).map { row in
                ScheduleRun(
                    schedule: row["schedule"], startedAt: Timestamp(milliseconds: row["started_at"]),
                    finishedAt: Timestamp(milliseconds: row["finished_at"]), succeeded: row["succeeded"],
                    summary: StoredJSON.value(row["summary"]))
            }
        }
    }
}
