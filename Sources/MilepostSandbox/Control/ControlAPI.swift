// SPDX-License-Identifier: Apache-2.0

/// The sandbox's own API below `/_sandbox`. No credential: it listens on loopback and holds no real data.
extension SandboxWorld {
    mutating func control(_ request: VendorRequest, now: Instant) -> VendorResponse {
        do throws(ControlError) {
            return try controlled(request, now: now)
        } catch {
            return VendorResponse(
                status: error.status,
                json: .object([("error", .string(error.detail)), ("hint", "GET /_sandbox lists every call")]))
        }
    }

    private mutating func controlled(_ request: VendorRequest, now: Instant) throws(ControlError) -> VendorResponse {
        let parts = request.path.split(separator: "/").dropFirst().map(String.init)
        let rest = Array(parts.dropFirst())
        switch (request.method, parts.first) {
        case ("GET", nil): return Self.text(Self.help + Self.genericHelp + Self.hubspotHelp)
        case ("GET", "ledger"): return Self.ok(try ledgerJSON(request))
        case ("GET", "ledger.txt"): return Self.text(ledgerText())
        case ("GET", "state"): return Self.ok(stateJSON())
        case ("POST", "reset"): return try reset(Self.body(request), now: now)
        case ("GET", "faults"): return Self.ok(.array(faults.faults.map(\.json)))
        case ("POST", "faults"): return try setFaults(Self.body(request))
        case ("DELETE", "faults"):
            if let id = rest.first.flatMap(Int.init) { faults.remove(id: id) } else { faults.removeAll() }
            return Self.ok(.array(faults.faults.map(\.json)))
        case ("GET", "hooks") where rest == ["keys"]: return Self.ok(hookGuard.json)
        case ("POST", "hooks") where rest == ["keys"]:
            try hookGuard.replace(Self.body(request))
            return Self.ok(hookGuard.json)
        case ("DELETE", "hooks") where rest == ["keys"]:
            hookGuard = HookGuard()
            return Self.ok(hookGuard.json)
        case ("GET", "hooks"): return Self.ok(hooks.json)
        case ("POST", "hooks"):
            try hooks.replace(Self.body(request))
            return Self.ok(hooks.json)
        case ("DELETE", "hooks"):
            hooks = HookPlan()
            return Self.ok(hooks.json)
        case ("POST", "search-lag"):
            guard let lag = try Self.body(request)["ms"]?.integer, (0...3_600_000).contains(lag) else {
                throw ControlError("ms must be a whole number from 0 to 3600000")
            }
            pipedrive.searchLagMilliseconds = Int64(lag)
            hubspot.searchLagMilliseconds = Int64(lag)
            return Self.ok(stateJSON())
        case ("POST", "rate-limit"): return try setLimits(Self.body(request))
        case ("POST", "tokens"): return try addToken(Self.body(request), now: now)
        case ("POST", "revoke"): return try revoke(Self.body(request), isRevoked: true)
        case ("POST", "restore"): return try revoke(Self.body(request), isRevoked: false)
        case (_, "hubspot"):
            let answer = try hubspotControl(request, rest: rest, now: now)
            keepForReplay(request, at: now)
            return answer
        case ("GET", "generic"), ("POST", "generic"):
            let answer = try genericControl(request)
            keepForReplay(request, at: now)
            return answer
        case ("GET", "pipedrive") where rest == ["oauth"]: return Self.ok(pipedrive.oauth.json)
        case ("POST", "pipedrive") where rest == ["oauth"]:
            try pipedrive.oauth.change(Self.body(request), now: now)
            keepForReplay(request, at: now)
            return Self.ok(pipedrive.oauth.json)
        case (_, "pipelines"), (_, "stages"), (_, "fields"):
            return try changeAccount(request, kind: parts[0], rest: rest, now: now)
        default: throw ControlError("no \(request.method) \(request.path)", status: 404)
        }
    }

