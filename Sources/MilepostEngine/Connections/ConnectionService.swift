// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
import MilepostPluginHost
import MilepostRules
public import MilepostStore
public import MilepostVault

/// Connects workspaces to vendors, changes and ends connections (sections B, D, H).
///
/// A credential is proved before anything is stored, in an instance that lives only for the proof; what was proved is
/// sealed and stored together with the target in one transaction (PCON-04, PCON-06, PCON-12).
public struct ConnectionService: Sendable {
    let store: any Store
    let vault: Vault
    let transient: TransientSecrets
    let plugins: HostedPlugins
    let clock: any DaemonClock
    let random: any RandomSource
    let reporter: any EngineReporter

    public init(
        store: any Store, vault: Vault, transient: TransientSecrets, plugins: HostedPlugins, clock: any DaemonClock,
        random: any RandomSource, reporter: any EngineReporter
    ) {
        self.store = store
        self.vault = vault
        self.transient = transient
        self.plugins = plugins
        self.clock = clock
        self.random = random
        self.reporter = reporter
    }

    /// What a proof found out.
    public struct Proof: Sendable {
        public var account: Connection.Account
        public var settings: JSONValue
        public var warnings: [Reason]
        /// Why an installation cannot deliver yet: its target is chosen afterwards, from lists that need the tokens.
        var untargeted: Reason?
    }

    // MARK: Connect

    /// Proves credentials and settings, and changes nothing anywhere.
    public func prove(
        _ request: ConnectionRequest, _ integration: IntegrationName, workspace: WorkspaceID
    ) async throws -> Proof {
        let trial = try trialConnection(request, integration, workspace: workspace, base: nil)
        return try await prove(trial, request)
    }

    /// Connects, or connects again: then the id and all history stay (PCON-13), and what was crossed meanwhile does not
    /// fire (decisions 11).
    ///
    /// - Returns: the connection and whether it is new.
    public func connect(
        _ request: ConnectionRequest, _ integration: IntegrationName, workspace: WorkspaceID, by file: String? = nil
    ) async throws -> (connection: Connection, isNew: Bool) {
        try await connect(request, integration, workspace: workspace, granted: nil, by: file)
    }

    /// - Parameters:
    ///   - granted: what the vendor gave for a code, in place of credentials in the request.
    ///   - file: where the connection's description stands. Without one a described connection may still be installed
    ///     anew: no file can hold the person's consent.
    func connect(
        _ request: ConnectionRequest, _ integration: IntegrationName, workspace: WorkspaceID, granted: GrantedTokens?,
        by file: String? = nil
    ) async throws -> (connection: Connection, isNew: Bool) {
        let existing = try await store.connection(integration, workspace: workspace)
        if granted == nil { try await refuseManaged(existing, by: file) }
        let trial = try trialConnection(
            request, integration, workspace: workspace, base: existing, granted: granted)
        let proof = try await prove(trial, request, granted: granted)
        try await refuseSecondAccount(proof.account, trial)

        _ = try await store.ensureWorkspace(workspace, at: clock.now)
        let id = existing?.id ?? ConnectionID(random.identifier(prefix: "con", at: clock.now))
        let now = clock.now
        let standing = existing.flatMap { $0.state == .disconnected ? nil : $0 }
        let policy = request.policy(over: existing?.policy ?? ThresholdPolicy())
        try refuseJudging(policy, request, integration.plugin)
        var connection = Connection(
            id: id, workspace: workspace, integration: integration,
            state: proof.untargeted == nil ? .active : .needsTarget, stateSince: now, stateReason: proof.untargeted,
            policy: standing?.policy ?? policy,
            settings: proof.settings, account: proof.account, warnings: proof.warnings, cursor: standing?.cursor ?? 0,
            isManaged: file != nil || (granted != nil && existing?.isManaged == true), connectedAt: now,
            credential: trial.credential)
        connection.warnings += try await warningsAboutSharing(proof.account, of: connection)
        let sealed: [SealedCredential]
        var chain: TokenChain?
        if let granted {
            (sealed, chain) = try await seal(granted, for: connection, account: proof.account, at: trial.connectedAt)
        } else {
            sealed = try await seal(request.credentials, for: id, workspace: workspace)
        }
        var saved = try await store.saveConnection(
            connection, credentials: sealed, baseline: baseline(request, existing: existing), chain: chain, at: now)
        if saved.policy != policy {
            saved = try await store.changeConnection(
                id: id, policy: policy, settings: nil, warnings: nil, account: nil, credentials: [],
                baseline: Self.thresholdAdded, at: clock.now)
        }
        await plugins.forget(id)
        return (try await marked(saved, request, by: file), existing == nil)
    }

