// SPDX-License-Identifier: Apache-2.0

import GRDB

/// Destinations that take every click: positions in the log, cursors, held clicks, and forms by advertisement.
enum Migration0005 {
    @Sendable static func migrate(_ db: Database) throws {
        try db.execute(sql: log)
        try number(db)
        try db.execute(sql: streams)
        try db.execute(sql: "PRAGMA user_version = 5")
    }

    // A click's position is its day's base plus its row id.
    private static let log = """
        ALTER TABLE click_days ADD COLUMN base INTEGER NOT NULL DEFAULT 0;
        CREATE INDEX forms_gclid ON forms (workspace, gclid, at) WHERE gclid IS NOT NULL;
        CREATE INDEX forms_fbclid ON forms (workspace, fbclid, at) WHERE fbclid IS NOT NULL;
        """

    /// Days that are there already follow each other, so that their clicks keep their order without being rewritten.
    private static func number(_ db: Database) throws {
        var newest: Int64 = 0
        for day in try Int32.fetchAll(db, sql: "SELECT day FROM click_days ORDER BY day") {
            try db.execute(sql: "UPDATE click_days SET base = ? WHERE day = ?", arguments: [newest, day])
            newest += try Int64.fetchOne(db, sql: "SELECT max(id) FROM clicks_\(day)") ?? 0
        }
        try db.execute(sql: "INSERT INTO counters VALUES ('clicks', ?)", arguments: [newest])
    }

    // `held_clicks` may have a row for every anonymous click of three days, so it names connection, click and workspace by
    // number. `stream_gaps`: stretches that went by while the connection was disconnected. `stream_deliveries`: the clicks behind a delivery. `contact_touches`: the times of
    // the clicks that the values on a contact come from.
    private static let streams = """
        CREATE TABLE streams (
            connection_id TEXT PRIMARY KEY, started INTEGER NOT NULL, position INTEGER NOT NULL, disconnected INTEGER
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE stream_gaps (
            connection_id TEXT NOT NULL, after INTEGER NOT NULL, through INTEGER NOT NULL,
            PRIMARY KEY (connection_id, after)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE stream_counters (
            connection_id TEXT NOT NULL, action TEXT NOT NULL, outcome TEXT NOT NULL, clicks INTEGER NOT NULL,
            PRIMARY KEY (connection_id, action, outcome)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE stream_exclusions (
            connection_id TEXT NOT NULL, link TEXT NOT NULL, first INTEGER NOT NULL, last INTEGER NOT NULL,
            is_open INTEGER NOT NULL, code TEXT NOT NULL, message TEXT NOT NULL,
            PRIMARY KEY (connection_id, link, first)
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE stream_deliveries (
            connection_id TEXT NOT NULL, position INTEGER NOT NULL, delivery TEXT NOT NULL,
            PRIMARY KEY (connection_id, position, delivery)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX stream_deliveries_delivery ON stream_deliveries (delivery);
        CREATE INDEX stream_exclusions_open ON stream_exclusions (connection_id, link) WHERE is_open = 1;

        CREATE TABLE held_clicks (
            connection INTEGER NOT NULL, position INTEGER NOT NULL, workspace INTEGER NOT NULL, state TEXT NOT NULL,
            reason TEXT NOT NULL, held_at INTEGER NOT NULL, until INTEGER NOT NULL, changed_at INTEGER NOT NULL,
            retry_at INTEGER, gclid TEXT, fbclid TEXT,
            PRIMARY KEY (connection, position)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX held_clicks_ending ON held_clicks (connection, until) WHERE state = 'held';
        CREATE INDEX held_clicks_retry ON held_clicks (connection, retry_at)
            WHERE state = 'held' AND retry_at IS NOT NULL;
        CREATE INDEX held_clicks_due ON held_clicks (connection, position) WHERE state = 'due';
        CREATE INDEX held_clicks_gclid ON held_clicks (workspace, gclid) WHERE gclid IS NOT NULL;
        CREATE INDEX held_clicks_fbclid ON held_clicks (workspace, fbclid) WHERE fbclid IS NOT NULL;
        CREATE INDEX held_clicks_listed ON held_clicks (workspace, state, position);
        CREATE INDEX held_clicks_finished ON held_clicks (changed_at) WHERE state IN ('released', 'expired');

        CREATE TABLE contact_touches (
            connection INTEGER NOT NULL, contact TEXT NOT NULL, source_at INTEGER, medium_at INTEGER,
            campaign_at INTEGER, term_at INTEGER, content_at INTEGER, touched_at INTEGER NOT NULL,
            PRIMARY KEY (connection, contact)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX contact_touches_age ON contact_touches (touched_at);
        """
}
