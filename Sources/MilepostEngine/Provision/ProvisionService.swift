// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
import MilepostPluginHost
import MilepostRules
public import MilepostStore
import Synchronization

/// Brings into being what a plugin needs at the vendor, in an account or in the vendor's app, and takes it away again.
///
/// Idempotent: a plugin looks first and keeps what is there. One provisioning of a connection at a time; one whose request
/// got lost is followed by the next only when the vendor has had time to show what it made.
public final class ProvisionService: Sendable {
    private let store: any Store
    private let plugins: HostedPlugins
    private let clock: any DaemonClock
    private let requestTimeout: Duration
    private let running = Mutex<Set<ConnectionID>>([])

    /// How long after a lost answer a vendor may still hide what it made (crm-apis 3.5).
    static let showLag = Duration.seconds(60)
    /// Keys that one request may name.
    static let maximumObjects = 100

    public init(store: any Store, plugins: HostedPlugins, clock: any DaemonClock, requestTimeout: Duration) {
        self.store = store
        self.plugins = plugins
        self.clock = clock
        self.requestTimeout = requestTimeout
    }

    /// Objects of a connection's account.
    ///
    /// - Parameters:
    ///   - objects: keys, as an earlier answer told them; empty for everything that the connection's settings call for.
    ///   - removing: takes away instead.
    /// - Returns: what became of each; empty for a plugin that provisions nothing.
    public func provision(
        _ integration: IntegrationName, workspace: WorkspaceID, objects: [String], removing: Bool
    ) async throws -> [ProvisionedObject] {
        guard let connection = try await store.connection(integration, workspace: workspace),
            connection.state != .disconnected
        else {
            throw EngineError(
                code: .notFound, detail: "Workspace \(workspace) has no connection \(integration); connect it first.")
        }
        let made = try await run(connection, scope: "account", objects: objects, removing: removing)
        // What waited for an object is sent now and not at the end of its pause.
        store.arrivals.raiseConnections(of: workspace)
        return made
    }

    /// Objects of the vendor's app, made with the app's own credentials and shared by every connection (decisions 16).
    public func provisionApp(
        _ plugin: PluginName, objects: [String], removing: Bool
    ) async throws -> [ProvisionedObject] {
        guard let integration = IntegrationName(plugin.rawValue), plugins.manifest(of: plugin) != nil else {
            throw EngineError(
                code: .pluginUnavailable,
                detail: plugins.obstacle(for: plugin)?.message ?? "The plugin \(plugin) is not loaded.")
        }
        guard try await store.app(plugin) != nil else {
            throw EngineError(
                code: .notFound, detail: "There is no app of \(plugin); milepost app set \(plugin) makes one.")
        }
        let app = Connection(
            id: AppRegistration.connection(of: plugin), workspace: AppRegistration.workspace, integration: integration,
            stateSince: clock.now, settings: .object([:]), connectedAt: clock.now)
        let made = try await run(app, scope: "app", objects: objects, removing: removing)
        // Connections learn of the app's objects when their instances are made.
        await plugins.renew(plugin)
        let waiting = try await store.connections(workspace: nil).filter { $0.integration.plugin == plugin }
        for workspace in Set(waiting.map(\.workspace)) { store.arrivals.raiseConnections(of: workspace) }
        return made
    }

    private func run(
        _ connection: Connection, scope: String, objects: [String], removing: Bool
    ) async throws -> [ProvisionedObject] {
        guard objects.count <= Self.maximumObjects,
            objects.allSatisfy({ (1...256).contains($0.utf8.count) })
        else {
            throw EngineError(
                code: .validationFailed,
                detail:
                    "objects are at most \(Self.maximumObjects) keys of 1 to 256 bytes, as an earlier answer told them."
            )
        }
        guard running.withLock({ $0.insert(connection.id).inserted }) else {
            throw EngineError(
                code: .conflict,
                detail: "\(connection.integration) is being provisioned already; wait until that has ended.")
        }
        defer { running.withLock { _ = $0.remove(connection.id) } }
        let journal = ProvisionJournal(store: store, connection: connection.id)
        try await waitForLostAnswers(journal)
        let body: JSONValue = [
            "scope": .string(scope), "objects": .array(objects.map { ["key": .string($0)] }),
        ]
        let result = await plugins.provision(removing ? .deprovision : .provision, body: body, on: connection)
        if scope == "app" { await plugins.forget(connection.id) }
        if result.status == .unsupported { return [] }
        guard result.status == .ok, let answer = VerbBody.parsed(result) else {
            throw ConnectionService.failure(result)
        }
        let made = try Self.objects(answer, of: connection.integration.plugin)
        for object in made { try await journal.keep(object, at: clock.now) }
        // The plugin looked and answered: what was open is among what it found.
        for intent in try await journal.intents(at: clock.now) { try await journal.close(intent.step) }
        return made
    }

    /// A request whose answer was lost may still be on its way, and what it made hidden: looking too early would make it
    /// twice.
    private func waitForLostAnswers(_ journal: ProvisionJournal) async throws {
        guard let latest = try await journal.intents(at: clock.now).map(\.at).max() else { return }
        let clear = latest + requestTimeout + Self.showLag
        let wait = min(clear - clock.now, requestTimeout + Self.showLag)
        if wait > .zero { try await clock.sleep(for: wait) }
    }

    private static func objects(_ answer: JSONValue, of plugin: PluginName) throws -> [ProvisionedObject] {
        let items = answer["objects"]?.array ?? []
        let read = items.compactMap { item -> ProvisionedObject? in
            guard let key = item["key"]?.string, (1...256).contains(key.utf8.count),
                let state = item["state"]?.string.flatMap(ProvisionedObject.State.init(rawValue:))
            else { return nil }
            let id = item["remote_id"]?.string.flatMap { $0.utf8.count <= 1024 ? $0 : nil }
            return ProvisionedObject(key: key, state: state, remoteID: id)
        }
        guard answer["objects"]?.array != nil, read.count == items.count, read.count <= maximumObjects else {
            throw EngineError(
                code: .pluginUnavailable, detail: "\(plugin) did not say what became of the objects; see the log.")
        }
        return read
    }
}
