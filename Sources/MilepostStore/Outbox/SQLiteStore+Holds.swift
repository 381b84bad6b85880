// SPDX-License-Identifier: Apache-2.0

import GRDB
public import MilepostModel

/// What waits on a connection that is not active is `held`, with the connection's reason, and goes back to the state it came
/// from when the connection is active again (REA-05, decisions 9). `came_from` tells such a hold from one of the
/// delivery's own (an identity that is not known yet), which the connection's state does not touch.
extension SQLiteStore {
    public func heldDeliveries(of connection: ConnectionID) async throws -> Int {
        try await read("counting held deliveries of '\(connection)'") { db in
            try Int.fetchOne(
                db.cachedStatement(
                    sql: "SELECT count(*) FROM deliveries WHERE connection_id = ? AND state = 'held'"),
                arguments: [connection.rawValue]) ?? 0
        }
    }

    // MARK: Time in which nobody was there

    public func heartbeat(at: Timestamp) async throws {
        try await write { try $0.beat(at) }
    }

    /// Those on hold are left out: the end of their hold adds the whole of it.
    public func resume(at: Timestamp) async throws -> Duration {
        try await write { context in
            let last = try Int64.fetchOne(context.db, sql: "SELECT value FROM counters WHERE name = 'alive_at'") ?? 0
            try context.beat(at)
            guard last > 0, at.milliseconds > last else { return .zero }
            try context.db.execute(
                sql: """
                    UPDATE deliveries SET waited = waited + max(0, ?1 - max(created_at, ?2))
                    WHERE state NOT IN ('delivered', 'dropped', 'dead', 'held')
                    """, arguments: [at.milliseconds, last])
            try context.putOffFailing(since: Timestamp(milliseconds: last), at: at)
            return .milliseconds(at.milliseconds - last)
        }
    }
}

extension WriteContext {
    /// Remembers that the daemon works now, in a transaction that is written anyway where there is one.
    func beat(_ at: Timestamp) throws {
        try db.cachedStatement(sql: "UPDATE counters SET value = ? WHERE name = 'alive_at'")
            .execute(arguments: [at.milliseconds])
    }

    /// After the connection's state or reason was stored: puts what waits on it on hold, or lets it go.
    func followState(of id: ConnectionID, at: Timestamp) throws {
        guard let connection = try ConnectionRow.find(id: id, db) else { throw StoreError.noConnection(id) }
        guard connection.state != .active else {
            try db.cachedStatement(
                sql: """
                    UPDATE deliveries SET state = came_from, came_from = NULL, reason_code = NULL,
                        reason_message = NULL, updated_at = ?1
                    WHERE connection_id = ?2 AND state = 'held' AND came_from IS NOT NULL
                    """
            ).execute(arguments: [at.milliseconds, id.rawValue])
            // Crossings of rules that were put off meanwhile are due at once, too (OAU-12).
            try db.cachedStatement(
                sql: """
                    UPDATE rule_firings SET next_attempt_at = NULL
                    WHERE workspace = ? AND integration = ? AND state = 'waiting'
                    """
            ).execute(arguments: [connection.workspace.rawValue, connection.integration.description])
            return
        }
        let reason = connection.reasonToWait
        try db.cachedStatement(
            sql: """
                UPDATE deliveries SET reason_code = ?1, reason_message = ?2
                WHERE connection_id = ?3 AND state = 'held' AND came_from IS NOT NULL
                """
        ).execute(arguments: [reason.code, reason.message, id.rawValue])
        try db.cachedStatement(
            sql: """
                UPDATE deliveries SET came_from = state, state = 'held', reason_code = ?1, reason_message = ?2,
                    updated_at = ?3
                WHERE connection_id = ?4 AND state IN ('pending', 'retrying', 'uncertain')
                """
        ).execute(arguments: [reason.code, reason.message, at.milliseconds, id.rawValue])
    }

    /// A delivery that is given back while its connection waits waits with it.
    func holdIfConnectionWaits(_ delivery: DeliveryID) throws {
        let found = try String.fetchOne(
            db.cachedStatement(
                sql: """
                    SELECT c.id FROM deliveries d JOIN connections c ON c.id = d.connection_id
                    WHERE d.id = ? AND c.state <> 'active' AND d.state IN ('pending', 'retrying', 'uncertain')
                    """), arguments: [delivery.rawValue])
        guard let found, let connection = try ConnectionRow.find(id: ConnectionID(found), db) else { return }
        let reason = connection.reasonToWait
        try db.cachedStatement(
            sql: """
                UPDATE deliveries SET came_from = state, state = 'held', reason_code = ?, reason_message = ?
                WHERE id = ?
                """
        ).execute(arguments: [reason.code, reason.message, delivery.rawValue])
    }
}

extension Connection {
    fileprivate var reasonToWait: Reason {
        stateReason ?? Reason(code: state.rawValue, message: "Waits while the connection is \(state.rawValue).")
    }
}
