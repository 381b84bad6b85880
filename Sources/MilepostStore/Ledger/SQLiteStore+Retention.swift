// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import GRDB
public import MilepostModel

extension SQLiteStore {
    /// Works in steps of `SQLiteConfiguration.retentionChunk` rows, each a transaction, so that writes go on in
    /// between. Dead deliveries stay until they are replayed; crossings stay for ever, so nothing fires again.
    public func enforceRetention(
        clicksBefore: Timestamp, dedupeBefore: Timestamp, deliveriesBefore: Timestamp
    ) async throws -> RetentionResult {
        await longWork.enter()
        do {
            let result = RetentionResult(
                daysDropped: try await dropDays(before: clicksBefore.day),
                identitiesDropped: try await pruneIdentities(before: dedupeBefore.day),
                deliveriesDropped: try await compactDeliveries(before: deliveriesBefore),
                formsDropped: try await dropForms(before: clicksBefore.startOfDay))
            try await dropStreamHistory(before: clicksBefore)
            // As long as a repetition must be known for one.
            try await dropVendorEvents(before: min(dedupeBefore, deliveriesBefore))
            await longWork.leave()
            return result
        } catch {
            await longWork.leave()
            throw error
        }
    }

    private func dropDays(before day: Int32) async throws -> Int {
        let tables = try await read("listing days of clicks") { try DayTable.all($0) }.filter { $0.day < day }
        let chunk = configuration.retentionChunk
        for table in tables {
            while try await !write({ try $0.dropChunk(of: table, rows: chunk) }) { try Task.checkCancellation() }
        }
        return tables.count
    }

    /// Walks all identities once for each day that passes; between, the stored mark says that nothing is to be done.
    private func pruneIdentities(before day: Int32) async throws -> Int {
        let done = try await read("reading how far identities are pruned") { db in
            try Int32.fetchOne(db, sql: "SELECT value FROM counters WHERE name = 'identities_pruned_before'") ?? 0
        }
        guard done < day else { return 0 }
        let chunk = configuration.retentionChunk
        var dropped = 0
        var position: [UInt8]? = []
        while let start = position {
            try Task.checkCancellation()
            let step = try await write { try $0.pruneIdentities(from: start, before: day, rows: chunk) }
            dropped += step.dropped
            position = step.next
        }
        try await write { context in
            try context.db.execute(
                sql: "UPDATE counters SET value = ? WHERE name = 'identities_pruned_before'", arguments: [day])
        }
        return dropped
    }

    /// Forms go with the clicks of their day, by day of receipt; what plugins let expire before then goes too.
    private func dropForms(before start: Timestamp) async throws -> Int {
        let chunk = configuration.retentionChunk
        var total = 0
        while true {
            try Task.checkCancellation()
            let dropped = try await write { try $0.dropForms(before: start, rows: chunk) }
            total += dropped
            if dropped < chunk { return total }
        }
    }

    private func dropStreamHistory(before: Timestamp) async throws {
        let chunk = configuration.retentionChunk
        while try await write({ try $0.dropStreamHistory(before: before, rows: chunk) }) == chunk {
            try Task.checkCancellation()
        }
    }

    private func compactDeliveries(before: Timestamp) async throws -> Int {
        let chunk = max(1, configuration.retentionChunk / 20)  // a delivery has a journal and a log behind it
        var total = 0
        while true {
            try Task.checkCancellation()
            let dropped = try await write { try $0.compactDeliveries(before: before, rows: chunk) }
            total += dropped
            if dropped < chunk { return total }
        }
    }
}

extension Timestamp {
    /// Midnight, UTC.
    fileprivate var startOfDay: Timestamp {
        let rest = milliseconds % 86_400_000
        return Timestamp(milliseconds: milliseconds - (rest < 0 ? rest + 86_400_000 : rest))
    }
}

