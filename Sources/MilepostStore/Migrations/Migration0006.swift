// SPDX-License-Identifier: Apache-2.0

import GRDB

/// Rolling rules: what they say, how far each contact has come, what fired.
enum Migration0006 {
    @Sendable static func migrate(_ db: Database) throws {
        try db.execute(sql: rules)
        try db.execute(sql: firings)
        try db.execute(sql: "PRAGMA user_version = 6")
    }

    // A rule whose way of counting changes gets a new number and with it new windows. `counts_from`: clicks up to there
    // count and fire nothing. `filled_through`: how far a new rule's windows are filled from history; NULL once it
    // follows the workspace's cursor.
    private static let rules = """
        CREATE TABLE rules (
            number INTEGER PRIMARY KEY AUTOINCREMENT, workspace TEXT NOT NULL, id TEXT NOT NULL,
            document TEXT NOT NULL, is_managed INTEGER NOT NULL, warnings TEXT NOT NULL, counts_from INTEGER NOT NULL,
            filled_through INTEGER, filled_now INTEGER NOT NULL, created_at INTEGER NOT NULL,
            changed_at INTEGER NOT NULL, checked_at INTEGER NOT NULL, counted INTEGER NOT NULL DEFAULT 0,
            bots INTEGER NOT NULL DEFAULT 0, anonymous INTEGER NOT NULL DEFAULT 0, excluded INTEGER NOT NULL DEFAULT 0,
            late INTEGER NOT NULL DEFAULT 0,
            UNIQUE (workspace, id)
        ) STRICT;
        CREATE TABLE rule_cursors (
            workspace TEXT PRIMARY KEY, position INTEGER NOT NULL, now INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE rule_contacts (
            rule INTEGER NOT NULL, contact TEXT NOT NULL, times BLOB NOT NULL, arming INTEGER NOT NULL,
            is_armed INTEGER NOT NULL, bots INTEGER NOT NULL, changed_at INTEGER NOT NULL,
            PRIMARY KEY (rule, contact)
        ) STRICT, WITHOUT ROWID;
        """

    // `rule_moves`: which record a click moved already, so that no second rule moves it for the same click.
    private static let firings = """
        CREATE TABLE rule_firings (
            number INTEGER PRIMARY KEY AUTOINCREMENT, workspace TEXT NOT NULL, rule INTEGER NOT NULL,
            rule_id TEXT NOT NULL, document TEXT NOT NULL, integration TEXT NOT NULL, contact TEXT NOT NULL,
            person TEXT NOT NULL, threshold INTEGER NOT NULL, arming INTEGER NOT NULL, counted INTEGER NOT NULL,
            position INTEGER NOT NULL, click TEXT NOT NULL, click_at INTEGER NOT NULL, link TEXT NOT NULL,
            at INTEGER NOT NULL, state TEXT NOT NULL, targets TEXT NOT NULL, attempts INTEGER NOT NULL,
            next_attempt_at INTEGER, reason_code TEXT, reason_message TEXT, changed_at INTEGER NOT NULL,
            UNIQUE (rule, contact, threshold, arming)
        ) STRICT;
        CREATE INDEX rule_firings_waiting ON rule_firings (workspace, position, rule_id) WHERE state = 'waiting';
        CREATE INDEX rule_firings_listed ON rule_firings (workspace, rule_id, number);
        CREATE INDEX rule_firings_contact ON rule_firings (workspace, contact, number);
        CREATE INDEX rule_firings_click ON rule_firings (workspace, position);
        CREATE INDEX rule_firings_finished ON rule_firings (changed_at) WHERE state <> 'waiting';
        CREATE TABLE rule_moves (
            connection_id TEXT NOT NULL, position INTEGER NOT NULL, target TEXT NOT NULL, firing INTEGER NOT NULL,
            PRIMARY KEY (connection_id, position, target)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX rule_moves_firing ON rule_moves (firing);
        """
}
