// SPDX-License-Identifier: Apache-2.0

import GRDB
public import MilepostModel

extension SQLiteStore {
    public func touches(connection: ConnectionID, contacts: [String]) async throws -> [String: TouchTimes] {
        try await read("reading what was last written on contacts") { db in
            guard let (number, _) = try HeldRow.numbers(of: connection, db) else { return [:] }
            let statement = try db.cachedStatement(
                sql: "SELECT * FROM contact_touches WHERE connection = ? AND contact = ?")
            var found: [String: TouchTimes] = [:]
            for contact in contacts {
                guard let row = try Row.fetchOne(statement, arguments: [number, contact]) else { continue }
                func time(_ column: String) -> Timestamp? {
                    (row[column] as Int64?).map(Timestamp.init(milliseconds:))
                }
                found[contact] = TouchTimes(
                    source: time("source_at"), medium: time("medium_at"), campaign: time("campaign_at"),
                    term: time("term_at"), content: time("content_at"))
            }
            return found
        }
    }
}

extension WriteContext {
    /// Each time only grows (PROP-08).
    func store(_ touches: [String: TouchTimes], of commit: StreamCommit) throws {
        guard !touches.isEmpty, let (number, _) = try HeldRow.numbers(of: commit.connection, db) else { return }
        let columns = ["source_at", "medium_at", "campaign_at", "term_at", "content_at"]
        // max() of SQLite is NULL when one argument is.
        let newer = columns.map { "\($0) = max(coalesce(\($0), excluded.\($0)), coalesce(excluded.\($0), \($0)))" }
        let statement = try db.cachedStatement(
            sql: """
                INSERT INTO contact_touches (connection, contact, \(columns.joined(separator: ", ")), touched_at)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT DO UPDATE SET \(newer.joined(separator: ", ")), touched_at = excluded.touched_at
                """)
        for (contact, times) in touches {
            try statement.execute(arguments: [
                number, contact, times.source?.milliseconds, times.medium?.milliseconds, times.campaign?.milliseconds,
                times.term?.milliseconds, times.content?.milliseconds, commit.at.milliseconds,
            ])
        }
    }
}
