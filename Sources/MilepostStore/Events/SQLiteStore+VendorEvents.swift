// SPDX-License-Identifier: Apache-2.0

import GRDB
public import MilepostModel

extension SQLiteStore {
    public func takeVendorEvent(
        _ event: VendorEvent, identity: String, digest: String, deliveries: [Delivery]
    ) async throws -> VendorEventFate {
        try await write { context in
            let known = try Row.fetchOne(
                context.db.cachedStatement(
                    sql: "SELECT * FROM vendor_events WHERE connection_id = ? AND identity = ?"),
                arguments: [event.connection.rawValue, identity])
            if let known {
                let first = try VendorEventRow.event(from: known)
                return known["digest"] == digest ? .repeated(first) : .conflicting(first)
            }
            try context.db.cachedStatement(
                sql: """
                    INSERT INTO vendor_events (id, workspace, connection_id, integration, identity, digest, topic, at,
                        received_at, data) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                    """
            ).execute(arguments: [
                event.id, event.workspace.rawValue, event.connection.rawValue, event.integration.description, identity,
                digest, event.topic.rawValue, event.at.milliseconds, event.receivedAt.milliseconds,
                event.data.description,
            ])
            var made: [Delivery] = []
            for delivery in deliveries {
                let key = CrossingKey(connection: delivery.connection, scope: delivery.scope, threshold: 0)
                if try context.insert(delivery, key: key) { made.append(delivery) }
            }
            for delivery in made { try context.holdIfConnectionWaits(delivery.id) }
            return .taken(made)
        }
    }

    public func vendorEvents(
        workspace: WorkspaceID, connection: ConnectionID?, topic: VendorEvent.Topic?, cursor: String?, limit: Int
    ) async throws -> Page<VendorEvent> {
        let limit = PageBounds.clamped(limit)
        let before = try PageBounds.number(cursor, else: .max)
        return try await read("listing events of vendors in '\(workspace)'") { db in
            let rows = try Row.fetchAll(
                db,
                sql: """
                    SELECT * FROM vendor_events WHERE workspace = ?1 AND number < ?2
                        AND (?3 IS NULL OR connection_id = ?3) AND (?4 IS NULL OR topic = ?4)
                    ORDER BY number DESC LIMIT ?5
                    """, arguments: [workspace.rawValue, before, connection?.rawValue, topic?.rawValue, limit + 1])
            let next: Int64? = rows.count > limit ? rows[limit - 1]["number"] : nil
            return Page(
                items: try rows.prefix(limit).map(VendorEventRow.event(from:)), next: next.map(String.init))
        }
    }

    public func vendorEvents(workspace: WorkspaceID, person: String) async throws -> [VendorEvent] {
        try await read("reading the events of a person") { db in
            try Row.fetchAll(
                db,
                sql: """
                    SELECT * FROM vendor_events WHERE workspace = ? AND json_extract(data, '$.personId') = ?
                    ORDER BY number LIMIT \(PageBounds.maximum)
                    """, arguments: [workspace.rawValue, person]
            ).map(VendorEventRow.event(from:))
        }
    }

    public func deliveries(ofEvents ids: [String], workspace: WorkspaceID) async throws -> [String: [Delivery]] {
        let rows = try await read("reading the deliveries of events") { db in
            try Row.fetchAll(
                db,
                sql: """
                    SELECT * FROM deliveries WHERE workspace = ? AND scope_kind = 'event'
                        AND scope_id IN (SELECT value FROM json_each(?)) ORDER BY number
                    """, arguments: [workspace.rawValue, JSONValue.array(ids.map(JSONValue.string)).description]
            ).map(DeliveryRow.delivery(from:))
        }
        return Dictionary(grouping: rows, by: \.scope.id)
    }

    // MARK: Retention and erasure

    /// Those received before the moment; as many as a step may.
    func dropVendorEvents(before: Timestamp) async throws {
        let chunk = configuration.retentionChunk
        while try await write({ try $0.dropVendorEvents(before: before, rows: chunk) }) == chunk {
            try Task.checkCancellation()
        }
    }

    func eraseVendorEvents(of contact: String, workspace: WorkspaceID) async throws {
        var position: Int64? = 0
        while let start = position {
            position = try await write { try $0.eraseVendorEvents(of: contact, workspace: workspace, after: start) }
        }
    }
}

extension WriteContext {
    /// Numbers are the order of receipt, so the oldest stand first; a step looks at as many as it may drop.
    fileprivate func dropVendorEvents(before: Timestamp, rows: Int) throws -> Int {
        try db.execute(
            sql: """
                DELETE FROM vendor_events WHERE number IN (
                    SELECT number FROM (SELECT number, received_at FROM vendor_events ORDER BY number LIMIT ?)
                    WHERE received_at < ?)
                """, arguments: [rows, before.milliseconds])
        return db.changesCount
    }

    fileprivate func eraseVendorEvents(
        of contact: String, workspace: WorkspaceID, after: Int64
    ) throws -> Int64? {
        let rows = try Row.fetchAll(
            db,
            sql: """
                SELECT number, data, identity FROM vendor_events WHERE workspace = ? AND number > ?
                ORDER BY number LIMIT 500
                """, arguments: [workspace.rawValue, after])
        let eraser = ContactEraser(contact: contact)
        for row in rows {
            guard eraser.mayBeIn(StoredJSON.value(row["data"])), let cleaned = eraser.cleaned(json: row["data"]) else {
                continue
            }
            // The identity stays, so that a repetition is still one; it is a sender's word or a digest.
            try db.execute(
                sql: "UPDATE vendor_events SET data = ? WHERE number = ?",
                arguments: [cleaned, row["number"] as Int64])
        }
        return rows.count == 500 ? rows.last?["number"] : nil
    }
}

/// How an event lies in `vendor_events`.
enum VendorEventRow {
    static func event(from row: Row) throws -> VendorEvent {
        let name: String = row["integration"]
        let topicName: String = row["topic"]
        guard let integration = IntegrationName(name), let topic = VendorEvent.Topic(rawValue: topicName) else {
            throw StoreError(
                code: .corrupt,
                detail:
                    "event '\(row["id"] as String)' is of integration '\(name)' and topic '\(topicName)', which this "
                    + "daemon never wrote; restore the newest backup")
        }
        return VendorEvent(
            id: row["id"], workspace: WorkspaceID(row["workspace"]), connection: ConnectionID(row["connection_id"]),
            integration: integration, topic: topic, at: Timestamp(milliseconds: row["at"]),
            receivedAt: Timestamp(milliseconds: row["received_at"]), data: StoredJSON.value(row["data"]))
    }
}
