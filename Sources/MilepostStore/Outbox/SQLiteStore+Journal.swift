// SPDX-License-Identifier: Apache-2.0

import GRDB
public import MilepostModel

extension SQLiteStore {
    /// - Throws: `conflict` when the step is finished (it is never repeated, invariant 5); `notFound`.
    public func storeIntent(deliveries: [DeliveryID], step: String, attempt: Int, at: Timestamp) async throws {
        try await write { context in
            for id in deliveries {
                try context.requireDelivery(id)
                try context.db.cachedStatement(
                    sql: """
                        INSERT INTO delivery_steps (delivery, step, position, state, attempt, intent_at)
                        VALUES (?1, ?2, (SELECT count(*) FROM delivery_steps WHERE delivery = ?1), 'intent', ?3, ?4)
                        ON CONFLICT (delivery, step) DO UPDATE SET state = 'intent', attempt = excluded.attempt,
                            intent_at = excluded.intent_at, answered_at = NULL, wire = NULL, http_status = NULL,
                            body = NULL
                        WHERE state <> 'done'
                        """
                ).execute(arguments: [id.rawValue, step, attempt, at.milliseconds])
                guard context.db.changesCount == 1 else {
                    throw StoreError(
                        code: .conflict,
                        detail:
                            "step '\(step)' of delivery '\(id)' is finished and is not sent again; the plugin reads "
                            + "the journal before it sends")
                }
            }
        }
    }

    public func storeOutcome(
        deliveries: [DeliveryID], step: String, wire: String, httpStatus: Int?, body: String?, at: Timestamp
    ) async throws {
        try await write { context in
            for id in deliveries {
                try context.db.cachedStatement(
                    sql: """
                        UPDATE delivery_steps SET state = 'answered', answered_at = ?, wire = ?, http_status = ?,
                            body = ?
                        WHERE delivery = ? AND step = ? AND state <> 'done'
                        """
                ).execute(arguments: [at.milliseconds, wire, httpStatus, body, id.rawValue, step])
                guard context.db.changesCount == 1 else {
                    throw StoreError(
                        code: .notFound,
                        detail: "step '\(step)' of delivery '\(id)' has no open intent, so its outcome belongs nowhere")
                }
            }
        }
    }

    public func storeStep(delivery: DeliveryID, step: String, result: JSONValue, at: Timestamp) async throws {
        try await write { context in
            try context.requireDelivery(delivery)
            try context.db.cachedStatement(
                sql: """
                    INSERT INTO delivery_steps (delivery, step, position, state, attempt, answered_at, result)
                    VALUES (?1, ?2, (SELECT count(*) FROM delivery_steps WHERE delivery = ?1), 'done',
                        (SELECT attempts FROM deliveries WHERE id = ?1), ?3, ?4)
                    ON CONFLICT (delivery, step) DO UPDATE SET state = 'done', result = excluded.result,
                        answered_at = coalesce(answered_at, excluded.answered_at)
                    """
            ).execute(arguments: [delivery.rawValue, step, at.milliseconds, result.description])
        }
    }

    public func clearStep(delivery: DeliveryID, step: String) async throws {
        try await write { context in
            try context.db.cachedStatement(
                sql: "DELETE FROM delivery_steps WHERE delivery = ? AND step = ? AND state <> 'done'"
            ).execute(arguments: [delivery.rawValue, step])
        }
    }

    public func journal(of id: DeliveryID) async throws -> [JournalEntry] {
        try await read("reading the journal of '\(id)'") { try DeliveryRow.journal(of: id.rawValue, $0) }
    }

    public func attempts(of id: DeliveryID) async throws -> [AttemptRecord] {
        try await read("reading the attempts of '\(id)'") { db in
            try Row.fetchAll(
                db, sql: "SELECT * FROM delivery_attempts WHERE delivery = ? ORDER BY number", arguments: [id.rawValue]
            ).map(DeliveryRow.attempt(from:))
        }
    }
}

extension WriteContext {
    fileprivate func requireDelivery(_ id: DeliveryID) throws {
        let exists =
            try Bool.fetchOne(
                db.cachedStatement(sql: "SELECT EXISTS (SELECT 1 FROM deliveries WHERE id = ?)"),
                arguments: [id.rawValue]) ?? false
        guard exists else { throw StoreError.noDelivery(id) }
    }
}
