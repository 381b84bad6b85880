// SPDX-License-Identifier: Apache-2.0

/// What belongs to the vendor's app and not to an account.
struct HubSpotApp: Sendable {
    var templates: [HubSpotTemplate] = []
    var nextTemplateID = 1_001_298
    /// Full names of app event types, by `projectName` and `developerSymbol`.
    var eventTypes: [String: String] = ["milepost/link_click": "p54321_milepost_link_click"]
    /// Ids of events by template: unique per app and template, over all accounts.
    var eventPlaces: [HubSpotEventKey: HubSpotEventPlace] = [:]

    func template(_ id: String) -> HubSpotTemplate? { templates.first { $0.id == id } }
}

struct HubSpotEventKey: Hashable, Sendable {
    let type: String
    let id: String
}

/// Where the event of a key stands.
struct HubSpotEventPlace: Hashable, Sendable {
    let hubID: Int
    let objectID: String
}

struct HubSpotTemplate: Sendable {
    struct Token: Sendable {
        let name: String
        var label: String
        let type: String
        var options: [HubSpotProperty.Option]
        var objectPropertyName: String?
        let createdAt: Instant
        var updatedAt: Instant

        var json: JSONValue {
            var members: [(String, JSONValue)] = [
                ("name", .string(name)), ("label", .string(label)), ("type", .string(type)),
                (
                    "options",
                    .array(options.map { .object([("label", .string($0.label)), ("value", .string($0.value))]) })
                ),
                ("createdAt", .string(createdAt.rfc3339Milliseconds)),
                ("updatedAt", .string(updatedAt.rfc3339Milliseconds)),
            ]
            if let objectPropertyName { members.append(("objectPropertyName", .string(objectPropertyName))) }
            return .object(members)
        }

        /// Says why a value does not fit, or nil.
        func refusal(of value: String) -> String? {
            switch type {
            case "number": Double(value) == nil ? "\(name) must be a number" : nil
            case "date":
                Int64(value) == nil && Instant(rfc3339WithFraction: value) == nil && !Instant.isDay(value)
                    ? "\(name) must be a date" : nil
            case "enumeration":
                options.contains { $0.value == value } ? nil : "\(name) must be one of the options of the token"
            default: nil
            }
        }
    }

    let id: String
    var name: String
    let objectType: String
    var header: String
    var detail: String
    var tokens: [Token]
    let createdAt: Instant
    var updatedAt: Instant

    var json: JSONValue {
        .object([
            ("id", .string(id)), ("name", .string(name)), ("objectType", .string(objectType)),
            ("headerTemplate", .string(header)), ("detailTemplate", .string(detail)),
            ("tokens", .array(tokens.map(\.json))), ("createdAt", .string(createdAt.rfc3339Milliseconds)),
            ("updatedAt", .string(updatedAt.rfc3339Milliseconds)),
        ])
    }

    /// Fills a header or a detail: `{{name}}` and `{{#if name}}..{{/if}}`. As at the vendor, `0` counts as empty.
    static func render(_ text: String, _ tokens: JSONObject) -> String {
        var out = ""
        var rest = text[...]
        var isShown = true
        while let open = rest.firstRange(of: "{{"), let close = rest[open.upperBound...].firstRange(of: "}}") {
            if isShown { out += rest[..<open.lowerBound] }
            let word = rest[open.upperBound..<close.lowerBound].filter { $0 != "{" && $0 != "}" }
            rest = rest[close.upperBound...]
            if word.hasPrefix("#if ") {
                let value = tokens[String(word.dropFirst(4))]?.string ?? ""
                isShown = !value.isEmpty && value != "0"
            } else if word == "/if" {
                isShown = true
            } else if isShown {
                out += tokens[word]?.string ?? ""
            }
        }
        return isShown ? out + rest : out
    }
}

extension HubSpot {
    /// `/integrators/timeline/v3/{appId}/event-templates[/{id}[/tokens[/{name}]]]`.
    mutating func templates(_ call: HubSpotCall) throws(HubSpotFailure) -> VendorResponse {
        try call.takes("hapikey")
        if manners.closed.contains("timeline") { throw Self.closedPart("timeline events") }
        switch (call.method, call.segments.count) {
        case ("GET", 5): return Self.ok(.object([("results", .array(app.templates.map(\.json)))]))
        case ("POST", 5): return try createTemplate(call)
        default: break
        }
        guard let place = app.templates.firstIndex(where: { $0.id == call.part(5) }) else { throw .notFound }
        switch (call.method, call.segments.count) {
        case ("GET", 6): return Self.ok(app.templates[place].json)
        case ("PUT", 6): return try updateTemplate(call, place)
        case ("DELETE", 6):
            app.templates.remove(at: place)
            return Self.empty
        case ("POST", 7) where call.part(6) == "tokens":
            let token = try Self.token(try call.body(.token), call.now)
            guard !app.templates[place].tokens.contains(where: { $0.name == token.name }) else {
                throw .conflict("A token named '\(token.name)' already exists.")
            }
            app.templates[place].tokens.append(token)
            return Self.ok(token.json)
        case ("PUT", 8), ("DELETE", 8): return try changeToken(call, place)
        default: throw .unsupported(call.request)
        }
    }

