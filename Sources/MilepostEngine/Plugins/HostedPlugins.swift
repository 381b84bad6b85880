// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
public import MilepostPluginHost
public import MilepostStore
import Synchronization

/// The plugins that the configuration enables, as the engine sees them: one instance a connection, made when first
/// needed and again after its worker died.
public final class HostedPlugins: PluginPort {
    /// What the configuration says about one plugin.
    public struct Enabled: Sendable, Equatable {
        public var isolation: PluginIsolation
        public var endpoints: [String: String]
        public var ratePlan: String?

        public init(isolation: PluginIsolation, endpoints: [String: String] = [:], ratePlan: String? = nil) {
            self.isolation = isolation
            self.endpoints = endpoints
            self.ratePlan = ratePlan
        }
    }

    private struct Loaded: Sendable {
        var plugin: LoadedPlugin
        var declaration: PluginDeclaration
        var configuration: Enabled
    }

    private struct State: Sendable {
        var loaded: [PluginName: Loaded] = [:]
        var refused: [PluginName: Reason] = [:]
        var instances: [ConnectionID: PluginInstance] = [:]
        /// Grows whenever instances are let go of: one that was begun before may know too little.
        var forgettings: UInt64 = 0
    }

    private let host: PluginHost
    let gateway: PluginGateway
    let operationTimeout: Duration
    private let requestTimeout: Duration
    private let state = Mutex(State())
    /// Every operation takes one.
    public let turns = PluginTurns()

    public init(host: PluginHost, gateway: PluginGateway, operationTimeout: Duration, requestTimeout: Duration) {
        self.host = host
        self.gateway = gateway
        self.operationTimeout = operationTimeout
        self.requestTimeout = requestTimeout
    }

    // MARK: Loading

    /// Loads what is enabled and not loaded yet, lets go of what no longer is. A plugin that cannot be loaded is remembered
    /// with its reason and degrades status, never start-up (decisions 19).
    public func apply(_ enabled: [PluginName: Enabled]) async {
        for (name, loaded) in state.withLock({ $0.loaded }) where enabled[name] != loaded.configuration {
            await closeInstances(of: name)
            state.withLock { _ = $0.loaded.removeValue(forKey: name) }
            // An operation may have made another meanwhile, which would outlive its plugin.
            await closeInstances(of: name)
            await host.unload(name)
        }
        state.withLock { $0.refused = $0.refused.filter { enabled[$0.key] != nil } }
        for (name, configuration) in enabled.sorted(by: { $0.key < $1.key }) {
            guard state.withLock({ $0.loaded[name] == nil }) else { continue }
            do {
                let plugin = try await host.load(name, isolation: configuration.isolation)
                let declaration = try PluginDeclaration(manifest: plugin.manifest, overrides: configuration.endpoints)
                state.withLock {
                    $0.loaded[name] = Loaded(plugin: plugin, declaration: declaration, configuration: configuration)
                    $0.refused[name] = nil
                }
            } catch let error as PluginLoadError {
                state.withLock { $0.refused[name] = Reason(code: error.code.rawValue, message: error.detail) }
            } catch {
                state.withLock { $0.refused[name] = Reason(code: "manifest_invalid", message: "\(error)") }
            }
        }
    }

    public func manifest(of plugin: PluginName) -> PluginManifest? {
        state.withLock { $0.loaded[plugin]?.plugin.manifest }
    }
    /// The settings that the manifest's `config_schema` names; nil when the plugin declares none.
    func settingNames(of plugin: PluginName) -> Set<String>? {
        guard let declared = declaration(of: plugin)?.settingNames, !declared.isEmpty else { return nil }
        return declared
    }
    /// The settings that a connection must have, in the manifest's words; empty when it names none or is not there.
    package func requiredSettings(of plugin: PluginName) -> [String] {
        (manifest(of: plugin)?.configSchema?["required"]?.array ?? []).compactMap(\.string)
    }
    package func declaration(of plugin: PluginName) -> PluginDeclaration? {
        state.withLock { $0.loaded[plugin]?.declaration }
    }
    public var enabledNames: [PluginName] {
        state.withLock { Array(Set($0.loaded.keys).union($0.refused.keys)) }.sorted()
    }
    public func refusal(of plugin: PluginName) -> Reason? { state.withLock { $0.refused[plugin] } }

    // MARK: PluginPort

    public func traits(of plugin: PluginName, action: String) -> ActionTraits? {
        guard let found = manifest(of: plugin)?.actions?.first(where: { $0.name == action }) else { return nil }
        return ActionTraits(
            maximumBatch: found.maxRecords, readLag: found.readLag, canReconcile: found.reconcile ?? false)
    }

    public func thresholdAction(of plugin: PluginName) -> String? {
        manifest(of: plugin)?.actions?.first { $0.trigger == "threshold" }?.name
    }

