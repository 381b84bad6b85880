// SPDX-License-Identifier: Apache-2.0

/// HubSpot's authorise page and token endpoints, in the generations v1, v3 and dated (`crm-apis.md` 3.2).
extension HubSpot {
    mutating func oauthAnswer(_ request: VendorRequest, now: Instant) -> VendorResponse {
        let parts = request.path.split(separator: "/").dropFirst().map(String.init)
        let isDated = parts.first == "v3" || HubSpotPath.dates.contains(parts.first ?? "")
        switch (request.method, parts.count, parts.last) {
        case ("GET", 1, "authorize"): return authorize(request, hubID: nil, now: now)
        case ("GET", 2, "authorize"): return authorize(request, hubID: Int(parts[0]), now: now)
        case ("POST", 2, "token") where parts[0] == "v1" || isDated:
            return token(request, isOld: parts[0] == "v1", now: now)
        case ("POST", 3, "introspect") where isDated && parts[1] == "token": return introspect(request, now: now)
        case ("POST", 3, "revoke") where isDated && parts[1] == "token": return revoke(request, now: now)
        case ("GET", 3, let token?) where parts[0] == "v1" && parts[1] == "access-tokens":
            return accessTokenInfo(token, now: now)
        case (_, 3, let token?) where parts[0] == "v1" && parts[1] == "refresh-tokens":
            return refreshToken(token, isDeletion: request.method == "DELETE", now: now)
        default: return refusal(.unsupported(request))
        }
    }

    // MARK: The page

    private mutating func authorize(_ request: VendorRequest, hubID: Int?, now: Instant) -> VendorResponse {
        func value(_ name: String) -> String? { request.queryValue(name) }
        let hub = hubID ?? oauth.accountID
        guard value("client_id") == oauth.clientID else {
            return page(refusing: "We couldn't find an app with that client_id.", request)
        }
        guard let address = value("redirect_uri"), oauth.allows(redirectURI: address) else {
            return page(refusing: "The redirect_uri does not match the app's settings.", request)
        }
        guard let portal = portals[hub] else { return page(refusing: "There is no account \(hub).", request) }
        let asked = Self.words(value("scope"))
        let all = asked + Self.words(value("optional_scope")).filter { !asked.contains($0) }
        guard !asked.isEmpty, all.allSatisfy(Self.knownScopes.contains) else {
            return page(refusing: "The scopes are missing or unknown: \(all.joined(separator: " "))", request)
        }
        let challenge = value("code_challenge")
        guard challenge == nil || value("code_challenge_method") == "S256" else {
            return page(refusing: "code_challenge_method must be S256.", request)
        }
        let decision = value("decision").flatMap(OAuthAuthority.Consent.init(rawValue:)) ?? oauth.consent
        switch decision {
        case .ask:
            return ConsentPage.question(
                app: "Sandbox app", account: "\(portal.name) (\(hub))", scopes: all, target: Self.target(of: request))
        case .deny:
            oauth.deny(accountID: hub, now: now)
            return ConsentPage.redirect(
                to: address,
                [
                    ("error", "access_denied"), ("error_description", "The user denied access"),
                    ("state", value("state")),
                ])
        case .allow:
            let code = oauth.authorize(
                accountID: hub, userID: 1, scopes: all, redirectURI: address, challenge: challenge, now: now)
            return ConsentPage.redirect(to: address, [("code", code), ("state", value("state"))])
        }
    }

    private mutating func page(refusing sentence: String, _ request: VendorRequest) -> VendorResponse {
        violations.append("\(request.path): \(sentence)")
        return ConsentPage.refusal(sentence)
    }

    private static func words(_ text: String?) -> [String] {
        (text ?? "").split { $0 == " " || $0 == "," }.map(String.init)
    }

    static func target(of request: VendorRequest) -> String {
        let query = request.query.map { "\($0.name)=\(PercentCoding.encode($0.value))" }
        return request.path + (query.isEmpty ? "" : "?" + query.joined(separator: "&"))
    }

