// SPDX-License-Identifier: Apache-2.0

/// The Pipedrive emulator: a value that turns a request and a moment into an answer.
///
/// It follows `crm-apis.md` section 2 and the vendor's OpenAPI documents. It holds no clock, no lock and no socket.
struct Pipedrive: Sendable {
    var companies: [Int: PipedriveCompany] = [:]
    var tokens: [String: PipedriveToken] = [:]
    var plan: PipedrivePlan
    /// Cost tokens per company and day; nil takes the plan's.
    var dailyBudget: Int?
    /// How long a commit stays invisible to search.
    var searchLagMilliseconds: Int64
    var keys: SeededKeys
    var oauth: OAuthAuthority
    /// Objects committed since the shell last wrote the ledger file.
    var journal: [JSONValue] = []

    static let firstCompanyID = 54_235_233

    init(
        token: String, plan: PipedrivePlan, dailyBudget: Int?, searchLagMilliseconds: Int64, seed: UInt64, now: Instant
    ) {
        self.plan = plan
        self.dailyBudget = dailyBudget
        self.searchLagMilliseconds = searchLagMilliseconds
        keys = SeededKeys(seed: seed)
        oauth = OAuthAuthority(
            clientID: Self.clientID, clientSecret: Self.clientSecret, accountID: Self.firstCompanyID, lifeSeconds: 3599,
            rotates: false, accessPrefix: "v1u:", accessLength: 768, refreshPrefix: "1:1:",
            seed: seed ^ UInt64(bitPattern: now.milliseconds) ^ 1)
        let id = Self.firstCompanyID
        companies[id] = .sample(id: id, name: "Sandbox Inc", domain: "sandbox", keys: &keys, now: now)
        tokens[token] = PipedriveToken(companyID: id, userID: 1, isOAuth: false, isRevoked: false)
    }

    /// Whether a path belongs to this vendor.
    static func owns(path: String) -> Bool {
        path.hasPrefix("/api/v1/") || path.hasPrefix("/api/v2/") || path.hasPrefix("/v1/")
    }

    /// Answers one request and commits what it asks for.
    mutating func answer(_ request: VendorRequest, now: Instant) -> VendorResponse {
        if request.path.hasPrefix("/oauth/") { return oauthAnswer(request, now: now) }
        var headers: [Header] = []
        do throws(PipedriveFailure) {
            let call = try admit(request, now: now, headers: &headers)
            var response = try route(call)
            response.headers += headers
            return response
        } catch {
            var response = VendorResponse(status: error.status, json: error.body)
            response.headers += headers + error.headers
            return response
        }
    }

    /// The credential a request presents: header first, then Bearer, then the old query form.
    static func credential(of request: VendorRequest) -> String? {
        if let token = request.header("x-api-token") { return token }
        if let bearer = bearer(of: request) { return bearer }
        return request.queryValue("api_token")
    }

    private static func bearer(of request: VendorRequest) -> String? {
        guard let value = request.header("authorization"), value.lowercased().hasPrefix("bearer ") else { return nil }
        return String(value.dropFirst(7))
    }

    /// Whether the request's credential would be let in now; the ledger notes it in place of the credential.
    func accepts(_ request: VendorRequest, now: Instant) -> Bool {
        if request.path.hasPrefix("/oauth/") { return true }
        guard let text = Self.credential(of: request) else { return false }
        if case .good = oauth.access(text, now: now) { return true }
        return tokens[text].map { !$0.isRevoked && !$0.isIssued } ?? false
    }

    /// Lets an access token in that the authorisation server has handed out, or out that has expired or been revoked.
    private mutating func adopt(_ text: String, now: Instant) {
        if case .good(let grant, _) = oauth.access(text, now: now) {
            oauth.markUsed(text)
            if tokens[text] == nil {
                tokens[text] = PipedriveToken(
                    companyID: grant.accountID, userID: grant.userID, isOAuth: true, isRevoked: false, isIssued: true)
            }
        } else if tokens[text]?.isIssued == true {
            tokens[text] = nil
        }
    }

    // MARK: Authentication and limits

