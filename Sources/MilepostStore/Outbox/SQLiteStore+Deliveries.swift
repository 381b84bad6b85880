// SPDX-License-Identifier: Apache-2.0

import GRDB
public import MilepostModel

extension SQLiteStore {
    public func delivery(_ id: DeliveryID, workspace: WorkspaceID) async throws -> Delivery? {
        try await read("reading delivery '\(id)'") { db in
            let delivery = try DeliveryRow.find(id, db)
            return delivery?.workspace == workspace ? delivery : nil
        }
    }

    /// Newest first.
    public func deliveries(
        workspace: WorkspaceID, matching filter: DeliveryFilter, cursor: String?, limit: Int
    ) async throws -> Page<Delivery> {
        let limit = PageBounds.clamped(limit)
        let before = try PageBounds.number(cursor, else: .max)
        return try await read("listing deliveries of '\(workspace)'") { db in
            let condition = FilterCondition(filter)
            let rows = try Row.fetchAll(
                db,
                sql: """
                    SELECT * FROM deliveries WHERE workspace = ? AND number < ? \(condition.sql)
                    ORDER BY number DESC LIMIT ?
                    """,
                arguments: StatementArguments([workspace.rawValue, before] as [(any DatabaseValueConvertible)?])
                    + condition.arguments + [limit + 1])
            let items = try rows.prefix(limit).map(DeliveryRow.delivery(from:))
            let next: Int64? = rows.count > limit ? rows[limit - 1]["number"] : nil
            return Page(items: items, next: next.map(String.init))
        }
    }

    public func deliveryCounts() async throws -> [ConnectionID: [Delivery.State: Int]] {
        try await read("counting deliveries") { db in
            var counts: [ConnectionID: [Delivery.State: Int]] = [:]
            for row in try Row.fetchAll(
                db,
                sql: "SELECT connection_id, state, count(*) AS counted FROM deliveries GROUP BY connection_id, state")
            {
                counts[ConnectionID(row["connection_id"]), default: [:]][try DeliveryRow.state(row["state"])] =
                    row["counted"]
            }
            return counts
        }
    }

    public func oldestUnfinished() async throws -> [ConnectionID: Timestamp] {
        try await read("looking for the oldest delivery") { db in
            let rows = try Row.fetchAll(
                db,
                sql: """
                    SELECT connection_id, min(created_at) AS oldest FROM deliveries
                    WHERE state NOT IN ('delivered', 'dropped', 'dead') GROUP BY connection_id
                    """)
            return Dictionary(
                rows.map { (ConnectionID($0["connection_id"]), Timestamp(milliseconds: $0["oldest"])) },
                uniquingKeysWith: { first, _ in first })
        }
    }
}

/// A filter as SQL, each part starting with AND. Values go in as arguments, never as text.
struct FilterCondition {
    private(set) var sql = ""
    private(set) var arguments = StatementArguments()

    init(_ filter: DeliveryFilter) {
        if !filter.states.isEmpty {
            let states = filter.states.map(\.rawValue).sorted()
            add("state IN (\(states.map { _ in "?" }.joined(separator: ", ")))", StatementArguments(states))
        }
        if let connection = filter.connection { add("connection_id = ?", [connection.rawValue]) }
        if let link = filter.link { add("scope_kind = 'link' AND scope_id = ?", [link.rawValue]) }
        if let folder = filter.folder { add("scope_kind = 'folder' AND scope_id = ?", [folder]) }
        if let since = filter.since { add("created_at >= ?", [since.milliseconds]) }
        if let id = filter.id { add("id = ?", [id.rawValue]) }
        if let code = filter.reasonCode { add("reason_code = ?", [code]) }
        if let search = filter.search { add("instr(lower(reason_message), lower(?)) > 0", [search]) }
    }

    private mutating func add(_ condition: String, _ values: StatementArguments) {
        sql += " AND \(condition)"
        arguments += values
    }
}
