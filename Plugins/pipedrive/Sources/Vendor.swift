// SPDX-License-Identifier: Apache-2.0

import MilepostKit

/// Pipedrive's paths, costs and answers, for one connection and one of its two generations of the API.
struct Vendor: Sendable {
    /// What the connection holds: an API token or an installation of the app (PCON-17).
    let credential: String
    private let isInstalled: Bool
    let api: Settings.Generation
    let base: String

    init(settings: Settings, endpoints: [String: String], credential: InstanceConfiguration.Credential?) {
        self.credential = credential?.ref ?? "api_token"
        isInstalled = credential?.isOAuth ?? false
        api = settings.api
        let general = "https://api.pipedrive.com"
        let endpoint = endpoints["api"] ?? general
        // An endpoint of the configuration wins over the company's own host: sandboxes and proxies depend on it.
        if endpoint == general, let domain = settings.domain {
            base = "https://\(domain).pipedrive.com"
        } else {
            base = endpoint
        }
    }

    /// A path of the generation in use.
    func url(_ path: String) -> String { base + (api == .v2 ? "/api/v2" : "/v1") + path }
    /// Where a person sees a deal.
    static func dealPage(_ id: Int64, domain: String) -> String { "https://\(domain).pipedrive.com/deal/\(id)" }
    /// A path that exists in the first generation only.
    func v1(_ path: String) -> String { base + "/v1" + path }

    /// Sends a look-up and returns the answer's JSON.
    func get(_ url: String, cost: UInt32, bucket: String? = nil, _ operation: Operation) async throws -> JSONValue {
        var request = HTTPRequest.idempotent("GET", url, credential: credential, cost: cost)
        request.headers = [("accept", "application/json")]
        request.bucket = bucket
        // Five hundred deals with their custom fields are some megabytes.
        request.responseCap = 8 << 20
        let response: HTTPResponse
        do { response = try await operation.http(request) } catch {
            throw Verdict.retry(
                code: "vendor_unavailable", message: "Pipedrive cannot be reached: \(error.message) (\(error.code)).")
        }
        guard response.isSuccess else { throw verdict(for: response, changes: false, operation) }
        guard let json = response.json, json["success"]?.bool != false else {
            throw Verdict.retry(
                code: "answer_unreadable",
                message: "Pipedrive answered \(response.status) with a body that cannot be read.")
        }
        return json
    }

    /// Sends a change and returns the `data` of its answer.
    func post(_ step: String, _ url: String, _ body: JSONValue, cost: UInt32, _ operation: Operation) async throws
        -> JSONValue
    {
        var request = HTTPRequest.step(step, "POST", url, json: body, credential: credential, cost: cost)
        request.headers.append(("accept", "application/json"))
        let response: HTTPResponse
        do { response = try await operation.http(request) } catch {
            if error.wire == .neverSent {
                throw Verdict.retry(
                    code: "vendor_unavailable",
                    message: "Step \(step) was not sent: \(error.message) (\(error.code)).")
            }
            throw Verdict.uncertain(
                code: "vendor_unavailable",
                message: "Step \(step) was sent and its answer lost: \(error.message) (\(error.code)).")
        }
        guard response.isSuccess else { throw verdict(for: response, changes: true, operation) }
        guard let data = response.json?["data"], data["id"]?.int != nil else {
            throw Verdict(
                .uncertain, code: "answer_unreadable",
                message: "Pipedrive answered step \(step) with \(response.status) and a body that cannot be read.",
                httpStatus: response.status)
        }
        return data
    }

    /// What an answer other than 2xx means (crm-apis 2.3, decision 3).
    func verdict(for response: HTTPResponse, changes: Bool, _ operation: Operation) -> Verdict {
        let status = response.status
        let said = VendorError(response)
        var verdict: Verdict
        switch status {
        case 401:
            operation.rejectCredential(credential, reason: "401 from Pipedrive")
            verdict = .authRevoked(
                code: "credential_refused",
                message: isInstalled
                    ? "Pipedrive refused the app's access. Install it again."
                    : "Pipedrive refused the API token. Paste a new one: profile menu, Personal preferences, API.")
        case 402:
            verdict = .config(
                code: "account_closed", message: "Pipedrive says that the account is closed or unpaid (402).")
        case 403 where !said.isJSON:
            verdict = .rateLimited(
                code: "blocked_by_cdn",
                message: "Pipedrive's network blocks this token after too many requests; waiting an hour.",
                // No figure is documented; an hour keeps a block from being renewed by us.
                after: .seconds(3_600), scope: "token")
        case 403:
            verdict = .config(
                code: "permission_missing",
                message: "Pipedrive does not permit this to the token's user: \(said.text). "
                    + "Give the user the right, or connect as an administrator.")
        case 429: verdict = rateLimit(response)
        case 503:
            verdict = .retry(
                code: "vendor_unavailable", message: "Pipedrive is not available (503).", after: response.retryAfter)
        case 500...599:
            verdict = Verdict(
                changes ? .uncertain : .retry, code: "vendor_unavailable",
                message: "Pipedrive failed with \(status)\(changes ? "; whether it took the change is unknown" : "").")
        case 400..<500:
            verdict = .rejected(code: "vendor_rejected", message: "Pipedrive refused the request: \(said.text).")
        default:
            verdict = Verdict(
                changes ? .uncertain : .retry, code: "answer_unreadable",
                message: "Pipedrive answered with an unexpected status \(status).")
        }
        verdict.httpStatus = status
        verdict.vendorCode = said.code
        return verdict
    }

    private func rateLimit(_ response: HTTPResponse) -> Verdict {
        if let left = response.header("x-daily-ratelimit-token-remaining").flatMap({ Int64($0) }), left <= 0 {
            // Midnight of a time zone that nobody tells: an hour is asked for, and again until the budget is back.
            return .rateLimited(
                code: "daily_budget_spent",
                message: "The company's daily budget of API tokens is spent; it returns at Pipedrive's midnight.",
                after: response.retryAfter ?? .seconds(3_600), scope: "account")
        }
        let reset = response.header("x-ratelimit-reset").flatMap { Int64($0) }.map { Duration.seconds($0) }
        // At least the two seconds of the burst window (crm-apis 2.4).
        let wait = max(response.retryAfter ?? reset ?? .seconds(2), .seconds(2))
        return .rateLimited(
            code: "rate_limited", message: "Pipedrive asks to wait \(wait.components.seconds) s (429).",
            after: min(wait, .seconds(86_400)), scope: "token")
    }
}

/// What Pipedrive says about a failure: short, on one line.
struct VendorError {
    var isJSON: Bool
    var text: String
    var code: String?

    init(_ response: HTTPResponse) {
        let json = response.json
        let isHTML = VendorText.text(response.header("content-type")?.lowercased() ?? "", holds: "html")
        // An empty 403 is a permission: only a page of the CDN has a body that is no JSON.
        isJSON = !isHTML && (json != nil || response.body.isEmpty)
        let said = json?["error"]?.string ?? json?["message"]?.string ?? "no reason given"
        text = VendorText.line(said, longest: 300)
        code = json?["code"]?.string.map { VendorText.line($0, longest: 80) }
    }
}
