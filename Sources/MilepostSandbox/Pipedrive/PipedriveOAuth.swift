// SPDX-License-Identifier: Apache-2.0

/// Pipedrive's authorise page and token endpoint (`crm-apis.md` 2.2). The keys of its error bodies are not published; they
/// are those of RFC 6749 here.
extension Pipedrive {
    static let clientID = "sandbox-pipedrive-client"
    static let clientSecret = "sandbox-pipedrive-secret"
    /// What the app is registered for; Pipedrive takes no scopes in the address.
    static let registeredScopes = [
        "base", "deals:full", "contacts:full", "activities:full", "search:read", "users:read", "admin",
    ]

    static func ownsOAuth(_ request: VendorRequest) -> Bool {
        switch request.path {
        case "/oauth/authorize": request.queryValue("client_id") == clientID
        case "/oauth/token", "/oauth/token/", "/oauth/revoke": true
        default: false
        }
    }

    mutating func oauthAnswer(_ request: VendorRequest, now: Instant) -> VendorResponse {
        switch (request.method, request.path) {
        case ("GET", "/oauth/authorize"): return authorize(request, now: now)
        case ("POST", "/oauth/token"), ("POST", "/oauth/token/"), ("POST", "/oauth/revoke"):
            do throws(OAuthAuthority.Refusal) {
                let form = try form(request)
                if request.path == "/oauth/revoke" {
                    oauth.revoke(form["token"] ?? "", now: now)
                    return VendorResponse(status: 200)
                }
                return VendorResponse(status: 200, json: json(try token(form, now: now)))
            } catch {
                return Self.refusal(of: error)
            }
        default: return VendorResponse(status: 404, json: PipedriveFailure(status: 404, error: "Unknown method .").body)
        }
    }

    private mutating func authorize(_ request: VendorRequest, now: Instant) -> VendorResponse {
        guard let address = request.queryValue("redirect_uri"), oauth.allows(redirectURI: address) else {
            return ConsentPage.refusal("The redirect_uri does not match the app's settings.")
        }
        guard let company = companies[oauth.accountID] else {
            return ConsentPage.refusal("There is no company \(oauth.accountID).")
        }
        let state = request.queryValue("state")
        let decision = request.queryValue("decision").flatMap(OAuthAuthority.Consent.init(rawValue:)) ?? oauth.consent
        switch decision {
        case .ask:
            return ConsentPage.question(
                app: "Sandbox app", account: company.name, scopes: Self.registeredScopes,
                target: HubSpot.target(of: request))
        case .deny:
            oauth.deny(accountID: company.id, now: now)
            return ConsentPage.redirect(to: address, [("error", "user_denied"), ("state", state)])
        case .allow:
            let code = oauth.authorize(
                accountID: company.id, userID: 1, scopes: Self.registeredScopes, redirectURI: address, challenge: nil,
                now: now)
            return ConsentPage.redirect(to: address, [("code", code), ("state", state)])
        }
    }

    /// The form of a request whose client has proven itself with Basic authentication.
    private func form(_ request: VendorRequest) throws(OAuthAuthority.Refusal) -> [String: String] {
        guard request.header("content-type")?.lowercased().hasPrefix("application/x-www-form-urlencoded") == true else {
            throw .grantType
        }
        let header = request.header("authorization") ?? ""
        guard header.lowercased().hasPrefix("basic "), let bytes = ProofKey.decodeBase64(String(header.dropFirst(6)))
        else {
            throw .clientID
        }
        let parts = String(decoding: bytes, as: UTF8.self).split(separator: ":", maxSplits: 1).map(String.init)
        try oauth.check(clientID: parts.first, secret: parts.count > 1 ? parts[1] : "")
        let items = PercentCoding.form(String(decoding: request.body, as: UTF8.self))
        return Dictionary(items.map { ($0.name, $0.value) }) { first, _ in first }
    }

    private mutating func token(_ form: [String: String], now: Instant) throws(OAuthAuthority.Refusal)
        -> OAuthAuthority.Pair
    {
        switch form["grant_type"] {
        case "authorization_code":
            return try oauth.exchange(
                code: form["code"], redirectURI: form["redirect_uri"], verifier: form["code_verifier"], now: now)
        case "refresh_token": return try oauth.refresh(form["refresh_token"], now: now)
        default: throw .grantType
        }
    }

    private func json(_ pair: OAuthAuthority.Pair) -> JSONValue {
        let domain = companies[pair.grant.accountID]?.domain ?? "sandbox"
        return .object([
            ("access_token", .string(pair.accessToken)), ("token_type", "Bearer"),
            ("expires_in", .integer(pair.expiresIn)), ("refresh_token", .string(pair.refreshToken)),
            ("scope", .string(pair.grant.scopes.joined(separator: ","))),
            ("api_domain", .string("https://\(domain).pipedrive.com")),
        ])
    }

    private static func refusal(of refusal: OAuthAuthority.Refusal) -> VendorResponse {
        let (error, message) =
            switch refusal {
            case .clientID, .clientSecret: ("invalid_client", "Client authentication failed")
            case .grantType: ("unsupported_grant_type", "Invalid grant type or content type")
            case .redirectURI: ("invalid_grant", "Redirect URI does not match")
            case .code, .verifier: ("invalid_grant", "Authorization code is invalid, expired or was already used")
            case .refreshToken, .accountGone: ("invalid_grant", "Refresh token is invalid or was already exchanged")
            case .scopes: ("invalid_scope", "The scope is invalid")
            }
        return VendorResponse(
            status: 400,
            json: .object([
                ("success", .bool(false)), ("error", .string(error)), ("message", .string(message)),
                ("error_description", .string(message)),
            ]))
    }
}