extension WriteContext {
    /// Debian's SQLite overwrites what it deletes; for raw days that would write every page once more (decisions 24).
    func withoutOverwriting<Value>(_ body: () throws -> Value) throws -> Value {
        try db.execute(sql: "PRAGMA secure_delete = OFF")
        let result = Result(catching: body)
        try db.execute(sql: "PRAGMA secure_delete = ON")
        return try result.get()
    }

    /// Takes the oldest rows out of a day and carries their counts; true when the day is gone.
    fileprivate func dropChunk(of table: DayTable, rows: Int) throws -> Bool {
        try withoutOverwriting {
            guard state.base(of: table.day) != nil else { return true }
            let last = try Int64.fetchOne(
                db, sql: "SELECT max(id) FROM (SELECT id FROM \(table.name) ORDER BY id LIMIT ?)", arguments: [rows])
            guard let last else {
                try db.execute(sql: "DROP TABLE \(table.name)")
                try db.execute(sql: "DELETE FROM click_days WHERE day = ?", arguments: [table.day])
                state.forget(day: table.day)
                return true
            }
            try db.execute(
                sql: """
                    UPDATE link_totals SET carried_clicks = carried_clicks + gone.clicks,
                        carried_people = carried_people + gone.people
                    FROM (SELECT link, count(*) AS clicks, sum(1 - is_bot) AS people FROM \(table.name)
                        WHERE id <= ? GROUP BY link) AS gone
                    WHERE link_totals.link = gone.link
                    """, arguments: [last])
            try db.execute(sql: "DELETE FROM \(table.name) WHERE id <= ?", arguments: [last])
            // The newest click may go with its day; its position is never given to another.
            try db.execute(
                sql: "UPDATE counters SET value = max(value, ?) WHERE name = 'clicks'",
                arguments: [table.base + last])
            return false
        }
    }

    fileprivate func pruneIdentities(
        from start: [UInt8], before day: Int32, rows: Int
    ) throws -> (dropped: Int, next: [UInt8]?) {
        try withoutOverwriting {
            let end = try Data.fetchOne(
                db, sql: "SELECT hash FROM event_ids WHERE hash >= ? ORDER BY hash LIMIT 1 OFFSET ?",
                arguments: [start.blob, rows])
            if let end {
                try db.execute(
                    sql: "DELETE FROM event_ids WHERE hash >= ? AND hash < ? AND day < ?",
                    arguments: [start.blob, end, day])
            } else {
                try db.execute(
                    sql: "DELETE FROM event_ids WHERE hash >= ? AND day < ?", arguments: [start.blob, day])
            }
            return (db.changesCount, end.map { [UInt8](blob: $0) })
        }
    }

    fileprivate func dropForms(before: Timestamp, rows: Int) throws -> Int {
        try db.execute(
            sql: """
                DELETE FROM plugin_kv WHERE (connection_id, key) IN (
                    SELECT connection_id, key FROM plugin_kv WHERE expires_at < ? LIMIT ?)
                """, arguments: [before.milliseconds, rows])
        try db.execute(
            sql: "DELETE FROM forms WHERE id IN (SELECT id FROM forms WHERE received_at < ? LIMIT ?)",
            arguments: [before.milliseconds, rows])
        return db.changesCount
    }

    fileprivate func compactDeliveries(before: Timestamp, rows: Int) throws -> Int {
        let ids = try String.fetchAll(
            db,
            sql: """
                SELECT id FROM deliveries WHERE state IN ('delivered', 'dropped') AND updated_at < ?
                ORDER BY updated_at LIMIT ?
                """, arguments: [before.milliseconds, rows])
        try forget(ids)
        return ids.count
    }

    /// Takes deliveries away with all that hangs on them.
    func forget(_ deliveries: [String]) throws {
        guard !deliveries.isEmpty else { return }
        for table in [
            "delivery_steps WHERE delivery", "delivery_attempts WHERE delivery", "stream_deliveries WHERE delivery",
            "interceptions WHERE delivery", "deliveries WHERE id",
        ] {
            let delete = try db.cachedStatement(sql: "DELETE FROM \(table) = ?")
            for id in deliveries { try delete.execute(arguments: [id]) }
        }
    }
}
