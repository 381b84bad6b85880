// SPDX-License-Identifier: Apache-2.0

import GRDB
import MilepostModel

/// How a delivery, its journal and its log lie in the file.
enum DeliveryRow {
    static func find(_ id: DeliveryID, _ db: Database) throws -> Delivery? {
        try Row.fetchOne(
            db.cachedStatement(sql: "SELECT * FROM deliveries WHERE id = ?"), arguments: [id.rawValue]
        ).map(delivery(from:))
    }

    static func delivery(from row: Row) throws -> Delivery {
        let integration: String = row["integration"]
        guard let name = IntegrationName(integration) else {
            throw StoreError(
                code: .corrupt,
                detail:
                    "delivery '\(row["id"] as String)' names the integration '\(integration)', which this daemon never "
                    + "wrote; restore the newest backup")
        }
        let next: Int64? = row["next_attempt_at"]
        return Delivery(
            id: DeliveryID(row["id"]), workspace: WorkspaceID(row["workspace"]),
            connection: ConnectionID(row["connection_id"]), integration: name, action: row["action"],
            scope: CrossingRow.scope(from: row), threshold: row["threshold"], payload: StoredJSON.value(row["payload"]),
            state: try state(row["state"]), attempts: row["attempts"], reason: ConnectionRow.reason(from: row),
            remoteID: row["remote_id"], remoteURL: row["remote_url"],
            createdAt: Timestamp(milliseconds: row["created_at"]),
            updatedAt: Timestamp(milliseconds: row["updated_at"]),
            nextAttemptAt: next.map(Timestamp.init(milliseconds:)),
            waited: .milliseconds(row["waited"] as Int64))
    }

    static func state(_ text: String) throws -> Delivery.State {
        guard let state = Delivery.State(rawValue: text) else {
            throw StoreError(code: .corrupt, detail: "a delivery is in state '\(text)'; restore the newest backup")
        }
        return state
    }

    static func journal(of id: String, _ db: Database) throws -> [JournalEntry] {
        try Row.fetchAll(
            db.cachedStatement(sql: "SELECT * FROM delivery_steps WHERE delivery = ? ORDER BY position"),
            arguments: [id]
        ).map(step(from:))
    }

    private static func step(from row: Row) throws -> JournalEntry {
        let state: String = row["state"]
        guard let known = JournalEntry.State(rawValue: state) else {
            throw StoreError(code: .corrupt, detail: "a step is in state '\(state)'; restore the newest backup")
        }
        func time(_ name: String) -> Timestamp? {
            (row[name] as Int64?).map(Timestamp.init(milliseconds:))
        }
        return JournalEntry(
            delivery: DeliveryID(row["delivery"]), step: row["step"], state: known, attempt: row["attempt"],
            intentAt: time("intent_at"), answeredAt: time("answered_at"), wire: row["wire"],
            httpStatus: row["http_status"], body: row["body"], result: (row["result"] as String?).map(StoredJSON.value))
    }

    static func attempt(from row: Row) -> AttemptRecord {
        AttemptRecord(
            delivery: DeliveryID(row["delivery"]), attempt: row["attempt"],
            startedAt: Timestamp(milliseconds: row["started_at"]),
            finishedAt: Timestamp(milliseconds: row["finished_at"]), verb: row["verb"], verdict: row["verdict"],
            code: row["code"], message: row["message"], httpStatus: row["http_status"])
    }
}

extension WriteContext {
    /// - Returns: false when a delivery with that key or id is there already: nothing was stored.
    func insert(_ delivery: Delivery, key: CrossingKey) throws -> Bool {
        try db.cachedStatement(
            sql: """
                INSERT INTO deliveries (id, workspace, connection_id, integration, action, scope_kind, scope_id,
                    threshold, arming, target, payload, state, attempts, reason_code, reason_message, remote_id,
                    remote_url, created_at, updated_at, next_attempt_at, waited)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
                """
        ).execute(arguments: [
            delivery.id.rawValue, delivery.workspace.rawValue, key.connection.rawValue,
            delivery.integration.description, delivery.action, key.scope.kind.rawValue, key.scope.id, key.threshold,
            key.arming, key.target, delivery.payload.description, delivery.state.rawValue, delivery.attempts,
            delivery.reason?.code, delivery.reason?.message, delivery.remoteID, delivery.remoteURL,
            delivery.createdAt.milliseconds, delivery.updatedAt.milliseconds, delivery.nextAttemptAt?.milliseconds,
            delivery.waited.wholeMilliseconds,
        ])
        return db.changesCount == 1
    }
}
