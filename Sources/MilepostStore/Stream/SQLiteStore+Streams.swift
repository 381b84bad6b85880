// SPDX-License-Identifier: Apache-2.0

import GRDB
public import MilepostModel

extension SQLiteStore {
    public func streamPlace(of connection: ConnectionID) async throws -> StreamPlace {
        if let place = try await read("reading a cursor", { try StreamRow.place(of: connection, $0) }) { return place }
        return try await write { context in
            try context.openStream(connection, after: nil)
            return try StreamRow.place(of: connection, context.db)
                ?? StreamPlace(started: .start, position: .start)
        }
    }

    public func closeStream(_ connection: ConnectionID) async throws {
        guard try await read("reading a cursor", { try StreamRow.place(of: connection, $0) }) != nil else { return }
        try await write { context in
            try context.db.execute(
                sql: "DELETE FROM streams WHERE connection_id = ?", arguments: [connection.rawValue])
        }
    }

    public func commitStream(_ commit: StreamCommit) async throws {
        let weight = commit.failures.count + commit.holds.count + commit.released.count + commit.touches.count
        try await writer.write(.change, weight: max(1, weight)) { try $0.commitStream(commit) }
    }

    public func streamCounts(connection: ConnectionID?) async throws -> [ConnectionID: [StreamCount: Int64]] {
        try await read("reading counts of streams") { db in
            var counts: [ConnectionID: [StreamCount: Int64]] = [:]
            let rows = try Row.fetchAll(
                db, sql: "SELECT * FROM stream_counters WHERE ?1 IS NULL OR connection_id = ?1",
                arguments: [connection?.rawValue])
            for row in rows {
                counts[ConnectionID(row["connection_id"]), default: [:]][
                    StreamCount(action: row["action"], outcome: row["outcome"])] = row["clicks"]
            }
            return counts
        }
    }

    public func streamClicks(of delivery: DeliveryID) async throws -> [ClickPosition] {
        try await read("reading the clicks of a delivery") { db in
            try Int64.fetchAll(
                db, sql: "SELECT position FROM stream_deliveries WHERE delivery = ? ORDER BY position",
                arguments: [delivery.rawValue]
            ).map { ClickPosition($0) }
        }
    }

    public func nextStreamDue(connection: ConnectionID, actions: [String]) async throws -> Timestamp? {
        // With every action switched off nothing can be due, and SQLite finds no way to look for it by the index.
        guard !actions.isEmpty else { return nil }
        return try await read("looking for what is due") { db in
            let marks = actions.map { _ in "?" }.joined(separator: ",")
            return try Int64.fetchOne(
                db,
                sql: """
                    SELECT min(coalesce(next_attempt_at, 0)) FROM deliveries INDEXED BY deliveries_due
                    WHERE connection_id = ? AND state IN ('pending', 'retrying', 'uncertain') AND action IN (\(marks))
                    """, arguments: StatementArguments([connection.rawValue] + actions)
            ).map(Timestamp.init(milliseconds:))
        }
    }

    public func streamTrace(connection: ConnectionID, click: StoredClick) async throws -> StreamTrace {
        let position = click.position.rawValue
        return try await read("tracing a click") { db in
            let isSkipped =
                try Bool.fetchOne(
                    db,
                    sql: """
                        SELECT EXISTS (SELECT 1 FROM stream_gaps WHERE connection_id = ?1 AND after < ?2 AND through >= ?2)
                        """, arguments: [connection.rawValue, position]) ?? false
            let exclusion = try Row.fetchOne(
                db,
                sql: """
                    SELECT code, message FROM stream_exclusions
                    WHERE connection_id = ?1 AND link = ?2 AND first <= ?3 AND last >= ?3
                    """, arguments: [connection.rawValue, click.click.link.rawValue, position]
            ).map { Reason(code: $0["code"], message: $0["message"]) }
            let held = try Row.fetchOne(
                db,
                sql: """
                    SELECT h.*, c.id AS connection_id FROM held_clicks h JOIN connections c ON c.number = h.connection
                    WHERE c.id = ? AND h.position = ?
                    """, arguments: [connection.rawValue, position]
            ).map(HeldRow.held(from:))
            let deliveries = try Row.fetchAll(
                db,
                sql: """
                    SELECT d.* FROM stream_deliveries s JOIN deliveries d ON d.id = s.delivery
                    WHERE s.connection_id = ? AND s.position = ? ORDER BY d.number
                    """, arguments: [connection.rawValue, position]
            ).map(DeliveryRow.delivery(from:))
            return StreamTrace(
                place: try StreamRow.place(of: connection, db), isSkipped: isSkipped, exclusion: exclusion, held: held,
                deliveries: deliveries)
        }
    }
}