    /// What the totals have reached already does not fire (THR-19, decisions 11). A connection that stands keeps its
    /// cursor instead: a baseline would swallow what the next tick has not evaluated yet.
    private func baseline(_ request: ConnectionRequest, existing: Connection?) -> Reason? {
        if request.firesForCurrentState { return nil }
        switch existing?.state {
        case nil:
            return Reason(
                code: "baseline", message: "Reached before the connection was made; only later crossings fire.")
        case .disconnected: return Reason(code: "crossed_while_disconnected", message: "Crossed while disconnected.")
        default: return nil
        }
    }

    private static let thresholdAdded = Reason(
        code: "threshold_added", message: "Already reached when the thresholds were changed; only later crossings fire."
    )

    // MARK: Change

    /// Changes settings; with credentials it proves them first and swaps them in place, and a refused one leaves the old
    /// one working (REA-03, REA-04).
    public func change(
        _ request: ConnectionRequest, _ integration: IntegrationName, workspace: WorkspaceID, by file: String? = nil
    ) async throws -> Connection {
        let existing = try await self.existing(integration, workspace: workspace)
        try await refuseManaged(existing, by: file)
        let policy = request.policy(over: existing.policy)
        try refuseJudging(policy, request, integration.plugin)
        var account: Connection.Account?
        var settings: JSONValue?
        var warnings: [Reason]?
        var sealed: [SealedCredential] = []
        if !request.credentials.isEmpty {
            let trial = try trialConnection(request, integration, workspace: workspace, base: existing)
            try refuseOtherKind(trial, than: existing)
            let proof = try await prove(trial, request)
            (account, settings, warnings) = (proof.account, proof.settings, proof.warnings)
            sealed = try await seal(request.credentials, for: existing.id, workspace: workspace)
        } else if !request.settings.isEmpty {
            try refuseUnknownSettings(request, integration.plugin)
            let wanted = request.settings(over: existing.settings)
            let result = await plugins.perform(.configure, body: ["settings": wanted], on: existing)
            let checked = try Self.configured(result, wanted: wanted)
            (settings, warnings) = (checked.settings, checked.warnings)
        }
        var changed = try await store.changeConnection(
            id: existing.id, policy: policy == existing.policy ? nil : policy, settings: settings, warnings: warnings,
            account: account, credentials: sealed, baseline: Self.thresholdAdded, at: clock.now)
        if settings != nil || !sealed.isEmpty { await plugins.forget(existing.id) }
        changed = try await marked(changed, request, by: file)
        return try await reactivated(changed, byCredentials: !sealed.isEmpty, bySettings: settings != nil)
    }

    /// New credentials end needs-reauth and a permission problem, new settings end a missing target; both give an endpoint
    /// another chance.
    private func reactivated(_ connection: Connection, byCredentials: Bool, bySettings: Bool) async throws -> Connection
    {
        let ends: Bool =
            switch connection.state {
            case .needsReauth, .permission: byCredentials
            case .needsTarget: byCredentials || bySettings
            case .disabled: connection.isDisabledForEndpoint && (byCredentials || bySettings)
            case .active, .dailyBudget, .quarantined, .plan, .disconnected: false
            }
        guard ends else { return connection }
        let moved =
            connection.state == .disabled
            ? try await store.enable(connection: connection.id, at: clock.now)
            : try await store.setState(id: connection.id, .active, reason: nil, at: clock.now)
        guard moved else { return connection }
        reporter.connectionMoved(connection, to: .active, reason: nil)
        return try await store.connection(id: connection.id) ?? connection
    }

    /// Keeps the history and the sealed credential's row; nothing is evaluated until it is connected again.
    public func disconnect(
        _ integration: IntegrationName, workspace: WorkspaceID, by file: String? = nil
    ) async throws {
        let existing = try await self.existing(integration, workspace: workspace)
        try await refuseManaged(existing, by: file)
        let reason = Reason(code: "disconnected", message: "Disconnected by an administrator; connect again to go on.")
        _ = try await store.setState(id: existing.id, .disconnected, reason: reason, at: clock.now)
        if file != nil { try await store.release(.connection, workspace: workspace, name: integration.description) }
        await plugins.forget(existing.id)
    }