    static let help = """
        milepost-sandbox: emulated CRMs, for trials and tests. Everything below is JSON.

        GET    /_sandbox/ledger          what was created and asked; ?only=deals,requests &method= &path=/api/v2/* &since=N
                                         &company=ID &title=TEXT; more parts: generic, hubspot (&hub=ID &contact=ID),
                                         oauth (grants and refreshes), violations (requests that do not fit the
                                         vendors' documents, replaced refresh tokens that were used again)
        GET    /_sandbox/ledger.txt      the same as tables
        GET    /_sandbox/state           companies, pipelines, stages, fields, limits
        POST   /_sandbox/reset           {"what":"all"} (default), "requests", "objects" or "faults"

        POST   /_sandbox/faults          {"match":{"method":"POST","path":"/api/v2/deals"},"kind":"status","status":503,
                                         "times":1,"after":0,"delay_ms":0,"headers":{},"commit":false}, or an array of them
                                         kinds: status, delay, drop_before_commit, drop_after_commit, late_commit, garbage,
                                         cut_body, html_403, echo_token_401; times 0 = without end; path may end with *
        GET    /_sandbox/faults          what is set, and how often it struck
        DELETE /_sandbox/faults[/ID]

        POST   /_sandbox/tokens          {"token":"t2","admin":false,"kind":"api"|"oauth","company_id":1,"company_name":"B",
                                         "company_domain":"b","revoked":false}; an unknown company is made
        POST   /_sandbox/revoke          {"token":"t2"}          POST /_sandbox/restore takes it back
        ANY    /hooks/...                taken with 200, for webhooks that go out; see them in the ledger (path=/hooks/*)
        POST   /_sandbox/hooks           [{"path":"/hooks/judge","contains":"organic","times":1,"status":200,"delay_ms":0,
                                         "body":{"decision":"drop"}}] or "text":"…": what /hooks/... answers, the first
                                         that fits; times 0 = without end. GET shows, DELETE forgets them
        POST   /_sandbox/hooks/keys      {"path":"/hooks/*","keys":["whsec_…","whpk_…"],"tolerance_s":300,"refuse":false}, or
                                         an array of them: checks the signatures (Standard Webhooks; v1 and v1a, any of
                                         several keys). The ledger's entries then have signature (valid, invalid, missing,
                                         expired), signature_why, and repeats of their webhook-id; "refuse":true answers
                                         401 to what is not valid. GET shows which kinds of keys, DELETE forgets them
        GET    /_sandbox/pipedrive/oauth     and POST, as /_sandbox/hubspot/oauth below
        POST   /_sandbox/search-lag      {"ms":0}
        POST   /_sandbox/rate-limit      {"plan":"lite"|"growth"|"premium"|"ultimate"|"off","daily_budget":100}

        POST   /_sandbox/pipelines       {"name":"Sales","company_id":ID}          PATCH|DELETE /_sandbox/pipelines/ID
        POST   /_sandbox/stages          {"name":"Won over","pipeline_id":1}       PATCH|DELETE /_sandbox/stages/ID
        POST   /_sandbox/fields          {"name":"Link","field_type":"varchar","options":["a","b"],"key":"40 hex"}
                                         (a second field of one name is allowed, as at the vendor)
        PATCH|DELETE /_sandbox/fields/KEY    {"name":"New name","options":["a","c"]}

        """

    static func ok(_ json: JSONValue, status: Int = 200) -> VendorResponse {
        VendorResponse(status: status, json: json)
    }

    private static func text(_ text: String) -> VendorResponse {
        VendorResponse(
            status: 200, headers: [Header("content-type", "text/plain; charset=utf-8")], body: Array(text.utf8))
    }

    static func body(_ request: VendorRequest) throws(ControlError) -> JSONValue {
        if request.body.isEmpty { return .object([]) }
        do throws(JSONParseError) {
            return try JSONValue(parsing: request.body)
        } catch {
            throw ControlError("bad JSON at byte \(error.offset): \(error.detail)")
        }
    }

    // MARK: Faults, reset, limits

