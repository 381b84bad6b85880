// SPDX-License-Identifier: Apache-2.0

import GRDB

/// OAuth 2.0: the vendors' apps, authorisations under way, and the chains of tokens. The tokens themselves are sealed in
/// `integration_credentials`.
enum Migration0004 {
    @Sendable static func migrate(_ db: Database) throws {
        try db.execute(sql: tables)
        try db.execute(sql: "PRAGMA user_version = 4")
    }

    // `fingerprint`: of the refresh token, so that a restored row is told from a chain that moved on. `intent_at` and
    // `intent_owner`: a refresh that may have left and whose answer is not stored.
    private static let tables = """
        ALTER TABLE connections ADD COLUMN credential TEXT;

        CREATE TABLE oauth_apps (
            plugin TEXT PRIMARY KEY, client_id TEXT NOT NULL, facts TEXT NOT NULL, secrets TEXT NOT NULL,
            updated_at INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE oauth_authorizations (
            hash BLOB PRIMARY KEY CHECK (length(hash) = 32), id TEXT NOT NULL UNIQUE, workspace TEXT NOT NULL,
            integration TEXT NOT NULL, credential TEXT NOT NULL, request TEXT NOT NULL, scopes TEXT NOT NULL,
            redirect_uri TEXT NOT NULL, state TEXT NOT NULL, reason_code TEXT, reason_message TEXT,
            created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX oauth_authorizations_expiry ON oauth_authorizations (expires_at);

        CREATE TABLE oauth_chains (
            connection_id TEXT PRIMARY KEY, workspace TEXT NOT NULL, credential TEXT NOT NULL, lineage TEXT NOT NULL,
            token_version INTEGER NOT NULL, fingerprint TEXT NOT NULL, scopes TEXT NOT NULL, account TEXT,
            issued_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, last_refresh_at INTEGER,
            refreshes INTEGER NOT NULL, state TEXT NOT NULL, reason_code TEXT, reason_message TEXT,
            failures INTEGER NOT NULL, resent INTEGER NOT NULL, next_attempt_at INTEGER, intent_at INTEGER,
            intent_owner TEXT
        ) STRICT, WITHOUT ROWID;
        """
}
