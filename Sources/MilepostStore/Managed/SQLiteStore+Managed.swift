// SPDX-License-Identifier: Apache-2.0

import GRDB
public import MilepostModel

extension SQLiteStore {
    public func managedObject(
        _ kind: ManagedObject.Kind, workspace: WorkspaceID?, name: String
    ) async throws -> ManagedObject? {
        try await read("reading what files manage") { db in
            try Row.fetchOne(
                db, sql: "SELECT * FROM managed_objects WHERE kind = ? AND workspace = ? AND name = ?",
                arguments: [kind.rawValue, workspace?.rawValue ?? "", name]
            ).flatMap(Self.managedObject(from:))
        }
    }

    public func managedObjects() async throws -> [ManagedObject] {
        try await read("reading what files manage") { db in
            try Row.fetchAll(db, sql: "SELECT * FROM managed_objects ORDER BY kind, workspace, name")
                .compactMap(Self.managedObject(from:))
        }
    }

    public func manage(_ object: ManagedObject) async throws {
        try await write { context in
            try context.db.execute(
                sql: """
                    INSERT INTO managed_objects (kind, workspace, name, source, document, applied_at)
                    VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET source = excluded.source,
                        document = excluded.document, applied_at = excluded.applied_at
                    """,
                arguments: [
                    object.kind.rawValue, object.workspace?.rawValue ?? "", object.name, object.source,
                    object.document.description, object.appliedAt.milliseconds,
                ])
            try Self.mark(object.kind, object.workspace, object.name, true, context.db)
        }
    }

    public func release(_ kind: ManagedObject.Kind, workspace: WorkspaceID?, name: String) async throws {
        try await write { context in
            try context.db.execute(
                sql: "DELETE FROM managed_objects WHERE kind = ? AND workspace = ? AND name = ?",
                arguments: [kind.rawValue, workspace?.rawValue ?? "", name])
            try Self.mark(kind, workspace, name, false, context.db)
        }
    }

    /// The mark on the connection's own row, which every reader of a connection sees.
    private static func mark(
        _ kind: ManagedObject.Kind, _ workspace: WorkspaceID?, _ name: String, _ isManaged: Bool, _ db: Database
    ) throws {
        guard kind == .connection else { return }
        try db.execute(
            sql: "UPDATE connections SET is_managed = ? WHERE workspace = ? AND integration = ?",
            arguments: [isManaged, workspace?.rawValue, name])
    }

    /// Nil for a kind that a later version wrote: it is not ours to judge.
    private static func managedObject(from row: Row) -> ManagedObject? {
        guard let kind = ManagedObject.Kind(rawValue: row["kind"]) else { return nil }
        let workspace: String = row["workspace"]
        return ManagedObject(
            kind: kind, workspace: workspace.isEmpty ? nil : WorkspaceID(workspace), name: row["name"],
            source: row["source"], document: StoredJSON.value(row["document"]),
            appliedAt: Timestamp(milliseconds: row["applied_at"]))
    }
}
