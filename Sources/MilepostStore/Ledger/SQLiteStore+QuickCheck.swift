// SPDX-License-Identifier: Apache-2.0

import GRDB
import MilepostModel

extension SQLiteStore {
    /// Looks for damage in the whole file while everything goes on (decisions 28): what SQLite says about each table,
    /// empty when it is whole. Damage that is found stops writes, as damage met while writing does.
    ///
    /// Large tables are read piece by piece, so that no read transaction lasts long; a page that cannot be right then
    /// shows as an error of SQLite's own. Takes the disk's time: for idle hours.
    public func quickCheck() async throws -> [String] {
        await longWork.enter()
        do {
            let found = try await check()
            await longWork.leave()
            if let first = found.first {
                writer.stopForDamage("\(first); \(found.count) findings in all. Restore the newest backup")
            }
            return found
        } catch {
            await longWork.leave()
            throw error
        }
    }

    private func check() async throws -> [String] {
        let tables = try await read("listing tables to check") { db in
            try String.fetchAll(db, sql: "SELECT name FROM sqlite_schema WHERE type = 'table' AND rootpage > 0")
        }
        var found: [String] = []
        for table in tables {
            try Task.checkCancellation()
            let key: String? = table == "event_ids" ? "hash" : table.hasPrefix("clicks_") ? "id" : nil
            do {
                if let key {
                    try await walk(table, by: key)
                } else {
                    found += try await read("checking \(table)") { db in
                        try String.fetchAll(db, sql: "PRAGMA quick_check('\(table)')").filter { $0 != "ok" }
                    }
                }
            } catch let error as StoreError where error.code == .corrupt {
                found.append("\(table): \(error.detail)")
            }
            guard found.count < Self.findingsKept else { break }
        }
        return found
    }

    /// SQLite lists a hundred by itself; more tell nothing new.
    private static let findingsKept = 100
    /// Rows of one read: some tens of milliseconds from the page cache.
    private static let rowsPerRead = 50_000

    /// Reads every row.
    private func walk(_ table: String, by key: String) async throws {
        var position: DatabaseValue? = nil
        repeat {
            try Task.checkCancellation()
            let after = position
            position = try await read("checking \(table)") { db in
                // A day may have been dropped since.
                guard try db.tableExists(table) else { return nil }
                // Summing what hangs behind the key makes SQLite parse every row and follow every overflow page.
                let columns = try db.columns(in: table).map { "length(\($0.name))" }.joined(separator: ", ")
                let condition = after == nil ? "" : "WHERE \(key) > ?"
                return try Row.fetchOne(
                    db,
                    sql: """
                        SELECT max(\(key)), count(*), sum(max(\(columns), 0)) FROM (
                            SELECT * FROM \(table) \(condition) ORDER BY \(key) LIMIT \(Self.rowsPerRead))
                        """, arguments: after.map { [$0] } ?? []
                ).flatMap { row in
                    let isLast = (row[1] as Int) < Self.rowsPerRead
                    return isLast ? nil : row[0] as DatabaseValue
                }
            }
        } while position != nil
    }
}
