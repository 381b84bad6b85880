// SPDX-License-Identifier: Apache-2.0

/// The HubSpot emulator: a value that turns a request and a moment into an answer.
///
/// It follows the vendor's documents in `specs/hubspot` and `crm-apis.md` section 3. It holds no clock, no lock and no
/// socket. The app (templates, event types, credentials) is one; accounts that installed it are many.
struct HubSpot: Sendable {
    static let firstHubID = 62_515
    static let appID = 54_321
    static let clientID = "sandbox-client"
    static let developerKey = "sandbox-developer-key"
    static let privateToken = "sandbox-private-app-token"
    /// What a private app may be given: everything but what only an app of a developer account has.
    static let privateScopes = knownScopes.filter { $0 != "timeline" && $0 != "oauth" && !$0.hasPrefix("developers") }
    static let knownScopes = [
        "oauth", "timeline", "crm.objects.contacts.read", "crm.objects.contacts.write", "crm.objects.deals.read",
        "crm.objects.deals.write", "crm.objects.companies.read", "crm.objects.companies.write",
        "crm.objects.owners.read", "crm.schemas.contacts.read", "crm.schemas.contacts.write", "crm.schemas.deals.read",
        "crm.schemas.deals.write", "crm.schemas.companies.read", "analytics.behavioral_events.send",
        "behavioral_events.event_definitions.read_write", "developers-write", "developers-read", "tickets",
        "automation",
        "forms", "files", "content", "crm.lists.read", "crm.lists.write", "crm.objects.line_items.read",
        "crm.objects.users.read", "crm.schemas.companies.write", "settings.users.read",
    ]

    var portals: [Int: HubSpotPortal] = [:]
    /// Static tokens of private apps, and tokens that a test has made.
    var tokens: [String: HubSpotToken] = [:]
    var oauth: OAuthAuthority
    var app = HubSpotApp()
    var limits: HubSpotLimits
    var manners = HubSpotManners()
    var searchLagMilliseconds: Int64
    var keys: SeededKeys
    /// For `{{uuid}}` in the ids of events; apart from `keys`, which every refusal moves on.
    var eventKeys: SeededKeys
    /// Breaches of the vendor's documents that the world has not collected yet.
    var violations: [String] = []

    init(isLimited: Bool, searchLagMilliseconds: Int64, seed: UInt64, now: Instant) {
        limits = isLimited ? HubSpotLimits() : .off
        self.searchLagMilliseconds = searchLagMilliseconds
        keys = SeededKeys(seed: seed &+ 0x48_53)
        eventKeys = SeededKeys(seed: seed &+ 0x48_54)
        oauth = OAuthAuthority(
            clientID: Self.clientID, clientSecret: "sandbox-secret", accountID: Self.firstHubID, lifeSeconds: 1800,
            rotates: false, accessPrefix: "CSandbox", accessLength: 300, refreshPrefix: "na1-",
            seed: seed ^ UInt64(bitPattern: now.milliseconds))
        tokens[Self.privateToken] = HubSpotToken(
            hubID: Self.firstHubID, scopes: Self.privateScopes, isOAuth: false, expires: nil)
        portals[Self.firstHubID] = .fresh(id: Self.firstHubID, name: "Sandbox Hub", now: now)
        seedSample(now: now)
    }

    /// The contact and the deal of `crm-apis.md` 3.6, so that a trial finds something to write to.
    private mutating func seedSample(now: Instant) {
        let hub = Self.firstHubID
        var contact = HubSpotRecord(id: "37765128953", at: now)
        for (name, value) in [("email", "a@x.test"), ("firstname", "Ada"), ("lastname", "Example")] {
            contact.set(name, value, source: "CRM_UI", at: now)
        }
        save("contacts", contact, hub: hub, at: now)
        var deal = HubSpotRecord(id: "9001", at: now)
        for (name, value) in [
            ("dealname", "Example deal"), ("amount", "5000.00"), ("deal_currency_code", "EUR"), ("pipeline", "default"),
            ("dealstage", "appointmentscheduled"),
        ] {
            deal.set(name, value, source: "CRM_UI", at: now)
        }
        save("deals", deal, hub: hub, at: now)
        portals[hub]?.links.connect("contacts", contact.id, "deals", deal.id)
    }

    /// Answers one request and commits what it asks for.
    mutating func answer(_ request: VendorRequest, now: Instant) -> VendorResponse {
        var headers: [Header] = []
        let segments = HubSpotPath.segments(request.path)
        if segments.first == "oauth" { return oauthAnswer(request, now: now) }
        do throws(HubSpotFailure) {
            if Self.isAppLevel(segments) {
                try admitDeveloper(request, appID: segments[3], now: now)
                let call = HubSpotCall(
                    request: request, segments: segments, hubID: 0, scopes: [], isOAuth: false, now: now)
                return try templates(call)
            }
            let call = try admit(request, segments: segments, now: now, headers: &headers)
            var response = try route(call)
            response.headers += headers
            return response
        } catch {
            return refusal(error, headers: headers)
        }
    }

    mutating func refusal(_ failure: HubSpotFailure, headers: [Header] = []) -> VendorResponse {
        if let violation = failure.violation { violations.append(violation) }
        var response = VendorResponse(status: failure.status, json: failure.body(correlationID: keys.uuid()))
        response.headers += headers
        return response
    }

    // MARK: Who asks

    static func bearer(of request: VendorRequest) -> String? {
        guard let value = request.header("authorization"), value.lowercased().hasPrefix("bearer ") else { return nil }
        return String(value.dropFirst(7))
    }

