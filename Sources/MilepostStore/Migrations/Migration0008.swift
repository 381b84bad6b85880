// SPDX-License-Identifier: Apache-2.0

import GRDB

/// What judges said about deliveries before they left (HOOK-01 to HOOK-06).
enum Migration0008 {
    @Sendable static func migrate(_ db: Database) throws {
        // `judged_at`: every judge has let the delivery through, and its payload holds what they changed.
        try db.execute(
            sql: """
                ALTER TABLE deliveries ADD COLUMN judged_at INTEGER;
                CREATE TABLE interceptions (
                    number INTEGER PRIMARY KEY AUTOINCREMENT, delivery TEXT NOT NULL, point TEXT NOT NULL,
                    judge TEXT NOT NULL, integration TEXT NOT NULL, ask INTEGER NOT NULL, asked_at INTEGER NOT NULL,
                    answered_at INTEGER NOT NULL, verdict TEXT NOT NULL, effect TEXT NOT NULL, code TEXT, message TEXT,
                    until INTEGER, changes TEXT
                ) STRICT;
                CREATE INDEX interceptions_delivery ON interceptions (delivery, number);
                PRAGMA user_version = 8
                """)
    }
}
