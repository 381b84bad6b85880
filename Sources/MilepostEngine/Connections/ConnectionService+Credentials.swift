// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostPluginHost
import MilepostRules
import MilepostStore
import MilepostVault

// Which of the alternatives a connection holds, and what each of them may do.

extension ConnectionService {
    /// The one alternative that a request brings a secret for; nil for a plugin that needs none.
    static func chosen(_ request: ConnectionRequest, _ declaration: PluginDeclaration) throws -> String? {
        let plugin = declaration.manifest.name
        var errors: [SettingError] = []
        for name in request.credentials.keys.sorted() {
            guard declaration.auth(name) != nil else {
                errors.append(
                    SettingError(
                        pointer: "/credentials/\(name)", code: "unknown",
                        message: "\(name) is not a credential of \(plugin)"))
                continue
            }
            if declaration.oauth(name) != nil {
                errors.append(
                    SettingError(
                        pointer: "/credentials/\(name)", code: "not_accepted",
                        message: "\(name) is given by the vendor when somebody consents; begin with authorize"))
            }
        }
        let offered = declaration.offered.map(\.credential).filter { declaration.oauth($0) == nil }
        if request.credentials.count > 1 {
            errors.append(
                SettingError(
                    pointer: "/credentials", code: "too_many",
                    message: "a connection holds one credential, these are \(request.credentials.count)"))
        } else if request.credentials.isEmpty || !errors.isEmpty, let first = offered.first,
            request.credentials[first] == nil
        {
            errors.insert(
                SettingError(pointer: "/credentials/\(first)", code: "missing", message: "\(first) is missing"), at: 0)
        } else if request.credentials.isEmpty, let oauth = declaration.firstOAuth {
            errors.append(
                SettingError(
                    pointer: "/credentials", code: "missing",
                    message: "\(oauth.credential) is given by the vendor when somebody consents; begin with authorize"))
        }
        guard errors.isEmpty else {
            let takes =
                offered.isEmpty ? "no pasted credentials" : "the credentials \(offered.joined(separator: " or "))"
            throw EngineError(
                code: .validationFailed,
                detail: "\(plugin) takes \(takes): " + errors.map(\.message).joined(separator: "; "), errors: errors)
        }
        return request.credentials.keys.first
    }

    /// A change swaps a secret for another of its kind; another kind is a connection made again, with its target.
    func refuseOtherKind(_ trial: Connection, than existing: Connection) throws {
        guard let declaration = plugins.declaration(of: existing.integration.plugin) else { return }
        let held = declaration.held(by: existing).first?.credential
        guard held == nil || held == trial.credential else {
            throw EngineError(
                code: .conflict,
                detail: "\(existing.integration) holds \(held ?? ""), not \(trial.credential ?? ""): connect it again "
                    + "to change that; its history stays.")
        }
    }

    /// A token of the hidden kind opens one account; a workspace that needs two installs the app (PAT-04).
    func refuseSecondAccount(_ account: Connection.Account, _ trial: Connection) async throws {
        guard let declaration = plugins.declaration(of: trial.integration.plugin),
            let name = trial.credential, let auth = declaration.auth(name), declaration.manifest.isHidden(auth)
        else { return }
        let others = try await store.connections(workspace: trial.workspace).filter {
            $0.integration != trial.integration && $0.integration.plugin == trial.integration.plugin
                && $0.state != .disconnected && $0.account?.id != account.id
        }
        guard let other = others.first(where: { declaration.held(by: $0).first?.credential == name }) else { return }
        throw EngineError(
            code: .singleAccount,
            detail: "\(name) is bound to a single account, and \(other.integration) uses one for "
                + "\(other.account?.label ?? other.account?.id ?? "another account") already. Connect a second account "
                + "by OAuth: milepost connect \(trial.integration).")
    }

    /// What the plugin's proof says is lacking: an installation is refused (HCON-03), a token's features are named (PAT-05).
    func lackingScopes(_ answer: JSONValue, _ trial: Connection, isInstalled: Bool) throws -> [Reason] {
        let missing = (answer["missing_scopes"]?.array ?? []).compactMap(\.string)
        guard !missing.isEmpty else { return [] }
        if isInstalled { throw Self.scopesMissing(missing, trial.integration.plugin) }
        let uses = plugins.declaration(of: trial.integration.plugin)?.firstOAuth?.featureScopes ?? []
        let named = missing.prefix(20).map { scope in
            uses.first { $0.scope == scope }.map { "\(scope) (\($0.feature): \($0.reason))" } ?? scope
        }
        return [
            Reason(
                code: "scope_missing",
                message: "The token lacks \(named.joined(separator: ", ")); what needs them does not work.")
        ]
    }

    static func scopesMissing(_ missing: [String], _ plugin: PluginName) -> EngineError {
        EngineError(
            code: .scopeMissing,
            detail: "\(plugin) granted fewer scopes than the connection needs: "
                + "\(missing.prefix(20).joined(separator: ", ")) \(missing.count == 1 ? "is" : "are") missing. Nothing was stored; add them to the app, or let somebody "
                + "consent who may grant them.")
    }

    /// A new chain for an installation: the version goes on where an earlier one of this connection ended (OAU-04).
    func seal(
        _ granted: GrantedTokens, for connection: Connection, account: Connection.Account, at issuedAt: Timestamp
    ) async throws -> ([SealedCredential], TokenChain) {
        guard let refresh = granted.grant.refresh else {
            throw EngineError(code: .vendorUnavailable, detail: "The vendor gave no refresh token.")
        }
        let earlier = try await store.chain(connection.id)?.version ?? 0
        let recorded = try await store.lineage()?.entries[connection.id.rawValue]?.version ?? 0
        let lineage = Digest.hex(random.bytes(16))
        let chain = TokenChain(
            connection: connection.id, workspace: connection.workspace, credential: granted.credential,
            lineage: lineage, version: max(earlier, recorded) + 1,
            fingerprint: TokenSeal.fingerprint(of: refresh, lineage: lineage),
            scopes: granted.grant.scopes ?? granted.requested, account: granted.grant.account ?? account.id,
            issuedAt: issuedAt, expiresAt: issuedAt + granted.grant.lifetime)
        let sealed = try await TokenSeal(vault: vault).seal(
            access: granted.grant.access, refresh: refresh, for: chain)
        return (sealed, chain)
    }
}
