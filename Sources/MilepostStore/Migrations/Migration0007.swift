// SPDX-License-Identifier: Apache-2.0

import GRDB

/// What comes from files, and what they said (EXT-15).
enum Migration0007 {
    @Sendable static func migrate(_ db: Database) throws {
        // Workspace and name are empty, not null, where they do not apply: a primary key takes no null.
        try db.execute(
            sql: """
                CREATE TABLE managed_objects (
                    kind TEXT NOT NULL, workspace TEXT NOT NULL, name TEXT NOT NULL, source TEXT NOT NULL,
                    document TEXT NOT NULL, applied_at INTEGER NOT NULL, PRIMARY KEY (kind, workspace, name)
                ) STRICT, WITHOUT ROWID;
                PRAGMA user_version = 7
                """)
    }
}