    /// Live choices for a picker, read afresh each time (PCON-10).
    public func options(
        _ picker: String, values: [String: JSONValue], search: String?, page: String?, integration: IntegrationName,
        workspace: WorkspaceID, credentials: ConnectionRequest? = nil
    ) async throws -> JSONValue {
        guard let manifest = plugins.manifest(of: integration.plugin) else { throw unavailable(integration.plugin) }
        guard (manifest.pickers ?? []).contains(where: { $0.id == picker }) else {
            let known = (manifest.pickers ?? []).map(\.id).joined(separator: ", ")
            throw EngineError(
                code: .notFound, detail: "\(integration.plugin) has no picker \(picker); it has \(known).")
        }
        let body: JSONValue = [
            "picker": .string(picker), "values": .object(values), "search": JSONValue(search), "page": JSONValue(page),
        ]
        let result: OperationResult
        if let credentials, !credentials.credentials.isEmpty {
            let trial = try trialConnection(credentials, integration, workspace: workspace, base: nil)
            result = try await withTransient(credentials.credentials, for: trial) {
                try await plugins.withTrialInstance(of: trial) { perform in await perform(.options, body) }
            }
        } else {
            let existing = try await self.existing(integration, workspace: workspace)
            result = await plugins.perform(.options, body: body, on: existing)
        }
        guard result.status == .ok, let answer = VerbBody.parsed(result) else { throw Self.failure(result) }
        return answer
    }

    /// A typing error in a setting's name would otherwise never be seen.
    func refuseUnknownSettings(_ request: ConnectionRequest, _ plugin: PluginName) throws {
        guard let known = plugins.settingNames(of: plugin) else { return }
        let names = (known.sorted() + ConnectionRequest.policyKeys).joined(separator: ", ")
        let errors = request.settings.keys.sorted().filter { !known.contains($0) }.map {
            SettingError(
                pointer: "/\($0)", code: "unknown",
                message: "\($0) is not a setting of \(plugin); it has \(names)")
        }
        guard errors.isEmpty else {
            throw EngineError(
                code: .validationFailed, detail: errors.map(\.message).joined(separator: "; "), errors: errors)
        }
    }

    // MARK: Proving

    private func prove(
        _ trial: Connection, _ request: ConnectionRequest, granted: GrantedTokens? = nil
    ) async throws -> Proof {
        if let granted {
            try transient.insert(
                granted.grant.access, for: CredentialReference(connection: trial.id, name: granted.credential))
        }
        return try await withTransient(request.credentials, for: trial) {
            let facts = granted.map { CredentialFacts($0, at: trial.connectedAt) }
            return try await plugins.withTrialInstance(of: trial, facts: facts) { perform in
                let connected = await perform(.connect, ["settings": trial.settings])
                guard connected.status == .ok, let answer = VerbBody.parsed(connected) else {
                    throw Self.failure(connected)
                }
                guard let account = Self.account(answer["account"]) else {
                    throw EngineError(
                        code: .vendorUnavailable,
                        detail: "The vendor's answer does not say whose account it is; try again.")
                }
                let lacking = try lackingScopes(answer, trial, isInstalled: granted != nil)
                let configured = await perform(.configure, ["settings": trial.settings])
                let checked: (settings: JSONValue, warnings: [Reason])
                var untargeted: Reason?
                do { checked = try Self.configured(configured, wanted: trial.settings) } catch let error as EngineError
                    where error.code == .validationFailed && granted != nil
                {
                    // A code is good once: what is missing must not waste the consent.
                    checked = (trial.settings, [])
                    untargeted = Reason(code: "needs_target", message: error.detail)
                }
                return Proof(
                    account: account, settings: checked.settings,
                    // Both verbs look at the same settings and may find the same.
                    warnings: (VerbBody.reasons(answer["warnings"]) + lacking + checked.warnings).distinct,
                    untargeted: untargeted)
            }
        }
    }

    private func trialConnection(
        _ request: ConnectionRequest, _ integration: IntegrationName, workspace: WorkspaceID, base: Connection?,
        granted: GrantedTokens? = nil
    ) throws -> Connection {
        guard let declaration = plugins.declaration(of: integration.plugin) else {
            throw unavailable(integration.plugin)
        }
        try refuseUnknownSettings(request, integration.plugin)
        let credential = try granted?.credential ?? Self.chosen(request, declaration)
        return Connection(
            id: ConnectionID(random.identifier(prefix: "trial", at: clock.now)), workspace: workspace,
            integration: integration, stateSince: clock.now,
            settings: request.settings(over: base?.settings ?? .object([:])), connectedAt: clock.now,
            credential: credential)
    }

