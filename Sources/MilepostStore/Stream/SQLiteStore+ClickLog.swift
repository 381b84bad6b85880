// SPDX-License-Identifier: Apache-2.0

import GRDB
public import MilepostModel

extension SQLiteStore {
    /// Positions looked at in one read: some hundredths of a second.
    static let readStretch: Int64 = 20_000

    public func readClicks(
        after position: ClickPosition, workspace: WorkspaceID?, limit: Int
    ) async throws -> ClickPage {
        let limit = max(1, limit)
        return try await read("reading the log of clicks") { db in
            let after = position.rawValue
            let parts = try DayTable.all(db).compactMap { try LogPart($0, after: after, db) }
            guard let first = parts.map(\.first).min(), let newest = parts.map(\.last).max() else {
                return ClickPage(clicks: [], through: position, hasMore: false)
            }
            let row = try workspace.map { try Self.workspaceRow($0, db) }
            if case .some(.none) = row {
                return ClickPage(clicks: [], through: ClickPosition(newest), hasMore: false)
            }
            let end = min(newest, first + Self.readStretch - 1)
            var links = LinkFacts(workspace: row.flatMap { $0 })
            var clicks: [StoredClick] = []
            for part in parts where part.first <= end {
                clicks += try part.table.stretch(after: after, through: end, limit: limit + 1, &links, db)
            }
            clicks.sort { $0.position < $1.position }
            guard clicks.count > limit else {
                return ClickPage(clicks: clicks, through: ClickPosition(end), hasMore: end < newest)
            }
            clicks.removeSubrange(limit...)
            return ClickPage(clicks: clicks, through: clicks[limit - 1].position, hasMore: true)
        }
    }

    public func newestClickPosition() async throws -> ClickPosition {
        try await read("looking for the newest click") { ClickPosition(try ClickNumbers.newest($0)) }
    }

    public func clicks(at positions: [ClickPosition]) async throws -> [StoredClick] {
        guard !positions.isEmpty else { return [] }
        return try await read("reading clicks by position") { db in
            var found: [StoredClick] = []
            for table in try DayTable.all(db) {
                let ids = positions.map { $0.rawValue - table.base }.filter { $0 > 0 }
                for start in stride(from: 0, to: ids.count, by: 500) {
                    let chunk = ids[start..<min(start + 500, ids.count)]
                    let marks = chunk.map { _ in "?" }.joined(separator: ",")
                    found += try table.storedClicks("c.id IN (\(marks))", StatementArguments(chunk), db)
                }
            }
            return found.sorted { $0.position < $1.position }
        }
    }

    public func storedClick(
        _ id: EventID, workspace: WorkspaceID, identity: [UInt8]
    ) async throws -> StoredClick? {
        let found = try await read("looking for a click's day") { db -> (table: DayTable, last: Int64)? in
            let day = try Int32.fetchOne(
                db, sql: "SELECT day FROM event_ids WHERE hash = ?", arguments: [identity.blob])
            guard let table = try DayTable.all(db).first(where: { $0.day == day }) else { return nil }
            return (table, try Int64.fetchOne(db, sql: "SELECT max(id) FROM \(table.name)") ?? 0)
        }
        guard let found else { return nil }
        // The day has no index over ids, because every click would pay for what one person asks now and then.
        var end = found.last
        while end > 0 {
            let (from, through) = (end - Self.searchStretch, end)
            let click = try await read("looking for a click") { db -> StoredClick? in
                guard try DayTable.all(db).contains(where: { $0.day == found.table.day }) else { return nil }
                return try found.table.storedClicks(
                    "c.id > ? AND c.id <= ? AND c.event = ? AND w.name = ? LIMIT 1",
                    [from, through, id.rawValue, workspace.rawValue], db
                ).first
            }
            if let click { return click }
            end = from
        }
        return nil
    }

    /// Rows looked through in one read when a click is looked for by its id.
    private static let searchStretch: Int64 = 200_000

