// SPDX-License-Identifier: Apache-2.0

/// `/_sandbox/hubspot/...`: what a person of the account, or the vendor, would do behind a client's back.
extension SandboxWorld {
    static let hubspotHelp = """
        HubSpot, below /_sandbox/hubspot; every body takes "hub_id" (62515 when missing)

        GET    state
        POST   portals           {"hub_id":777,"name":"Second"}
        POST   contacts          {"id":"101","properties":{"email":"b@x.test"}}, or an array     PATCH|DELETE contacts/ID
        POST   deals             {"properties":{"dealname":"D","dealstage":"appointmentscheduled","amount":"5000"},
                                 "contacts":["101"]}                                              PATCH|DELETE deals/ID
        POST   associations      {"from":"contacts","from_id":"101","to":"deals","to_id":"9001","label":"Primary"}
        DELETE associations      the same, without label
        POST   merge             {"primary":"101","merged":"102","new_id":true}
        POST   pipelines         {"id":"renewals","label":"Renewals","stages":[{"id":"due","label":"Due"}]}
                                                                                                  DELETE pipelines/ID
        POST   stages            {"pipeline":"default","id":"demo","label":"Demo","display_order":2,"closed":false}
                                                                                                  DELETE stages/ID
        POST   properties        {"object_type":"contacts","name":"x","type":"string","field_type":"text","read_only":false}
                                                                                                  DELETE properties/TYPE/NAME
        POST   tokens            {"token":"t","kind":"private"|"oauth","scopes":[],"expires_in":60}
        POST   revoke            {"token":"t"}: any token of HubSpot's, by its text
        GET    oauth             and POST {"expires_in":600,"rotate":true,"grant_scopes":["oauth"],"consent":"allow"|"deny"|"ask",
                                 "account":777,"redirect_uris":[],"end":"expire_access"|"revoke_access"|"revoke_refresh"|
                                 "uninstall"}; "account" installs next; beside "end" its grants end
        POST   rate-limit        {"oauth":110,"private":100,"search":5,"daily":250000}, null for none; {"off":true}
        POST   manners           {"repeated_event":"ignore"|"overwrite"|"refuse"|"conflict","template_delay_ms":45000,
                                 "numeric_ids":true, "closed":["timeline","app_events","custom_events"]}
        POST   event-types       {"project":"milepost","symbol":"link_click","name":"p1_x"} (app events),
                                 {"custom":"pe62515_link_click"} (custom events)

        """

    mutating func hubspotControl(
        _ request: VendorRequest, rest: [String], now: Instant
    ) throws(ControlError) -> VendorResponse {
        let body = try Self.body(request)
        let hub = body["hub_id"]?.integer ?? request.queryValue("hub_id").flatMap(Int.init) ?? HubSpot.firstHubID
        let kind = rest.first ?? ""
        if kind != "portals", hubspot.portals[hub] == nil { throw ControlError("no hub \(hub)", status: 404) }
        switch (request.method, kind) {
        case ("GET", "state"): return Self.ok(hubspotState())
        case ("POST", "portals"):
            if hubspot.portals[hub] == nil {
                hubspot.portals[hub] = .fresh(id: hub, name: body["name"]?.string ?? "Hub \(hub)", now: now)
            }
            return Self.ok(hubspotState(), status: 201)
        case (_, "contacts"), (_, "deals"), (_, "notes"), (_, "companies"):
            return try changeRecords(request.method, kind, rest.dropFirst().first, body, hub: hub, now: now)
        case ("POST", "associations"), ("DELETE", "associations"): return try associate(request.method, body, hub: hub)
        case ("POST", "merge"):
            let merged = hubspot.merge(
                body["type"]?.string ?? "contacts", body["primary"]?.string ?? "", body["merged"]?.string ?? "",
                newID: body["new_id"]?.bool ?? true, hub: hub, at: now)
            guard let merged else { throw ControlError("primary and merged must be two records", status: 404) }
            return Self.ok(.object(merged.json(names: merged.properties.keys.sorted())))
        case (_, "pipelines"), (_, "stages"):
            return try changePipelines(request.method, kind, rest.dropFirst().first, body, hub: hub, now: now)
        case (_, "properties"):
            return try changeProperties(request.method, Array(rest.dropFirst()), body, hub: hub, now: now)
        case ("POST", "tokens"): return try addHubSpotToken(body, hub: hub, now: now)
        case ("POST", "revoke"):
            let text = body["token"]?.string ?? ""
            if hubspot.tokens[text] != nil {
                hubspot.tokens[text]?.isRevoked = true
            } else if !hubspot.oauth.revoke(text, now: now) {
                throw ControlError("no such token", status: 404)
            }
            return Self.ok(.object([("revoked", .bool(true))]))
        case ("GET", "oauth"): return Self.ok(hubspot.oauth.json)
        case ("POST", "oauth"):
            try hubspot.oauth.change(body, now: now)
            return Self.ok(hubspot.oauth.json)
        case ("POST", "rate-limit"): return try setHubSpotLimits(body)
        case ("POST", "manners"): return try setManners(body)
        case ("POST", "event-types"):
            if let name = body["custom"]?.string { hubspot.portals[hub]?.customEvents.insert(name) }
            if let name = body["name"]?.string {
                let key = "\(body["project"]?.string ?? "milepost")/\(body["symbol"]?.string ?? "link_click")"
                hubspot.app.eventTypes[key] = name
            }
            return Self.ok(hubspotState(), status: 201)
        default: throw ControlError("no \(request.method) \(request.path)", status: 404)
        }
    }

