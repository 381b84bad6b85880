// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import MilepostModel
import MilepostStore

/// What provisioning must not forget: requests whose outcome nobody knows, and what was brought into being.
///
/// Deliveries have a journal of their own; a provisioning belongs to no delivery (docs/decisions/0009). It lies in the plugins'
/// small storage under an id that no instance has, so that no plugin reads or writes it.
struct ProvisionJournal: Sendable {
    let store: any Store
    let connection: ConnectionID

    private var shelf: ConnectionID { ConnectionID("provision_\(connection)") }

    struct Intent: Sendable, Equatable {
        var step: String
        var at: Timestamp
    }

    /// Written before a request leaves that makes another thing each time it arrives.
    func open(_ step: String, at: Timestamp) async throws {
        let value: JSONValue = ["at": .string(at.description)]
        _ = try await store.setPluginValue(
            connection: shelf, key: "intent/\(step)", value: value.bytes, expecting: 0, expiresAt: nil, at: at)
    }

    /// The outcome is known: applied, or certainly not.
    func close(_ step: String) async throws {
        try await store.deletePluginValue(connection: shelf, key: "intent/\(step)", expecting: 0)
    }

    /// Requests that may have been applied and whose answer never came.
    func intents(at now: Timestamp) async throws -> [Intent] {
        var found: [Intent] = []
        for key in try await store.pluginKeys(connection: shelf, prefix: "intent/", at: now) {
            let stored = try await store.pluginValue(connection: shelf, key: key, at: now)
            let json = stored.flatMap { try? JSONValue(parsing: $0.value, limits: Self.limits) }
            // An intent that cannot be read is as old as it can be while it still counts: the careful side.
            let time = json?["at"]?.string.flatMap { Timestamp(rfc3339: $0) } ?? now
            found.append(Intent(step: String(key.dropFirst("intent/".count)), at: time))
        }
        return found
    }

    /// Ids at the vendor by the object's key.
    func objects(at now: Timestamp) async throws -> [String: String] {
        var found: [String: String] = [:]
        for key in try await store.pluginKeys(connection: shelf, prefix: "object/", at: now) {
            guard let stored = try await store.pluginValue(connection: shelf, key: key, at: now) else { continue }
            found[String(key.dropFirst("object/".count))] = String(decoding: stored.value, as: UTF8.self)
        }
        return found
    }

    func keep(_ object: ProvisionedObject, at now: Timestamp) async throws {
        let key = "object/\(object.key)"
        if object.state == .absent {
            try await store.deletePluginValue(connection: shelf, key: key, expecting: 0)
        } else if let id = object.remoteID {
            _ = try await store.setPluginValue(
                connection: shelf, key: key, value: Array(id.utf8), expecting: 0, expiresAt: nil, at: now)
        }
    }

    private static let limits = JSONLimits(bytes: 4096, depth: 4)
}

/// What became of an object that a plugin was to bring into being or take away.
public struct ProvisionedObject: Sendable, Equatable {
    public enum State: String, Sendable { case created, existing, absent }
    /// The plugin's name for it.
    public var key: String
    public var state: State
    /// The vendor's id or name of it.
    public var remoteID: String?

    public init(key: String, state: State, remoteID: String? = nil) {
        self.key = key
        self.state = state
        self.remoteID = remoteID
    }
}