    public func identifyingForms(
        workspace: WorkspaceID, googleClickID: String?, facebookClickID: String?, limit: Int
    ) async throws -> [LoggedForm] {
        let limit = PageBounds.clamped(limit)
        return try await read("looking for a form by an advertisement's click id") { db in
            guard let row = try Self.workspaceRow(workspace, db) else { return [] }
            var found: [Row] = []
            for (column, value) in [("gclid", googleClickID), ("fbclid", facebookClickID)] {
                guard let value else { continue }
                found += try Row.fetchAll(
                    db.cachedStatement(
                        sql: """
                            SELECT * FROM forms WHERE workspace = ? AND \(column) = ?
                                AND (contact IS NOT NULL OR email IS NOT NULL) ORDER BY at DESC, id DESC LIMIT ?
                            """), arguments: [row, value, limit])
            }
            return found.map(FormRow.logged(from:)).sorted { $0.form.time > $1.form.time }
        }
    }

    public func loggedForms(
        workspace: WorkspaceID, in positions: ClosedRange<ClickPosition>, after: Int64, last: Int64?, limit: Int
    ) async throws -> [LoggedForm] {
        let limit = PageBounds.clamped(limit)
        return try await read("reading forms in the order of the log") { db in
            guard let row = try Self.workspaceRow(workspace, db) else { return [] }
            return try Row.fetchAll(
                db.cachedStatement(
                    sql: """
                        SELECT * FROM forms WHERE workspace = ? AND position BETWEEN ? AND ? AND number > ?
                            AND number <= ? AND (gclid IS NOT NULL OR fbclid IS NOT NULL)
                            AND (contact IS NOT NULL OR email IS NOT NULL)
                        ORDER BY position, number LIMIT ?
                        """),
                arguments: [
                    row, positions.lowerBound.rawValue, positions.upperBound.rawValue, after, last ?? .max, limit,
                ]
            ).map(FormRow.logged(from:))
        }
    }
}

/// What a day's table holds after a position.
private struct LogPart {
    let table: DayTable
    /// Positions, not row ids.
    let first: Int64
    let last: Int64

    /// Nil when the day has nothing after it.
    init?(_ table: DayTable, after: Int64, _ db: Database) throws {
        let found = try Row.fetchOne(
            db.cachedStatement(
                sql: """
                    SELECT id AS first, (SELECT max(id) FROM \(table.name)) AS last FROM \(table.name)
                    WHERE id > ? ORDER BY id LIMIT 1
                    """), arguments: [after - table.base])
        guard let found else { return nil }
        self.table = table
        first = table.base + found["first"]
        last = table.base + found["last"]
    }
}

/// How positions are given out: a day's table keeps row ids from 1 on, and its base is the newest position at the moment
/// it was made.
enum ClickNumbers {
    /// The newest there is, or ever was: rows that retention dropped have left their number in `counters`.
    static func newest(_ db: Database) throws -> Int64 {
        var newest = try Int64.fetchOne(db, sql: "SELECT value FROM counters WHERE name = 'clicks'") ?? 0
        for table in try DayTable.all(db) {
            guard let last = try Int64.fetchOne(db, sql: "SELECT max(id) FROM \(table.name)") else { continue }
            newest = max(newest, table.base + last)
        }
        return newest
    }
}

extension DayTable {
    /// - Parameter condition: over the click `c`, its link `l` and its workspace `w`; values are arguments.
    func storedClicks(
        _ condition: String, _ arguments: StatementArguments, _ db: Database
    ) throws -> [StoredClick] {
        let rows = try Row.fetchCursor(
            db,
            sql: """
                SELECT \(Self.columns), c.received_at, l.id AS link_row, l.name, l.slug, l.short_url, l.destination,
                    l.title, l.folder, l.tags, l.flags, l.owner, 0 AS clicks, 0 AS people, w.name AS workspace_name
                FROM \(name) c JOIN links l ON l.id = c.link JOIN workspaces w ON w.id = l.workspace WHERE \(condition)
                """, arguments: arguments)
        var links: [Int64: Link] = [:]
        var clicks: [StoredClick] = []
        while let row = try rows.next() {
            let number: Int64 = row["link_row"]
            let workspace = WorkspaceID(row["workspace_name"] as String)
            let link = links[number] ?? LinkRow.link(from: row, workspace: workspace)
            links[number] = link
            clicks.append(
                StoredClick(
                    position: ClickPosition(base + row["id"]), workspace: workspace, click: Self.click(from: row),
                    link: link, receivedAt: Timestamp(milliseconds: row["received_at"])))
        }
        return clicks
    }
}
