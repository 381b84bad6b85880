// SPDX-License-Identifier: Apache-2.0

internal import CMilepostLinux
internal import MilepostModel
internal import Synchronization

/// Keeps one plugin's worker alive: starts it, checks what it loaded, restarts it with back-off, quarantines it.
final class WorkerSupervisor: PluginBackend, WorkerObserver {
    typealias Waiter = (
        deadline: UInt64, continuation: CheckedContinuation<Result<any PluginTransport, Unavailable>, Never>
    )
    typealias Loading = CheckedContinuation<PluginLoadError?, Never>

    private enum Phase {
        case idle
        case starting(WorkerProcess, until: UInt64)
        case running(WorkerProcess)
        case waiting(until: UInt64)
        case quarantined(String)
        case refused(PluginLoadError)
        case stopped
    }

    private struct State {
        var phase = Phase.idle
        var policy: RestartPolicy
        var waiters: [Waiter] = []
        var loading: Loading?
        /// Old ones after a reload, until their operations have ended or the time is up.
        var draining: [(process: WorkerProcess, until: UInt64)] = []
        /// The next one during a reload, while the old one still serves.
        var candidate: (process: WorkerProcess, until: UInt64)?
        var restarts = 0
        var lastCrash: String?
        var refusal: PluginLoadError?
    }

    private let plugin: LoadedPlugin
    private let files: PluginFiles
    private let core: HostCore
    private let state: Mutex<State>

    init(plugin: LoadedPlugin, files: PluginFiles) {
        self.plugin = plugin
        self.files = files
        core = plugin.core
        state = Mutex(State(policy: RestartPolicy(plugin.core.configuration)))
    }

    /// Starts the first worker, or the next one during a reload. Nil when the plugin is loaded.
    func load() async -> PluginLoadError? {
        await withCheckedContinuation { continuation in
            let isBusy = state.withLock { state in
                guard state.loading == nil else { return true }
                state.loading = continuation
                return false
            }
            if isBusy {
                continuation.resume(
                    returning: PluginLoadError(
                        code: .loadFailed, plugin: plugin.name,
                        detail: "another load of it is still running; wait for it"))
            } else {
                core.loop.enqueue { [self] in startProcess() }
            }
        }
    }

    func transport(until deadline: UInt64) async -> Result<any PluginTransport, Unavailable> {
        await withCheckedContinuation { continuation in
            let answer: Result<any PluginTransport, Unavailable>? = state.withLock { state in
                switch state.phase {
                case .running(let process) where !process.isCondemned: return .success(process)
                case .quarantined(let reason): return .failure(Unavailable(code: "plugin_quarantined", message: reason))
                case .refused(let error): return .failure(Unavailable(code: "plugin_refused", message: error.detail))
                case .stopped: return .failure(Unavailable(code: "plugin_closed", message: "the daemon is stopping"))
                case .idle, .starting, .running, .waiting:
                    state.waiters.append((deadline, continuation))
                    return nil
                }
            }
            if let answer { continuation.resume(returning: answer) }
            core.loop.beAlert(now: core.now)
        }
    }

    /// Tells the worker that serves, and one that is being loaded; those that only finish their operations keep theirs.
    func setLogLevel(_ level: Int32) {
        let processes = state.withLock { state -> [WorkerProcess] in
            let candidate = state.candidate.map { [$0.process] } ?? []
            switch state.phase {
            case .starting(let process, _), .running(let process): return [process] + candidate
            case .idle, .waiting, .quarantined, .refused, .stopped: return candidate
            }
        }
        for process in processes { process.setLogLevel(level) }
    }

    // MARK: Starting, on the loop's thread

    private func startProcess() {
        let limit = core.now.addingSaturating(core.configuration.loadBudget.nanoseconds)
        let inspected: (manifest: PluginManifest, bytes: [UInt8])
        do throws(PluginLoadError) {
            inspected = try files.inspect()
        } catch {
            fail(nil, error)
            return
        }
        let process = WorkerProcess(
            plugin: plugin, manifest: inspected.manifest, manifestBytes: inspected.bytes, library: files.library,
            observer: self)
        let mayStart = state.withLock { state -> Bool in
            switch state.phase {
            case .stopped: return false
            case .running: state.candidate = (process, limit)
            case .starting(let overtaken, _):
                // A reload met a restart: the later one reads the files as they are now.
                state.draining.append((overtaken, core.now))
                state.phase = .starting(process, until: limit)
            case .idle, .waiting, .quarantined, .refused: state.phase = .starting(process, until: limit)
            }
            return true
        }
        guard mayStart else {
            let loading = state.withLock { state -> Loading? in
                defer { state.loading = nil }
                return state.loading
            }
            loading?.resume(
                returning: PluginLoadError(
                    code: .loadFailed, plugin: plugin.name, detail: "it was taken out of service"))
            return
        }
        core.loop.beAlert(now: core.now)
        if let problem = process.spawn() {
            fail(process, PluginLoadError(code: .loadFailed, plugin: plugin.name, detail: problem))
        }
    }

