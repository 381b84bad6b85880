// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
import MilepostPluginHost
import MilepostStore
import MilepostVault

/// Sends a person to the vendor to consent, and makes a connection of the code that comes back (HCON-01 to HCON-03).
public struct OAuthService: Sendable {
    let store: any Store
    let vault: Vault
    let transient: TransientSecrets
    let plugins: HostedPlugins
    let connections: ConnectionService
    public let keeper: TokenKeeper
    let client: TokenClient
    let clock: any DaemonClock
    let random: any RandomSource
    /// Where the vendor sends the person back to: `public_url` and this path, or the daemon's own address.
    public let redirectURI: String

    public static let callbackPath = "/oauth/callback"
    /// A person needs a minute; ten leave time for a vendor's own sign-in.
    public static let lifetime: Duration = .seconds(600)
    static let longestCode = 4096

    /// A link for a person, and what it asks for.
    public struct Invitation: Sendable {
        public var id: String
        public var url: String
        public var redirectURI: String
        public var expiresAt: Timestamp
        public var plan: ScopePlan
    }

    // MARK: Authorise

    /// - Parameters:
    ///   - body: as connect takes it, without credentials; empty for a reinstall. `credential` names one of several OAuth
    ///     alternatives, `features` switches on more of those that the manifest's scopes name.
    public func authorize(
        _ body: JSONValue, _ integration: IntegrationName, workspace: WorkspaceID
    ) async throws -> Invitation {
        guard let declaration = plugins.declaration(of: integration.plugin) else {
            throw EngineError(
                code: .pluginUnavailable,
                detail: plugins.obstacle(for: integration.plugin)?.message
                    ?? "The plugin \(integration.plugin) is not loaded.")
        }
        var members = body.object ?? [:]
        let named = members.removeValue(forKey: "credential")?.string
        let extra = try Self.features(members.removeValue(forKey: "features"))
        let request = try ConnectionRequest(.object(members))
        let existing = try await store.connection(integration, workspace: workspace)
        // Consent changes nothing that a file says; settings beside it would.
        if !request.given.isEmpty { try await connections.refuseManaged(existing, by: nil) }
        let held = existing?.credential.flatMap { declaration.oauth($0) }
        guard let oauth = named.map({ declaration.oauth($0) }) ?? held ?? declaration.firstOAuth else {
            throw EngineError(
                code: .validationFailed, detail: "\(integration.plugin) cannot be connected by OAuth; hand a token in.")
        }
        guard request.credentials.isEmpty else {
            throw EngineError(
                code: .validationFailed,
                detail: "authorize takes no credentials: the vendor gives them when the person consents.")
        }
        try connections.refuseUnknownSettings(request, integration.plugin)
        guard let app = try await store.app(integration.plugin) else {
            throw EngineError(
                code: .conflict,
                detail: "The app of \(integration.plugin) is not known yet: milepost app set \(integration.plugin) "
                    + "with the client id and secret that the vendor gave, and \(redirectURI) as its redirect URI.")
        }
        let settings = request.settings(over: existing?.settings ?? .object([:]))
        _ = try declaration.tokenURL(oauth, settings: settings)
        guard let page = declaration.url(oauth.authorize) else {
            throw EngineError(code: .pluginUnavailable, detail: "\(integration.plugin) has no page to authorise on.")
        }
        let features = try await coreFeatures(settings, integration, workspace: workspace)
        let plan = ScopePlan(
            oauth, features: features.union(extra), settings: settings,
            declared: declaration.manifest.configSchema?["properties"])
        let state = Digest.hex(random.bytes(32))
        var verifier = Array(Digest.hex(random.bytes(32)).utf8)
        let challenge = FormText.base64URL(Digest.sha256(verifier))
        let now = clock.now
        let pending = PendingAuthorization(
            id: random.identifier(prefix: "auth", at: now), hash: Digest.sha256(Array(state.utf8)),
            workspace: workspace, integration: integration, credential: oauth.credential, request: .object(members),
            scopes: plan.scopes, redirectURI: redirectURI, createdAt: now, expiresAt: now + Self.lifetime)
        let sealed = try await vault.seal(
            SecretBytes(wiping: &verifier),
            for: CredentialReference(connection: ConnectionID(pending.id), name: TokenClient.Name.verifier),
            workspace: AppRegistration.workspace)
        try await store.beginAuthorization(pending, verifier: sealed, at: now)
        var fields = [
            ("client_id", app.clientID), ("redirect_uri", redirectURI), ("response_type", "code"), ("state", state),
        ]
        if !plan.scopes.isEmpty { fields.append(("scope", plan.scopes.joined(separator: oauth.separator))) }
        if oauth.usesPKCE { fields += [("code_challenge", challenge), ("code_challenge_method", "S256")] }
        let query = fields.map { "\($0.0)=\(FormText.encoded($0.1))" }.joined(separator: "&")
        return Invitation(
            id: pending.id, url: page + "?" + query, redirectURI: redirectURI, expiresAt: pending.expiresAt, plan: plan)
    }

