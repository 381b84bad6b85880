// SPDX-License-Identifier: Apache-2.0

import Foundation
import Logging
import MilepostConfiguration
import MilepostEgress
import MilepostEngine
import MilepostModel
import MilepostPluginHost
import MilepostRules
import MilepostServer
import MilepostStore
import MilepostVault
import ServiceLifecycle
import Synchronization

/// Waits for the data directory's lock, wires the rooms, recovers, runs the schedule, and takes everything down in order.
final class EngineService: Service, DaemonControl {
    private struct Running: Sendable {
        var engine: Engine
        var host: PluginHost
        var roster: PluginRoster
        var egress: CurlEgress
        var store: SQLiteStore
    }

    private struct State: Sendable {
        var configuration: Configuration
        var running: Running?
        var lock: DataDirectoryLock?
        /// Opened before anybody listens; a standby opens its own when its turn comes.
        var store: SQLiteStore?
        var isReloading = false
    }

    private let path: String
    private let keys: FileKeyProvider
    private let role: ServerRole
    private let live: LiveSettings
    private let metrics: MetricsRegistry
    private let announcement: Announcement
    private let logger: Logger
    private let level: LogOutput.LogLevel
    /// Where it really listens: on sockets that were handed over, `listen` is not used.
    private let addresses: [String]
    private let state: Mutex<State>
    private let clock = SystemClock()
    private let startedAt = SystemClock().now

    init(
        configuration: Configuration, path: String, keys: FileKeyProvider, role: ServerRole, live: LiveSettings,
        metrics: MetricsRegistry, announcement: Announcement, logger: Logger, level: LogOutput.LogLevel,
        lock: DataDirectoryLock?, store: SQLiteStore?, addresses: [String]
    ) {
        self.path = path
        self.keys = keys
        self.role = role
        self.live = live
        self.metrics = metrics
        self.announcement = announcement
        self.logger = logger
        self.level = level
        self.addresses = addresses
        state = Mutex(State(configuration: configuration, running: nil, lock: lock, store: store))
    }

    // MARK: Life

    func run() async throws {
        try await cancelWhenGracefulShutdown {
            do { try await self.work() } catch is CancellationError {}  // asked to stop
        }
        await stop()
    }

