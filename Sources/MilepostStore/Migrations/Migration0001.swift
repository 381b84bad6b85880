// SPDX-License-Identifier: Apache-2.0

import GRDB

/// The first schema. Days of clicks have tables of their own, made when a day's first click comes (`DayTable`).
enum Migration0001 {
    @Sendable static func migrate(_ db: Database) throws {
        try db.execute(sql: ledger)
        try db.execute(sql: book)
        try db.execute(sql: outbox)
        try db.execute(sql: access)
        try db.execute(sql: "PRAGMA user_version = 1")
    }

    // `carried_*`: clicks of days that were dropped, so that a recount of the retained ones can be checked.
    private static let ledger = """
        CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
        INSERT INTO counters VALUES ('sequence', 0), ('identities_pruned_before', 0);

        CREATE TABLE workspaces (
            id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, plan TEXT, trial_started_at INTEGER,
            created_at INTEGER NOT NULL
        ) STRICT;

        CREATE TABLE links (
            id INTEGER PRIMARY KEY, workspace INTEGER NOT NULL, name TEXT NOT NULL, slug TEXT, short_url TEXT,
            destination TEXT, title TEXT, folder TEXT, tags TEXT NOT NULL DEFAULT '[]',
            flags TEXT NOT NULL DEFAULT '', owner TEXT,
            UNIQUE (workspace, name)
        ) STRICT;
        CREATE INDEX links_folder ON links (workspace, folder) WHERE folder IS NOT NULL;

        CREATE TABLE link_totals (
            link INTEGER PRIMARY KEY, workspace INTEGER NOT NULL, clicks INTEGER NOT NULL DEFAULT 0,
            people INTEGER NOT NULL DEFAULT 0, carried_clicks INTEGER NOT NULL DEFAULT 0,
            carried_people INTEGER NOT NULL DEFAULT 0, campaigns INTEGER NOT NULL DEFAULT 0,
            sequence INTEGER NOT NULL
        ) STRICT;
        CREATE INDEX link_totals_changed ON link_totals (workspace, sequence, clicks, people);

        CREATE TABLE link_campaigns (
            link INTEGER NOT NULL, source TEXT NOT NULL, medium TEXT NOT NULL, campaign TEXT NOT NULL,
            clicks INTEGER NOT NULL, people INTEGER NOT NULL,
            PRIMARY KEY (link, source, medium, campaign)
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE event_ids (
            hash BLOB PRIMARY KEY CHECK (length(hash) = 16), day INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE click_days (day INTEGER PRIMARY KEY) STRICT;

        CREATE TABLE forms (
            id INTEGER PRIMARY KEY, workspace INTEGER NOT NULL, name TEXT NOT NULL, at INTEGER NOT NULL, contact TEXT,
            email TEXT, gclid TEXT, fbclid TEXT, fields TEXT NOT NULL, received_at INTEGER NOT NULL,
            UNIQUE (workspace, name)
        ) STRICT;
        CREATE INDEX forms_contact ON forms (workspace, contact) WHERE contact IS NOT NULL;
        CREATE INDEX forms_email ON forms (workspace, email) WHERE email IS NOT NULL;

        CREATE TABLE opted_out_members (
            workspace INTEGER NOT NULL, member TEXT NOT NULL, at INTEGER NOT NULL, PRIMARY KEY (workspace, member)
        ) STRICT, WITHOUT ROWID;
        """

    private static let book = """
        CREATE TABLE connections (
            number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, workspace TEXT NOT NULL, integration TEXT NOT NULL,
            state TEXT NOT NULL, state_since INTEGER NOT NULL, reason_code TEXT, reason_message TEXT,
            policy TEXT NOT NULL, settings TEXT NOT NULL, account TEXT, warnings TEXT NOT NULL,
            cursor INTEGER NOT NULL, is_managed INTEGER NOT NULL, connected_at INTEGER NOT NULL,
            UNIQUE (workspace, integration)
        ) STRICT;

        CREATE TABLE crossings (
            number INTEGER PRIMARY KEY, connection_id TEXT NOT NULL, scope_kind TEXT NOT NULL, scope_id TEXT NOT NULL,
            threshold INTEGER NOT NULL, arming INTEGER NOT NULL, target TEXT NOT NULL, workspace TEXT NOT NULL,
            at INTEGER NOT NULL, clicks INTEGER NOT NULL, people INTEGER NOT NULL, delivery TEXT,
            reason_code TEXT, reason_message TEXT,
            UNIQUE (connection_id, scope_kind, scope_id, threshold, arming, target)
        ) STRICT;
        CREATE INDEX crossings_scope ON crossings (workspace, scope_kind, scope_id);

        CREATE VIEW link_threshold_state AS
            SELECT workspace, connection_id, scope_id AS link, max(threshold) AS highest_threshold
            FROM crossings WHERE scope_kind = 'link' AND arming = 0
            GROUP BY workspace, connection_id, scope_id;

        CREATE TABLE integration_credentials (
            connection_id TEXT NOT NULL, name TEXT NOT NULL, workspace TEXT NOT NULL, version INTEGER NOT NULL,
            key_id TEXT NOT NULL, nonce BLOB NOT NULL, ciphertext BLOB NOT NULL, tag BLOB NOT NULL,
            PRIMARY KEY (connection_id, name)
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE data_keys (
            workspace TEXT PRIMARY KEY, id TEXT NOT NULL, kek_id TEXT NOT NULL, wrapped BLOB NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX data_keys_kek ON data_keys (kek_id);
        """

