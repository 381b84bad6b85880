// SPDX-License-Identifier: Apache-2.0

import GRDB
import MilepostModel

extension WriteContext {
    /// - Returns: false when the key is there already (invariant 3): nothing was stored.
    func insert(_ crossing: Crossing) throws -> Bool {
        try db.cachedStatement(
            sql: """
                INSERT INTO crossings (connection_id, scope_kind, scope_id, threshold, arming, target, workspace, at,
                    clicks, people, delivery, reason_code, reason_message)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
                """
        ).execute(arguments: [
            crossing.key.connection.rawValue, crossing.key.scope.kind.rawValue, crossing.key.scope.id,
            crossing.key.threshold, crossing.key.arming, crossing.key.target, crossing.workspace.rawValue,
            crossing.at.milliseconds, crossing.totals.all, crossing.totals.people, crossing.delivery?.rawValue,
            crossing.reason?.code, crossing.reason?.message,
        ])
        return db.changesCount == 1
    }

    /// Marks every scope at or above one of `thresholds` as reached without firing (THR-19, CFG-03).
    func markReached(_ connection: Connection, thresholds: [Int64], reason: Reason, at: Timestamp) throws {
        guard !thresholds.isEmpty else { return }
        let workspace = try workspaceRow(connection.workspace)
        let column = connection.policy.audience.column
        let scopes =
            switch connection.policy.aggregation {
            case .link:
                """
                SELECT l.name AS scope, t.clicks, t.people FROM link_totals t JOIN links l ON l.id = t.link
                WHERE t.workspace = :workspace AND t.\(column) >= :threshold
                """
            case .folder:
                """
                SELECT l.folder AS scope, sum(t.clicks) AS clicks, sum(t.people) AS people
                FROM links l JOIN link_totals t ON t.link = l.id
                WHERE l.workspace = :workspace AND l.folder IS NOT NULL AND \(LinkRow.takesPart)
                GROUP BY l.folder HAVING sum(t.\(column)) >= :threshold
                """
            }
        let statement = try db.cachedStatement(
            sql: """
                INSERT INTO crossings (connection_id, scope_kind, scope_id, threshold, arming, target, workspace, at,
                    clicks, people, delivery, reason_code, reason_message)
                SELECT :connection, :kind, scope, :threshold, 0, '', :name, :at, clicks, people, NULL, :code, :message
                FROM (\(scopes)) WHERE true ON CONFLICT DO NOTHING
                """)
        for threshold in thresholds {
            try statement.execute(arguments: [
                "workspace": workspace, "threshold": threshold, "connection": connection.id.rawValue,
                "kind": connection.policy.aggregation.rawValue, "name": connection.workspace.rawValue,
                "at": at.milliseconds, "code": reason.code, "message": reason.message,
            ])
        }
    }
}

/// How a crossing lies in `crossings`.
enum CrossingRow {
    static func crossing(from row: Row) -> Crossing {
        let delivery: String? = row["delivery"]
        return Crossing(
            key: CrossingKey(
                connection: ConnectionID(row["connection_id"]), scope: scope(from: row), threshold: row["threshold"],
                arming: row["arming"], target: row["target"]),
            workspace: WorkspaceID(row["workspace"]), at: Timestamp(milliseconds: row["at"]),
            totals: ClickTotals(all: row["clicks"], people: row["people"]),
            delivery: delivery.map(DeliveryID.init(rawValue:)), reason: ConnectionRow.reason(from: row))
    }

    static func scope(from row: Row) -> Scope {
        let kind: String = row["scope_kind"]
        return Scope(kind: Scope.Kind(rawValue: kind) ?? .link, id: row["scope_id"])
    }
}