    private func withTransient<Result: Sendable>(
        _ credentials: [String: String], for trial: Connection, _ body: () async throws -> Result
    ) async throws -> Result {
        defer { transient.removeAll(of: trial.id) }
        for (name, secret) in credentials {
            var bytes = Array(secret.utf8)
            try transient.insert(
                SecretBytes(wiping: &bytes), for: CredentialReference(connection: trial.id, name: name))
        }
        return try await body()
    }

    private func seal(
        _ credentials: [String: String], for id: ConnectionID, workspace: WorkspaceID
    ) async throws -> [SealedCredential] {
        var sealed: [SealedCredential] = []
        for (name, secret) in credentials.sorted(by: { $0.key < $1.key }) {
            let reference = CredentialReference(connection: id, name: name)
            let version = try await store.credential(reference)?.version ?? 0
            var bytes = Array(secret.utf8)
            sealed.append(
                try await vault.seal(
                    SecretBytes(wiping: &bytes), for: reference, workspace: workspace, version: version + 1))
        }
        return sealed
    }

    /// Two workspaces on one vendor company would find each other's deals when they look for their own (decisions 6).
    private func warningsAboutSharing(_ account: Connection.Account, of connection: Connection) async throws -> [Reason]
    {
        let others = try await store.connections(workspace: nil).filter {
            $0.id != connection.id && $0.integration.plugin == connection.integration.plugin
                && $0.account?.id == account.id && $0.state != .disconnected
        }
        guard !others.isEmpty else { return [] }
        let named = others.prefix(3).map { "\($0.workspace)/\($0.integration)" }.joined(separator: ", ")
        let more = others.count > 3 ? " and \(others.count - 3) more" : ""
        return [
            Reason(
                code: "account_shared",
                message:
                    "\(named)\(more) use the same vendor account; set a link field so that the deals of each can be told apart."
            )
        ]
    }

    // MARK: Reading answers

    private static func configured(
        _ result: OperationResult, wanted: JSONValue
    ) throws -> (settings: JSONValue, warnings: [Reason]) {
        if result.status == .unsupported { return (wanted, []) }
        guard result.status == .ok, let answer = VerbBody.parsed(result) else { throw failure(result) }
        let errors = (answer["errors"]?.array ?? []).map { item in
            SettingError(
                pointer: item["pointer"]?.string ?? "", code: item["code"]?.string ?? "invalid",
                message: item["message"]?.string ?? "not accepted by the plugin")
        }
        guard errors.isEmpty else {
            throw EngineError(
                code: .validationFailed, detail: errors.map(\.message).joined(separator: "; "), errors: errors)
        }
        let normalised = answer["settings"].flatMap { $0.object == nil ? nil : $0 } ?? wanted
        return (normalised, VerbBody.reasons(answer["warnings"]))
    }

    private static func account(_ value: JSONValue?) -> Connection.Account? {
        guard let id = value?["id"]?.string ?? value?["id"]?.integer.map(String.init) else { return nil }
        return Connection.Account(
            id: id, label: value?["label"]?.string, domain: value?["domain"]?.string, userID: value?["user_id"]?.string,
            userLabel: value?["user_label"]?.string)
    }

    static func failure(_ result: OperationResult) -> EngineError {
        let verdict = VerbBody.error(of: result)
        let code: EngineError.Code =
            switch verdict.kind {
            case .authRevoked, .authExpired: .credentialRefused
            case .config: verdict.code == "permission_missing" ? .permissionMissing : .validationFailed
            case .rejected: .validationFailed
            case .rateLimited: .rateLimited
            case .retry, .uncertain, .ok: .vendorUnavailable
            case .cancelled, .deadline, .pluginBug, .crashed, .unsupported: .pluginUnavailable
            }
        return EngineError(code: code, detail: verdict.reason.message)
    }

    func existing(_ integration: IntegrationName, workspace: WorkspaceID) async throws -> Connection {
        guard let found = try await store.connection(integration, workspace: workspace) else {
            throw EngineError(
                code: .notFound, detail: "Workspace \(workspace) has no connection \(integration); connect it first.")
        }
        return found
    }

    private func unavailable(_ plugin: PluginName) -> EngineError {
        EngineError(
            code: .pluginUnavailable,
            detail: plugins.obstacle(for: plugin)?.message ?? "The plugin \(plugin) is not loaded.")
    }
}
