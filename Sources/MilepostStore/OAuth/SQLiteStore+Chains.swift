// SPDX-License-Identifier: Apache-2.0

import GRDB
public import MilepostModel

extension SQLiteStore {
    public func saveConnection(
        _ connection: Connection, credentials: [SealedCredential], baseline: Reason?, chain: TokenChain?, at: Timestamp
    ) async throws -> Connection {
        let saved = try await write { context in
            let saved = try context.save(connection, credentials: credentials, baseline: baseline, at: at)
            try context.removeCredentials(of: saved.id, except: credentials.map(\.name))
            try context.db.execute(
                sql: "DELETE FROM oauth_chains WHERE connection_id = ?", arguments: [saved.id.rawValue])
            if let chain {
                guard chain.connection == saved.id else { throw StoreError.noConnection(chain.connection) }
                try ChainRow.insert(chain, context.db)
            }
            return saved
        }
        // The click stream of the connection begins now.
        arrivals.raise(saved.workspace) { $0.connections.insert(saved.workspace) }
        return saved
    }

    public func chain(_ connection: ConnectionID) async throws -> TokenChain? {
        try await read("reading the tokens' chain of '\(connection)'") { try ChainRow.find(connection, $0) }
    }

    public func chains() async throws -> [TokenChain] {
        try await read("listing chains of tokens") { db in
            try Row.fetchAll(db.cachedStatement(sql: "SELECT * FROM oauth_chains ORDER BY connection_id"))
                .map(ChainRow.chain(from:))
        }
    }

    public func beginRefresh(
        _ connection: ConnectionID, version: Int64, owner: String, resent: Int, at: Timestamp
    ) async throws {
        try await write { context in
            try context.db.execute(
                sql: """
                    UPDATE oauth_chains SET intent_at = ?, intent_owner = ?, resent = ?
                    WHERE connection_id = ? AND token_version = ? AND intent_at IS NULL
                    """, arguments: [at.milliseconds, owner, resent, connection.rawValue, version])
            guard context.db.changesCount == 1 else { throw StoreError.tokensMoved(connection, version) }
        }
    }

    public func storeRefresh(_ chain: TokenChain, credentials: [SealedCredential]) async throws {
        try await write { context in
            guard let stored = try ChainRow.find(chain.connection, context.db), stored.lineage == chain.lineage,
                stored.version == chain.version - 1,
                credentials.allSatisfy({ $0.version == chain.version && $0.connection == chain.connection })
            else { throw StoreError.tokensMoved(chain.connection, chain.version - 1) }
            try context.db.execute(
                sql: "DELETE FROM oauth_chains WHERE connection_id = ?", arguments: [chain.connection.rawValue])
            try ChainRow.insert(chain, context.db)
            for credential in credentials { try CredentialRow.store(credential, context.db) }
        }
    }

    public func settleRefresh(_ chain: TokenChain) async throws -> Bool {
        try await write { context in
            try context.db.execute(
                sql: """
                    UPDATE oauth_chains SET state = ?, reason_code = ?, reason_message = ?, failures = ?, resent = ?,
                        next_attempt_at = ?, intent_at = NULL, intent_owner = NULL
                    WHERE connection_id = ? AND token_version = ? AND lineage = ?
                    """,
                arguments: [
                    chain.state.rawValue, chain.reason?.code, chain.reason?.message, chain.failures, chain.resent,
                    chain.nextAttemptAt?.milliseconds, chain.connection.rawValue, chain.version, chain.lineage,
                ])
            return context.db.changesCount == 1
        }
    }

    public func recoverRefreshes(
        exceptOwner owner: String, reason: Reason, nextAttemptAt: Timestamp
    ) async throws -> [ConnectionID] {
        try await write { context in
            let open = try String.fetchAll(
                context.db,
                sql: "SELECT connection_id FROM oauth_chains WHERE intent_at IS NOT NULL AND intent_owner <> ?",
                arguments: [owner])
            for id in open {
                try context.db.execute(
                    sql: """
                        UPDATE oauth_chains SET state = 'uncertain', reason_code = ?, reason_message = ?,
                            next_attempt_at = ?, intent_at = NULL, intent_owner = NULL
                        WHERE connection_id = ?
                        """, arguments: [reason.code, reason.message, nextAttemptAt.milliseconds, id])
            }
            return open.map { ConnectionID($0) }
        }
    }
}

extension StoreError {
    fileprivate static func tokensMoved(_ connection: ConnectionID, _ version: Int64) -> StoreError {
        StoreError(
            code: .conflict,
            detail: "the tokens of '\(connection)' are no longer version \(version), or are being refreshed: read the "
                + "newer ones instead")
    }
}

/// How a chain lies in `oauth_chains`.
enum ChainRow {
    static func find(_ connection: ConnectionID, _ db: Database) throws -> TokenChain? {
        try Row.fetchOne(
            db.cachedStatement(sql: "SELECT * FROM oauth_chains WHERE connection_id = ?"),
            arguments: [connection.rawValue]
        ).map(chain(from:))
    }

    static func insert(_ chain: TokenChain, _ db: Database) throws {
        try db.cachedStatement(
            sql: """
                INSERT INTO oauth_chains (connection_id, workspace, credential, lineage, token_version, fingerprint,
                    scopes, account, issued_at, expires_at, last_refresh_at, refreshes, state, reason_code,
                    reason_message, failures, resent, next_attempt_at, intent_at, intent_owner)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                """
        ).execute(arguments: [
            chain.connection.rawValue, chain.workspace.rawValue, chain.credential, chain.lineage, chain.version,
            chain.fingerprint, JSONValue.array(chain.scopes.map(JSONValue.string)).description, chain.account,
            chain.issuedAt.milliseconds, chain.expiresAt.milliseconds, chain.lastRefreshAt?.milliseconds,
            chain.refreshes, chain.state.rawValue, chain.reason?.code, chain.reason?.message, chain.failures,
            chain.resent, chain.nextAttemptAt?.milliseconds, chain.intent?.at.milliseconds, chain.intent?.owner,
        ])
    }

    static func chain(from row: Row) throws -> TokenChain {
        func time(_ column: String) -> Timestamp? {
            (row[column] as Int64?).map { Timestamp(milliseconds: $0) }
        }
        let state: String = row["state"]
        let owner: String? = row["intent_owner"]
        return TokenChain(
            connection: ConnectionID(row["connection_id"]), workspace: WorkspaceID(row["workspace"]),
            credential: row["credential"], lineage: row["lineage"], version: row["token_version"],
            fingerprint: row["fingerprint"], scopes: StoredJSON.texts(row["scopes"]), account: row["account"],
            issuedAt: Timestamp(milliseconds: row["issued_at"]), expiresAt: Timestamp(milliseconds: row["expires_at"]),
            lastRefreshAt: time("last_refresh_at"), refreshes: row["refreshes"],
            // A word that no daemon wrote was written by hand: the careful side.
            state: TokenChain.State(rawValue: state) ?? .edited, reason: ConnectionRow.reason(from: row),
            failures: row["failures"], resent: row["resent"], nextAttemptAt: time("next_attempt_at"),
            intent: time("intent_at").map { TokenChain.Intent(at: $0, owner: owner ?? "") })
    }
}
