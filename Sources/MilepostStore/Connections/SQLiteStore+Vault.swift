// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import GRDB
public import MilepostModel

extension SQLiteStore {
    public var epoch: UInt64? { writer.credentials.commits }

    public func dataKey(_ workspace: WorkspaceID) async throws -> WrappedDataKey? {
        try await read("reading the data key of '\(workspace)'") { try Self.dataKey(workspace, $0) }
    }

    public func insertDataKey(_ key: WrappedDataKey) async throws -> WrappedDataKey {
        try await write { context in
            try context.db.execute(
                sql:
                    "INSERT INTO data_keys (workspace, id, kek_id, wrapped) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
                arguments: [key.workspace.rawValue, key.id, key.kekID, key.wrapped.blob])
            return try Self.dataKey(key.workspace, context.db) ?? key
        }
    }

    public func replaceDataKey(_ new: WrappedDataKey, ifKekIs old: String) async throws -> Bool {
        try await write { context in
            try context.db.execute(
                sql: "UPDATE data_keys SET kek_id = ?, wrapped = ? WHERE workspace = ? AND id = ? AND kek_id = ?",
                arguments: [new.kekID, new.wrapped.blob, new.workspace.rawValue, new.id, old])
            return context.db.changesCount == 1
        }
    }

    public func dataKeysNotWrapped(by kekID: String, limit: Int) async throws -> [WrappedDataKey] {
        try await read("looking for keys to wrap anew") { db in
            try Row.fetchAll(
                db, sql: "SELECT * FROM data_keys WHERE kek_id <> ? ORDER BY workspace LIMIT ?",
                arguments: [kekID, PageBounds.clamped(limit)]
            ).map(Self.dataKey(from:))
        }
    }

    public func dataKeyCount(wrappedBy kekID: String) async throws -> Int {
        try await read("counting data keys") { db in
            try Int.fetchOne(db, sql: "SELECT count(*) FROM data_keys WHERE kek_id = ?", arguments: [kekID]) ?? 0
        }
    }

    public func credential(_ reference: CredentialReference) async throws -> SealedCredential? {
        try await read("reading a sealed credential") { db in
            try Row.fetchOne(
                db.cachedStatement(
                    sql: "SELECT * FROM integration_credentials WHERE connection_id = ? AND name = ?"),
                arguments: [reference.connection.rawValue, reference.name]
            ).map(CredentialRow.credential(from:))
        }
    }

    public func storeCredential(_ credential: SealedCredential) async throws {
        try await write { try CredentialRow.store(credential, $0.db) }
    }

    private static func dataKey(_ workspace: WorkspaceID, _ db: Database) throws -> WrappedDataKey? {
        try Row.fetchOne(
            db.cachedStatement(sql: "SELECT * FROM data_keys WHERE workspace = ?"), arguments: [workspace.rawValue]
        ).map(dataKey(from:))
    }

    private static func dataKey(from row: Row) -> WrappedDataKey {
        WrappedDataKey(
            workspace: WorkspaceID(row["workspace"]), id: row["id"], kekID: row["kek_id"],
            wrapped: [UInt8](blob: row["wrapped"]))
    }
}

/// How a sealed credential lies in `integration_credentials`.
enum CredentialRow {
    static func store(_ credential: SealedCredential, _ db: Database) throws {
        try db.cachedStatement(
            sql: """
                INSERT INTO integration_credentials
                    (connection_id, name, workspace, version, key_id, nonce, ciphertext, tag)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT DO UPDATE SET workspace = excluded.workspace, version = excluded.version,
                    key_id = excluded.key_id, nonce = excluded.nonce, ciphertext = excluded.ciphertext,
                    tag = excluded.tag
                """
        ).execute(arguments: [
            credential.connection.rawValue, credential.name, credential.workspace.rawValue, credential.version,
            credential.keyID, credential.nonce.blob, credential.ciphertext.blob, credential.tag.blob,
        ])
    }

    static func credential(from row: Row) -> SealedCredential {
        SealedCredential(
            connection: ConnectionID(row["connection_id"]), workspace: WorkspaceID(row["workspace"]), name: row["name"],
            version: row["version"], keyID: row["key_id"], nonce: [UInt8](blob: row["nonce"]),
            ciphertext: [UInt8](blob: row["ciphertext"]), tag: [UInt8](blob: row["tag"]))
    }
}
