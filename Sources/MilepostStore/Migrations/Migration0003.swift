// SPDX-License-Identifier: Apache-2.0

import GRDB

/// Deliveries that wait on their connection are `held`, and the daemon's last sign of life is kept.
enum Migration0003 {
    @Sendable static func migrate(_ db: Database) throws {
        try db.execute(sql: "INSERT INTO counters VALUES ('alive_at', 0)")
        try db.execute(sql: holds)
        try db.execute(sql: "PRAGMA user_version = 3")
    }

    private static let holds = """
        UPDATE deliveries SET came_from = deliveries.state, state = 'held',
            reason_code = coalesce(c.reason_code, c.state),
            reason_message = coalesce(c.reason_message, 'Waits while the connection is ' || c.state || '.')
        FROM connections c
        WHERE c.id = deliveries.connection_id AND c.state <> 'active'
            AND deliveries.state IN ('pending', 'retrying', 'uncertain')
        """
}
