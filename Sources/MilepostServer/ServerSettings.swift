// SPDX-License-Identifier: Apache-2.0

public import MilepostEngine
public import MilepostIntake
public import MilepostModel
import Synchronization

/// One address to listen on, and what a connection there may cost.
public struct ListenerSettings: Sendable {
    public var host: String
    /// 0 lets the kernel choose.
    public var port: Int
    /// Connections open at once; more wait in the kernel's queue until one ends.
    public var maximumConnections: Int
    /// How long a connection may stay silent, between requests or inside one.
    public var idleTimeout: Duration

    public init(host: String, port: Int, maximumConnections: Int = 1024, idleTimeout: Duration = .seconds(75)) {
        self.host = host
        self.port = port
        self.maximumConnections = maximumConnections
        self.idleTimeout = idleTimeout
    }
}

/// What the server takes. Everything here may change while it runs (`LiveSettings`).
public struct ServerSettings: Sendable {
    /// Bytes of an events body, after decompression.
    public var maximumEventsBody: Int
    /// Bytes of a JSON body on every other route.
    public var maximumJSONBody: Int
    /// Workspaces on this daemon; one more is refused.
    public var maximumWorkspaces: Int
    /// Standing connections of one workspace; one more is refused.
    public var maximumIntegrations: Int
    /// Bytes free for the database below which status asks for room.
    public var leastFreeDisk: Int
    /// Whether `/metrics` answers without a token.
    public var hasPublicMetrics: Bool
    /// Whose `X-Forwarded-For` is believed (decisions 36).
    public var trustedProxies: TrustedProxies
    public var version: String

    public init(
        maximumEventsBody: Int = 32 << 20, maximumJSONBody: Int = 1 << 20, maximumWorkspaces: Int = 10_000,
        maximumIntegrations: Int = 50, leastFreeDisk: Int = 0, hasPublicMetrics: Bool = false,
        trustedProxies: TrustedProxies = TrustedProxies(),
        version: String
    ) {
        self.maximumEventsBody = maximumEventsBody
        self.maximumJSONBody = maximumJSONBody
        self.maximumWorkspaces = maximumWorkspaces
        self.maximumIntegrations = maximumIntegrations
        self.leastFreeDisk = leastFreeDisk
        self.hasPublicMetrics = hasPublicMetrics
        self.trustedProxies = trustedProxies
        self.version = version
    }
}

/// Settings and click parser that a reload replaces. A request keeps those it began with.
public final class LiveSettings: Sendable {
    final class Snapshot: Sendable {
        let settings: ServerSettings
        let intake: ClickParser

        init(_ settings: ServerSettings, _ intake: ClickParser) {
            self.settings = settings
            self.intake = intake
        }
    }

    private let value: Mutex<Snapshot>

    public init(_ settings: ServerSettings, intake: ClickParser) { value = Mutex(Snapshot(settings, intake)) }

    var current: Snapshot { value.withLock { $0 } }

    /// Applies to every request that begins from now on.
    public func replace(_ settings: ServerSettings, intake: ClickParser) {
        let fresh = Snapshot(settings, intake)
        value.withLock { $0 = fresh }
    }
}

/// What only the daemon's life cycle can do; `milepostd` implements it.
public protocol DaemonControl: Sendable {
    /// Reads the configuration again and applies what can change while running.
    func reload() async -> ReloadReport
    /// Reads the configuration again and says what differs from what is in force; changes nothing.
    func compareConfiguration() async -> ConfigurationComparison
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

/// What the configuration's files say differently from what is in force.
public struct ConfigurationComparison: Sendable {
    public struct Change: Sendable {
        public var key: String
        /// In force; nil where a name is not there.
        public var running: String?
        /// In the files and the environment.
        public var file: String?
        public var needsRestart: Bool

        public init(key: String, running: String?, file: String?, needsRestart: Bool) {
            self.key = key
            self.running = running
            self.file = file
            self.needsRestart = needsRestart
        }
    }
    public var changes: [Change]
    /// In the order in which they were merged.
    public var files: [String]
    /// Why a reload would refuse them; then nothing was compared.
    public var errors: [String]

    public init(changes: [Change] = [], files: [String] = [], errors: [String] = []) {
        self.changes = changes
        self.files = files
        self.errors = errors
    }
}

/// What a reload changed.
public struct ReloadReport: Sendable {
    /// Keys of the configuration that are in force now.
    public var applied: [String]
    /// Keys that differ and wait for a restart.
    public var restartRequired: [String]
    /// Why the new configuration was not taken, or which enabled plugins are refused.
    public var errors: [String]
    /// Whether the new configuration was not taken at all: the old one stays in force.
    public var isRefused: Bool

    public init(applied: [String] = [], restartRequired: [String] = [], errors: [String] = [], isRefused: Bool = false)
    {
        self.applied = applied
        self.restartRequired = restartRequired
        self.errors = errors
        self.isRefused = isRefused
    }
}

/// Whether this daemon works or waits: a standby answers health only, until it holds the data directory's lock.
public final class ServerRole: Sendable {
    private struct State {
        var engine: Engine?
        var waiting: [Int: CheckedContinuation<Void, any Error>] = [:]
        var nextNumber = 0
    }
    private let state = Mutex(State())
    /// Whether it holds the lock and only opens things still: then nobody else is to be asked.
    let isStarting: Bool

    public init(isStarting: Bool = false) { self.isStarting = isStarting }

    /// The engine, once the lock is held.
    public var engine: Engine? { state.withLock { $0.engine } }

    /// Ends the standby.
    public func activate(_ engine: Engine) {
        let waiting = state.withLock { state in
            state.engine = engine
            defer { state.waiting = [:] }
            return state.waiting.values
        }
        for one in waiting { one.resume() }
    }

    /// Returns once the engine takes work.
    ///
    /// - Throws: `CancellationError`.
    func waitUntilActive() async throws {
        let number = state.withLock { state in
            state.nextNumber += 1
            return state.nextNumber
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { (one: CheckedContinuation<Void, any Error>) in
                let isDone = state.withLock { state -> Bool? in
                    if state.engine != nil { return true }
                    // Asked under the lock: a cancellation after it finds the continuation there.
                    if Task.isCancelled { return nil }
                    state.waiting[number] = one
                    return false
                }
                switch isDone {
                case true?: one.resume()
                case false?: break
                case nil: one.resume(throwing: CancellationError())
                }
            }
        } onCancel: {
            state.withLock { $0.waiting.removeValue(forKey: number) }?.resume(throwing: CancellationError())
        }
    }
}