    /// Provisioning and timeline are part of what a connection does unless a setting says otherwise, and rules where the
    /// workspace has some that act through it (Z-05); the others are asked for by name.
    private func coreFeatures(
        _ settings: JSONValue, _ integration: IntegrationName, workspace: WorkspaceID
    ) async throws -> Set<String> {
        var features: Set<String> = ["provision", "timeline"]
        let shown = plugins.clickActions(of: integration.plugin).filter { !$0.coalesces }
        if !shown.isEmpty, !shown.contains(where: { $0.isEnabled(under: settings) }) { features.remove("timeline") }
        if try await RuleService.hasActingRules(integration, workspace: workspace, in: store) {
            features.insert(RuleService.feature)
        }
        for name in OAuthDeclaration.coreFeatures {
            switch settings[name]?.bool {
            case true?: features.insert(name)
            case false?: features.remove(name)
            case nil: break
            }
        }
        return features
    }

    private static func features(_ value: JSONValue?) throws(EngineError) -> Set<String> {
        guard let value, value != .null else { return [] }
        let names = (value.array ?? []).compactMap(\.string)
        guard names.count == value.array?.count, Set(names).isSubset(of: OAuthDeclaration.coreFeatures) else {
            throw EngineError(
                code: .validationFailed,
                detail: "features must list some of \(OAuthDeclaration.coreFeatures.sorted().joined(separator: ", ")).")
        }
        return Set(names)
    }

    // MARK: Complete

    /// What a vendor's redirect, or a person, brings back.
    public enum Return: Sendable {
        case code(String)
        /// The vendor's word for why there is no code, such as `access_denied`.
        case refusal(String)
    }

    /// By the state parameter, which is the only authority of the callback: random, hashed at rest, good once.
    public func complete(state: String, _ returned: Return) async throws -> (connection: Connection, isNew: Bool) {
        let hash = Digest.sha256(Array(state.utf8))
        guard state.utf8.count <= 256, let pending = try await store.takeAuthorization(hash: hash, at: clock.now),
            Digest.isEqual(pending.hash, hash)
        else { throw Self.unknownState }
        return try await complete(pending, returned)
    }

    /// By the authorisation's id, for an administrator of the workspace who pastes the code (decisions 36).
    ///
    /// - Parameter state: checked as well when it was pasted with the code.
    public func complete(
        id: String, state: String?, _ returned: Return, _ integration: IntegrationName, workspace: WorkspaceID
    ) async throws -> (connection: Connection, isNew: Bool) {
        guard let found = try await store.authorization(id: id), found.workspace == workspace,
            found.integration == integration,
            state.map({ Digest.isEqual(found.hash, Digest.sha256(Array($0.utf8))) }) ?? true,
            let pending = try await store.takeAuthorization(id: id, at: clock.now)
        else { throw Self.unknownState }
        return try await complete(pending, returned)
    }

    /// Whose state a pasted redirect carries, for an administrator of `workspace` only.
    public func complete(
        state: String, _ returned: Return, _ integration: IntegrationName, workspace: WorkspaceID
    ) async throws -> (connection: Connection, isNew: Bool) {
        let hash = Digest.sha256(Array(state.utf8))
        guard let pending = try await store.takeAuthorization(hash: hash, at: clock.now),
            Digest.isEqual(pending.hash, hash), pending.workspace == workspace, pending.integration == integration
        else { throw Self.unknownState }
        return try await complete(pending, returned)
    }

    static let unknownState = EngineError(
        code: .authorizationUnknown,
        detail: "This authorisation is unknown, used already or older than ten minutes. Begin again: milepost connect.")

    private func complete(
        _ pending: PendingAuthorization, _ returned: Return
    ) async throws -> (connection: Connection, isNew: Bool) {
        do {
            let made = try await connect(pending, returned)
            try await store.settleAuthorization(id: pending.id, state: .done, reason: nil)
            return made
        } catch {
            let told = error as? EngineError
            try await store.settleAuthorization(
                id: pending.id, state: .failed,
                reason: Reason(
                    code: told?.code.rawValue ?? "internal",
                    message: told?.detail ?? "The connection could not be stored: see the log."))
            throw error
        }
    }

