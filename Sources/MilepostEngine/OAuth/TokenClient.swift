// SPDX-License-Identifier: Apache-2.0

import MilepostEgress
import MilepostModel
import MilepostPluginHost
import MilepostStore

/// Asks a vendor's token endpoint. Secrets are named here and put in by egress at the moment of sending (invariant 6).
struct TokenClient: Sendable {
    /// Names under which secrets of OAuth lie beside the access token, which has the credential's own name.
    enum Name {
        static let clientSecret = "client_secret"
        static let verifier = "verifier"
        static let code = "code"
        static let unwanted = "unwanted"
        static func refresh(_ credential: String) -> String { "\(credential).refresh" }
        static func check(_ credential: String) -> String { "\(credential).check" }
    }

    let egress: any Egress
    let timeout: Duration

    /// The app on whose behalf is asked.
    struct App: Sendable {
        var clientID: String
        var secret: CredentialReference
    }

    /// Trades a code for tokens. Not idempotent: a code is good once.
    func exchange(
        code: CredentialReference, verifier: CredentialReference?, redirectURI: String, app: App, url: String,
        _ oauth: OAuthDeclaration, _ declaration: PluginDeclaration
    ) async -> TokenAnswer {
        var secrets = [CredentialUse(reference: code, placement: Placement(kind: .form, target: "code"))]
        if let verifier {
            secrets.append(
                CredentialUse(reference: verifier, placement: Placement(kind: .form, target: "code_verifier")))
        }
        return await ask(
            [("grant_type", "authorization_code"), ("redirect_uri", redirectURI)], secrets, app, url, oauth, declaration
        ) {}
    }

    /// Trades a refresh token for a new pair.
    ///
    /// - Parameter beforeSend: writes the intent, right before the first byte may leave.
    func refresh(
        _ token: CredentialReference, app: App, url: String, _ oauth: OAuthDeclaration,
        _ declaration: PluginDeclaration, beforeSend: @Sendable () async throws -> Void
    ) async -> (answer: TokenAnswer, wire: WireState, failure: EgressFailure.Code?) {
        let use = CredentialUse(reference: token, placement: Placement(kind: .form, target: "refresh_token"))
        let outcome = await send([("grant_type", "refresh_token")], [use], app, url, oauth, declaration, beforeSend)
        return (TokenAnswer(outcome, for: oauth), outcome.wire, outcome.failure?.code)
    }

    /// Gives a refresh token back that is not kept.
    ///
    /// - Returns: whether the vendor says that it is dead.
    func revoke(
        _ token: CredentialReference, app: App, url: String, _ oauth: OAuthDeclaration, _ declaration: PluginDeclaration
    ) async -> Bool {
        let use = CredentialUse(reference: token, placement: Placement(kind: .form, target: "token"))
        let outcome = await send([("token_type_hint", "refresh_token")], [use], app, url, oauth, declaration) {}
        return outcome.response.map { (200..<300).contains($0.status) } ?? false
    }

    private func ask(
        _ fields: [(String, String)], _ secrets: [CredentialUse], _ app: App, _ url: String, _ oauth: OAuthDeclaration,
        _ declaration: PluginDeclaration, _ beforeSend: @Sendable () async throws -> Void
    ) async -> TokenAnswer {
        TokenAnswer(await send(fields, secrets, app, url, oauth, declaration, beforeSend), for: oauth)
    }

    private func send(
        _ fields: [(String, String)], _ secrets: [CredentialUse], _ app: App, _ url: String, _ oauth: OAuthDeclaration,
        _ declaration: PluginDeclaration, _ beforeSend: @Sendable () async throws -> Void
    ) async -> EgressOutcome {
        var fields = fields
        var secrets = secrets
        switch oauth.clientAuthentication {
        case .body:
            fields.append(("client_id", app.clientID))
            secrets.append(
                CredentialUse(
                    reference: app.secret, placement: Placement(kind: .form, target: Name.clientSecret)))
        case .basic:
            secrets.append(
                CredentialUse(
                    reference: app.secret, placement: Placement(kind: .basic, template: "\(app.clientID):{secret}")))
        }
        let body = fields.map { "\($0.0)=\(FormText.encoded($0.1))" }.joined(separator: "&")
        let request = EgressRequest(
            method: "POST", url: url,
            headers: [("content-type", "application/x-www-form-urlencoded"), ("accept", "application/json")],
            body: Array(body.utf8), credentials: secrets, isIdempotent: false, timeout: timeout,
            responseCap: TokenAnswer.limits.bytes, policy: declaration.tokenPolicy(url), isForSecrets: true)
        return await egress.send(request, beforeSend: beforeSend)
    }
}

/// A text as a part of a form or a query: everything but RFC 3986's unreserved characters is percent-encoded.
enum FormText {
    static func encoded(_ text: String) -> String {
        let hex = Array("0123456789ABCDEF".utf8)
        var bytes: [UInt8] = []
        for byte in text.utf8 {
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x2E, 0x5F, 0x7E: bytes.append(byte)
            default: bytes += [0x25, hex[Int(byte >> 4)], hex[Int(byte & 15)]]
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