    /// Whether it is one that is being loaded: neither overtaken by another nor in service already.
    private func isAwaited(_ process: WorkerProcess) -> Bool {
        state.withLock { state in
            if case .starting(let current, _) = state.phase, current === process { return true }
            return state.candidate?.process === process
        }
    }

    func loaded(_ process: WorkerProcess, _ announcement: WorkerAnnouncement) {
        guard isAwaited(process) else { return }
        if let error = check(process, announcement) {
            fail(process, error)
            return
        }
        let now = core.now
        let (waiters, loading, old) = state.withLock { state in
            var old: WorkerProcess?
            if state.candidate?.process === process {
                state.candidate = nil
                // Otherwise it has crashed meanwhile, and this one comes in its place.
                if case .running(let running) = state.phase {
                    old = running
                    let patience = core.configuration.loadBudget.nanoseconds
                    state.draining.append((running, now.addingSaturating(patience)))
                }
            }
            if case .stopped = state.phase { return ([Waiter](), state.loading, nil as WorkerProcess?) }
            state.phase = .running(process)
            state.refusal = nil
            defer {
                state.waiters = []
                state.loading = nil
            }
            return (state.waiters, state.loading, old)
        }
        plugin.adopt(manifest: process.manifest, verbs: announcement.verbs)
        if let old { for instance in plugin.instances { instance.release(old) } }
        let levels = process.state.withLock { ($0.landlockABI, $0.seccompStages) }
        plugin.announce(
            2, "loaded \(process.manifest.version) in a worker: Landlock level \(levels.0), \(levels.1) call filters")
        for waiter in waiters { waiter.continuation.resume(returning: .success(process)) }
        loading?.resume(returning: nil)
    }

    private func check(_ process: WorkerProcess, _ announcement: WorkerAnnouncement) -> PluginLoadError? {
        PluginAgreement(
            plugin: plugin.name, manifest: process.manifest, manifestBytes: process.manifestBytes,
            described: announcement.manifest, minHostMinor: announcement.minHostMinor, verbs: announcement.verbs,
            describeCPU: announcement.describeCPU, describeWall: announcement.describeWall
        ).firstProblem(budget: core.configuration.describeBudget)
    }

    func refused(_ process: WorkerProcess, reason: UInt64, detail: String) {
        let code: PluginLoadError.Code =
            switch Int(reason) {
            case Int(MILEPOST_REFUSED_SANDBOX): .sandboxUnavailable
            case Int(MILEPOST_REFUSED_NO_ENTRY): .entryMissing
            case Int(MILEPOST_REFUSED_HOST_TOO_OLD): .hostTooOld
            default: .loadFailed
            }
        fail(process, PluginAgreement.refusal(code, plugin: plugin.name, detail: detail, library: files.library))
    }

    /// What cannot get better by trying again. A running worker goes on when its successor is refused.
    private func fail(_ process: WorkerProcess?, _ error: PluginLoadError) {
        let (waiters, loading) = state.withLock { state -> ([Waiter], Loading?) in
            state.candidate = nil
            state.refusal = error
            defer { state.loading = nil }
            if case .running = state.phase { return ([], state.loading) }
            if case .stopped = state.phase { return ([], state.loading) }
            state.phase = .refused(error)
            defer { state.waiters = [] }
            return (state.waiters, state.loading)
        }
        process?.kill("it was refused")
        PluginAgreement.report(error, plugin: plugin)
        let unavailable = Unavailable(code: "plugin_refused", message: error.detail)
        for waiter in waiters { waiter.continuation.resume(returning: .failure(unavailable)) }
        loading?.resume(returning: error)
    }

    // MARK: Ending

    func ended(_ process: WorkerProcess, reason: String, records: Set<DeliveryID>) {
        let now = core.now
        enum Outcome { case planned, failedLoad, restart(UInt64), quarantine([Waiter]) }
        let outcome: Outcome = state.withLock { state in
            if let index = state.draining.firstIndex(where: { $0.process === process }) {
                state.draining.remove(at: index)
                return .planned
            }
            if state.candidate?.process === process { return .failedLoad }
            switch state.phase {
            case .starting(let current, _) where current === process && state.loading != nil: return .failedLoad
            case .starting(let current, _) where current === process: break
            case .running(let current) where current === process: break
            case .idle, .starting, .running, .waiting, .quarantined, .refused, .stopped: return .planned
            }
            state.lastCrash = reason
            switch state.policy.crashed(at: now, records: records) {
            case .restart(let at):
                state.phase = .waiting(until: at)
                return .restart(at)
            case .quarantine:
                state.phase = .quarantined(
                    "\(core.configuration.quarantineCrashes) different causes crashed it within the quarantine window, last: "
                        + "\(reason); its queue is kept; mend it, then reload it")
                defer { state.waiters = [] }
                return .quarantine(state.waiters)
            }
        }
        switch outcome {
        case .planned: break
        case .failedLoad:
            fail(
                process,
                PluginLoadError(code: .loadFailed, plugin: plugin.name, detail: "while it was loaded, \(reason)"))
        case .restart(let at):
            core.services.metric(.host(plugin: plugin.name, event: "crash", code: ""))
            plugin.announce(4, "crashed: \(reason); a new worker starts in \((at - now) / 1_000_000) ms")
            core.loop.beAlert(now: at)
        case .quarantine(let waiters):
            core.services.metric(.host(plugin: plugin.name, event: "crash", code: ""))
            core.services.metric(.host(plugin: plugin.name, event: "quarantine", code: ""))
            plugin.announce(4, "quarantined: \(reason)")
            let unavailable = Unavailable(code: "plugin_quarantined", message: reason)
            for waiter in waiters { waiter.continuation.resume(returning: .failure(unavailable)) }
        }
    }