    /// For apps that came after the vendor closed a part to new ones.
    static func closedPart(_ what: String) -> HubSpotFailure {
        HubSpotFailure(status: 403, category: "FORBIDDEN", "This app or account is not eligible to use \(what).")
    }

    private mutating func createTemplate(_ call: HubSpotCall) throws(HubSpotFailure) -> VendorResponse {
        let body = try call.body(.template)
        guard ["contacts", "companies", "deals", "tickets"].contains(body["objectType"]?.string ?? "") else {
            throw .invalid("objectType must be contacts, companies, deals or tickets")
        }
        guard app.templates.count < HubSpotLimits.templates else {
            throw .invalid("An app can have at most \(HubSpotLimits.templates) event templates")
        }
        let made = HubSpotTemplate(
            id: String(app.nextTemplateID), name: body["name"]?.string ?? "",
            objectType: body["objectType"]?.string ?? "", header: body["headerTemplate"]?.string ?? "",
            detail: body["detailTemplate"]?.string ?? "", tokens: try Self.tokens(body, call.now), createdAt: call.now,
            updatedAt: call.now)
        app.nextTemplateID += 1
        app.templates.append(made)
        return Self.ok(made.json, status: 201)
    }

    private mutating func updateTemplate(_ call: HubSpotCall, _ place: Int) throws(HubSpotFailure) -> VendorResponse {
        let body = try call.body(.templateUpdate)
        app.templates[place].tokens = try Self.tokens(body, call.now)
        app.templates[place].name = body["name"]?.string ?? ""
        if let header = body["headerTemplate"]?.string { app.templates[place].header = header }
        if let detail = body["detailTemplate"]?.string { app.templates[place].detail = detail }
        app.templates[place].updatedAt = call.now
        return Self.ok(app.templates[place].json)
    }

    private mutating func changeToken(_ call: HubSpotCall, _ place: Int) throws(HubSpotFailure) -> VendorResponse {
        guard call.part(6) == "tokens",
            let index = app.templates[place].tokens.firstIndex(where: { $0.name == call.part(7) })
        else { throw .notFound }
        if call.method == "DELETE" {
            app.templates[place].tokens.remove(at: index)
            return Self.empty
        }
        let body = try call.body(.tokenUpdate)
        app.templates[place].tokens[index].label = body["label"]?.string ?? ""
        if body["options"] != nil { app.templates[place].tokens[index].options = Self.tokenOptions(body) }
        if let name = body["objectPropertyName"]?.string {
            app.templates[place].tokens[index].objectPropertyName = name
        }
        app.templates[place].tokens[index].updatedAt = call.now
        return Self.ok(app.templates[place].tokens[index].json)
    }

    private static func tokens(_ body: JSONValue, _ now: Instant) throws(HubSpotFailure) -> [HubSpotTemplate.Token] {
        var tokens: [HubSpotTemplate.Token] = []
        for item in body["tokens"]?.array ?? [] {
            let token = try token(item, now)
            guard !tokens.contains(where: { $0.name == token.name }) else {
                throw .invalid("the token \(token.name) stands twice")
            }
            tokens.append(token)
        }
        return tokens
    }

    private static func token(_ json: JSONValue, _ now: Instant) throws(HubSpotFailure) -> HubSpotTemplate.Token {
        let name = json["name"]?.string ?? ""
        guard !name.isEmpty, name.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || "._-".contains($0)) })
        else {
            throw .invalid("the token name \"\(name)\" may hold letters, digits, . _ and - only")
        }
        let type = json["type"]?.string ?? ""
        let options = tokenOptions(json)
        if type == "enumeration", options.isEmpty { throw .invalid("the token \(name) needs options") }
        return HubSpotTemplate.Token(
            name: name, label: json["label"]?.string ?? "", type: type, options: options,
            objectPropertyName: json["objectPropertyName"]?.string, createdAt: now, updatedAt: now)
    }

    private static func tokenOptions(_ json: JSONValue) -> [HubSpotProperty.Option] {
        (json["options"]?.array ?? []).map {
            HubSpotProperty.Option(label: $0["label"]?.string ?? "", value: $0["value"]?.string ?? "")
        }
    }
}