    private static let outbox = """
        CREATE TABLE deliveries (
            number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, workspace TEXT NOT NULL,
            connection_id TEXT NOT NULL, integration TEXT NOT NULL, action TEXT NOT NULL, scope_kind TEXT NOT NULL,
            scope_id TEXT NOT NULL, threshold INTEGER NOT NULL, arming INTEGER NOT NULL, target TEXT NOT NULL,
            payload TEXT NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL, reason_code TEXT,
            reason_message TEXT, remote_id TEXT, remote_url TEXT, created_at INTEGER NOT NULL,
            updated_at INTEGER NOT NULL, next_attempt_at INTEGER, waited INTEGER NOT NULL, owner TEXT, came_from TEXT,
            UNIQUE (connection_id, scope_kind, scope_id, threshold, arming, target)
        ) STRICT;
        CREATE INDEX deliveries_due ON deliveries (connection_id, number)
            WHERE state IN ('pending', 'retrying', 'uncertain');
        CREATE INDEX deliveries_unfinished ON deliveries (connection_id, created_at)
            WHERE state NOT IN ('delivered', 'dropped', 'dead');
        CREATE INDEX deliveries_claimed ON deliveries (owner) WHERE state = 'in_flight';
        CREATE INDEX deliveries_finished ON deliveries (updated_at) WHERE state IN ('delivered', 'dropped');
        CREATE INDEX deliveries_state ON deliveries (connection_id, state);
        CREATE INDEX deliveries_workspace ON deliveries (workspace, number);

        CREATE TABLE delivery_steps (
            delivery TEXT NOT NULL, step TEXT NOT NULL, position INTEGER NOT NULL, state TEXT NOT NULL,
            attempt INTEGER NOT NULL, intent_at INTEGER, answered_at INTEGER, wire TEXT, http_status INTEGER,
            body TEXT, result TEXT,
            PRIMARY KEY (delivery, step)
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE delivery_attempts (
            number INTEGER PRIMARY KEY, delivery TEXT NOT NULL, attempt INTEGER NOT NULL, started_at INTEGER NOT NULL,
            finished_at INTEGER NOT NULL, verb TEXT NOT NULL, verdict TEXT NOT NULL, code TEXT, message TEXT,
            http_status INTEGER
        ) STRICT;
        CREATE INDEX delivery_attempts_delivery ON delivery_attempts (delivery);
        """

    private static let access = """
        CREATE TABLE tokens (
            id TEXT PRIMARY KEY, name TEXT NOT NULL, hash BLOB NOT NULL UNIQUE, scopes TEXT NOT NULL, workspace TEXT,
            created_at INTEGER NOT NULL, expires_at INTEGER
        ) STRICT, WITHOUT ROWID;

        CREATE TABLE audit (
            number INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, actor TEXT NOT NULL, action TEXT NOT NULL,
            target TEXT NOT NULL, detail TEXT NOT NULL
        ) STRICT;

        CREATE TABLE schedule_runs (
            number INTEGER PRIMARY KEY AUTOINCREMENT, schedule TEXT NOT NULL, started_at INTEGER NOT NULL,
            finished_at INTEGER NOT NULL, succeeded INTEGER NOT NULL, summary TEXT NOT NULL
        ) STRICT;
        CREATE INDEX schedule_runs_schedule ON schedule_runs (schedule, number);

        CREATE TABLE plugin_kv (
            connection_id TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, version INTEGER NOT NULL,
            expires_at INTEGER, PRIMARY KEY (connection_id, key)
        ) STRICT, WITHOUT ROWID;
        """
}
