// SPDX-License-Identifier: Apache-2.0

import Foundation
import Hummingbird
import Logging
import MilepostEgress
import MilepostEngine
import MilepostIntake
import MilepostModel
import MilepostPluginHost
import MilepostServer
import MilepostStore
import MilepostVault
import Synchronization

/// The real server on loopback, over a real store in a folder of its own and an engine without plugins.
struct World: Sendable {
    let directory: String
    let store: SQLiteStore
    let engine: Engine
    let role: ServerRole
    let live: LiveSettings
    let metrics: MetricsRegistry
    let server: MilepostServer
    let port: Int
    let log: LineLog

    static let settings = ServerSettings(
        maximumEventsBody: 200_000, maximumJSONBody: 4096, maximumWorkspaces: 4, maximumIntegrations: 2, version: "test"
    )

    /// - Parameters:
    ///   - isActive: false leaves the server a standby.
    ///   - isStarting: such a server holds the lock and has not opened everything.
    static func run(
        isActive: Bool = true, isStarting: Bool = false, settings: ServerSettings = settings, connections: Int = 64,
        idle: Duration = .seconds(30), _ body: @Sendable (World) async throws -> Void
    ) async throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("milepost-\(UUID().uuidString)")
            .path
        try FileManager.default.createDirectory(atPath: directory + "/data", withIntermediateDirectories: true)
        // Best effort: a folder left behind in the temporary directory harms nobody.
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let clock = FixedClock()
        let store = try SQLiteStore.open(directory: directory + "/data", clock: clock)
        let (engine, host, egress, metrics, log) = try wire(store, clock, directory)
        let role = ServerRole(isStarting: isStarting)
        if isActive { role.activate(engine) }
        let live = LiveSettings(settings, intake: ClickParser())
        var logger = Logger(label: "http") { _ in log.handler }
        logger.logLevel = .debug
        let server = MilepostServer(
            role: role, live: live, control: SilentControl(), logger: logger, metrics: metrics)
        let (ports, found) = AsyncStream.makeStream(of: Int.self)
        let application = server.application(
            on: ListenerSettings(host: "127.0.0.1", port: 0, maximumConnections: connections, idleTimeout: idle),
            frameworkLogger: Logger(label: "framework") { _ in LineLog().handler }
        ) { port in found.yield(port) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { try await application.runService(gracefulShutdownSignals: []) }
            for await port in ports {
                try await body(
                    World(
                        directory: directory, store: store, engine: engine, role: role, live: live, metrics: metrics,
                        server: server, port: port, log: log))
                break
            }
            group.cancelAll()
        }
        await host.shutdown()
        await egress.shutdown()
        await store.close()
    }

    private static func wire(
        _ store: SQLiteStore, _ clock: FixedClock, _ directory: String
    ) throws -> (Engine, PluginHost, CurlEgress, MetricsRegistry, LineLog) {
        let keyFile = KeyRingFile(path: directory + "/kek")
        _ = try keyFile.create(createdAt: clock.now, random: OpenSSLRandomSource())
        let vault = Vault(
            records: store, keys: try FileKeyProvider(file: keyFile, random: OpenSSLRandomSource()),
            random: OpenSSLRandomSource())
        let limiter = RateLimiter(clock: clock)
        let egress = CurlEgress(secrets: vault, limiter: limiter, clock: clock)
        let gateway = PluginGateway(
            store: store, egress: egress, limiter: limiter, clock: clock, settings: .init(), log: { _ in },
            count: { _ in })
        let host = PluginHost(directories: [], workerExecutable: "/nonexistent", services: gateway)
        let plugins = HostedPlugins(
            host: host, gateway: gateway, operationTimeout: .seconds(1), requestTimeout: .seconds(1))
        let metrics = MetricsRegistry()
        let log = LineLog()
        let engine = Engine(
            store: store, vault: vault, transient: TransientSecrets(), plugins: plugins, clock: clock,
            random: SystemRandom(),
            settings: .init(),
            reporter: MetricsReporter(metrics: metrics, logger: Logger(label: "t") { _ in SwiftLogNoOpLogHandler() }))
        return (engine, host, egress, metrics, log)
    }

    // MARK: Requests

    /// Stores a token and gives its text.
    func token(
        _ scopes: AccessScope..., workspace: WorkspaceID? = nil, expiresAt: Timestamp? = nil
    ) async throws -> String {
        let text = try MilepostVault.AccessToken.generate(random: OpenSSLRandomSource())
        try await store.saveToken(
            MilepostModel.AccessToken(
                id: "tok_" + Digest.hex(Array(text.hash.bytes.prefix(6))), name: "t", hash: text.hash.bytes,
                scopes: scopes,
                workspace: workspace, createdAt: engine.clock.now, expiresAt: expiresAt))
        return text.text
    }

    func send(
        _ method: String, _ path: String, token: String? = nil, type: String? = nil, headers: [String: String] = [:],
        body: [UInt8]? = nil
    ) async throws -> HTTPExchange {
        var head = "\(method) \(path) HTTP/1.1\r\nHost: t\r\nConnection: close\r\n"
        if let token { head += "Authorization: Bearer \(token)\r\n" }
        if let type { head += "Content-Type: \(type)\r\n" }
        for (name, value) in headers { head += "\(name): \(value)\r\n" }
        if let body { head += "Content-Length: \(body.count)\r\n" }
        return try await HTTPExchange.send(Array((head + "\r\n").utf8) + (body ?? []), port: port)
    }

    func send(_ method: String, _ path: String, token: String?, json: JSONValue) async throws -> HTTPExchange {
        try await send(method, path, token: token, type: "application/json", body: json.bytes)
    }
}

/// Time stands still: nothing here depends on how fast the machine is.
struct FixedClock: DaemonClock {
    let now = Timestamp(rfc3339: "2026-11-21T12:00:00Z")!
    func sleep(for duration: Duration) async throws { try await Task.sleep(for: duration) }
}

/// The daemon's side, without a daemon.
struct SilentControl: DaemonControl {
    func reload() async -> ReloadReport { ReloadReport(applied: ["log.level"]) }
    func compareConfiguration() async -> ConfigurationComparison {
        ConfigurationComparison(
            changes: [.init(key: "listen", running: "a", file: "b", needsRestart: true)], files: ["/x.yaml"])
    }
    func plugins() async -> [JSONValue] { [] }
    func facts() async -> [String: JSONValue] { [:] }
    func rewrapKeys() async throws -> Int { 0 }
    func reloadKeys() async throws {}
    func newKey() async throws -> String { "key" }
    func dropKey(_ id: String) async throws {}
    func backUp(to path: String) async throws {}
}

/// Keeps what was logged.
final class LineLog: Sendable {
    private let kept = Mutex<[String]>([])
    var lines: [String] { kept.withLock { $0 } }
    var handler: any LogHandler { Handler(log: self) }
    fileprivate func add(_ line: String) { kept.withLock { $0.append(line) } }

    private struct Handler: LogHandler {
        let log: LineLog
        var logLevel = Logger.Level.debug
        var metadata: Logger.Metadata = [:]
        subscript(metadataKey key: String) -> Logger.Metadata.Value? {
            get { metadata[key] }
            set { metadata[key] = newValue }
        }
        func log(event: LogEvent) {
            let facts = (event.metadata ?? [:]).sorted { $0.key < $1.key }.map { "\($0.key)=\($0.value)" }
            log.add("\(event.level) \(event.message) \(facts.joined(separator: " "))")
        }
    }
}