    // MARK: The token endpoint

    private static let tokenFields = [
        "grant_type", "code", "redirect_uri", "refresh_token", "client_id", "client_secret", "code_verifier", "scope",
    ]

    private mutating func token(_ request: VendorRequest, isOld: Bool, now: Instant) -> VendorResponse {
        do throws(OAuthAuthority.Refusal) {
            guard let form = form(request, fields: Self.tokenFields) else { throw .grantType }
            try oauth.check(clientID: form["client_id"], secret: form["client_secret"])
            let pair: OAuthAuthority.Pair
            switch form["grant_type"] {
            case "authorization_code":
                pair = try oauth.exchange(
                    code: form["code"], redirectURI: form["redirect_uri"], verifier: form["code_verifier"], now: now)
            case "refresh_token": pair = try oauth.refresh(form["refresh_token"], now: now)
            default: throw .grantType
            }
            return VendorResponse(status: 200, json: Self.json(pair, isOld: isOld))
        } catch {
            return refusal(of: error, isOld: isOld)
        }
    }

    /// v1 has neither account nor scopes in its answer.
    private static func json(_ pair: OAuthAuthority.Pair, isOld: Bool) -> JSONValue {
        var members: [(String, JSONValue)] = [
            ("token_type", "bearer"), ("access_token", .string(pair.accessToken)),
            ("refresh_token", .string(pair.refreshToken)), ("expires_in", .integer(pair.expiresIn)),
        ]
        if !isOld {
            members += [
                ("hub_id", .integer(pair.grant.accountID)), ("scopes", scopes(pair.grant)),
                ("user_id", .integer(pair.grant.userID)), ("token_use", "access_token"),
            ]
        }
        return .object(members)
    }

    private static func scopes(_ grant: OAuthAuthority.Grant) -> JSONValue {
        .array(grant.scopes.map { .string($0) })
    }

    /// The fields of a form; nil when the body is none. Fields that the document does not name are noted as breaches.
    private mutating func form(_ request: VendorRequest, fields: [String]) -> [String: String]? {
        guard request.header("content-type")?.lowercased().hasPrefix("application/x-www-form-urlencoded") == true else {
            violations.append("\(request.path): the body must be application/x-www-form-urlencoded")
            return nil
        }
        var form: [String: String] = [:]
        for item in PercentCoding.form(String(decoding: request.body, as: UTF8.self)) {
            if !fields.contains(item.name) {
                violations.append("\(request.path): body.\(item.name) is not in the vendor's document")
            }
            form[item.name] = item.value
        }
        if !request.query.isEmpty {
            violations.append("\(request.path): parameters belong into the body, not the query")
        }
        return form
    }

    /// Every refusal is 400. Texts: `specs/hubspot/errors.json`.
    private mutating func refusal(of refusal: OAuthAuthority.Refusal, isOld: Bool) -> VendorResponse {
        let (status, message, error): (String, String, String?) =
            switch refusal {
            case .clientID: ("BAD_CLIENT_ID", "missing or invalid client id", "invalid_client")
            case .clientSecret: ("BAD_CLIENT_SECRET", "missing or invalid client secret", "invalid_client")
            case .code: ("BAD_AUTH_CODE", "missing or unknown auth code", "invalid_grant")
            case .redirectURI: ("BAD_REDIRECT_URI", "missing or invalid redirect uri", nil)
            case .verifier: ("BAD_CODE_VERIFIER", "missing or invalid code verifier", "invalid_grant")
            case .refreshToken where isOld: ("BAD_REFRESH_TOKEN", "missing or invalid refresh token", nil)
            case .refreshToken:
                ("BAD_REFRESH_TOKEN", "refresh token is invalid, expired or revoked", "invalid_grant")
            case .accountGone: ("BAD_HUB", "missing or unknown hub id", "access_denied")
            case .grantType: ("BAD_GRANT_TYPE", "missing or unknown grant type", "unsupported_grant_type")
            case .scopes: ("BAD_SCOPES", "missing or invalid scopes", "invalid_scope")
            }
        var members: [(String, JSONValue)] = [("status", .string(status)), ("message", .string(message))]
        if isOld {
            members.append(("correlationId", .string(keys.uuid())))
        } else if let error {
            members += [("error", .string(error)), ("error_description", .string(message))]
        }
        return VendorResponse(status: 400, json: .object(members))
    }