enum StreamRow {
    static func place(of connection: ConnectionID, _ db: Database) throws -> StreamPlace? {
        let found = try Row.fetchOne(
            db.cachedStatement(sql: "SELECT started, position FROM streams WHERE connection_id = ?"),
            arguments: [connection.rawValue])
        guard let found else { return nil }
        let position: Int64 = found["position"]
        let gaps = try Row.fetchAll(
            db.cachedStatement(
                sql: "SELECT after, through FROM stream_gaps WHERE connection_id = ? AND through > ? ORDER BY after"),
            arguments: [connection.rawValue, position])
        return StreamPlace(
            started: ClickPosition(found["started"]), position: ClickPosition(position),
            gaps: gaps.map { StreamPlace.Gap(after: ClickPosition($0["after"]), through: ClickPosition($0["through"])) }
        )
    }
}

extension WriteContext {
    func commitStream(_ commit: StreamCommit) throws {
        let id = commit.connection.rawValue
        if let position = commit.position {
            try db.cachedStatement(
                sql: "UPDATE streams SET position = max(position, ?) WHERE connection_id = ?"
            ).execute(arguments: [position.rawValue, id])
            guard db.changesCount == 1 else { throw StoreError.noConnection(commit.connection) }
        }
        for failure in commit.failures where try insert(failure.delivery, key: failure.key) {
            if let attempt = failure.attempt { try log(attempt) }
            let member = try db.cachedStatement(
                sql: """
                    INSERT INTO stream_deliveries (connection_id, position, delivery) VALUES (?, ?, ?)
                    ON CONFLICT DO NOTHING
                    """)
            for click in failure.clicks {
                try member.execute(arguments: [id, click.rawValue, failure.delivery.id.rawValue])
            }
        }
        try store(commit.holds, of: commit)
        try finish(commit.released, as: .released, of: commit)
        try finish(commit.dropped, as: .expired, of: commit)
        try forget(commit.withdrawn.map(\.rawValue))
        // Where no stretch is open, a link that fires has none to end.
        var hasOpen =
            try commit.links.isEmpty
            || Bool.fetchOne(
                db.cachedStatement(
                    sql: "SELECT EXISTS (SELECT 1 FROM stream_exclusions WHERE connection_id = ? AND is_open = 1)"),
                arguments: [id]) ?? true
        for treatment in commit.links where hasOpen || treatment.exclusion != nil {
            try note(treatment, connection: id)
            hasOpen = true
        }
        try store(commit.touches, of: commit)
        try count(commit.counts, connection: commit.connection)
    }

    func count(_ counts: [StreamCount: Int64], connection: ConnectionID) throws {
        let statement = try db.cachedStatement(
            sql: """
                INSERT INTO stream_counters (connection_id, action, outcome, clicks) VALUES (?, ?, ?, ?)
                ON CONFLICT DO UPDATE SET clicks = clicks + excluded.clicks
                """)
        for (what, clicks) in counts where clicks != 0 {
            try statement.execute(arguments: [connection.rawValue, what.action, what.outcome, clicks])
        }
    }

    /// Keeps one row for each stretch of clicks that an exclusion covered, so that explain need not guess from what the
    /// link is flagged with today.
    private func note(_ treatment: StreamCommit.LinkTreatment, connection: String) throws {
        guard let exclusion = treatment.exclusion else {
            try db.cachedStatement(
                sql: "UPDATE stream_exclusions SET is_open = 0 WHERE connection_id = ? AND link = ? AND is_open = 1"
            ).execute(arguments: [connection, treatment.link.rawValue])
            return
        }
        try db.cachedStatement(
            sql: """
                UPDATE stream_exclusions SET last = ?4
                WHERE connection_id = ?1 AND link = ?2 AND is_open = 1 AND code = ?3
                """
        ).execute(
            arguments: [connection, treatment.link.rawValue, exclusion.code, treatment.last.rawValue])
        guard db.changesCount == 0 else { return }
        try db.cachedStatement(
            sql: "UPDATE stream_exclusions SET is_open = 0 WHERE connection_id = ? AND link = ? AND is_open = 1"
        ).execute(arguments: [connection, treatment.link.rawValue])
        try db.cachedStatement(
            sql: """
                INSERT INTO stream_exclusions (connection_id, link, first, last, is_open, code, message)
                VALUES (?, ?, ?, ?, 1, ?, ?) ON CONFLICT DO NOTHING
                """
        ).execute(arguments: [
            connection, treatment.link.rawValue, treatment.first.rawValue, treatment.last.rawValue, exclusion.code,
            exclusion.message,
        ])
    }
}
