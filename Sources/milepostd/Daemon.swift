// SPDX-License-Identifier: Apache-2.0

import Foundation
import Hummingbird
import Logging
import MilepostConfiguration
import MilepostEngine
import MilepostIntake
import MilepostModel
import MilepostServer
import MilepostStore
import MilepostSupervision
import MilepostVault
import NIOCore
import ServiceLifecycle
import UnixSignals

/// The daemon's life: listen, take the data directory's lock, work, stop.
struct Daemon {
    let configuration: Configuration
    let path: String

    /// Labels of our own loggers; every other one is a framework's and speaks from `warning` on, or at `trace`.
    private static let ownLabels: Set<String> = ["milepostd", "http", "egress", "engine", "plugin"]

    func run() async throws {
        try ProcessHardening.forbidDumps()
        // Until somebody listens for it: its default would end a daemon that has just read its files, or waits as a standby.
        signal(SIGHUP, SIG_IGN)
        // Half the cores: a loop only moves bytes, while the work is on the pool's and the writer's threads. On two cores that
        // others share, one loop took a third more single posts than two, and as many where nothing else ran.
        NIOSingletons.groupLoopCountSuggestion = max(1, ProcessInfo.processInfo.activeProcessorCount / 2)
        let level = LogOutput.LogLevel(Logger.Level(configuration.log.level))
        let format = configuration.log.format
        let stream = ErrorStream(environment: ProcessInfo.processInfo.environment)
        LoggingSystem.bootstrap { label in
            LogOutput(
                label: label, format: format, stream: stream, level: level,
                floor: Self.ownLabels.contains(label) ? .trace : .warning)
        }
        let logger = Logger(label: "milepostd")
        let process = ProcessInfo.processInfo
        let handed = try HandedSocket.take(environment: process.environment, processID: process.processIdentifier)
        let announcement = Announcement(
            ServiceManager(environment: process.environment, processID: process.processIdentifier),
            listeners: handed.isEmpty ? configuration.listen.count : handed.count, logger: logger)
        // A task of its own to the very end: what is under way may take longer to finish than the watchdog waits.
        let watchdog = Task { await announcement.feedWatchdog() }
        defer { watchdog.cancel() }

        try DataDirectory.ensure(configuration.dataDirectory)
        let keyFile = KeyRingFile(path: configuration.kms.path)
        try keyFile.checkOutside(dataDirectory: configuration.dataDirectory)
        let keys = try FileKeyProvider(file: keyFile, random: OpenSSLRandomSource())

        var lock = try DataDirectoryLock.tryAcquire(directory: configuration.dataDirectory)
        if lock == nil { announcement.standsBy() }
        let addresses = Addresses(configuration: configuration, handed: handed, logger: logger)
        if lock == nil, addresses.areTaken {
            logger.info("standby: another daemon works on this data directory and listens here; waiting for it to end")
            lock = try await DataDirectoryLock.acquire(directory: configuration.dataDirectory, clock: SystemClock())
        } else if lock == nil {
            logger.info("standby: another daemon works on this data directory; waiting for it to end")
        }

        // Before anybody listens: a damaged database ends the daemon, and nobody should have been promised anything.
        let store = try lock == nil ? nil : EngineService.openStore(configuration, announcement, logger)

        let role = ServerRole(isStarting: lock != nil)
        let metrics = MetricsRegistry()
        let live = LiveSettings(configuration.server, intake: configuration.clickParser)
        let worker = EngineService(
            configuration: configuration, path: path, keys: keys, role: role, live: live, metrics: metrics,
            announcement: announcement, logger: logger, level: level, lock: lock, store: store,
            addresses: addresses.all)
        let server = MilepostServer(
            role: role, live: live, control: worker, logger: Logger(label: "http"), metrics: metrics)
        let framework = Logger(label: "framework")
        var services: [ServiceGroupConfiguration.ServiceConfiguration] = [
            .init(service: worker, successTerminationBehavior: .gracefullyShutdownGroup)
        ]
        for listener in addresses.services(of: server, framework: framework, announcement: announcement) {
            services.append(.init(service: listener, successTerminationBehavior: .gracefullyShutdownGroup))
        }
        services.append(.init(service: ReloadOnHangup(daemon: worker), successTerminationBehavior: .ignore))
        services.append(.init(service: announcement, successTerminationBehavior: .ignore))
        let group = ServiceGroup(
            configuration: .init(
                services: services, gracefulShutdownSignals: [.sigterm, .sigint], logger: framework))
        try await group.run()
        logger.info("stopped")
    }
}

extension Configuration {
    /// What the server takes, as far as a reload changes it.
    var server: ServerSettings {
        ServerSettings(
            maximumEventsBody: intake.maxBody, maximumJSONBody: limits.maxJSONBody,
            maximumWorkspaces: limits.workspaces,
            maximumIntegrations: limits.integrationsPerWorkspace, leastFreeDisk: limits.leastFreeDisk,
            hasPublicMetrics: metrics.isPublic,
            trustedProxies: TrustedProxies(trustedProxies), version: DaemonVersion.text)
    }

    var clickParser: ClickParser {
        ClickParser(
            limits: IntakeLimits(lineBytes: intake.maxLine, depth: intake.maxDepth),
            bots: BotFilter(extraAgents: bots.extraAgents), futureTolerance: intake.futureTolerance)
    }
}

/// SIGHUP applies a changed configuration.
struct ReloadOnHangup: Service {
    let daemon: EngineService

    func run() async throws {
        for await _ in await UnixSignalsSequence(trapping: .sighup).cancelOnGracefulShutdown() {
            _ = await daemon.reload()  // what came of it is in the log
        }
    }
}