    private mutating func setFaults(_ body: JSONValue) throws(ControlError) -> VendorResponse {
        var parsed: [Fault] = []
        for item in body.array ?? [body] { parsed.append(try Fault(json: item)) }
        guard faults.faults.count + parsed.count <= FaultBook.limit else {
            throw ControlError("more than \(FaultBook.limit) faults are set; DELETE /_sandbox/faults first")
        }
        let added = parsed.map { faults.add($0).json }
        return Self.ok(body.array == nil ? added[0] : .array(added), status: 201)
    }

    private mutating func reset(_ body: JSONValue, now: Instant) throws(ControlError) -> VendorResponse {
        switch body["what"]?.string ?? "all" {
        case "requests": ledger.removeAll()
        case "faults": faults.removeAll()
        case "objects":
            for id in pipedrive.companies.keys {
                pipedrive.companies[id]?.deals = PipedriveTable(nextID: 501)
                pipedrive.companies[id]?.notes = PipedriveTable(nextID: 1)
                pipedrive.companies[id]?.persons = PipedriveTable(nextID: 1)
                pipedrive.companies[id]?.index = PipedriveSearchIndex()
            }
            let (oauth, tokens, other) = (hubspot.oauth, hubspot.tokens, pipedrive.oauth)
            let manners = generic.manners
            restart(at: now)
            (hubspot.oauth, hubspot.tokens, pipedrive.oauth) = (oauth, tokens, other)
            generic.manners = manners
            forgetLateCommits()
            mustTruncateFile = true
        case "all":
            pipedrive = Self.freshPipedrive(settings, now: now)
            restart(at: now)
            faults = FaultBook()
            hooks = HookPlan()
            hookGuard = settings.hookGuard
            ledger = RequestLedger()
            forgetLateCommits()
            mustTruncateFile = true
        case let what: throw ControlError("cannot reset \"\(what)\"; known: all, requests, objects, faults")
        }
        return Self.ok(stateJSON())
    }

    private mutating func setLimits(_ body: JSONValue) throws(ControlError) -> VendorResponse {
        if let name = body["plan"] {
            guard let plan = name.string.flatMap(PipedrivePlan.init(rawValue:)) else {
                throw ControlError(
                    "plan must be one of \(PipedrivePlan.allCases.map(\.rawValue).joined(separator: ", "))")
            }
            pipedrive.plan = plan
        }
        if let budget = body["daily_budget"] {
            guard budget.isNull || budget.integer.map({ $0 >= 0 }) == true else {
                throw ControlError("daily_budget must be a whole number, or null for the plan's own")
            }
            pipedrive.dailyBudget = budget.integer
            for id in pipedrive.companies.keys { pipedrive.companies[id]?.spent = 0 }
        }
        return Self.ok(stateJSON())
    }

    // MARK: Tokens

    private mutating func addToken(_ body: JSONValue, now: Instant) throws(ControlError) -> VendorResponse {
        guard let token = body["token"]?.string, !token.isEmpty, token.utf8.count <= 4096 else {
            throw ControlError("token must be a text of 1 to 4096 bytes")
        }
        let companyID = body["company_id"]?.integer ?? Pipedrive.firstCompanyID
        if pipedrive.companies[companyID] == nil {
            let domain = body["company_domain"]?.string ?? "company-\(companyID)"
            pipedrive.companies[companyID] = .sample(
                id: companyID, name: body["company_name"]?.string ?? "Company \(companyID)", domain: domain,
                keys: &pipedrive.keys, now: now)
        }
        pipedrive.tokens[token] = PipedriveToken(
            companyID: companyID, userID: body["admin"]?.bool == false ? 2 : 1,
            isOAuth: body["kind"]?.string == "oauth",
            isRevoked: body["revoked"]?.bool ?? false)
        return Self.ok(stateJSON(), status: 201)
    }

    private mutating func revoke(_ body: JSONValue, isRevoked: Bool) throws(ControlError) -> VendorResponse {
        guard let token = body["token"]?.string, pipedrive.tokens[token] != nil else {
            throw ControlError("no such token", status: 404)
        }
        pipedrive.tokens[token]?.isRevoked = isRevoked
        return Self.ok(.object([("revoked", .bool(isRevoked))]))
    }
}
