// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import GRDB
import MilepostModel

/// How a connection lies in `connections`.
enum ConnectionRow {
    static func find(id: ConnectionID, _ db: Database) throws -> Connection? {
        try Row.fetchOne(
            db.cachedStatement(sql: "SELECT * FROM connections WHERE id = ?"), arguments: [id.rawValue]
        ).map(connection(from:))
    }

    static func find(_ integration: IntegrationName, workspace: WorkspaceID, _ db: Database) throws -> Connection? {
        try Row.fetchOne(
            db.cachedStatement(sql: "SELECT * FROM connections WHERE workspace = ? AND integration = ?"),
            arguments: [workspace.rawValue, integration.description]
        ).map(connection(from:))
    }

    static func all(workspace: WorkspaceID?, _ db: Database) throws -> [Connection] {
        if let workspace {
            return try Row.fetchAll(
                db.cachedStatement(sql: "SELECT * FROM connections WHERE workspace = ? ORDER BY integration"),
                arguments: [workspace.rawValue]
            ).map(connection(from:))
        }
        return try Row.fetchAll(
            db.cachedStatement(sql: "SELECT * FROM connections ORDER BY workspace, integration")
        ).map(connection(from:))
    }

    /// Inserts or replaces; the id decides.
    static func store(_ connection: Connection, _ db: Database) throws {
        try db.cachedStatement(
            sql: """
                INSERT INTO connections (id, workspace, integration, state, state_since, reason_code, reason_message,
                    policy, settings, account, warnings, cursor, is_managed, connected_at, credential)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                ON CONFLICT (id) DO UPDATE SET state = excluded.state, state_since = excluded.state_since,
                    reason_code = excluded.reason_code, reason_message = excluded.reason_message,
                    policy = excluded.policy, settings = excluded.settings, account = excluded.account,
                    warnings = excluded.warnings, cursor = excluded.cursor, is_managed = excluded.is_managed,
                    connected_at = excluded.connected_at, credential = excluded.credential
                """
        ).execute(arguments: [
            connection.id.rawValue, connection.workspace.rawValue, connection.integration.description,
            connection.state.rawValue, connection.stateSince.milliseconds, connection.stateReason?.code,
            connection.stateReason?.message, try text(connection.policy), connection.settings.description,
            try connection.account.map(text), try text(connection.warnings), connection.cursor, connection.isManaged,
            connection.connectedAt.milliseconds, connection.credential,
        ])
    }

    static func connection(from row: Row) throws -> Connection {
        let integration: String = row["integration"]
        let state: String = row["state"]
        guard let name = IntegrationName(integration), let known = Connection.State(rawValue: state) else {
            throw StoreError(
                code: .corrupt,
                detail:
                    "connection '\(row["id"] as String)' has integration '\(integration)' and state '\(state)', which "
                    + "this daemon never wrote; restore the newest backup")
        }
        var connection = Connection(
            id: ConnectionID(row["id"]), workspace: WorkspaceID(row["workspace"]), integration: name, state: known,
            stateSince: Timestamp(milliseconds: row["state_since"]), stateReason: reason(from: row),
            policy: try value(ThresholdPolicy.self, row["policy"]), settings: StoredJSON.value(row["settings"]),
            account: try (row["account"] as String?).map { try value(Connection.Account.self, $0) },
            warnings: try value([Reason].self, row["warnings"]), cursor: row["cursor"], isManaged: row["is_managed"],
            connectedAt: Timestamp(milliseconds: row["connected_at"]), credential: row["credential"])
        connection.health = health(from: row)
        return connection
    }

    static func health(from row: Row) -> EndpointHealth {
        EndpointHealth(
            failures: row["failures"],
            failingSince: (row["failing_since"] as Int64?).map(Timestamp.init(milliseconds:)),
            lastFailure: (row["failure_code"] as String?).map {
                Reason(code: $0, message: row["failure_message"] ?? "")
            },
            resumeQuota: row["resume_quota"])
    }

    /// `reason_code` and `reason_message`, as several tables have them.
    static func reason(from row: Row) -> Reason? {
        guard let code: String = row["reason_code"] else { return nil }
        return Reason(code: code, message: row["reason_message"] ?? "")
    }

    private static func text(_ value: some Encodable) throws -> String {
        String(decoding: try JSONEncoder().encode(value), as: UTF8.self)
    }

    private static func value<Value: Decodable>(_ type: Value.Type, _ text: String) throws -> Value {
        try JSONDecoder().decode(type, from: Data(text.utf8))
    }
}