    public func clickActions(of plugin: PluginName) -> [ClickAction] {
        guard let manifest = manifest(of: plugin) else { return [] }
        let settings = manifest.configSchema?["properties"]
        return (manifest.actions ?? []).filter { $0.trigger == "click" }.map { action in
            ClickAction(
                name: action.name, maximumBatch: action.maxRecords, coalesces: action.coalesce == "contact",
                enabledBy: action.enabledBy,
                isOnByDefault: action.enabledBy.flatMap { settings?[$0]?["default"]?.bool } ?? true,
                takesAnyone: action.contact == "optional")
        }
    }

    public func eventActions(of plugin: PluginName) -> [EventAction] {
        guard let manifest = manifest(of: plugin) else { return [] }
        let settings = manifest.configSchema?["properties"]
        return (manifest.actions ?? []).filter { $0.trigger == "event" }.map { action in
            EventAction(
                name: action.name, topics: action.topics ?? [], enabledBy: action.enabledBy,
                isOnByDefault: action.enabledBy.flatMap { settings?[$0]?["default"]?.bool } ?? true)
        }
    }

    public func obstacle(for plugin: PluginName) -> Reason? {
        let (isLoaded, refusal) = state.withLock { ($0.loaded[plugin] != nil, $0.refused[plugin]) }
        if let refusal { return refusal }
        if !isLoaded {
            return Reason(
                code: "plugin_not_enabled",
                message: "The plugin \(plugin) is not enabled: set plugins.\(plugin).enabled to true and reload.")
        }
        guard let health = host.status().first(where: { $0.name == plugin }), health.state == .quarantined else {
            return nil
        }
        return Reason(code: "plugin_quarantined", message: health.reason ?? "The plugin crashed repeatedly.")
    }

    public func deliver(_ claims: [ClaimedDelivery], on connection: Connection) async -> [Verdict] {
        CrashPoint.reach("after_claim")
        let action = claims.first?.delivery.action
        let context = OperationContext(
            deliveries: claims.map(\.delivery.id), attempts: claims.map(\.delivery.attempts),
            leavesIntents: !clickActions(of: connection.integration.plugin).contains { $0.name == action })
        var closed: ClosedBudget?
        let result = await perform(
            .deliver, body: VerbBody.records(claims), on: connection, attempt: context.attempts.max() ?? 1,
            records: context.deliveries, context: context, alone: claims.contains(where: \.isSuspect), closed: &closed)
        CrashPoint.reach("before_settle")
        let verdicts = VerbBody.verdicts(of: result, count: claims.count)
        guard let closed else { return verdicts }
        let now = gateway.clock.now
        return verdicts.map { $0.heldBack(by: closed, now: now) }
    }

    public func reconcile(_ claims: [ClaimedDelivery], on connection: Connection) async -> [Finding] {
        var closed: ClosedBudget?
        let result = await perform(
            .reconcile, body: VerbBody.records(claims), on: connection,
            attempt: claims.map(\.delivery.attempts).max() ?? 1, records: claims.map(\.delivery.id), context: nil,
            alone: claims.contains(where: \.isSuspect), closed: &closed)
        return VerbBody.findings(of: result, claims: claims)
    }

    // MARK: Other verbs

    /// One operation on a stored connection's instance, without records.
    func perform(
        _ verb: PluginVerb, body: JSONValue, on connection: Connection, attempt: Int = 1
    ) async -> OperationResult {
        var closed: ClosedBudget?
        return await perform(
            verb, body: body, on: connection, attempt: attempt, records: [], context: nil, alone: false,
            closed: &closed)
    }

    /// An operation that may change the vendor outside of any delivery, with its intents on disk.
    func provision(_ verb: PluginVerb, body: JSONValue, on connection: Connection) async -> OperationResult {
        let journal = ProvisionJournal(store: gateway.store, connection: connection.id)
        var closed: ClosedBudget?
        return await perform(
            verb, body: body, on: connection, attempt: 1, records: [],
            context: OperationContext(deliveries: [], attempts: [], provision: journal), alone: false,
            timeout: max(operationTimeout, Self.provisionTimeout), closed: &closed)
    }

    /// Vendors take up to a minute to show what they made (HCON-05), and a plugin waits for it.
    private static let provisionTimeout = Duration.seconds(120)

    /// - Parameters:
    ///   - records: the deliveries in `body`: a crash is charged to them.
    ///   - alone: with nothing else of the plugin in flight, whatever its connection.
    ///   - timeout: nil for the configured one.
    ///   - closed: the budget that stopped one of the operation's requests, if any did.
    func perform(
        _ verb: PluginVerb, body: JSONValue, on connection: Connection, attempt: Int, records: [DeliveryID],
        context: OperationContext?, alone: Bool, timeout: Duration? = nil, closed: inout ClosedBudget?
    ) async -> OperationResult {
        let (result, budget) = await turns.take(of: connection.integration.plugin, alone: alone) {
            await performNow(
                verb, body: body, on: connection, attempt: attempt, records: records, context: context,
                timeout: timeout ?? operationTimeout)
        }
        closed = budget
        return result
    }