    private func connect(
        _ pending: PendingAuthorization, _ returned: Return
    ) async throws -> (connection: Connection, isNew: Bool) {
        let plugin = pending.integration.plugin
        guard case .code(let code) = returned else {
            throw EngineError(
                code: .authorizationRefused,
                detail: "The vendor gave no access: consent was refused, or the app may not ask for it. "
                    + "Nothing was stored.")
        }
        guard (1...Self.longestCode).contains(code.utf8.count), code.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F }) else {
            throw EngineError(code: .validationFailed, detail: "The code is empty, too long or no printable ASCII.")
        }
        guard let declaration = plugins.declaration(of: plugin), let oauth = declaration.oauth(pending.credential)
        else {
            throw EngineError(code: .pluginUnavailable, detail: "The plugin \(plugin) is not loaded any more.")
        }
        guard let app = try await store.app(plugin) else {
            throw EngineError(code: .conflict, detail: "The app of \(plugin) was removed: milepost app set \(plugin).")
        }
        let existing = try await store.connection(pending.integration, workspace: pending.workspace)
        let request = try ConnectionRequest(pending.request)
        let settings = request.settings(over: existing?.settings ?? .object([:]))
        let grant = try await exchange(
            code, pending, app, url: declaration.tokenURL(oauth, settings: settings), oauth, declaration)
        let made: (connection: Connection, isNew: Bool)
        do {
            let missing = ScopePlan.missing(pending.scopes, in: grant.scopes)
            guard missing.isEmpty else { throw ConnectionService.scopesMissing(missing, plugin) }
            made = try await connections.connect(
                request, pending.integration, workspace: pending.workspace,
                granted: GrantedTokens(credential: oauth.credential, grant: grant, requested: pending.scopes))
        } catch {
            let told = await giveBack(grant, pending, app, oauth, declaration)
            guard let error = error as? EngineError, !told.isEmpty else { throw error }
            throw EngineError(code: error.code, detail: error.detail + told, errors: error.errors)
        }
        await keeper.recordLineage()
        await keeper.wake()
        return made
    }

    private func exchange(
        _ code: String, _ pending: PendingAuthorization, _ app: AppRegistration, url: String, _ oauth: OAuthDeclaration,
        _ declaration: PluginDeclaration
    ) async throws -> TokenGrant {
        let own = ConnectionID(pending.id)
        let reference = CredentialReference(connection: own, name: TokenClient.Name.code)
        var bytes = Array(code.utf8)
        try transient.insert(SecretBytes(wiping: &bytes), for: reference)
        defer { transient.remove(reference) }
        let answer = await client.exchange(
            code: reference,
            verifier: oauth.usesPKCE
                ? CredentialReference(connection: own, name: TokenClient.Name.verifier) : nil,
            redirectURI: pending.redirectURI,
            app: .init(
                clientID: app.clientID,
                secret: CredentialReference(
                    connection: AppRegistration.connection(of: app.plugin), name: TokenClient.Name.clientSecret)),
            url: url, oauth, declaration)
        switch answer {
        case .granted(let grant):
            guard grant.refresh != nil else {
                throw EngineError(
                    code: .vendorUnavailable,
                    detail:
                        "The vendor gave an access token and no refresh token, which Milepost needs to stay connected.")
            }
            return grant
        case .revoked(let reason):
            throw EngineError(
                code: .authorizationRefused,
                detail: "\(reason.message) The code is too old, was used already, or is for another app. Begin again.")
        case .operatorError(let reason): throw EngineError(code: .appRefused, detail: reason.message)
        case .transient(let reason, _), .uncertain(let reason):
            throw EngineError(code: .vendorUnavailable, detail: "\(reason.message) Begin again.")
        }
    }
}

/// What the vendor gave for a code, on its way into the store.
struct GrantedTokens: Sendable {
    var credential: String
    var grant: TokenGrant
    /// What was asked for: granted, when the answer does not say otherwise.
    var requested: [String]
}

extension ScopePlan {
    static func missing(_ asked: [String], in granted: [String]?) -> [String] {
        guard let granted else { return [] }
        return asked.filter { !Set(granted).contains($0) }
    }
}

extension FormText {
    /// URL alphabet, no padding (RFC 4648, section 5).
    static func base64URL(_ bytes: [UInt8]) -> String {
        let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)
        var text: [UInt8] = []
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let group = bytes[start..<min(start + 3, bytes.count)]
            let bits = group.reduce(UInt32(0)) { $0 << 8 | UInt32($1) } << UInt32(8 * (3 - group.count))
            for index in 0...group.count { text.append(alphabet[Int(bits >> UInt32(18 - 6 * index) & 63)]) }
        }
        return String(decoding: text, as: UTF8.self)
    }
}