    func tick(now: UInt64) {
        var mustStart = false
        var late: [WorkerProcess] = []
        var over: [WorkerProcess] = []
        var alive: [WorkerProcess] = []
        var expired: [Waiter] = []
        var isRestless = false
        let draining = state.withLock { $0.draining }
        let drained = draining.filter { entry in
            entry.until <= now || !plugin.instances.contains { $0.isUsing(entry.process) }
        }
        over = drained.map(\.process)
        state.withLock { state in
            switch state.phase {
            // Where the next one is being loaded already, that one comes in place of the one that crashed.
            case .waiting(let until) where until <= now && state.candidate == nil:
                state.phase = .idle
                state.restarts += 1
                mustStart = true
            case .waiting: isRestless = true
            case .starting(let process, let until):
                isRestless = true
                alive.append(process)
                if until <= now { late.append(process) }
            case .running(let process): alive.append(process)
            case .idle, .quarantined, .refused, .stopped: break
            }
            if let candidate = state.candidate {
                isRestless = true
                if candidate.until <= now { late.append(candidate.process) }
            }
            expired = state.waiters.filter { $0.deadline <= now }
            state.waiters.removeAll { $0.deadline <= now }
            isRestless = isRestless || !state.draining.isEmpty || !state.waiters.isEmpty
        }
        if mustStart { startProcess() }
        for process in late { process.kill("it was not loaded within the time for that") }
        for process in over { process.kill("a newer worker has taken over") }
        for process in alive + draining.map(\.process) { process.tick(now: now) }
        for waiter in expired {
            waiter.continuation.resume(
                returning: .failure(
                    Unavailable(code: "plugin_restarting", message: "the plugin's worker was not ready in time")))
        }
        if isRestless { core.loop.beAlert(now: now) }
    }

    func health() -> BackendHealth {
        state.withLock { state in
            var health = BackendHealth(state: .loaded)
            health.restarts = state.restarts
            health.lastCrash = state.lastCrash
            switch state.phase {
            case .running(let process):
                health.reason = state.refusal.map { "runs; the last reload was refused: \($0.detail)" }
                process.state.withLock {
                    health.processID = $0.processID
                    health.landlockABI = $0.landlockABI
                    health.seccompStages = $0.seccompStages
                }
            case .idle, .starting: (health.state, health.reason) = (.restarting, "its worker is starting")
            case .waiting: (health.state, health.reason) = (.restarting, "crashed; the next worker waits its turn")
            case .quarantined(let reason): (health.state, health.reason) = (.quarantined, reason)
            case .refused(let error): (health.state, health.reason) = (.refused, error.detail)
            case .stopped: (health.state, health.reason) = (.absent, "stopped")
            }
            return health
        }
    }

    /// Forgets crashes, so that a reload brings a quarantined plugin back.
    func forgive() {
        state.withLock { state in
            state.policy.forgive()
            switch state.phase {
            case .quarantined, .refused: state.phase = .idle
            case .idle, .starting, .running, .waiting, .stopped: break
            }
        }
    }

    func stop() {
        let (processes, waiters, loading) = state.withLock { state in
            var processes = state.draining.map(\.process)
            if let candidate = state.candidate { processes.append(candidate.process) }
            switch state.phase {
            case .starting(let process, _), .running(let process): processes.append(process)
            case .idle, .waiting, .quarantined, .refused, .stopped: break
            }
            state.phase = .stopped
            defer {
                state.waiters = []
                state.loading = nil
            }
            return (processes, state.waiters, state.loading)
        }
        for process in processes { process.kill("the daemon is stopping") }
        let unavailable = Unavailable(code: "plugin_closed", message: "the daemon is stopping")
        for waiter in waiters { waiter.continuation.resume(returning: .failure(unavailable)) }
        loading?.resume(
            returning: PluginLoadError(code: .loadFailed, plugin: plugin.name, detail: "the daemon is stopping"))
    }
}