    private func performNow(
        _ verb: PluginVerb, body: JSONValue, on connection: Connection, attempt: Int, records: [DeliveryID],
        context: OperationContext?, timeout: Duration
    ) async -> (OperationResult, ClosedBudget?) {
        do {
            let instance = try await instance(for: connection)
            let operation = instance.reserveOperation()
            if let context { gateway.contexts.begin(operation, context) }
            let result = await instance.perform(
                verb, body: body.bytes, timeout: timeout, attempt: UInt32(clamping: attempt),
                operation: operation, records: records)
            return (result, await gateway.contexts.end(operation))
        } catch {
            let result = OperationResult(
                status: .retry,
                body: JSONValue.object(["code": "plugin_unavailable", "message": .string("\(error)")]).bytes)
            return (result, nil)
        }
    }

    /// Runs operations on an instance that exists only for this call, for a connection that is not stored yet.
    ///
    /// - Parameter facts: of a token that was granted and is not stored yet.
    func withTrialInstance<Result: Sendable>(
        of connection: Connection, facts: CredentialFacts? = nil,
        _ body: (_ perform: (PluginVerb, JSONValue) async -> OperationResult) async throws -> Result
    ) async throws -> Result {
        try await turns.take(of: connection.integration.plugin, alone: false) {
            try await withTrialInstanceNow(of: connection, facts, body)
        }
    }

    private func withTrialInstanceNow<Result: Sendable>(
        of connection: Connection, _ facts: CredentialFacts?,
        _ body: (_ perform: (PluginVerb, JSONValue) async -> OperationResult) async throws -> Result
    ) async throws -> Result {
        let instance = try await makeInstance(for: connection, facts: facts)
        do {
            let result = try await body { verb, json in
                await instance.perform(verb, body: json.bytes, timeout: self.operationTimeout, attempt: 1)
            }
            await instance.close()
            gateway.close(connection.id)
            return result
        } catch {
            await instance.close()
            gateway.close(connection.id)
            throw error
        }
    }

    /// Lets go of a connection's instance, so that the next operation makes one with the new settings.
    func forget(_ connection: ConnectionID) async {
        let forgotten = state.withLock { state -> PluginInstance? in
            state.forgettings += 1
            return state.instances.removeValue(forKey: connection)
        }
        // The gateway goes on knowing the connection: while this one closes, the next operation may have made another.
        guard let instance = forgotten else { return }
        await turns.take(of: instance.plugin, alone: false) { await instance.close() }
    }

    private func instance(for connection: Connection) async throws -> PluginInstance {
        while true {
            let (existing, forgettings) = state.withLock { ($0.instances[connection.id], $0.forgettings) }
            if let existing { return existing }
            // Read anew: the caller's may be from before a change, and what is made now stays until the next one.
            let current = try await gateway.store.connection(id: connection.id) ?? connection
            let made = try await makeInstance(for: current)
            // Two operations may race to make one; the second closes its own.
            let kept = state.withLock { state -> PluginInstance? in
                if let existing = state.instances[connection.id] { return existing }
                guard state.forgettings == forgettings else { return nil }
                state.instances[connection.id] = made
                return made
            }
            if let kept, kept === made { return made }
            await made.close()
            if let kept { return kept }
        }
    }

    private func makeInstance(
        for connection: Connection, facts granted: CredentialFacts? = nil
    ) async throws -> PluginInstance {
        let name = connection.integration.plugin
        guard let loaded = state.withLock({ $0.loaded[name] }) else {
            throw EngineError(
                code: .pluginUnavailable, detail: obstacle(for: name)?.message ?? "The plugin \(name) is not loaded.")
        }
        var facts = granted
        if facts == nil { facts = try await gateway.store.chain(connection.id).map { CredentialFacts($0) } }
        gateway.open(
            connection.id, declaration: loaded.declaration, held: loaded.declaration.credentials(of: connection),
            account: connection.account?.id, facts: facts,
            ratePlan: connection.settings["rate_plan"]?.string ?? loaded.configuration.ratePlan)
        let config = VerbBody.instance(
            connection, declaration: loaded.declaration, app: try await app(of: name), facts: facts,
            requestTimeout: requestTimeout)
        return try await loaded.plugin.makeInstance(connection: connection.id, config: config.bytes)
    }

    /// What instances are told of the vendor's app; null where none is set up.
    private func app(of plugin: PluginName) async throws -> JSONValue {
        guard let app = try await gateway.store.app(plugin) else { return .null }
        let journal = ProvisionJournal(store: gateway.store, connection: AppRegistration.connection(of: plugin))
        let objects = try await journal.objects(at: gateway.clock.now)
        return ["id": JSONValue(app.facts["app_id"]), "objects": .object(objects.mapValues(JSONValue.string))]
    }

    /// Lets go of a plugin's instances, so that the next operations make new ones with what is known now.
    func renew(_ plugin: PluginName) async { await closeInstances(of: plugin) }

    private func closeInstances(of plugin: PluginName) async {
        let gone = state.withLock { state -> [PluginInstance] in
            state.forgettings += 1
            let members = state.instances.filter { $0.value.plugin == plugin }
            for id in members.keys { state.instances[id] = nil }
            return Array(members.values)
        }
        for instance in gone { await instance.close() }
    }
}
