// SPDX-License-Identifier: Apache-2.0

import GRDB
public import MilepostModel

extension SQLiteStore {
    public func changedLinks(
        workspace: WorkspaceID, after sequence: Int64, floor: TotalFloor?, limit: Int
    ) async throws -> ChangedLinks {
        let limit = max(1, limit)
        return try await read("reading what changed in '\(workspace)'") { db in
            let current = try Self.currentSequence(db)
            guard let row = try Self.workspaceRow(workspace, db) else {
                return ChangedLinks(links: [], examined: 0, through: current, hasMore: false)
            }
            let (high, floorClicks) = floor.map { ($0.audience.column, $0.clicks) } ?? ("clicks", 0)
            func changed(_ condition: String, _ arguments: StatementArguments) throws -> [Row] {
                try Row.fetchAll(
                    db.cachedStatement(
                        sql: """
                            SELECT \(LinkRow.columns), t.sequence FROM link_totals t JOIN links l ON l.id = t.link
                            WHERE t.workspace = ? AND t.\(high) >= ? AND \(condition)
                            """), arguments: [row, floorClicks] + arguments)
            }
            func examined(through last: Int64) throws -> Int {
                try Int.fetchOne(
                    db.cachedStatement(
                        sql: "SELECT count(*) FROM link_totals WHERE workspace = ? AND sequence > ? AND sequence <= ?"),
                    arguments: [row, sequence, last]) ?? 0
            }
            let rows = try changed("t.sequence > ? ORDER BY t.sequence LIMIT ?", [sequence, limit + 1])
            guard rows.count > limit else {
                return ChangedLinks(
                    links: rows.map { LinkRow.link(from: $0, workspace: workspace) },
                    examined: try examined(through: current), through: current, hasMore: false)
            }
            // A cursor must not land between two links of one transaction: the page ends before the last number it
            // met, or holds that number's links completely when it met no other.
            let last: Int64 = rows[limit]["sequence"]
            var whole = rows.filter { $0["sequence"] < last }
            let through = whole.last.map { $0["sequence"] as Int64 } ?? last
            if whole.isEmpty { whole = try changed("t.sequence = ?", [last]) }
            return ChangedLinks(
                links: whole.map { LinkRow.link(from: $0, workspace: workspace) },
                examined: try examined(through: through),
                through: through, hasMore: through < current)
        }
    }

    public func currentSequence() async throws -> Int64 {
        try await read("reading the sequence") { try Self.currentSequence($0) }
    }

    public func mostFrequentUTM(workspace: WorkspaceID, scope: Scope, audience: Audience) async throws -> UTM? {
        try await read("counting campaigns") { db in
            guard let row = try Self.workspaceRow(workspace, db) else { return nil }
            let column = audience.column
            let condition =
                switch scope.kind {
                case .link: "l.workspace = ? AND l.name = ?"
                case .folder: "l.workspace = ? AND l.folder = ? AND \(LinkRow.takesPart)"
                // A rule's clicks are one contact's, and their campaigns are not counted; an event has none.
                case .rule, .event: "l.workspace = ? AND l.name = ? AND false"
                }
            let found = try Row.fetchOne(
                db.cachedStatement(
                    sql: """
                        SELECT c.source, c.medium, c.campaign, sum(c.\(column)) AS counted
                        FROM links l JOIN link_campaigns c ON c.link = l.id WHERE \(condition)
                        GROUP BY c.source, c.medium, c.campaign HAVING counted > 0
                        ORDER BY counted DESC, c.source, c.medium, c.campaign LIMIT 1
                        """), arguments: [row, scope.id])
            return found.map { row in
                func part(_ name: String) -> String? {
                    let text: String = row[name]
                    return text.isEmpty ? nil : text
                }
                return UTM(source: part("source"), medium: part("medium"), campaign: part("campaign"))
            }
        }
    }

    static func currentSequence(_ db: Database) throws -> Int64 {
        try Int64.fetchOne(
            db.cachedStatement(sql: "SELECT value FROM counters WHERE name = 'sequence'")) ?? 0
    }

    static func workspaceRow(_ id: WorkspaceID, _ db: Database) throws -> Int64? {
        try Int64.fetchOne(
            db.cachedStatement(sql: "SELECT id FROM workspaces WHERE name = ?"), arguments: [id.rawValue])
    }
}

extension Audience {
    /// The column of `link_totals` and `link_campaigns` that counts it.
    var column: String {
        switch self {
        case .all: "clicks"
        case .people: "people"
        }
    }
}
