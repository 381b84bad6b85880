// SPDX-License-Identifier: Apache-2.0

extension HubSpot {
    /// Finds the handler of a call.
    mutating func route(_ call: HubSpotCall) throws(HubSpotFailure) -> VendorResponse {
        switch (call.part(0), call.part(1), call.part(2)) {
        case ("crm", "v3", "objects"): return try objects(call)
        case ("crm", "v3", "properties"): return try properties(call)
        case ("crm", "v3", "pipelines"): return try pipelines(call)
        case ("crm", "v3", "owners"): return try owners(call)
        case ("crm", "v4", _): return try associations(call)
        case ("integrators", "timeline", "v3"): return try timeline(call)
        case ("integrators", "timeline", "2026-03"): return try appEvents(call)
        case ("events", "v3", "send"): return try customEvents(call)
        case ("account-info", "v3", "details") where call.method == "GET": return accountDetails(call)
        default: throw .unsupported(call.request)
        }
    }

    private mutating func objects(_ call: HubSpotCall) throws(HubSpotFailure) -> VendorResponse {
        let type = call.part(3)
        guard portals[call.hubID]?.tables[type] != nil else { throw .unsupported(call.request) }
        switch (call.method, call.segments.count, call.part(4)) {
        case ("POST", 4, _): return try createObject(call, type)
        case ("GET", 4, _): return try listObjects(call, type)
        case ("POST", 5, "search"): return try search(call, type)
        case ("POST", 5, "merge"): return try mergeObjects(call, type)
        case ("POST", 5, "gdpr-delete") where type == "contacts": return try eraseContact(call)
        case ("GET", 5, _): return try readObject(call, type)
        case ("PATCH", 5, _): return try updateObject(call, type)
        case ("DELETE", 5, _): return try archiveObject(call, type)
        case ("POST", 6, "batch"): return try batch(call, type)
        default: throw .unsupported(call.request)
        }
    }

    /// The scope of an object type; notes go with contacts.
    static func scope(_ type: String, _ right: String) -> String {
        "crm.objects.\(type == "notes" ? "contacts" : type).\(right)"
    }

    // MARK: Owners and the account

    private func owners(_ call: HubSpotCall) throws(HubSpotFailure) -> VendorResponse {
        try call.needs("crm.objects.owners.read")
        guard call.method == "GET", call.segments.count <= 4 else { throw .unsupported(call.request) }
        let all = portal(call).owners
        if call.segments.count == 4 {
            try call.takes("idProperty", "archived")
            let byUser = call.request.queryValue("idProperty") == "userId"
            guard let owner = all.first(where: { byUser ? String($0.userID) == call.part(3) : $0.id == call.part(3) })
            else { throw .notFound }
            return Self.ok(owner.json)
        }
        try call.takes("email", "after", "limit", "archived")
        if try call.flag("archived") { return Self.ok(.object([("results", .array([]))])) }
        let email = call.request.queryValue("email")
        let found = all.filter { email == nil || $0.email == email }
        return Self.ok(try Self.page(found.map(\.json), call, default: 100, most: 500))
    }

    /// Which account a token belongs to; in none of the vendor's documents at hand, but in its reference.
    private func accountDetails(_ call: HubSpotCall) -> VendorResponse {
        Self.ok(
            .object([
                ("portalId", .integer(call.hubID)), ("accountType", "STANDARD"), ("timeZone", "Europe/Berlin"),
                ("companyCurrency", "EUR"), ("additionalCurrencies", .array([])), ("utcOffset", "+00:00"),
                ("utcOffsetMilliseconds", .integer(0)), ("uiDomain", "app.hubspot.com"),
                ("dataHostingLocation", "na1"),
            ]))
    }

    // MARK: Pipelines

    private func pipelines(_ call: HubSpotCall) throws(HubSpotFailure) -> VendorResponse {
        guard call.method == "GET", call.part(3) == "deals" else { throw .unsupported(call.request) }
        try call.needs("crm.objects.deals.read", "crm.schemas.deals.read")
        try call.takes()
        let all = portal(call).pipelines.sorted { $0.order < $1.order }
        if call.segments.count == 4 { return Self.ok(.object([("results", .array(all.map(\.json)))])) }
        guard let pipeline = all.first(where: { $0.id == call.part(4) }) else { throw .notFound }
        if call.segments.count == 5 { return Self.ok(pipeline.json) }
        guard call.part(5) == "stages" else { throw .unsupported(call.request) }
        let stages = pipeline.stages.sorted { $0.order < $1.order }
        if call.segments.count == 6 { return Self.ok(.object([("results", .array(stages.map(\.json)))])) }
        guard call.segments.count == 7 else { throw .unsupported(call.request) }
        guard let stage = stages.first(where: { $0.id == call.part(6) }) else { throw .notFound }
        return Self.ok(stage.json)
    }

    // MARK: Pages

    /// `results` and `paging.next.after`; the cursor is the place of the next row.
    static func page(
        _ rows: [JSONValue], _ call: HubSpotCall, default standard: Int, most: Int
    ) throws(HubSpotFailure) -> JSONValue {
        let limit = try call.limit(default: standard, most: most)
        guard let start = Int(call.request.queryValue("after") ?? "0"), start >= 0 else {
            throw .invalid("after is not a cursor of this list")
        }
        return page(rows, start: start, limit: limit)
    }

    static func page(_ rows: [JSONValue], start: Int, limit: Int, total: Int? = nil) -> JSONValue {
        var members: [(String, JSONValue)] = []
        if let total { members.append(("total", .integer(total))) }
        members.append(("results", .array(Array(rows.dropFirst(start).prefix(limit)))))
        if start < rows.count - limit {
            members.append(("paging", .object([("next", .object([("after", .string(String(start + limit)))]))])))
        }
        return .object(members)
    }
}
