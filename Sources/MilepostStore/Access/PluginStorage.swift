// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// Key-value pairs of a connection, for its plugin. Versions start at 1 and grow with every write.
public protocol PluginStorage: Sendable {
    func pluginValue(connection: ConnectionID, key: String, at: Timestamp) async throws -> (
        value: [UInt8], version: UInt64
    )?
    /// `expecting` 0 writes whatever is there; otherwise the stored version must match, else `conflict`.
    func setPluginValue(
        connection: ConnectionID, key: String, value: [UInt8], expecting: UInt64, expiresAt: Timestamp?, at: Timestamp
    ) async throws -> UInt64
    func deletePluginValue(connection: ConnectionID, key: String, expecting: UInt64) async throws
    func pluginKeys(connection: ConnectionID, prefix: String, at: Timestamp) async throws -> [String]
}
