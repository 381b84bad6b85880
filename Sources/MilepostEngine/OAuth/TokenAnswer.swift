// SPDX-License-Identifier: Apache-2.0

package import MilepostEgress
package import MilepostModel
package import MilepostPluginHost
package import MilepostVault

/// A new pair of tokens, as an answer brought it.
package struct TokenGrant: Sendable {
    package var access: SecretBytes
    /// Nil when the vendor sent none: then the old one goes on (RFC 6749, section 6).
    package var refresh: SecretBytes?
    package var lifetime: Duration
    /// Nil when the answer does not say.
    package var scopes: [String]?
    package var account: String?
}

/// What an answer of a token endpoint means. Every byte of it is the vendor's, so nothing of it is taken for granted, and
/// nothing of it is repeated in a message but a code that the manifest knows.
package enum TokenAnswer: Sendable {
    case granted(TokenGrant)
    /// The grant is refused for good (OAU-13).
    case revoked(Reason)
    /// The app is refused, not the account.
    case operatorError(Reason)
    /// Certainly not applied; once more, not before the moment given.
    case transient(Reason, retryAfter: Duration?)
    /// Perhaps applied, and what came of it is lost (OAU-15).
    case uncertain(Reason)

    static let limits = JSONLimits(bytes: 64 * 1024, depth: 8)
    /// What counts when the answer does not say (crm-apis.md 3.2).
    static let defaultLifetime: Duration = .seconds(1800)
    private static let longestLifetime: Int64 = 400 * 86_400
    private static let longestToken = 16 * 1024

    package init(_ outcome: EgressOutcome, for declaration: OAuthDeclaration) {
        guard let response = outcome.response else {
            let failure = outcome.failure
            let message = failure?.message ?? "no answer"
            switch outcome.wire {
            case .neverSent:
                self = .transient(
                    Reason(code: "vendor_unavailable", message: "The token request was not sent: \(message)."),
                    retryAfter: nil)
            case .maybeSent, .answered:
                self = .uncertain(
                    Reason(
                        code: "answer_lost",
                        message: "A token request was sent and its answer lost: \(message)."))
            }
            return
        }
        let body = response.truncated ? nil : try? JSONValue(parsing: response.body, limits: Self.limits)
        switch response.status {
        case 200..<300: self = Self.granted(body, declaration) ?? .uncertain(Self.unreadable(response.status))
        // Not applied by the vendors' word; should a 5xx have been applied all the same, the next refresh tells.
        case 408, 423, 425, 429, 477, 500...599:
            self = .transient(
                Reason(
                    code: "vendor_unavailable",
                    message: "The vendor's token endpoint answered \(response.status); it is tried again."),
                retryAfter: Self.retryAfter(response))
        case 400..<500: self = Self.refusal(response.status, body, declaration)
        default:
            self = .transient(
                Reason(
                    code: "vendor_unavailable",
                    message: "The token endpoint answered \(response.status), which is no answer to a token request."),
                retryAfter: nil)
        }
    }

    private static func unreadable(_ status: Int) -> Reason {
        Reason(
            code: "answer_unreadable",
            message: "The vendor's token endpoint answered \(status) with something that is no pair of tokens.")
    }

    private static func retryAfter(_ response: EgressResponse) -> Duration? {
        guard let text = response.header("retry-after"), let seconds = Int64(text), seconds >= 0 else { return nil }
        return .seconds(min(seconds, 3600))
    }

    private static func granted(_ body: JSONValue?, _ declaration: OAuthDeclaration) -> TokenAnswer? {
        guard let body, let access = secret(body["access_token"]) else { return nil }
        let refresh = secret(body["refresh_token"])
        // A refresh token that is there and cannot be kept must not be taken for none.
        if let given = body["refresh_token"], given != .null, refresh == nil { return nil }
        var lifetime = defaultLifetime
        let said = body["expires_in"]?.integer ?? body["expires_in"]?.string.flatMap { Int64($0) }
        if let said, said > 0 { lifetime = .seconds(min(said, longestLifetime)) }
        return .granted(
            TokenGrant(
                access: access, refresh: refresh, lifetime: lifetime, scopes: scopes(body, declaration),
                account: declaration.accountMember.flatMap {
                    body[$0]?.string ?? body[$0]?.integer.map(String.init)
                }))
    }

    private static func scopes(_ body: JSONValue, _ declaration: OAuthDeclaration) -> [String]? {
        if let list = (body["scopes"] ?? body["scope"])?.array { return Array(list.compactMap(\.string).prefix(200)) }
        guard let text = (body["scope"] ?? body["scopes"])?.string else { return nil }
        // Vendors that ask with blanks answer with commas all the same.
        return text.split { $0 == " " || $0 == "," }.prefix(200).map(String.init)
    }

    private static func secret(_ value: JSONValue?) -> SecretBytes? {
        guard let text = value?.string, (1...longestToken).contains(text.utf8.count),
            text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F })
        else { return nil }
        var bytes = Array(text.utf8)
        return try? SecretBytes(wiping: &bytes)
    }

    /// Codes are looked for wherever vendors put them: `error`, `status`, `category`, and inside an `error` object (Z-09).
    private static func refusal(_ status: Int, _ body: JSONValue?, _ declaration: OAuthDeclaration) -> TokenAnswer {
        var said: Set<String> = []
        for value in (body?.object ?? [:]).values {
            if let text = value.string { said.insert(text) }
            for inner in (value.object ?? [:]).values { if let text = inner.string { said.insert(text) } }
        }
        // The careful side first: a refused app must not end an account's connection.
        if let code = declaration.operatorCodes.intersection(said).min() {
            return .operatorError(
                Reason(
                    code: "app_refused",
                    message: "The vendor refuses the app (\(code)): check client id, secret, redirect URI and scopes "
                        + "with milepost app set. The account's installation is not lost."))
        }
        if let code = declaration.revokedCodes.intersection(said).min() {
            return .revoked(
                Reason(code: "grant_refused", message: "The vendor refuses the grant for good (\(code), \(status))."))
        }
        if [404, 405, 410].contains(status) {
            return .operatorError(
                Reason(
                    code: "app_refused",
                    message: "The vendor has no token endpoint there (\(status)): check the endpoint's generation and "
                        + "the configured address. The account's installation is not lost."))
        }
        guard body?.object != nil, status == 400 || status == 401 else {
            // A gate before the vendor (a firewall, a proxy) says nothing about the grant.
            return .transient(
                Reason(
                    code: "vendor_unavailable",
                    message: "The token endpoint answered \(status) with nothing that speaks of the grant."),
                retryAfter: nil)
        }
        return .revoked(
            Reason(
                code: "grant_refused",
                message: "The vendor refuses the grant (\(status)) without a code that is known."))
    }
}
