// SPDX-License-Identifier: Apache-2.0

import MilepostKit

/// HubSpot's API for one connection: sends, and says what an answer means.
struct Vendor: Sendable {
    let base: String
    let paths: Paths
    let grant: Grant

    /// What the connection works with.
    enum Grant: String, Sendable {
        case oauth
        /// One portal, no expiry, nothing to refresh (PAT-03).
        case privateApp = "private_app_token"
        /// The app's own key, for objects that belong to the app and to no account.
        case developerKey = "developer_key"
    }

    /// Anything that may be repeated with the effect of one: look-ups, and changes that say what shall be.
    /// - Returns: the answer, whatever its status.
    /// - Throws: `Verdict` retry when there is no answer.
    func send(
        _ method: String, _ path: String, json body: JSONValue? = nil, bucket: String? = nil, _ operation: Operation
    ) async throws(Verdict) -> HTTPResponse {
        var request = HTTPRequest.idempotent(method, base + path, json: body, credential: grant.rawValue)
        request.headers.append(("accept", "application/json"))
        request.bucket = bucket
        // A hundred records with a few properties each, or all definitions of a large account.
        request.responseCap = 8 << 20
        do { return try await operation.http(request) } catch {
            throw .retry(
                code: "vendor_unavailable", message: "HubSpot cannot be reached: \(error.message) (\(error.code)).")
        }
    }

    /// As `send`, for answers of which only success is wanted.
    func json(
        _ method: String, _ path: String, json body: JSONValue? = nil, _ operation: Operation
    ) async throws(Verdict) -> JSONValue {
        let response = try await send(method, path, json: body, operation)
        guard response.isSuccess else { throw verdict(for: response, operation) }
        guard let json = response.json else {
            throw .retry(
                code: "answer_unreadable",
                message: "HubSpot answered \(response.status) with a body that cannot be read.")
        }
        return json
    }

    /// Sends a change that happens again each time it arrives: its intent is on disk before it leaves.
    func create(_ step: String, _ path: String, _ body: JSONValue, _ operation: Operation) async throws(Verdict)
        -> JSONValue
    {
        var request = HTTPRequest.step(step, "POST", base + path, json: body, credential: grant.rawValue)
        request.headers.append(("accept", "application/json"))
        let response: HTTPResponse
        do { response = try await operation.http(request) } catch {
            if error.wire == .neverSent {
                throw .retry(
                    code: "vendor_unavailable",
                    message: "Step \(step) was not sent: \(error.message) (\(error.code)).")
            }
            throw .uncertain(
                code: "vendor_unavailable",
                message: "Step \(step) was sent and its answer lost: \(error.message) (\(error.code)).")
        }
        guard response.isSuccess else {
            var verdict = verdict(for: response, operation)
            // 503 and 429 mean not applied; of any other failure on HubSpot's side nobody knows (decision 3).
            if response.status >= 500, response.status != 503 { verdict.status = .uncertain }
            throw verdict
        }
        guard let json = response.json, json["id"]?.identifier != nil else {
            throw .uncertain(
                code: "answer_unreadable",
                message: "HubSpot answered step \(step) with \(response.status) and a body that names no id.")
        }
        return json
    }

    /// What an answer other than 2xx means for whatever it was asked for (crm-apis 3.3, 3.4).
    func verdict(for response: HTTPResponse, _ operation: Operation) -> Verdict {
        let status = response.status
        let said = VendorError(response)
        var verdict: Verdict
        switch status {
        case 401: verdict = unauthorised(said, operation)
        case 403:
            let scopes = said.missingScopes
            verdict = .config(
                code: "permission_missing",
                message: scopes.isEmpty
                    ? "HubSpot does not permit this: \(said.text). Give the app or the token the right, then reinstall."
                    : "The token lacks the scopes \(scopes.joined(separator: ", ")). "
                        + (grant == .oauth
                            ? "Reinstall: the consent page then asks for them."
                            : "Add them to the private app in HubSpot, under Settings, Integrations, Private Apps."))
        case 404:
            verdict = .rejected(code: "vendor_not_found", message: "HubSpot knows no such thing: \(said.text).")
        case 409: verdict = .rejected(code: "vendor_conflict", message: "HubSpot has that already: \(said.text).")
        case 423:
            verdict = .retry(
                code: "record_locked", message: "HubSpot has locked the record for a moment (423).", after: .seconds(2))
        case 477:
            // Up to a day (crm-apis 3.3); an hour when it does not say.
            verdict = .retry(
                code: "account_moving", message: "HubSpot is moving the account to another data centre (477).",
                after: response.retryAfter ?? .seconds(3_600))
        case 429: verdict = rateLimit(response, said)
        case 500...599:
            verdict = .retry(
                code: "vendor_unavailable", message: "HubSpot failed with \(status).", after: response.retryAfter)
        case 400..<500:
            verdict = .rejected(code: "vendor_rejected", message: "HubSpot refused the request: \(said.text).")
        default:
            verdict = .retry(
                code: "answer_unreadable", message: "HubSpot answered with an unexpected status \(status).")
        }
        verdict.httpStatus = status
        verdict.vendorCode = said.category
        return verdict
    }