    private func work() async throws {
        let (isStandby, directory) = state.withLock { ($0.lock == nil, $0.configuration.dataDirectory) }
        if isStandby {
            let lock = try await DataDirectoryLock.acquire(directory: directory, clock: clock)
            state.withLock { $0.lock = lock }
            logger.info("the other daemon is gone: taking over")
        }
        // Read after the wait, in which a standby may have been reloaded.
        let configuration = state.withLock { $0.configuration }
        let running = try await wire(configuration)
        // The roster takes one configuration at a time: a SIGHUP this early is told to come again.
        let current = state.withLock { state -> Configuration in
            state.running = running
            state.isReloading = true
            return state.configuration
        }
        await running.roster.apply(current)
        state.withLock { $0.isReloading = false }
        sayRefusals(running.roster)
        let recovered = try await running.engine.recover()
        if recovered.uncertain + recovered.retrying > 0 {
            logger.warning(
                "deliveries were in flight when the last daemon ended",
                metadata: ["uncertain": "\(recovered.uncertain)", "due_again": "\(recovered.retrying)"])
        }
        role.activate(running.engine)
        logger.info("ready")
        announcement.arrived()
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await running.engine.scheduler.run() }
            group.addTask { [clock] in try await Heartbeat(store: running.store, clock: clock).run() }
            group.addTask { try await running.engine.rules.engine.run() }
            group.addTask { try await running.engine.tokens.run() }
            group.addTask { try await running.engine.pump.run() }
            group.addTask { try await self.keepRetention(running.store) }
            group.addTask { [logger, clock] in
                try await StorageWatch(store: running.store, clock: clock, logger: logger).run()
            }
            try await group.next()
            group.cancelAll()
        }
    }

    /// - Throws: `StoreError` for a database that is damaged, foreign or newer, or whose upgrade does not come out even,
    ///   with the way out.
    static func openStore(
        _ configuration: Configuration, _ announcement: Announcement, _ logger: Logger
    ) throws -> SQLiteStore {
        let pace = UpgradePace()
        let store = try SQLiteStore.open(
            directory: configuration.dataDirectory, clock: SystemClock(),
            configuration: SQLiteConfiguration(clicksPerTransaction: configuration.intake.groupCommitMax)
        ) { progress in
            guard let line = pace.line(for: progress) else { return }
            logger.notice("upgrade: \(line)")
            announcement.upgrades(line)
        }
        let kept = SchemaChange.keptCopies(directory: configuration.dataDirectory)
        if !kept.isEmpty {
            logger.info(
                "a copy of the database from before its last change of schema is kept: remove it once you need it no more",
                metadata: ["file": "\(kept.joined(separator: ", "))"])
        }
        return store
    }

    /// What the host refuses is in its own lines; here is what it never saw.
    private func sayRefusals(_ roster: PluginRoster) {
        for (name, refusal) in roster.ownRefusals {
            logger.error(
                "plugin refused: \(refusal.message)", metadata: ["plugin": "\(name)", "code": "\(refusal.code)"])
        }
    }

    private func wire(_ configuration: Configuration) async throws -> Running {
        let clock = self.clock
        let store = try state.withLock { $0.store } ?? Self.openStore(configuration, announcement, logger)
        let vault = Vault(records: store, keys: keys, random: OpenSSLRandomSource())
        let transient = TransientSecrets()
        let limiter = RateLimiter(clock: clock)
        let egressLog = Logger(label: "egress")
        let reporter = MetricsReporter(metrics: metrics, logger: Logger(label: "engine"))
        var wire = CurlEgress.Configuration()
        wire.connectionsPerHost = configuration.delivery.connectionsPerHost
        wire.connectionsInAll = max(wire.connectionsInAll, 2 * wire.connectionsPerHost)
        let egress = CurlEgress(
            secrets: OverlaidSecrets(transient, over: vault), limiter: limiter, clock: clock, configuration: wire,
            log: { entry in
                reporter.egressWaited(origin: "\(entry.origin)", for: entry.timings.limiter)
                egressLog.debug(
                    "request",
                    metadata: [
                        "method": "\(entry.method)", "origin": "\(entry.origin)", "path": "\(entry.path)",
                        "status": "\(entry.status.map(String.init) ?? "-")", "wire": "\(entry.wire.rawValue)",
                        "failure": "\(entry.failure?.rawValue ?? "-")",
                    ])
            })
        let pluginLog = PluginLog(logger: Logger(label: "plugin"))
        let gateway = PluginGateway(
            store: store, egress: egress, limiter: limiter, clock: clock,
            settings: .init(requestTimeout: configuration.delivery.requestTimeout),
            log: { pluginLog.write($0) },
            count: { metric in
                if case .host(let plugin, let event, let code) = metric {
                    reporter.pluginEvent(plugin: plugin, event: event, code: PluginRoster.stableCode(code))
                }
            })
        var hostConfiguration = PluginHostConfiguration()
        hostConfiguration.allowsBestEffortSandbox = configuration.sandbox == .bestEffort
        hostConfiguration.logLevel = configuration.log.level.forPlugins
        let host = PluginHost(
            directories: configuration.pluginDirectories, workerExecutable: Self.workerPath(configuration),
            services: gateway,
            configuration: hostConfiguration)
        let plugins = HostedPlugins(
            host: host, gateway: gateway, operationTimeout: configuration.delivery.operationTimeout,
            requestTimeout: configuration.delivery.requestTimeout)
        let engine = Engine(
            store: store, vault: vault, transient: transient, plugins: plugins, clock: clock, random: SystemRandom(),
            settings: .init(
                interval: configuration.schedule.thresholdInterval,
                limits: .init(
                    maximumAttempts: configuration.delivery.maxAttempts, maximumAge: configuration.delivery.maxAge,
                    triesWithinTick: configuration.delivery.inTickRetries,
                    requestTimeout: configuration.delivery.requestTimeout),
                backoff: Backoff(base: configuration.delivery.retryBase),
                plans: PlanMatrix(
                    plans: configuration.plans.mapValues {
                        .init(
                            integrations: $0.integrations.map { Set($0.map { PluginName($0) }) }, fires: $0.fires,
                            trialDays: $0.trialDays)
                    }),
                analyticsURLTemplate: configuration.analyticsURL, matchWindow: configuration.identity.matchWindow,
                hold: configuration.identity.hold, clickRetentionDays: configuration.retention.clicksDays,
                oauth: OAuthSurroundings.settings(configuration)),
            reporter: reporter)
        let roster = PluginRoster(host: host, plugins: plugins)
        return Running(engine: engine, host: host, roster: roster, egress: egress, store: store)
    }

    /// Plugins first, so that nobody asks for egress any more; the store last, because everything else writes to it.
    private func stop() async {
        guard let running = state.withLock({ $0.running }) else { return }
        await running.engine.tokens.stop()
        await running.host.shutdown()
        await running.egress.shutdown()
        await Heartbeat(store: running.store, clock: clock).beat()
        await running.store.close()
        state.withLock { $0.lock }?.release()
    }

    private func keepRetention(_ store: SQLiteStore) async throws {
        // The first hour belongs to whoever just started the daemon.
        var isSettled = false
        var dayOfRules: Int32 = 0
        var dayOfChecks: Int32 = 0
        while true {
            let retention = state.withLock { $0.configuration.retention }
            let now = clock.now
            func before(_ days: Int) -> Timestamp { now - .seconds(days * 86_400) }
            do {
                _ = try await store.enforceRetention(
                    clicksBefore: before(retention.clicksDays), dedupeBefore: before(retention.dedupeDays),
                    deliveriesBefore: before(retention.deliveriesDays))
                if now.day != dayOfRules {
                    // Longer than any window: what is older says nothing.
                    _ = try await store.enforceRuleRetention(
                        windowsBefore: before(401), firingsBefore: before(retention.deliveriesDays))
                    dayOfRules = now.day
                }
            } catch let error as StoreError {
                logger.error(
                    "retention could not be enforced; the next hour tries again", metadata: ["error": "\(error)"])
            }
            if isSettled {
                try await lookForDamage(store)
                if now.day != dayOfChecks {
                    try await checkSettings()
                    dayOfChecks = now.day
                }
            }
            isSettled = true
            try await clock.sleep(for: .seconds(3600))
        }
    }

    /// Once a day: what fitted the vendor's account when it was saved may not fit any more (TRB-09).
    private func checkSettings() async throws {
        guard let engine = state.withLock({ $0.running })?.engine else { return }
        do {
            for (connection, reason) in try await engine.connections.checkAll() {
                logger.warning(
                    "a connection's settings do not fit any more: \(reason.message)",
                    metadata: [
                        "workspace": "\(connection.workspace)", "integration": "\(connection.integration)",
                        "code": "\(reason.code)",
                    ])
            }
        } catch let error as StoreError {
            logger.error("settings could not be checked; tomorrow tries again", metadata: ["error": "\(error)"])
        }
    }

    /// Once a day (decisions 28); what it finds stops writes and shows among the status's problems.
    private func lookForDamage(_ store: SQLiteStore) async throws {
        let start = clock.now
        do {
            let last = try await store.lastRun(of: Self.checkName)
            if let last, start < last.startedAt + .seconds(86_400) { return }
            let found = try await store.quickCheck()
            if !found.isEmpty {
                logger.critical(
                    "the database is damaged: stop the daemon and restore the newest backup",
                    metadata: ["findings": "\(found.prefix(5).joined(separator: "; "))"])
            }
            try await store.recordRun(
                ScheduleRun(
                    schedule: Self.checkName, startedAt: start, finishedAt: clock.now, succeeded: found.isEmpty,
                    summary: ["findings": .array(found.prefix(20).map(JSONValue.string))]))
        } catch let error as StoreError {
            logger.error(
                "the database could not be checked; the next hour tries again", metadata: ["error": "\(error)"])
        }
    }

    private static let checkName = "quick_check"

    // MARK: DaemonControl

    func reload() async -> ReloadReport {
        announcement.reloads()
        let report = await applyConfiguration()
        announcement.reloaded(isRefused: report.isRefused)
        for error in report.errors where report.isRefused {
            logger.error("reload refused, the old configuration stays in force: \(error)")
        }
        if !report.isRefused {
            if let running = state.withLock({ $0.running }) { sayRefusals(running.roster) }
            logger.info(
                "reloaded",
                metadata: [
                    "applied": "\(report.applied.joined(separator: ","))",
                    "restart_required": "\(report.restartRequired.joined(separator: ","))",
                ])
        }
        return report
    }

    private func applyConfiguration() async -> ReloadReport {
        let isAlone = state.withLock { state in
            defer { state.isReloading = true }
            return !state.isReloading
        }
        guard isAlone else {
            return ReloadReport(
                errors: ["the daemon starts, or another reload is under way; try again"], isRefused: true)
        }
        defer { state.withLock { $0.isReloading = false } }
        let fresh: Configuration
        do {
            let path = self.path
            fresh = try await OwnThread.run {
                try Configuration.load(path: path, environment: ProcessInfo.processInfo.environment)
            }
        } catch let error as ConfigurationError {
            return ReloadReport(errors: error.issues.map(\.description), isRefused: true)
        } catch {
            return ReloadReport(errors: ["\(error)"], isRefused: true)
        }
        let old = state.withLock { $0.configuration }
        // Which keys a reload takes is said once, in the configuration's own table; what is wired at start waits.
        let merged = old.takingHotKeys(of: fresh)
        let difference = Configuration.diff(old, fresh)
        level.current = Logger.Level(merged.log.level)
        live.replace(merged.server, intake: merged.clickParser)
        let running = state.withLock { state in
            state.configuration = merged
            return state.running
        }
        var errors: [String] = []
        if let running {
            running.host.setLogLevel(merged.log.level.forPlugins)
            await running.roster.apply(merged)
            running.engine.pump.nudge()
            errors = running.roster.refusals.map { "plugin \($0.name): \($0.reason.message)" }
        }
        return ReloadReport(applied: difference.applied, restartRequired: difference.restartRequired, errors: errors)
    }

    func compareConfiguration() async -> ConfigurationComparison {
        let path = self.path
        do {
            let loaded = try await OwnThread.run {
                try Configuration.examine(path: path, environment: ProcessInfo.processInfo.environment)
            }
            let running = state.withLock { $0.configuration }
            let changes = Configuration.changes(from: running, to: loaded.configuration)
            return ConfigurationComparison(
                changes: changes.map {
                    .init(key: $0.key, running: $0.before, file: $0.after, needsRestart: $0.needsRestart)
                }, files: loaded.files)
        } catch let error as ConfigurationError {
            return ConfigurationComparison(errors: error.issues.map(\.description))
        } catch {
            return ConfigurationComparison(errors: ["\(error)"])
        }
    }

    func plugins() async -> [JSONValue] { await state.withLock { $0.running }?.roster.status() ?? [] }

    func facts() async -> [String: JSONValue] {
        let (running, configuration) = state.withLock { ($0.running, $0.configuration) }
        // A store that cannot be read says so in the status's problems already.
        let check = try? await running?.store.lastRun(of: Self.checkName)
        return [
            "storage_checked_at": JSONValue(check?.finishedAt.description),
            "storage_is_whole": check.map { .bool($0.succeeded) } ?? .null,
            "uptime_seconds": .integer((clock.now - startedAt).components.seconds),
            "data_dir": .string(configuration.dataDirectory),
            "listen": .string(addresses.joined(separator: ", ")),
            "pid": .integer(Int64(ProcessInfo.processInfo.processIdentifier)),
        ]
    }

    func rewrapKeys() async throws -> Int {
        guard let running = state.withLock({ $0.running }) else { return 0 }
        return try await running.engine.vault.rewrapAll().rewrapped
    }

    func reloadKeys() async throws { try await OwnThread.run { [keys] in try keys.reload() } }

    func newKey() async throws -> String {
        let now = clock.now
        return try await OwnThread.run { [keys] in try keys.addKey(createdAt: now) }
    }

    func dropKey(_ id: String) async throws {
        guard let running = state.withLock({ $0.running }) else { return }
        try await running.engine.vault.checkUnused(id)
        try await OwnThread.run { [keys] in try keys.dropKey(id) }
    }

    func backUp(to path: String) async throws {
        let (running, configuration) = state.withLock { ($0.running, $0.configuration) }
        // A backup that holds its own key protects nothing (decisions 33).
        try KeyRingFile(path: configuration.kms.path).checkOutside(dataDirectory: configuration.dataDirectory)
        try await running?.store.backup(to: path)
    }

    // MARK: Configuration

    private static func workerPath(_ configuration: Configuration) -> String {
        if let path = configuration.workerPath { return path }
        let own =
            (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe")) ?? CommandLine.arguments[0]
        let beside = (own as NSString).deletingLastPathComponent + "/milepost-plugin-worker"
        return FileManager.default.isExecutableFile(atPath: beside)
            ? beside : "/usr/lib/milepost/milepost-plugin-worker"
    }
}

/// Passes a plugin's lines on, with who said them.
struct PluginLog: Sendable {
    let logger: Logger

    func write(_ line: PluginLogLine) {
        let levels: [Logger.Level] = [.trace, .debug, .info, .warning, .error]
        var facts: Logger.Metadata = ["plugin": "\(line.plugin)", "source": "\(line.source.rawValue)"]
        if let connection = line.connection { facts["connection"] = "\(connection)" }
        if let fields = line.fields { facts["fields"] = "\(String(decoding: fields, as: UTF8.self))" }
        logger.log(level: levels[min(max(Int(line.level), 0), 4)], "\(line.message)", metadata: facts)
    }
}

extension Configuration.Log.Level {
    /// As the plugin ABI counts levels. A plugin's warnings and errors are always wanted, and so is what it says once.
    var forPlugins: Int32 {
        switch self {
        case .trace: 0
        case .debug: 1
        case .info, .warning, .error: 2
        }
    }
}
