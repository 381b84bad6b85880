// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
import MilepostPluginHost
public import MilepostStore
import MilepostVault

/// The vendors' apps that this daemon speaks for: client id in clear, everything else sealed.
public struct AppService: Sendable {
    let store: any Store
    let vault: Vault
    let plugins: HostedPlugins
    let keeper: TokenKeeper
    let clock: any DaemonClock

    /// Names of an app's secrets; others are public facts.
    public static let secretNames: Set<String> = ["client_secret", "developer_key"]
    static let factNames: Set<String> = ["app_id"]
    static let longest = 4096

    /// Sets client id, secrets and facts; what the body leaves out stays, null removes it.
    ///
    /// - Throws: `validationFailed` naming every member that is wrong; never a value.
    public func set(_ plugin: PluginName, _ body: [String: JSONValue]) async throws -> AppRegistration {
        guard plugins.declaration(of: plugin) != nil else {
            throw EngineError(
                code: .pluginUnavailable,
                detail: plugins.obstacle(for: plugin)?.message ?? "The plugin \(plugin) is not loaded.")
        }
        let existing = try await store.app(plugin)
        var app = existing ?? AppRegistration(plugin: plugin, clientID: "", secrets: [], updatedAt: clock.now)
        var given: [String: String] = [:]
        for (name, value) in body.sorted(by: { $0.key < $1.key }) {
            let text = value.string
            let isText = text.map(Self.isWord)
            switch name {
            case "client_id":
                guard isText == true, let text, !text.contains(":"), text.utf8.count <= 256 else {
                    throw Self.wrong(name)
                }
                app.clientID = text
            case _ where Self.secretNames.contains(name):
                if value == .null {
                    app.secrets.removeAll { $0 == name }
                } else {
                    guard isText == true, let text else { throw Self.wrong(name) }
                    given[name] = text
                    if !app.secrets.contains(name) { app.secrets = (app.secrets + [name]).sorted() }
                }
            case _ where Self.factNames.contains(name):
                guard value == .null || isText == true || value.integer != nil else { throw Self.wrong(name) }
                app.facts[name] = text ?? value.integer.map(String.init)
            default:
                throw EngineError(
                    code: .validationFailed,
                    detail: "\(name.prefix(64)) is unknown here; an app has client_id, "
                        + Self.secretNames.union(Self.factNames).sorted().joined(separator: ", ") + ".")
            }
        }
        guard !app.clientID.isEmpty, app.secrets.contains("client_secret") else {
            throw EngineError(
                code: .validationFailed, detail: "An app needs client_id and client_secret, as the vendor shows them.")
        }
        app.updatedAt = clock.now
        var sealed: [SealedCredential] = []
        for (name, text) in given.sorted(by: { $0.key < $1.key }) {
            let reference = CredentialReference(connection: AppRegistration.connection(of: plugin), name: name)
            var bytes = Array(text.utf8)
            let version = try await store.credential(reference)?.version ?? 0
            sealed.append(
                try await vault.seal(
                    SecretBytes(wiping: &bytes), for: reference, workspace: AppRegistration.workspace,
                    version: version + 1))
        }
        try await store.saveApp(app, secrets: sealed)
        await keeper.appChanged(plugin)
        return app
    }

    public func remove(_ plugin: PluginName) async throws {
        guard try await store.deleteApp(plugin) else {
            throw EngineError(code: .notFound, detail: "There is no app of \(plugin).")
        }
    }

    private static func isWord(_ text: String) -> Bool {
        (1...longest).contains(text.utf8.count) && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F }
    }

    private static func wrong(_ name: String) -> EngineError {
        EngineError(
            code: .validationFailed,
            detail: "\(name) must be 1 to \(longest) printable characters without blanks; a client id has no colon.")
    }
}
