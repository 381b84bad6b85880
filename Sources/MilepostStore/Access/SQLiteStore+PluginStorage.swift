// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import GRDB
public import MilepostModel

extension SQLiteStore {
    public func pluginValue(
        connection: ConnectionID, key: String, at: Timestamp
    ) async throws -> (value: [UInt8], version: UInt64)? {
        try await read("reading a plugin's value") { db in
            try Row.fetchOne(
                db.cachedStatement(
                    sql: """
                        SELECT value, version FROM plugin_kv
                        WHERE connection_id = ? AND key = ? AND (expires_at IS NULL OR expires_at > ?)
                        """), arguments: [connection.rawValue, key, at.milliseconds]
            ).map { row in
                (value: [UInt8](blob: row["value"]), version: UInt64(row["version"] as Int64))
            }
        }
    }

    public func setPluginValue(
        connection: ConnectionID, key: String, value: [UInt8], expecting: UInt64, expiresAt: Timestamp?, at: Timestamp
    ) async throws -> UInt64 {
        try await write { context in
            let stored = try Row.fetchOne(
                context.db, sql: "SELECT version, expires_at FROM plugin_kv WHERE connection_id = ? AND key = ?",
                arguments: [connection.rawValue, key])
            let expiry: Int64? = stored?["expires_at"]
            let isLive = expiry.map { $0 > at.milliseconds } ?? (stored != nil)
            let version: Int64 = stored?["version"] ?? 0
            guard expecting == 0 || (isLive && UInt64(version) == expecting) else {
                throw Self.moved(key, expecting: expecting, stored: isLive ? UInt64(version) : 0)
            }
            // An expired value's version goes on, so that nobody who read it can match its successor.
            try context.db.execute(
                sql: """
                    INSERT INTO plugin_kv (connection_id, key, value, version, expires_at) VALUES (?, ?, ?, ?, ?)
                    ON CONFLICT DO UPDATE SET value = excluded.value, version = excluded.version,
                        expires_at = excluded.expires_at
                    """,
                arguments: [connection.rawValue, key, value.blob, version + 1, expiresAt?.milliseconds])
            return UInt64(version + 1)
        }
    }

    public func deletePluginValue(connection: ConnectionID, key: String, expecting: UInt64) async throws {
        try await write { context in
            let stored = try Int64.fetchOne(
                context.db, sql: "SELECT version FROM plugin_kv WHERE connection_id = ? AND key = ?",
                arguments: [connection.rawValue, key])
            guard expecting == 0 || stored.map(UInt64.init) == expecting else {
                throw Self.moved(key, expecting: expecting, stored: UInt64(stored ?? 0))
            }
            try context.db.execute(
                sql: "DELETE FROM plugin_kv WHERE connection_id = ? AND key = ?", arguments: [connection.rawValue, key])
        }
    }

    /// In order; at most 10,000.
    public func pluginKeys(connection: ConnectionID, prefix: String, at: Timestamp) async throws -> [String] {
        try await read("listing a plugin's keys") { db in
            try String.fetchAll(
                db,
                sql: """
                    SELECT key FROM plugin_kv WHERE connection_id = ?1 AND key >= ?2
                        AND substr(key, 1, length(?2)) = ?2 AND (expires_at IS NULL OR expires_at > ?3)
                    ORDER BY key LIMIT 10000
                    """, arguments: [connection.rawValue, prefix, at.milliseconds])
        }
    }

    private static func moved(_ key: String, expecting: UInt64, stored: UInt64) -> StoreError {
        StoreError(
            code: .conflict,
            detail: "the plugin's value '\(key)' is at version \(stored), not \(expecting): read it again and repeat")
    }
}
