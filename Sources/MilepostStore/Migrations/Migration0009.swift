// SPDX-License-Identifier: Apache-2.0

import GRDB

/// How endpoints do (EXT-08), and events that others hand in (HOOK-08).
enum Migration0009 {
    @Sendable static func migrate(_ db: Database) throws {
        // `failing_since` moves on while nothing can be tried; `resume_quota` is null but after an enabling.
        //
        // `identity` is what makes a handed-in event the only one of its kind; `number` its place in the list. Its
        // deliveries hang on `id` by their scope.
        try db.execute(
            sql: """
                ALTER TABLE connections ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
                ALTER TABLE connections ADD COLUMN failing_since INTEGER;
                ALTER TABLE connections ADD COLUMN failure_code TEXT;
                ALTER TABLE connections ADD COLUMN failure_message TEXT;
                ALTER TABLE connections ADD COLUMN resume_quota INTEGER;
                CREATE TABLE vendor_events (
                    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, workspace TEXT NOT NULL,
                    connection_id TEXT NOT NULL, integration TEXT NOT NULL,
                    identity TEXT NOT NULL, digest TEXT NOT NULL, topic TEXT NOT NULL, at INTEGER NOT NULL,
                    received_at INTEGER NOT NULL, data TEXT NOT NULL,
                    UNIQUE (connection_id, identity)
                ) STRICT;
                CREATE INDEX vendor_events_by_workspace ON vendor_events (workspace, number);
                PRAGMA user_version = 9
                """)
    }
}