    /// Whether the request's credential would be let in now; the ledger notes it in place of the credential.
    func accepts(_ request: VendorRequest, now: Instant) -> Bool {
        if request.path.hasPrefix("/oauth/") { return true }
        if request.queryValue("hapikey") == Self.developerKey { return true }
        guard let text = Self.bearer(of: request) else { return false }
        if let token = tokens[text] { return token.isGood(at: now) }
        if case .good = oauth.access(text, now: now) { return true }
        return text == Self.developerKey
    }

    private mutating func admit(
        _ request: VendorRequest, segments: [String], now: Instant, headers: inout [Header]
    ) throws(HubSpotFailure) -> HubSpotCall {
        guard let text = Self.bearer(of: request) else { throw .unauthorized }
        let hubID: Int
        let scopes: [String]
        var isOAuth = true
        if let token = tokens[text] {
            if token.isRevoked { throw .unauthorized }
            if let expires = token.expires, expires <= now { throw .expired(at: expires, now: now) }
            (hubID, scopes, isOAuth) = (token.hubID, token.scopes, token.isOAuth)
        } else {
            switch oauth.access(text, now: now) {
            case .unknown: throw .unauthorized
            case .expired(let moment): throw .expired(at: moment, now: now)
            case .good(let grant, _):
                oauth.markUsed(text)
                (hubID, scopes) = (grant.accountID, grant.scopes)
            }
        }
        guard portals[hubID] != nil else { throw .unauthorized }
        let call = HubSpotCall(
            request: request, segments: segments, hubID: hubID, scopes: Set(scopes), isOAuth: isOAuth, now: now)
        try count(call, headers: &headers)
        return call
    }

    /// Calls about the app itself: event templates. `/integrators/timeline/v3/{appId}/event-templates...`
    private static func isAppLevel(_ segments: [String]) -> Bool {
        segments.count > 4 && segments[..<3] == ["integrators", "timeline", "v3"] && segments[4] == "event-templates"
    }

    /// The developer key in the query, or as bearer token, or an access token with `developers-write`.
    private mutating func admitDeveloper(_ request: VendorRequest, appID: String, now: Instant) throws(HubSpotFailure) {
        var isGood = request.queryValue("hapikey") == Self.developerKey
        if !isGood, let text = Self.bearer(of: request) {
            if text == Self.developerKey { isGood = true }
            if case .good(let grant, _) = oauth.access(text, now: now) {
                guard grant.scopes.contains("developers-write") else { throw .missingScopes(["developers-write"]) }
                isGood = true
            }
            if let token = tokens[text], token.isGood(at: now) { throw .missingScopes(["developers-write"]) }
        }
        guard isGood else { throw .unauthorized }
        guard appID == String(Self.appID) else { throw .notFound }
    }

    // MARK: Commits

    /// Stores a record and shows it to the index.
    mutating func save(_ type: String, _ record: HubSpotRecord, hub: Int, at now: Instant) {
        var record = record
        let times = HubSpotProperty.times(type)
        record.updatedAt = now
        record.properties["hs_object_id"] = record.id
        if record.properties[times.created] == nil {
            record.properties[times.created] = record.createdAt.rfc3339Milliseconds
        }
        record.properties[times.changed] = now.rfc3339Milliseconds
        if type == "deals", let portal = portals[hub] {
            let stage = record.properties["pipeline"].flatMap(portal.pipeline)?.stages.first {
                $0.id == record.properties["dealstage"]
            }
            record.properties["hs_is_closed"] = stage?.isClosed == true ? "true" : "false"
            record.properties["hs_is_closed_won"] =
                stage?.isClosed == true && stage?.probability == "1.0" ? "true" : "false"
            record.properties["hs_deal_stage_probability"] = stage?.probability
        }
        portals[hub]?.tables[type]?.put(record)
        portals[hub]?.index.note(type, record, at: now)
        // Nobody may ever search; what waits must not grow for ever.
        if (portals[hub]?.index.waiting ?? 0) > 1000 {
            portals[hub]?.index.settle(lagMilliseconds: searchLagMilliseconds, now: now)
        }
    }

    /// The account of a call that has been let in.
    func portal(_ call: HubSpotCall) -> HubSpotPortal {
        guard let portal = portals[call.hubID] else {
            preconditionFailure("account \(call.hubID) vanished after admission")
        }
        return portal
    }

    static func ok(_ json: JSONValue, status: Int = 200) -> VendorResponse {
        VendorResponse(status: status, json: json)
    }
    static let empty = VendorResponse(status: 204)
}

/// A static token of a private app, or one that a test has made.
struct HubSpotToken: Sendable {
    let hubID: Int
    let scopes: [String]
    let isOAuth: Bool
    var expires: Instant?
    var isRevoked = false

    func isGood(at now: Instant) -> Bool { !isRevoked && (expires.map { $0 > now } ?? true) }
}

/// Where the vendor's behaviour is not certain, or differs between accounts: switches of the control API.
struct HubSpotManners: Sendable {
    /// What a timeline id does that comes again for the same record.
    enum Repeat: String, CaseIterable, Sendable {
        /// 201 with the event that is there.
        case ignore
        /// 201, and the last one wins.
        case overwrite
        /// 400 `Event ID already in use`.
        case refuse
        /// 409.
        case conflict
    }

    var repeats = Repeat.ignore
    /// How long a new template is unknown to events.
    var templateDelayMilliseconds: Int64 = 0
    /// Whether associations name ids as numbers, as live answers do and the vendor's document does not.
    var hasNumericIDs = false
    /// Parts that this app or account may not use: `timeline`, `app_events`, `custom_events`.
    var closed: Set<String> = []
    static let parts = ["timeline", "app_events", "custom_events"]
}
