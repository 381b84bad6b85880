// SPDX-License-Identifier: Apache-2.0

import GRDB

/// Forms get their place in the log of clicks, so that a click whose contact turns up later counts for rolling rules (RES-04).
enum Migration0010 {
    @Sendable static func migrate(_ db: Database) throws {
        try db.execute(sql: forms)
        try db.execute(sql: rules)
        try db.execute(sql: "PRAGMA user_version = 10")
    }

    // `number`: the order of receipt; ids are given again when the last form is erased. `position`: the newest click when the
    // form came. Of those that are there already it is not known: they count as known to every click, as they did until now.
    private static let forms = """
        ALTER TABLE forms ADD COLUMN number INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE forms ADD COLUMN position INTEGER NOT NULL DEFAULT 0;
        UPDATE forms SET number = id;
        INSERT INTO counters SELECT 'forms', coalesce(max(id), 0) FROM forms;
        CREATE INDEX forms_log ON forms (workspace, position, number) WHERE gclid IS NOT NULL OR fbclid IS NOT NULL;
        """

    // `form`, `filled_form`: the last form that was dealt with. `rule_waiting`: clicks that count under a rule as soon as a
    // form says who clicked; workspace by number, as in `forms`.
    private static let rules = """
        ALTER TABLE rule_cursors ADD COLUMN form INTEGER NOT NULL DEFAULT 0;
        UPDATE rule_cursors SET form = (SELECT value FROM counters WHERE name = 'forms');
        ALTER TABLE rules ADD COLUMN filled_form INTEGER NOT NULL DEFAULT 0;
        CREATE TABLE rule_waiting (
            rule INTEGER NOT NULL, position INTEGER NOT NULL, workspace INTEGER NOT NULL, until INTEGER NOT NULL,
            gclid TEXT, fbclid TEXT,
            PRIMARY KEY (rule, position)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX rule_waiting_gclid ON rule_waiting (workspace, gclid) WHERE gclid IS NOT NULL;
        CREATE INDEX rule_waiting_fbclid ON rule_waiting (workspace, fbclid) WHERE fbclid IS NOT NULL;
        CREATE INDEX rule_waiting_ending ON rule_waiting (until);
        """

    /// Forms keep their rows; what goes is the order of receipt, which is their ids' but for erased ones, and which clicks wait.
    static let reverse = SchemaReverse(
        losses: { db in
            let count = try Int.fetchOne(db, sql: "SELECT count(*) FROM rule_waiting") ?? 0
            return count == 0
                ? []
                : ["\(count) clicks that count under rolling rules as soon as a form says who clicked (rule_waiting)"]
        },
        revert: { db in
            try db.execute(
                sql: """
                    DROP TABLE rule_waiting;
                    DROP INDEX forms_log;
                    ALTER TABLE forms DROP COLUMN number;
                    ALTER TABLE forms DROP COLUMN position;
                    ALTER TABLE rule_cursors DROP COLUMN form;
                    ALTER TABLE rules DROP COLUMN filled_form;
                    DELETE FROM counters WHERE name = 'forms';
                    """)
        }, removes: ["rule_waiting", "counters:forms"])
}
