// SPDX-License-Identifier: Apache-2.0

import GRDB

/// Plans as data by REST (PLAN-05), and the indices that lists, retention and erasure ask for.
enum Migration0002 {
    @Sendable static func migrate(_ db: Database) throws {
        try db.execute(sql: plans)
        try db.execute(sql: indices)
        try db.execute(sql: "PRAGMA user_version = 2")
    }

    // `zeros` holds rows only while an erasure overwrites free pages.
    private static let plans = """
        CREATE TABLE plans (
            name TEXT PRIMARY KEY, fires INTEGER NOT NULL, integrations TEXT, trial_days INTEGER
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE zeros (number INTEGER PRIMARY KEY, bytes BLOB NOT NULL) STRICT;
        """

    private static let indices = """
        CREATE INDEX deliveries_listed ON deliveries (workspace, state, number);
        CREATE INDEX deliveries_scope ON deliveries (workspace, scope_kind, scope_id, number);
        CREATE INDEX forms_received ON forms (received_at);
        CREATE INDEX plugin_kv_expiry ON plugin_kv (expires_at) WHERE expires_at IS NOT NULL;
        """
}
