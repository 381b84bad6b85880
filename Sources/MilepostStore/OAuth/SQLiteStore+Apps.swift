// SPDX-License-Identifier: Apache-2.0

import GRDB
public import MilepostModel

extension SQLiteStore {
    public func app(_ plugin: PluginName) async throws -> AppRegistration? {
        try await read("reading the app of '\(plugin)'") { db in
            try Row.fetchOne(db, sql: "SELECT * FROM oauth_apps WHERE plugin = ?", arguments: [plugin.rawValue])
                .map(Self.app(from:))
        }
    }

    public func apps() async throws -> [AppRegistration] {
        try await read("listing apps") { db in
            try Row.fetchAll(db, sql: "SELECT * FROM oauth_apps ORDER BY plugin").map(Self.app(from:))
        }
    }

    public func saveApp(_ app: AppRegistration, secrets: [SealedCredential]) async throws {
        let facts = JSONValue.object(app.facts.mapValues(JSONValue.string)).description
        let names = JSONValue.array(app.secrets.map(JSONValue.string)).description
        try await write { context in
            try context.db.execute(
                sql: """
                    INSERT INTO oauth_apps (plugin, client_id, facts, secrets, updated_at) VALUES (?, ?, ?, ?, ?)
                    ON CONFLICT DO UPDATE SET client_id = excluded.client_id, facts = excluded.facts,
                        secrets = excluded.secrets, updated_at = excluded.updated_at
                    """, arguments: [app.plugin.rawValue, app.clientID, facts, names, app.updatedAt.milliseconds])
            let connection = AppRegistration.connection(of: app.plugin)
            try context.removeCredentials(of: connection, except: app.secrets)
            for secret in secrets { try CredentialRow.store(secret, context.db) }
        }
    }

    public func deleteApp(_ plugin: PluginName) async throws -> Bool {
        try await write { context in
            try context.removeCredentials(of: AppRegistration.connection(of: plugin), except: [])
            try context.db.execute(sql: "DELETE FROM oauth_apps WHERE plugin = ?", arguments: [plugin.rawValue])
            return context.db.changesCount > 0
        }
    }

    private static func app(from row: Row) -> AppRegistration {
        AppRegistration(
            plugin: PluginName(row["plugin"]), clientID: row["client_id"],
            facts: (StoredJSON.value(row["facts"]).object ?? [:]).compactMapValues(\.string),
            secrets: StoredJSON.texts(row["secrets"]), updatedAt: Timestamp(milliseconds: row["updated_at"]))
    }

    // MARK: Authorisations

    public func beginAuthorization(
        _ authorization: PendingAuthorization, verifier: SealedCredential, at: Timestamp
    ) async throws {
        let scopes = JSONValue.array(authorization.scopes.map(JSONValue.string)).description
        try await write { context in
            try context.removeExpiredAuthorizations(at: at)
            try context.db.execute(
                sql: """
                    INSERT INTO oauth_authorizations (hash, id, workspace, integration, credential, request, scopes,
                        redirect_uri, state, created_at, expires_at)
                    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                    """,
                arguments: [
                    authorization.hash.blob, authorization.id, authorization.workspace.rawValue,
                    authorization.integration.description, authorization.credential,
                    authorization.request.description, scopes, authorization.redirectURI,
                    authorization.state.rawValue, authorization.createdAt.milliseconds,
                    authorization.expiresAt.milliseconds,
                ])
            try CredentialRow.store(verifier, context.db)
        }
    }

    public func takeAuthorization(hash: [UInt8], at: Timestamp) async throws -> PendingAuthorization? {
        try await write { try $0.takeAuthorization("hash", hash.blob, at: at) }
    }

    public func takeAuthorization(id: String, at: Timestamp) async throws -> PendingAuthorization? {
        try await write { try $0.takeAuthorization("id", id, at: at) }
    }

    public func settleAuthorization(id: String, state: PendingAuthorization.State, reason: Reason?) async throws {
        try await write { context in
            try context.removeCredentials(of: ConnectionID(id), except: [])
            try context.db.execute(
                sql: "UPDATE oauth_authorizations SET state = ?, reason_code = ?, reason_message = ? WHERE id = ?",
                arguments: [state.rawValue, reason?.code, reason?.message, id])
        }
    }

    public func authorization(id: String) async throws -> PendingAuthorization? {
        try await read("reading an authorisation") { db in
            try Row.fetchOne(db, sql: "SELECT * FROM oauth_authorizations WHERE id = ?", arguments: [id])
                .flatMap(Self.authorization(from:))
        }
    }

    fileprivate static func authorization(from row: Row) -> PendingAuthorization? {
        let integration: String = row["integration"]
        let state: String = row["state"]
        guard let name = IntegrationName(integration), let known = PendingAuthorization.State(rawValue: state) else {
            return nil
        }
        return PendingAuthorization(
            id: row["id"], hash: [UInt8](blob: row["hash"]), workspace: WorkspaceID(row["workspace"]),
            integration: name, credential: row["credential"], request: StoredJSON.value(row["request"]),
            scopes: StoredJSON.texts(row["scopes"]), redirectURI: row["redirect_uri"], state: known,
            reason: ConnectionRow.reason(from: row), createdAt: Timestamp(milliseconds: row["created_at"]),
            expiresAt: Timestamp(milliseconds: row["expires_at"]))
    }
}

extension StoredJSON {
    /// The texts of a stored list.
    static func texts(_ text: String) -> [String] { (value(text).array ?? []).compactMap(\.string) }
}

extension WriteContext {
    /// Removes sealed secrets of a connection, all but those named.
    func removeCredentials(of connection: ConnectionID, except kept: [String]) throws {
        let names = try String.fetchAll(
            db, sql: "SELECT name FROM integration_credentials WHERE connection_id = ?",
            arguments: [connection.rawValue])
        for name in names where !kept.contains(name) {
            try db.execute(
                sql: "DELETE FROM integration_credentials WHERE connection_id = ? AND name = ?",
                arguments: [connection.rawValue, name])
        }
    }

    fileprivate func removeExpiredAuthorizations(at: Timestamp) throws {
        // What became of one is asked for some minutes more, by whoever waits for it.
        let before = (at - .seconds(3600)).milliseconds
        let gone = try String.fetchAll(
            db, sql: "SELECT id FROM oauth_authorizations WHERE expires_at < ? LIMIT 500", arguments: [before])
        for id in gone {
            try removeCredentials(of: ConnectionID(id), except: [])
            try db.execute(sql: "DELETE FROM oauth_authorizations WHERE id = ?", arguments: [id])
        }
    }

    fileprivate func takeAuthorization(
        _ column: String, _ value: any DatabaseValueConvertible, at: Timestamp
    ) throws -> PendingAuthorization? {
        let found = try Row.fetchOne(
            db, sql: "SELECT * FROM oauth_authorizations WHERE \(column) = ?", arguments: [value]
        ).flatMap(SQLiteStore.authorization(from:))
        guard let found, found.state == .pending, at < found.expiresAt else { return nil }
        try db.execute(sql: "UPDATE oauth_authorizations SET state = 'used' WHERE id = ?", arguments: [found.id])
        return found
    }
}
