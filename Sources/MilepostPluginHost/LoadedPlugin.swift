// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
internal import Synchronization

/// A plugin that was checked and loaded. Makes instances, one a connection.
public final class LoadedPlugin: Sendable {
    private struct State {
        var manifest: PluginManifest
        var verbs: UInt64 = 0
        var instances: [ObjectIdentifier: PluginInstance] = [:]
        var misbehaviours = 0
        var lastMisbehaviour: String?
        var logAllowance: Double
        var logCountedAt: UInt64
        var droppedLines = 0
    }

    public let name: PluginName
    public let isolation: PluginIsolation
    let core: HostCore
    private let state: Mutex<State>
    private let lazyBackend = Mutex<(any PluginBackend)?>(nil)

    init(name: PluginName, isolation: PluginIsolation, manifest: PluginManifest, core: HostCore) {
        self.name = name
        self.isolation = isolation
        self.core = core
        state = Mutex(
            State(
                manifest: manifest, logAllowance: Double(core.configuration.logLinesPerSecond), logCountedAt: core.now))
    }

    public var manifest: PluginManifest { state.withLock { $0.manifest } }

    /// Whether the plugin's table has the verb.
    public func supports(_ verb: PluginVerb) -> Bool {
        state.withLock { $0.verbs & (1 << UInt64(verb.rawValue)) != 0 }
    }

    /// Makes an instance for a connection and waits until the plugin has created it.
    ///
    /// - Parameter config: schemas/instance.json.
    /// - Throws: `PluginInstanceError` when the plugin refuses the configuration or cannot be reached.
    public func makeInstance(connection: ConnectionID, config: [UInt8]) async throws(PluginInstanceError)
        -> PluginInstance
    {
        let instance = PluginInstance(connection: connection, plugin: self, config: config)
        state.withLock { $0.instances[ObjectIdentifier(instance)] = instance }
        let limit = core.now.addingSaturating(core.configuration.createBudget.nanoseconds)
        if let refusal = await instance.attachIfNeeded(until: limit) {
            forget(instance)
            throw PluginInstanceError(plugin: name, connection: connection, status: refusal.status, body: refusal.body)
        }
        return instance
    }

    // MARK: For the host's own parts

    var backend: any PluginBackend {
        guard let backend = lazyBackend.withLock({ $0 }) else { preconditionFailure("plugin \(name) has no backend") }
        return backend
    }

    func install(_ backend: any PluginBackend) { lazyBackend.withLock { $0 = backend } }

    func adopt(manifest: PluginManifest, verbs: UInt64) {
        state.withLock {
            $0.manifest = manifest
            $0.verbs = verbs
        }
    }

    var instances: [PluginInstance] { state.withLock { Array($0.instances.values) } }

    func forget(_ instance: PluginInstance) {
        _ = state.withLock { $0.instances.removeValue(forKey: ObjectIdentifier(instance)) }
    }

    var misbehaviour: (count: Int, last: String?) { state.withLock { ($0.misbehaviours, $0.lastMisbehaviour) } }

    func noteMisbehaviour(_ sentence: String, _ connection: ConnectionID?, _ operation: UInt64?) {
        state.withLock {
            $0.misbehaviours += 1
            $0.lastMisbehaviour = sentence
        }
        core.services.metric(.host(plugin: name, event: "misbehaviour", code: ""))
        log(
            PluginLogLine(
                plugin: name, connection: connection, operation: operation, level: 3, source: .host,
                message: "the plugin \(sentence)", fields: nil))
    }

    /// The host's own words about the plugin: never limited.
    func announce(_ level: Int32, _ message: String) {
        core.services.log(
            PluginLogLine(
                plugin: name, connection: nil, operation: nil, level: level, source: .host, message: message,
                fields: nil))
    }

    /// Lets so many lines a second through; what is left out is counted and said with the next line.
    func log(_ line: PluginLogLine) {
        let now = core.now
        let rate = Double(core.configuration.logLinesPerSecond)
        let dropped: Int? = state.withLock { state in
            let elapsed = Double(now &- state.logCountedAt) / 1e9
            state.logAllowance = min(rate, state.logAllowance + elapsed * rate)
            state.logCountedAt = now
            guard state.logAllowance >= 1 else {
                state.droppedLines += 1
                return nil
            }
            state.logAllowance -= 1
            defer { state.droppedLines = 0 }
            return state.droppedLines
        }
        guard let dropped else { return }
        if dropped > 0 {
            core.services.metric(.host(plugin: name, event: "log_dropped", code: ""))
            announce(3, "\(dropped) lines of the plugin were left out: it writes more than \(Int(rate)) a second")
        }
        core.services.log(line)
    }
}

/// Why a connection has no instance.
public struct PluginInstanceError: Error, Sendable, Hashable {
    public let plugin: PluginName
    public let connection: ConnectionID
    public let status: PluginStatus
    /// schemas/error.json, as the plugin or the host gave it.
    public let body: [UInt8]
}