    /// Checks credential, burst and budget, in this order, and counts the request against them.
    private mutating func admit(
        _ request: VendorRequest, now: Instant, headers: inout [Header]
    ) throws(PipedriveFailure) -> PipedriveCall {
        if request.header("x-api-token") == nil, request.header("authorization") != nil, Self.bearer(of: request) == nil
        {
            throw PipedriveFailure(status: 400, error: "The authorization header is malformed")
        }
        let isBearer = request.header("x-api-token") == nil && Self.bearer(of: request) != nil
        if let text = Self.credential(of: request) { adopt(text, now: now) }
        guard let text = Self.credential(of: request), var token = tokens[text], !token.isRevoked,
            companies[token.companyID] != nil, isBearer == token.isOAuth
        else { throw isBearer ? .invalidAccessToken : .unauthorized }
        let call = PipedriveCall(request: request, companyID: token.companyID, userID: token.userID, now: now)
        defer { tokens[text] = token }
        if let limit = plan.burst(isOAuth: token.isOAuth) {
            try count(call, limit: limit, token: &token, headers: &headers)
        }
        try spend(call, isOAuth: token.isOAuth, headers: &headers)
        return call
    }

    private func count(
        _ call: PipedriveCall, limit: Int, token: inout PipedriveToken, headers: inout [Header]
    ) throws(PipedriveFailure) {
        var shown = limit
        var verdict = token.requests.admit(limit: limit, now: call.now)
        if verdict.fits, call.isSearch {
            shown = BurstWindow.searchLimit
            verdict = token.searches.admit(limit: shown, now: call.now)
        }
        headers += [
            Header("x-ratelimit-limit", String(shown)), Header("x-ratelimit-remaining", String(verdict.remaining)),
            Header("x-ratelimit-reset", String(verdict.resetSeconds)),
        ]
        if !verdict.fits { throw .overLimit }
    }

    private mutating func spend(
        _ call: PipedriveCall, isOAuth: Bool, headers: inout [Header]
    ) throws(PipedriveFailure) {
        guard let budget = dailyBudget ?? plan.dailyBudget, var company = companies[call.companyID] else { return }
        defer { companies[call.companyID] = company }
        if company.budgetDay != call.now.day {
            company.budgetDay = call.now.day
            company.spent = 0
        }
        let cost = call.cost
        let fits = company.spent + cost <= budget
        if fits { company.spent += cost }
        // What is left after this request; a request that no longer fits finds nothing left.
        let left = fits ? budget - company.spent : 0
        headers += [
            Header("x-daily-ratelimit-token-limit", String(budget)),
            Header("x-daily-ratelimit-token-remaining", String(left)),
        ]
        if !isOAuth, call.request.method == "POST" || call.request.method == "PUT" {
            headers.append(Header("x-daily-requests-left", String(left)))
        }
        if !fits { throw .overLimit }
    }

    // MARK: Commits

    /// Stores an object, shows it to the index and notes it for the ledger file. Tables are changed in place: a copy of a
    /// company that is still in use here would make every commit copy the whole table.
    mutating func commit(_ kind: PipedriveKind, _ row: JSONObject, _ call: PipedriveCall) {
        store(kind, row, companyID: call.companyID, at: call.now)
        journal.append(
            .object([
                ("vendor", "pipedrive"), ("company_id", .integer(call.companyID)), ("kind", .string(kind.rawValue)),
                ("object", .object(row)),
            ]))
    }

    private mutating func store(_ kind: PipedriveKind, _ row: JSONObject, companyID: Int, at instant: Instant) {
        switch kind {
        case .deal: companies[companyID]?.deals.put(row)
        case .note: companies[companyID]?.notes.put(row)
        case .person: companies[companyID]?.persons.put(row)
        }
        companies[companyID]?.index.note(kind, row, at: instant)
    }

    /// Takes back one line of a ledger file. Unknown lines are refused, so that a damaged file is noticed.
    mutating func restore(_ line: JSONValue, now: Instant) -> Bool {
        guard let companyID = line["company_id"]?.integer, let row = line["object"]?.object, row["id"]?.integer != nil,
            let kind = line["kind"]?.string.flatMap(PipedriveKind.init(rawValue:))
        else { return false }
        if companies[companyID] == nil {
            companies[companyID] = .sample(
                id: companyID, name: "Company \(companyID)", domain: "company-\(companyID)", keys: &keys, now: now)
        }
        // What was committed before a restart is old: it is in the index at once.
        store(kind, row, companyID: companyID, at: Instant(milliseconds: 0))
        return true
    }
}

/// The kinds of objects that requests create.
enum PipedriveKind: String, Sendable {
    case deal, note, person
}