    // MARK: About tokens

    private mutating func introspect(_ request: VendorRequest, now: Instant) -> VendorResponse {
        do throws(OAuthAuthority.Refusal) {
            let fields = ["token", "token_type_hint", "client_id", "client_secret"]
            guard let form = form(request, fields: fields) else { throw .clientID }
            try oauth.check(clientID: form["client_id"], secret: form["client_secret"])
            let token = form["token"] ?? ""
            var members: [(String, JSONValue)] = [("active", .bool(false))]
            func describe(_ grant: OAuthAuthority.Grant, _ use: String, _ left: Int?) {
                members = [
                    ("active", .bool(true)), ("token_use", .string(use)), ("hub_id", .integer(grant.accountID)),
                    ("user_id", .integer(grant.userID)), ("app_id", .integer(Self.appID)),
                    ("client_id", .string(oauth.clientID)), ("scopes", Self.scopes(grant)),
                ]
                if let left { members.append(("expires_in", .integer(left))) }
            }
            if case .good(let grant, let expires) = oauth.access(token, now: now) {
                describe(grant, "access_token", Int(expires.seconds - now.seconds))
            } else if let grant = oauth.grant(ofRefresh: token) {
                describe(grant, "refresh_token", nil)
            }
            return VendorResponse(status: 200, json: .object(members))
        } catch {
            return refusal(of: error, isOld: false)
        }
    }

    private mutating func revoke(_ request: VendorRequest, now: Instant) -> VendorResponse {
        do throws(OAuthAuthority.Refusal) {
            let fields = ["token", "token_type_hint", "client_id", "client_secret"]
            guard let form = form(request, fields: fields) else { throw .clientID }
            try oauth.check(clientID: form["client_id"], secret: form["client_secret"])
            oauth.revoke(form["token"] ?? "", now: now)
            return VendorResponse(status: 200)
        } catch {
            return refusal(of: error, isOld: false)
        }
    }

    private mutating func accessTokenInfo(_ token: String, now: Instant) -> VendorResponse {
        guard case .good(let grant, let expires) = oauth.access(token, now: now) else {
            return refusal(HubSpotFailure(status: 404, category: "OBJECT_NOT_FOUND", "access token does not exist"))
        }
        oauth.markUsed(token)
        return VendorResponse(
            status: 200,
            json: .object(
                [("token", .string(token)), ("expires_in", .integer(Int(expires.seconds - now.seconds)))]
                    + info(grant) + [("app_id", .integer(Self.appID)), ("token_type", "access")]))
    }

    private mutating func refreshToken(_ token: String, isDeletion: Bool, now: Instant) -> VendorResponse {
        guard let grant = oauth.grant(ofRefresh: token) else {
            return refusal(HubSpotFailure(status: 404, category: "OBJECT_NOT_FOUND", "refresh token does not exist"))
        }
        if isDeletion {
            oauth.revoke(token, now: now)
            return Self.empty
        }
        return VendorResponse(
            status: 200,
            json: .object(
                [("token", .string(token)), ("client_id", .string(oauth.clientID))] + info(grant)
                    + [("token_type", "refresh")]))
    }

    private func info(_ grant: OAuthAuthority.Grant) -> [(String, JSONValue)] {
        [
            ("hub_id", .integer(grant.accountID)), ("user_id", .integer(grant.userID)),
            ("user", .string("admin@\(grant.accountID).example")),
            ("hub_domain", .string("\(grant.accountID).example")),
            ("scopes", Self.scopes(grant)),
        ]
    }
}
