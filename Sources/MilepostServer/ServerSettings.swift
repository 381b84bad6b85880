// SPDX-License-Identifier: Apache-2.0

public import MilepostEngine
public import MilepostModel
import Synchronization

/// How the server listens and what it takes.
public struct ServerSettings: Sendable {
    public var host: String
    /// 0 lets the kernel choose.
    public var port: Int
    /// Bytes of an events body, after decompression.
    public var maximumEventsBody: Int
    /// Bytes of a JSON body on every other route.
    public var maximumJSONBody: Int
    /// Whether `/metrics` answers without a token.
    public var hasPublicMetrics: Bool
    public var version: String

    public init(
        host: String, port: Int, maximumEventsBody: Int = 32 << 20, maximumJSONBody: Int = 1 << 20,
        hasPublicMetrics: Bool = false, version: String
    ) {
        self.host = host
        self.port = port
        self.maximumEventsBody = maximumEventsBody
        self.maximumJSONBody = maximumJSONBody
        self.hasPublicMetrics = hasPublicMetrics
        self.version = version
    }
}

/// What only the daemon's life cycle can do; `milepostd` implements it.
public protocol DaemonControl: Sendable {
    /// Reads the configuration again and applies what can change while running.
    func reload() async -> ReloadReport
    /// Every enabled plugin with its health.
    func plugins() async -> [JSONValue]
    /// Facts for `/v1/admin/status` beside the server's own; an object.
    func facts() async -> [String: JSONValue]
    /// Makes the key ring's newest key the current one and wraps every data key anew; how many were.
    func rewrapKeys() async throws -> Int
    /// Reads the key ring again.
    func reloadKeys() async throws
    /// Adds a key to the ring and makes it the current one; its id.
    func newKey() async throws -> String
    /// Takes a key out of the ring that wraps nothing any more.
    func dropKey(_ id: String) async throws
    /// Writes a consistent copy of the store while it works. Refuses where the keys would lie beside it.
    func backUp(to path: String) async throws
}

/// What a reload changed.
public struct ReloadReport: Sendable {
    /// Keys of the configuration that are in force now.
    public var applied: [String]
    /// Keys that differ and wait for a restart.
    public var restartRequired: [String]
    /// Why the new configuration was not taken; the old one stays in force.
    public var errors: [String]

    public init(applied: [String] = [], restartRequired: [String] = [], errors: [String] = []) {
        self.applied = applied
        self.restartRequired = restartRequired
        self.errors = errors
    }
}

/// Whether this daemon works or waits: a standby answers health only, until it holds the data directory's lock.
public final class ServerRole: Sendable {
    private let active = Mutex<Engine?>(nil)

    public init() {}

    /// The engine, once the lock is held.
    public var engine: Engine? { active.withLock { $0 } }

    /// Ends the standby.
    public func activate(_ engine: Engine) { active.withLock { $0 = engine } }
}
