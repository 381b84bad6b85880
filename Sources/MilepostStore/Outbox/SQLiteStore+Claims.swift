// SPDX-License-Identifier: Apache-2.0

import GRDB
public import MilepostModel

extension SQLiteStore {
    public func claimDue(
        connection: ConnectionID, owner: String, now: Timestamp, limit: Int, excluding actions: [String]
    ) async throws -> [ClaimedDelivery] {
        try await claim(
            "AND action NOT IN (SELECT value FROM json_each(?5))", actions, connection: connection, owner: owner,
            now: now, limit: limit)
    }

    public func claimDue(
        connection: ConnectionID, action: String, owner: String, now: Timestamp, limit: Int
    ) async throws -> [ClaimedDelivery] {
        try await claim(
            "AND action IN (SELECT value FROM json_each(?5))", [action], connection: connection, owner: owner, now: now,
            limit: limit)
    }

    func claim(
        _ condition: String, _ actions: [String], connection: ConnectionID, owner: String, now: Timestamp, limit: Int
    ) async throws -> [ClaimedDelivery] {
        try await write { context in
            // One statement finds and takes: a second caller comes after it and finds them in flight.
            let rows = try Row.fetchAll(
                context.db,
                sql: """
                    UPDATE deliveries SET came_from = state, state = 'in_flight', owner = ?1, attempts = attempts + 1,
                        updated_at = ?2, next_attempt_at = NULL
                    WHERE number IN (
                        SELECT number FROM deliveries INDEXED BY deliveries_due
                        WHERE connection_id = ?3 AND state IN ('pending', 'retrying', 'uncertain')
                            AND (next_attempt_at IS NULL OR next_attempt_at <= ?2) \(condition)
                        ORDER BY number LIMIT ?4)
                        AND state IN ('pending', 'retrying', 'uncertain')
                    RETURNING *
                    """,
                arguments: [
                    owner, now.milliseconds, connection.rawValue, PageBounds.clamped(limit),
                    JSONValue.array(actions.map(JSONValue.string)).description,
                ])
            return try rows.sorted { ($0["number"] as Int64) < $1["number"] }.map { row in
                ClaimedDelivery(
                    delivery: try DeliveryRow.delivery(from: row), cameFrom: try DeliveryRow.state(row["came_from"]),
                    journal: try DeliveryRow.journal(of: row["id"], context.db))
            }
        }
    }

    /// A delivery that leaves a hold of its own gets the time it was held added to its waiting. One that is given back
    /// while its connection waits is held with it.
    public func settle(_ outcomes: [DeliveryOutcome]) async throws {
        guard !outcomes.isEmpty else { return }
        try await writer.write(.change, weight: outcomes.count) { context in
            let update = try context.db.cachedStatement(
                sql: """
                    UPDATE deliveries SET
                        waited = waited + iif(state = 'held' AND came_from IS NULL, max(0, :at - updated_at), 0),
                        state = :state, reason_code = :code, reason_message = :message,
                        remote_id = coalesce(:remote_id, remote_id), remote_url = coalesce(:remote_url, remote_url),
                        next_attempt_at = :next, attempts = max(0, attempts - :refund), updated_at = :at,
                        owner = NULL, came_from = NULL
                    WHERE id = :id
                    """)
            for outcome in outcomes {
                try update.execute(arguments: [
                    "at": outcome.at.milliseconds, "state": outcome.state.rawValue, "code": outcome.reason?.code,
                    "message": outcome.reason?.message, "remote_id": outcome.remoteID, "remote_url": outcome.remoteURL,
                    "next": outcome.nextAttemptAt?.milliseconds, "refund": outcome.refundsAttempt ? 1 : 0,
                    "id": outcome.delivery.rawValue,
                ])
                guard context.db.changesCount == 1 else { throw StoreError.noDelivery(outcome.delivery) }
                if let attempt = outcome.attempt { try context.log(attempt) }
                if !outcome.state.isOver { try context.holdIfConnectionWaits(outcome.delivery) }
            }
        }
    }

    public func recoverClaims(
        exceptOwner owner: String, at: Timestamp
    ) async throws -> (uncertain: Int, retrying: Int) {
        workspaceLocks.releaseAll(exceptOwner: owner)
        return try await write { context in
            let claimed = try Row.fetchAll(
                context.db,
                sql: "SELECT id, came_from FROM deliveries WHERE state = 'in_flight' AND owner IS NOT ?",
                arguments: [owner])
            var uncertain = 0
            for row in claimed where try context.giveBack(row, at: at) { uncertain += 1 }
            return (uncertain: uncertain, retrying: claimed.count - uncertain)
        }
    }