    func hubspotState() -> JSONValue {
        let portals = hubspot.portals.values.sorted { $0.id < $1.id }.map { portal in
            JSONValue.object([
                ("hub_id", .integer(portal.id)), ("name", .string(portal.name)),
                ("contacts", .integer(portal.tables["contacts"]?.all.count ?? 0)),
                ("deals", .integer(portal.tables["deals"]?.all.count ?? 0)),
                ("events", .integer(portal.events.count)), ("pipelines", .array(portal.pipelines.map(\.json))),
                ("custom_events", .array(portal.customEvents.sorted().map { .string($0) })),
            ])
        }
        return .object([
            ("app_id", .integer(HubSpot.appID)), ("templates", .integer(hubspot.app.templates.count)),
            ("oauth", hubspot.oauth.json), ("portals", .array(portals)),
            (
                "limits",
                .object([
                    ("oauth", .optional(hubspot.limits.oauth)), ("private", .optional(hubspot.limits.privateApp)),
                    ("search", .optional(hubspot.limits.search)), ("daily", .optional(hubspot.limits.daily)),
                ])
            ),
        ])
    }

    private mutating func addHubSpotToken(
        _ body: JSONValue, hub: Int, now: Instant
    ) throws(ControlError) -> VendorResponse {
        guard let token = body["token"]?.string, !token.isEmpty, token.utf8.count <= 4096 else {
            throw ControlError("token must be a text of 1 to 4096 bytes")
        }
        let life = body["expires_in"]?.integer
        guard life == nil || (0...31_536_000).contains(life ?? 0) else {
            throw ControlError("expires_in must be a whole number of seconds, a year at most")
        }
        let isOAuth = body["kind"]?.string == "oauth"
        let scopes = body["scopes"]?.array?.compactMap(\.string)
        hubspot.tokens[token] = HubSpotToken(
            hubID: hub, scopes: scopes ?? (isOAuth ? HubSpot.knownScopes : HubSpot.privateScopes), isOAuth: isOAuth,
            expires: life.map { now.adding(milliseconds: Int64($0) * 1000) })
        return Self.ok(hubspotState(), status: 201)
    }

    private mutating func setHubSpotLimits(_ body: JSONValue) throws(ControlError) -> VendorResponse {
        if body["off"]?.bool == true { hubspot.limits = .off }
        func limit(_ name: String, _ old: Int?) throws(ControlError) -> Int? {
            guard let value = body[name] else { return old }
            guard value.isNull || value.integer.map({ $0 >= 0 }) == true else {
                throw ControlError("\(name) must be a whole number, or null for none")
            }
            return value.integer
        }
        hubspot.limits.oauth = try limit("oauth", hubspot.limits.oauth)
        hubspot.limits.privateApp = try limit("private", hubspot.limits.privateApp)
        hubspot.limits.search = try limit("search", hubspot.limits.search)
        hubspot.limits.daily = try limit("daily", hubspot.limits.daily)
        for id in hubspot.portals.keys { hubspot.portals[id]?.usage = HubSpotUsage() }
        return Self.ok(hubspotState())
    }

    private mutating func setManners(_ body: JSONValue) throws(ControlError) -> VendorResponse {
        let known = ["repeated_event", "template_delay_ms", "numeric_ids", "closed", "hub_id"]
        if let key = body.object?.keys.first(where: { !known.contains($0) }) {
            throw ControlError("unknown member \"\(key)\"; known: \(known.joined(separator: ", "))")
        }
        if let name = body["repeated_event"] {
            guard let manner = name.string.flatMap(HubSpotManners.Repeat.init(rawValue:)) else {
                throw ControlError("repeated_event must be ignore, overwrite, refuse or conflict")
            }
            hubspot.manners.repeats = manner
        }
        if let delay = body["template_delay_ms"] {
            guard let delay = delay.integer, (0...3_600_000).contains(delay) else {
                throw ControlError("template_delay_ms must be a whole number from 0 to 3600000")
            }
            hubspot.manners.templateDelayMilliseconds = Int64(delay)
        }
        if let flag = body["numeric_ids"]?.bool { hubspot.manners.hasNumericIDs = flag }
        if let closed = body["closed"] {
            let names = (closed.array ?? []).compactMap(\.string)
            guard closed.array != nil, names.allSatisfy(HubSpotManners.parts.contains) else {
                throw ControlError("closed must be an array of \(HubSpotManners.parts.joined(separator: ", "))")
            }
            hubspot.manners.closed = Set(names)
        }
        return Self.ok(hubspotState())
    }
}
