// SPDX-License-Identifier: Apache-2.0

internal import CMilepostLinux
internal import Glibc
public import MilepostModel
internal import Synchronization

/// Finds, checks, loads and watches plugins. One a daemon.
public final class PluginHost: Sendable {
    private struct State {
        var plugins: [PluginName: LoadedPlugin] = [:]
        var refused: [PluginName: (error: PluginLoadError, isolation: PluginIsolation)] = [:]
        var isStopped = false
    }

    private let directories: [String]
    private let trustedUIDs: Set<UInt32>
    private let core: HostCore
    private let state = Mutex(State())

    /// - Parameters:
    ///   - directories: absolute paths, searched in order; the first that has a plugin's manifest wins.
    ///   - workerExecutable: path of `milepost-plugin-worker`.
    ///   - trustedUIDs: owners whose files may be loaded; root and the daemon's own uid by default (decisions 19).
    public init(
        directories: [String], workerExecutable: String, services: any PluginServices, clock: PluginClock = .system,
        configuration: PluginHostConfiguration = PluginHostConfiguration(), trustedUIDs: Set<UInt32>? = nil
    ) {
        self.directories = directories
        self.trustedUIDs = trustedUIDs ?? [0, geteuid()]
        core = HostCore(
            services: services, clock: clock, configuration: configuration, worker: workerExecutable)
        core.loop.run { [weak self] now in self?.tick(now) }
    }

    /// What lies in the folders, by manifests alone: no code runs. Reads files; call it off the cooperative pool or
    /// rarely.
    public func discover() -> [DiscoveredPlugin] {
        var seen: Set<PluginName> = []
        return directories.flatMap { directory in
            PluginFiles.names(in: directory).filter { seen.insert($0).inserted }.map { name in
                let files = PluginFiles(name: name, directory: directory, trustedUIDs: trustedUIDs)
                let manifest = Result { () throws(PluginLoadError) in try files.inspect().manifest }
                return DiscoveredPlugin(name: name, directory: directory, manifest: manifest)
            }
        }
    }

    /// Checks and loads a plugin, or returns the loaded one.
    ///
    /// - Throws: why it is refused; the same sentence is in the log, in `status` and, as a code, in the metric.
    public func load(_ name: PluginName, isolation: PluginIsolation) async throws(PluginLoadError) -> LoadedPlugin {
        if let loaded = state.withLock({ $0.plugins[name] }), loaded.isolation == isolation { return loaded }
        if state.withLock({ $0.plugins[name] != nil || $0.isStopped }) {
            throw PluginLoadError(
                code: .loadFailed, plugin: name,
                detail: "it runs in the other isolation mode, or the daemon is stopping; restart the daemon")
        }
        let files = files(name)
        let inspected = await HostThread.call("mp-inspect") {
            Result { () throws(PluginLoadError) in try files.inspect().manifest }
        }
        let manifest: PluginManifest
        switch inspected {
        case .success(let parsed): manifest = parsed
        case .failure(let error):
            refuse(error, isolation)
            throw error
        }
        let plugin = LoadedPlugin(name: name, isolation: isolation, manifest: manifest, core: core)
        let problem: PluginLoadError?
        switch isolation {
        case .inline:
            problem = await InlineBackend.load(plugin, files)
            if let problem { PluginAgreement.report(problem, plugin: plugin) }
        case .worker:
            let supervisor = WorkerSupervisor(plugin: plugin, files: files)
            plugin.install(supervisor)
            state.withLock { $0.plugins[name] = plugin }
            problem = await supervisor.load()
        }
        if let problem {
            plugin.stopIfInstalled()
            state.withLock { state in
                state.plugins[name] = nil
                state.refused[name] = (problem, isolation)
            }
            throw problem
        }
        state.withLock { state in
            state.plugins[name] = plugin
            state.refused[name] = nil
        }
        return plugin
    }

    /// Brings the file on disk into service: a new worker is loaded and checked, takes over, and the old one ends when
    /// its operations have. Lifts a quarantine. Inline plugins cannot be unloaded.
    @discardableResult
    public func reload(_ name: PluginName) async throws(PluginLoadError) -> LoadedPlugin {
        guard let plugin = state.withLock({ $0.plugins[name] }) else {
            let isolation = state.withLock { $0.refused[name]?.isolation } ?? .worker
            return try await load(name, isolation: isolation)
        }
        guard let supervisor = plugin.backend as? WorkerSupervisor else {
            throw PluginLoadError(
                code: .loadFailed, plugin: name,
                detail: "it runs inside the daemon and cannot be unloaded; restart the daemon")
        }
        supervisor.forgive()
        if let problem = await supervisor.load() { throw problem }
        return plugin
    }