    public func recoverClaims(
        of connection: ConnectionID, owner: String, at: Timestamp, where delivers: @escaping @Sendable (String) -> Bool
    ) async throws -> Int {
        @Sendable func left(_ db: Database) throws -> [Row] {
            try Row.fetchAll(
                db.cachedStatement(
                    sql: """
                        SELECT id, action, came_from FROM deliveries
                        WHERE state = 'in_flight' AND owner = ? AND connection_id = ?
                        """), arguments: [owner, connection.rawValue]
            ).filter { delivers($0["action"]) }
        }
        // Asked first: there is hardly ever one, and a write would cost each drain a commit.
        let isAny = try await read("looking for claims that were left on '\(connection)'") { try !left($0).isEmpty }
        guard isAny else { return 0 }
        return try await write { context in
            let claimed = try left(context.db)
            for row in claimed { _ = try context.giveBack(row, at: at) }
            return claimed.count
        }
    }

    public func replay(
        workspace: WorkspaceID, matching filter: DeliveryFilter, limit: Int, at: Timestamp
    ) async throws -> Int {
        let count = try await write { context in
            let condition = FilterCondition(filter)
            let ids = try String.fetchAll(
                context.db,
                sql: """
                    SELECT id FROM deliveries WHERE workspace = ? AND state IN ('dead', 'dropped') \(condition.sql)
                    ORDER BY number LIMIT ?
                    """,
                arguments: StatementArguments([workspace.rawValue]) + condition.arguments + [max(0, limit)])
            for id in ids {
                let isOpen = try DeliveryRow.journal(of: id, context.db).contains(where: \.leavesOutcomeOpen)
                // Age counts from now by taking all that has passed for waiting; when it was made stays visible.
                try context.db.cachedStatement(
                    sql: """
                        UPDATE deliveries SET state = ?1, attempts = 0, reason_code = NULL, reason_message = NULL,
                            next_attempt_at = NULL, updated_at = ?2, waited = max(0, ?2 - created_at) WHERE id = ?3
                        """
                ).execute(arguments: [
                    (isOpen ? Delivery.State.uncertain : .pending).rawValue, at.milliseconds, id,
                ])
                try context.log(
                    AttemptRecord(
                        delivery: DeliveryID(id), attempt: 0, startedAt: at, finishedAt: at,
                        verb: AttemptRecord.replay, verdict: "replayed"))
                try context.holdIfConnectionWaits(DeliveryID(id))
            }
            return ids.count
        }
        if count > 0 { arrivals.raise(workspace) { $0.connections.insert(workspace) } }
        return count
    }
}

extension WriteContext {
    /// Ends a claim of which nobody knows what came: `row` has its `id` and `came_from`.
    ///
    /// - Returns: whether its outcome is open.
    fileprivate func giveBack(_ row: Row, at: Timestamp) throws -> Bool {
        let id: String = row["id"]
        // One that was uncertain before the claim stays so: nobody had an answer yet.
        let isOpen =
            try row["came_from"] == Delivery.State.uncertain.rawValue
            || DeliveryRow.journal(of: id, db).contains(where: \.leavesOutcomeOpen)
        try db.cachedStatement(
            sql: """
                UPDATE deliveries SET state = ?, owner = NULL, came_from = NULL, next_attempt_at = NULL,
                    updated_at = ? WHERE id = ?
                """
        ).execute(arguments: [
            (isOpen ? Delivery.State.uncertain : .retrying).rawValue, at.milliseconds, id,
        ])
        try holdIfConnectionWaits(DeliveryID(id))
        return isOpen
    }

    func log(_ attempt: AttemptRecord) throws {
        try db.cachedStatement(
            sql: """
                INSERT INTO delivery_attempts (delivery, attempt, started_at, finished_at, verb, verdict, code, message,
                    http_status) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
                """
        ).execute(arguments: [
            attempt.delivery.rawValue, attempt.attempt, attempt.startedAt.milliseconds, attempt.finishedAt.milliseconds,
            attempt.verb, attempt.verdict, attempt.code, attempt.message, attempt.httpStatus,
        ])
    }
}
