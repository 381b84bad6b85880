// SPDX-License-Identifier: Apache-2.0

import GRDB
public import MilepostModel

extension SQLiteStore {
    public func ensureWorkspace(_ id: WorkspaceID, at: Timestamp) async throws -> Workspace {
        if let known = try await workspace(id) { return known }
        return try await write { context in
            try context.db.execute(
                sql: "INSERT INTO workspaces (name, created_at) VALUES (?, ?) ON CONFLICT DO NOTHING",
                arguments: [id.rawValue, at.milliseconds])
            guard let workspace = try Self.workspace(id, context.db) else { throw StoreError.noWorkspace(id) }
            return workspace
        }
    }

    public func workspace(_ id: WorkspaceID) async throws -> Workspace? {
        try await read("reading workspace '\(id)'") { try Self.workspace(id, $0) }
    }

    public func workspaces() async throws -> [Workspace] {
        try await read("listing workspaces") { db in
            try Row.fetchAll(db, sql: "SELECT * FROM workspaces ORDER BY name").map(Self.workspace(from:))
        }
    }

    public func setPlan(_ workspace: WorkspaceID, plan: String?, trialStartedAt: Timestamp?) async throws {
        try await write { context in
            try context.db.execute(
                sql: "UPDATE workspaces SET plan = ?, trial_started_at = ? WHERE name = ?",
                arguments: [plan, trialStartedAt?.milliseconds, workspace.rawValue])
            guard context.db.changesCount == 1 else { throw StoreError.noWorkspace(workspace) }
        }
    }

    private static func workspace(_ id: WorkspaceID, _ db: Database) throws -> Workspace? {
        try Row.fetchOne(
            db.cachedStatement(sql: "SELECT * FROM workspaces WHERE name = ?"), arguments: [id.rawValue]
        ).map(workspace(from:))
    }

    private static func workspace(from row: Row) -> Workspace {
        let trial: Int64? = row["trial_started_at"]
        return Workspace(
            id: WorkspaceID(row["name"]), plan: row["plan"],
            trialStartedAt: trial.map(Timestamp.init(milliseconds:)),
            createdAt: Timestamp(milliseconds: row["created_at"]))
    }

    // MARK: Links

    public func link(_ id: LinkID, workspace: WorkspaceID) async throws -> Link? {
        try await read("reading link '\(id)'") { db in
            guard let row = try Self.workspaceRow(workspace, db) else { return nil }
            return try Self.link(named: id.rawValue, row, workspace, db)
        }
    }

    public func links(
        workspace: WorkspaceID, folder: String?, cursor: String?, limit: Int
    ) async throws -> Page<Link> {
        let limit = PageBounds.clamped(limit)
        return try await read("listing links of '\(workspace)'") { db in
            guard let row = try Self.workspaceRow(workspace, db) else { return Page(items: []) }
            let rows = try Row.fetchAll(
                db,
                sql: """
                    SELECT \(LinkRow.columns) FROM links l JOIN link_totals t ON t.link = l.id
                    WHERE l.workspace = ? AND l.name > ? \(folder == nil ? "" : "AND l.folder = ?")
                    ORDER BY l.name LIMIT ?
                    """,
                arguments: StatementArguments([row, cursor ?? ""] as [(any DatabaseValueConvertible)?])
                    + (folder.map { [$0] } ?? []) + [limit + 1])
            let links = rows.prefix(limit).map { LinkRow.link(from: $0, workspace: workspace) }
            return Page(items: links, next: rows.count > limit ? links.last?.id.rawValue : nil)
        }
    }

    static func link(named name: String, _ row: Int64, _ workspace: WorkspaceID, _ db: Database) throws -> Link? {
        try Row.fetchOne(
            db.cachedStatement(
                sql: """
                    SELECT \(LinkRow.columns) FROM links l JOIN link_totals t ON t.link = l.id
                    WHERE l.workspace = ? AND l.name = ?
                    """), arguments: [row, name]
        ).map { LinkRow.link(from: $0, workspace: workspace) }
    }

    public func folder(_ name: String, workspace: WorkspaceID, audience: Audience) async throws -> FolderTotals {
        try await read("adding up folder '\(name)'") { db in
            guard let row = try Self.workspaceRow(workspace, db) else {
                return FolderTotals(name: name, totals: ClickTotals(), top: [])
            }
            let top = try Row.fetchAll(
                db,
                sql: """
                    SELECT \(LinkRow.columns) FROM links l JOIN link_totals t ON t.link = l.id
                    WHERE l.workspace = ? AND l.folder = ? AND \(LinkRow.takesPart) ORDER BY t.\(audience.column) DESC, l.name LIMIT 3
                    """, arguments: [row, name])
            return FolderTotals(
                name: name, totals: try Self.folderTotals(name, row, db),
                top: top.map { LinkRow.link(from: $0, workspace: workspace) })
        }
    }

    static func folderTotals(_ name: String, _ workspace: Int64, _ db: Database) throws -> ClickTotals {
        let row = try Row.fetchOne(
            db.cachedStatement(
                sql: """
                    SELECT coalesce(sum(t.clicks), 0) AS clicks, coalesce(sum(t.people), 0) AS people
                    FROM links l JOIN link_totals t ON t.link = l.id
                    WHERE l.workspace = ? AND l.folder = ? AND \(LinkRow.takesPart)
                    """), arguments: [workspace, name])
        return row.map { ClickTotals(all: $0["clicks"], people: $0["people"]) } ?? ClickTotals()
    }

    // MARK: Members

    public func setOptOut(_ member: String, workspace: WorkspaceID, isOptedOut: Bool, at: Timestamp) async throws {
        try await write { context in
            let row = try context.workspaceRow(workspace)
            if isOptedOut {
                try context.db.execute(
                    sql:
                        "INSERT INTO opted_out_members (workspace, member, at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                    arguments: [row, member, at.milliseconds])
            } else {
                try context.db.execute(
                    sql: "DELETE FROM opted_out_members WHERE workspace = ? AND member = ?", arguments: [row, member])
            }
        }
    }

    public func hasOptedOut(_ member: String, workspace: WorkspaceID) async throws -> Bool {
        try await read("looking for opt-outs") { db in
            guard let row = try Self.workspaceRow(workspace, db) else { return false }
            return try Bool.fetchOne(
                db, sql: "SELECT EXISTS (SELECT 1 FROM opted_out_members WHERE workspace = ? AND member = ?)",
                arguments: [row, member]) ?? false
        }
    }

    public func optedOutMembers(workspace: WorkspaceID) async throws -> Set<String> {
        try await read("looking for opt-outs") { db in
            guard let row = try Self.workspaceRow(workspace, db) else { return [] }
            return try Set(
                String.fetchAll(db, sql: "SELECT member FROM opted_out_members WHERE workspace = ?", arguments: [row]))
        }
    }
}

/// How long a page of a list may be.
enum PageBounds {
    static let maximum = 1000

    static func clamped(_ limit: Int) -> Int { min(max(1, limit), maximum) }

    /// Where a page starts, as `text` of an earlier answer says.
    ///
    /// - Throws: `notFound` for a cursor that we never gave.
    static func number(_ text: String?, else first: Int64) throws -> Int64 {
        guard let text else { return first }
        guard let number = Int64(text) else {
            throw StoreError(code: .notFound, detail: "the cursor '\(text.prefix(40))' is not one of this list's")
        }
        return number
    }
}