    /// Takes a plugin out of service: its instances are shut down and its worker ends. The code of an inline one stays in
    /// memory, since nothing is ever unloaded there, but nothing calls it. It can be loaded again, in either mode.
    public func unload(_ name: PluginName) async {
        state.withLock { _ = $0.refused.removeValue(forKey: name) }
        guard let plugin = state.withLock({ $0.plugins[name] }) else { return }
        await withTaskGroup { group in
            for instance in plugin.instances { group.addTask { await instance.close() } }
        }
        plugin.backend.stop()
        state.withLock { state in
            if state.plugins[name] === plugin { state.plugins[name] = nil }
        }
    }

    /// The least level that plugins log from now on, as `MP_LOG_…`; workers that run are told, later ones start with it.
    public func setLogLevel(_ level: Int32) {
        core.logLevel = level
        let plugins = state.withLock { Array($0.plugins.values) }
        for plugin in plugins { (plugin.backend as? WorkerSupervisor)?.setLogLevel(level) }
    }

    /// Every plugin that was loaded or refused, by name.
    public func status() -> [PluginHealth] {
        let (plugins, refused) = state.withLock { ($0.plugins, $0.refused) }
        let running = plugins.values.map { plugin -> PluginHealth in
            let health = plugin.backend.health()
            let misbehaviour = plugin.misbehaviour
            return PluginHealth(
                name: plugin.name, state: health.state, isolation: plugin.isolation, version: plugin.manifest.version,
                landlockABI: health.landlockABI, seccompStages: health.seccompStages, workerProcessID: health.processID,
                restarts: health.restarts, lastCrash: health.lastCrash, misbehaviours: misbehaviour.count,
                lastMisbehaviour: misbehaviour.last, reason: health.reason)
        }
        let others = refused.map { name, refusal in
            let isAbsent = refusal.error.code == .fileMissing || refusal.error.code == .manifestMissing
            return PluginHealth(
                name: name, state: isAbsent ? .absent : .refused, isolation: refusal.isolation, version: nil,
                landlockABI: 0, seccompStages: 0, workerProcessID: nil, restarts: 0, lastCrash: nil, misbehaviours: 0,
                lastMisbehaviour: nil, reason: refusal.error.detail)
        }
        return (running + others).sorted { $0.name < $1.name }
    }

    /// Shuts every instance down, ends the workers and the loop. The host is of no use afterwards.
    public func shutdown() async {
        let plugins = state.withLock { state -> [LoadedPlugin] in
            if state.isStopped { return [] }
            state.isStopped = true
            return Array(state.plugins.values)
        }
        await withTaskGroup { group in
            for instance in plugins.flatMap(\.instances) { group.addTask { await instance.close() } }
        }
        for plugin in plugins { plugin.backend.stop() }
        // Bounded by the patience with a killed process (5 s).
        for _ in 0..<600 where core.loop.isWatching {
            core.loop.beAlert(now: core.now)
            do { try await core.clock.sleep(.milliseconds(10)) } catch { break }  // cancelled: leave at once
        }
        await core.loop.stop()
    }

    // MARK: Details

    private func files(_ name: PluginName) -> PluginFiles {
        let directory = directories.first { directory in
            unsafe (access("\(directory)/\(name).json", F_OK) == 0 || access("\(directory)/\(name).so", F_OK) == 0)
        }
        return PluginFiles(
            name: name, directory: directory ?? directories.first ?? "/nonexistent", trustedUIDs: trustedUIDs)
    }

    private func refuse(_ error: PluginLoadError, _ isolation: PluginIsolation) {
        state.withLock { $0.refused[error.plugin] = (error, isolation) }
        core.services.metric(.host(plugin: error.plugin, event: "refused", code: error.code.rawValue))
        core.services.log(
            PluginLogLine(
                plugin: error.plugin, connection: nil, operation: nil, level: 4, source: .host,
                message: error.description, fields: nil))
    }

    private func tick(_ now: UInt64) {
        let plugins = state.withLock { Array($0.plugins.values) }
        var isBusy = false
        for plugin in plugins {
            for instance in plugin.instances {
                instance.checkDeadlines(now: now)
                isBusy = isBusy || instance.hasOperations
            }
            plugin.backend.tick(now: now)
        }
        if isBusy { core.loop.beAlert(now: now) }
    }
}

extension PluginInstance {
    var hasOperations: Bool { state.withLock { !$0.operations.isEmpty } }
}

extension LoadedPlugin {
    func stopIfInstalled() { if isolation == .worker { backend.stop() } }
}