    private func unauthorised(_ said: VendorError, _ operation: Operation) -> Verdict {
        operation.rejectCredential(grant.rawValue, reason: "401 from HubSpot: \(said.category ?? "no category")")
        switch grant {
        case .oauth where said.category == "EXPIRED_AUTHENTICATION":
            return Verdict(
                .authExpired, code: "token_expired", message: "HubSpot's access token has expired; it is refreshed.")
        case .oauth:
            // A token that was revoked, or a refresh chain that broke (TRB-08). A refresh is tried once more before a
            // person is asked: the host knows whether the chain still holds.
            return Verdict(
                .authExpired, code: "credential_refused",
                message: "HubSpot no longer takes the access token: the chain of refresh tokens is broken or the app "
                    + "was uninstalled. Reinstall it from the tile in the workspace's settings, or with milepost "
                    + "connect hubspot; what waits is delivered then.")
        case .privateApp:
            return .authRevoked(
                code: "credential_refused",
                message: "HubSpot refused the Private App token. Rotate it in HubSpot under Settings, Integrations, "
                    + "Private Apps, and connect with the new one.")
        case .developerKey:
            return .authRevoked(
                code: "credential_refused",
                message:
                    "HubSpot refused the developer API key of the app. Copy it anew from the developer account and "
                    + "run milepost app set hubspot.")
        }
    }

    private func rateLimit(_ response: HTTPResponse, _ said: VendorError) -> Verdict {
        let policy = said.policy?.uppercased() ?? ""
        if policy == "DAILY" || response.header("x-hubspot-ratelimit-daily-remaining") == "0" {
            // Midnight of the account's zone, which nobody tells: an hour, and again until the budget is back.
            return .rateLimited(
                code: "daily_budget_spent",
                message:
                    "The account's daily budget of requests is spent; it returns at midnight of the account's time "
                    + "zone.", after: response.retryAfter ?? .seconds(3_600), scope: "account")
        }
        if policy == "SECONDLY" {
            return .rateLimited(
                code: "rate_limited", message: "HubSpot's search takes five requests a second (429).",
                after: response.retryAfter ?? .seconds(1), scope: "endpoint")
        }
        // The window's length bounds the wait: HubSpot documents no Retry-After (crm-apis 3.3).
        let window = response.header("x-hubspot-ratelimit-interval-milliseconds").flatMap { Int64($0) }
            .map { Duration.milliseconds(min(max($0, 1_000), 60_000)) }
        let wait = response.retryAfter ?? window ?? .seconds(10)
        return .rateLimited(
            code: "rate_limited",
            message: "HubSpot asks to wait: \(said.policy ?? "its request limit") is reached (429).", after: wait,
            scope: "account")
    }
}

/// What HubSpot says about a failure: short, on one line.
struct VendorError {
    var text: String
    var category: String?
    var policy: String?
    /// Scopes that a 403 names.
    var missingScopes: [String] = []
    /// By `objectWriteTraceId`, ids, or whatever the error's context names.
    var context: [String: [String]] = [:]

    init(_ response: HTTPResponse) {
        self.init(json: response.json, status: response.status)
    }

    init(json: JSONValue?, status: Int) {
        let said = json?["message"]?.string ?? json?["error_description"]?.string
        text = said.map { VendorText.line($0, longest: 300) } ?? "status \(status) without a reason"
        category = Self.word(json?["category"]) ?? Self.word(json?["status"])
        policy = Self.word(json?["policyName"])
        context = Self.lists(json?["context"])
        for error in (json?["errors"]?.array ?? []).prefix(20) {
            for (key, values) in Self.lists(error["context"]) {
                if key == "requiredGranularScopes" || key == "requiredScopes" {
                    missingScopes += values.filter { !missingScopes.contains($0) }
                } else if context[key] == nil {
                    context[key] = values
                }
            }
        }
    }

    /// Whether the record itself already is what the request asked for (Z-08).
    static func saysAlreadyThere(_ response: HTTPResponse) -> Bool {
        if response.status == 409 { return true }
        guard response.status == 400, let text = response.json?["message"]?.string?.lowercased() else { return false }
        return ["already in use", "already exist", "already been used"].contains { VendorText.text(text, holds: $0) }
    }

    private static func word(_ value: JSONValue?) -> String? {
        value?.string.map { VendorText.line($0, longest: 80) }
    }

    private static func lists(_ value: JSONValue?) -> [String: [String]] {
        var lists: [String: [String]] = [:]
        for (key, values) in (value?.object ?? [:]).sorted(by: { $0.key < $1.key }).prefix(20) {
            lists[key] = (values.array ?? []).prefix(100).compactMap(word)
        }
        return lists
    }
}

extension JSONValue {
    /// An id as text, whether the vendor wrote it as text or as a number; nil for anything else, and for longer than a
    /// path part should be.
    var identifier: String? {
        let text = string ?? int.map { String($0) }
        guard let text, !text.isEmpty, text.utf8.count <= 128 else { return nil }
        return text
    }
}
