// SPDX-License-Identifier: Apache-2.0

import HubSpot
import MilepostKit
import MilepostKitTesting
import Synchronization

/// A HubSpot portal in memory, in the shapes of crm-apis 3.
final class Portal: Sendable {
    struct State {
        /// By id. A merged contact's old id leads to the survivor.
        var contacts: [String: [String: JSONValue]] = [
            "101": ["email": "ada@example.test"], "102": ["email": "bob@example.test"],
            "103": ["email": "eve@example.test"],
        ]
        var merged: [String: String] = ["99": "101"]
        var deals: [String: [String: JSONValue]] = [
            "9001": [
                "dealstage": "appointmentscheduled", "pipeline": "default", "amount": "5000.00", "dealname": "Big",
            ]
        ]
        var dealsOf: [String: [(id: String, label: String?)]] = ["101": [("9001", nil)]]
        var events: [String: JSONValue] = [:]
        var order: [String] = []
        var notes: [String: JSONValue] = [:]
        /// Definitions by type, then name.
        var properties: [String: [String: JSONValue]] = ["contacts": [:], "deals": [:]]
        var templates: [JSONValue] = []
        /// GETs of a new template that answer 404 first.
        var templateDelay = 0
        /// nil grants everything.
        var scopes: Set<String>?
        var hasAppEvents = true
        var hasAccountInfo = true
    }
    let state: Mutex<State>
    /// Answers a request in the portal's place; nil lets the portal answer.
    let fault: @Sendable (SentRequest) -> FakeAnswer?

    init(
        _ change: (inout State) -> Void = { _ in },
        fault: @escaping @Sendable (SentRequest) -> FakeAnswer? = { _ in nil }
    ) {
        var state = State()
        for name in ["milepost_last_utm_source", "milepost_last_utm_campaign", "milepost_last_utm_medium"] {
            state.properties["contacts"]?[name] = Self.definition(name)
        }
        change(&state)
        self.state = Mutex(state)
        self.fault = fault
    }

    static func definition(_ name: String, type: String = "string", readOnly: Bool = false) -> JSONValue {
        [
            "name": .string(name), "label": .string("Label of " + name), "type": .string(type),
            "fieldType": "text", "groupName": "contactinformation", "description": "", "options": [],
            "modificationMetadata": [
                "readOnlyValue": .bool(readOnly), "readOnlyDefinition": false, "archivable": true,
            ],
        ]
    }

    static func error(_ status: Int, _ category: String, _ message: String, more: JSONValue = [:]) -> FakeAnswer {
        .json(
            status,
            .object(
                more.object!.merging([
                    "status": "error", "category": .string(category), "message": .string(message),
                    "correlationId": "b3f2d1c0-0000-4000-8000-000000000001",
                ]) { $1 }))
    }
    static func missing(_ scope: String) -> FakeAnswer {
        error(
            403, "MISSING_SCOPES", "This app hasn't been granted all required scopes to make this call.",
            more: ["errors": [["message": "One or more.", "context": ["requiredGranularScopes": [.string(scope)]]]]])
    }
    static let notFound = error(404, "OBJECT_NOT_FOUND", "resource not found")

    func answer(_ request: SentRequest) -> FakeAnswer {
        Recorder.shared.note(request)
        if let fault = fault(request) { return fault }
        return state.withLock { Self.answer(request, &$0) }
    }

    private static func answer(_ request: SentRequest, _ state: inout State) -> FakeAnswer {
        let (path, query) = split(request.url)
        if let scope = scope(of: path, request.method), state.scopes?.contains(scope) == false { return missing(scope) }
        let parts = path.split(separator: "/").map(String.init)
        switch (request.method, path) {
        case ("GET", "/account-info/v3/details"):
            return state.hasAccountInfo
                ? .json(200, ["portalId": 62_515, "accountType": "STANDARD", "uiDomain": "app.hubspot.com"]) : notFound
        case ("GET", "/crm/v3/pipelines/deals"): return .json(200, ["results": pipelines])
        case ("GET", "/crm/v3/owners/"):
            return .json(
                200,
                [
                    "results": [
                        ["id": "7", "email": "a@x.test", "firstName": "Ann", "lastName": "Lee", "archived": false],
                        ["id": "8", "email": "b@x.test", "archived": true],
                    ], "paging": ["next": ["after": "p2"]],
                ])
        case ("POST", "/crm/v3/objects/contacts/batch/read"): return readContacts(request.body, state)
        case ("POST", "/crm/v3/objects/contacts/batch/update"): return update(request.body, &state)
        case ("POST", "/crm/v3/objects/deals/batch/update"), ("POST", "/crm/v3/objects/notes/batch/update"):
            return .json(200, done([]))
        case ("POST", "/crm/v4/associations/contacts/deals/batch/read"): return associations(request.body, state)
        case ("POST", "/crm/v3/objects/deals/batch/read"):
            let ids = (request.body?["inputs"]?.array ?? []).compactMap { $0["id"]?.string }
            return .json(200, done(ids.compactMap { id in state.deals[id].map { record(id, $0) } }))
        case ("POST", "/crm/v3/objects/notes"):
            let id = String(700 + state.notes.count)
            state.notes[id] = request.body
            return .json(201, record(id, request.body?["properties"]?.object ?? [:]))
        case ("POST", "/crm/v3/objects/notes/search"):
            let found = state.notes.map { record($0.key, $0.value["properties"]?.object ?? [:]) }
            return .json(200, ["total": .int(Int64(found.count)), "results": .array(found)])
        case ("POST", "/integrators/timeline/v3/events"), ("POST", "/crm/v3/timeline/events"),
            ("POST", "/integrators/timeline/2026-03/events"):
            return event(request.body ?? .null, &state)
        case ("POST", "/integrators/timeline/v3/events/batch/create"), ("POST", "/crm/v3/timeline/events/batch/create"):
            return events(request.body, &state)
        case ("POST", "/integrators/timeline/2026-03/events/batch"):
            return state.hasAppEvents ? events(request.body, &state, always: 200) : notFound
        case ("POST", "/events/v3/send"), ("POST", "/events/v3/send/batch"):
            for body in request.body?["inputs"]?.array ?? [request.body ?? .null] {
                state.events[body["uuid"]?.string ?? ""] = body
            }
            return .json(204, .null)
        default: break
        }
        if path.hasPrefix("/integrators/timeline/v3/54321/event-templates") {
            return templates(request, Array(parts.dropFirst(5)), &state)
        }
        if parts.count >= 4, parts[0...2] == ["crm", "v3", "properties"] { return property(request, parts, &state) }
        if parts.count == 5, parts[0...2] == ["crm", "v3", "objects"] {
            return object(request, type: parts[3], id: parts[4], byEmail: query.hasPrefix("idProperty=email"), &state)
        }
        return notFound
    }

    private static func scope(of path: String, _ method: String) -> String? {
        if path.hasPrefix("/integrators/timeline/v3/events") || path.hasPrefix("/crm/v3/timeline") { return "timeline" }
        if path == "/crm/v3/objects/contacts/batch/read" { return "crm.objects.contacts.read" }
        if path.hasPrefix("/crm/v3/objects/contacts") {
            return method == "GET" ? "crm.objects.contacts.read" : "crm.objects.contacts.write"
        }
        if path == "/crm/v3/objects/deals/batch/update"
            || (path.hasPrefix("/crm/v3/objects/deals/") && method == "PATCH")
        {
            return "crm.objects.deals.write"
        }
        if path.hasPrefix("/crm/v3/properties/contacts") {
            return method == "GET" ? "crm.schemas.contacts.read" : "crm.schemas.contacts.write"
        }
        if path.hasPrefix("/crm/v3/objects/notes") { return "crm.objects.contacts.write" }
        return nil
    }

    static let pipelines: JSONValue = [
        [
            "id": "second", "label": "Renewals", "displayOrder": 1, "archived": false, "createdAt": "x",
            "updatedAt": "x",
            "stages": [],
        ],
        [
            "id": "default", "label": "Sales", "displayOrder": 0, "archived": false,
            "stages": [
                ["id": "closedwon", "label": "Won", "displayOrder": 5, "metadata": ["isClosed": "true"]],
                ["id": "qualifiedtobuy", "label": "Qualified", "displayOrder": 1, "metadata": ["isClosed": "false"]],
                [
                    "id": "appointmentscheduled", "label": "Appointment", "displayOrder": 0,
                    "metadata": ["isClosed": "false"],
                ],
            ],
        ],
    ]
}

// MARK: - Records

extension Portal {
    static func split(_ url: String) -> (path: String, query: String) {
        let rest = url.hasPrefix("https://api.hubapi.com") ? String(url.dropFirst(22)) : url
        let parts = rest.split(separator: "?", maxSplits: 1).map(String.init)
        return (parts.first ?? "", parts.count > 1 ? parts[1] : "")
    }

    private static func record(_ id: String, _ properties: [String: JSONValue]) -> JSONValue {
        [
            "id": .string(id), "properties": .object(properties), "createdAt": "2025-10-24T10:00:00.000Z",
            "updatedAt": "2025-10-24T10:00:00.000Z", "archived": false,
        ]
    }

    private static func done(_ results: [JSONValue], errors: [JSONValue] = []) -> JSONValue {
        var body: [String: JSONValue] = [
            "status": "COMPLETE", "results": .array(results), "startedAt": "2025-10-24T10:00:00.000Z",
            "completedAt": "2025-10-24T10:00:00.100Z",
        ]
        if !errors.isEmpty {
            body["numErrors"] = .int(Int64(errors.count))
            body["errors"] = .array(errors)
        }
        return .object(body)
    }

    private static func readContacts(_ body: JSONValue?, _ state: State) -> FakeAnswer {
        var found: [JSONValue] = []
        for input in body?["inputs"]?.array ?? [] {
            guard let email = input["id"]?.string?.lowercased() else { continue }
            if let (id, contact) = state.contacts.first(where: { $0.value["email"]?.string == email }) {
                found.append(record(id, contact))
            }
        }
        let all = found.count == body?["inputs"]?.array?.count
        return .json(
            all ? 200 : 207, done(found, errors: all ? [] : [["status": "error", "message": "some are missing"]]))
    }

    /// The text of a refusal for properties that are not there or read only; nil when all fit.
    private static func refusal(_ properties: JSONValue?, of type: String, _ state: State) -> String? {
        for name in (properties?.object ?? [:]).keys.sorted() where name != "dealstage" {
            guard let known = state.properties[type]?[name] else {
                return
                    "Property values were not valid: [{\"isValid\":false,\"message\":\"Property \\\"\(name)\\\" does not exist\","
                    + "\"error\":\"PROPERTY_DOESNT_EXIST\",\"name\":\"\(name)\"}]"
            }
            if known["modificationMetadata"]?["readOnlyValue"] == true {
                return
                    "Property values were not valid: [{\"isValid\":false,\"error\":\"READ_ONLY_VALUE\",\"name\":\"\(name)\"}]"
            }
        }
        return nil
    }

    private static func update(_ body: JSONValue?, _ state: inout State) -> FakeAnswer {
        var results: [JSONValue] = []
        var errors: [JSONValue] = []
        for input in body?["inputs"]?.array ?? [] {
            let id = input["id"]?.string ?? ""
            let reason =
                state.contacts[id] == nil ? "resource not found" : refusal(input["properties"], of: "contacts", state)
            if let reason {
                errors.append([
                    "status": "error", "category": "VALIDATION_ERROR", "message": .string(reason),
                    "context": ["objectWriteTraceId": [input["objectWriteTraceId"] ?? ""]],
                ])
                continue
            }
            state.contacts[id]?.merge(input["properties"]?.object ?? [:]) { $1 }
            var result = record(id, state.contacts[id] ?? [:]).object!
            result["objectWriteTraceId"] = input["objectWriteTraceId"]
            results.append(.object(result))
        }
        return .json(errors.isEmpty ? 200 : 207, done(results, errors: errors))
    }

    private static func associations(_ body: JSONValue?, _ state: State) -> FakeAnswer {
        let results = (body?["inputs"]?.array ?? []).compactMap { input -> JSONValue? in
            guard let id = input["id"]?.string, let deals = state.dealsOf[id] else { return nil }
            return [
                "from": ["id": .string(id)],
                "to": .array(
                    deals.map { deal in
                        [
                            "toObjectId": .int(Int64(deal.id)!),
                            "associationTypes": [
                                [
                                    "category": "HUBSPOT_DEFINED", "typeId": 4,
                                    "label": deal.label.map { .string($0) } ?? .null,
                                ]
                            ],
                        ]
                    }),
            ]
        }
        return .json(results.isEmpty ? 207 : 200, done(results))
    }

    private static func object(
        _ request: SentRequest, type: String, id: String, byEmail: Bool, _ state: inout State
    ) -> FakeAnswer {
        var id = id
        if type == "contacts" {
            if byEmail {
                guard let found = state.contacts.first(where: { $0.value["email"]?.string == id.replacingAt }) else {
                    return notFound
                }
                id = found.key
            }
            // A read follows a merge, a write does not: the harder of what is reported.
            if request.method == "GET" { id = state.merged[id] ?? id }
        }
        let records = type == "contacts" ? state.contacts : state.deals
        guard let found = records[id] else { return notFound }
        guard request.method == "PATCH" else { return .json(200, record(id, found)) }
        if let reason = refusal(request.body?["properties"], of: type, state) {
            return error(400, "VALIDATION_ERROR", reason)
        }
        let properties = request.body?["properties"]?.object ?? [:]
        if type == "contacts" {
            state.contacts[id]?.merge(properties) { $1 }
        } else {
            state.deals[id]?.merge(properties) { $1 }
        }
        return .json(200, record(id, found.merging(properties) { $1 }))
    }

    private static func property(_ request: SentRequest, _ parts: [String], _ state: inout State) -> FakeAnswer {
        let type = parts[3]
        if request.method == "POST", parts.count == 4 {
            guard let name = request.body?["name"]?.string else { return error(400, "VALIDATION_ERROR", "no name") }
            guard state.properties[type]?[name] == nil else {
                return error(409, "CONFLICT", "A property named '\(name)' already exists.")
            }
            state.properties[type]?[name] = request.body
            return .json(201, request.body ?? .null)
        }
        if parts.count == 4 {
            return .json(
                200, ["results": .array((state.properties[type] ?? [:]).sorted { $0.key < $1.key }.map(\.value))])
        }
        guard let found = state.properties[type]?[parts[4]] else { return notFound }
        if request.method == "DELETE" {
            state.properties[type]?[parts[4]] = nil
            return .json(204, .null)
        }
        return .json(200, found)
    }

    private static func templates(_ request: SentRequest, _ rest: [String], _ state: inout State) -> FakeAnswer {
        if request.credential != "developer_key" { return error(401, "INVALID_AUTHENTICATION", "no key") }
        switch (request.method, rest.count) {
        case ("GET", 0): return .json(200, ["results": .array(state.templates)])
        case ("POST", 0):
            var made = request.body?.object ?? [:]
            made["id"] = .string(String(1_001_298 + state.templates.count))
            state.templates.append(.object(made))
            return .json(201, .object(made))
        default: break
        }
        guard let index = state.templates.firstIndex(where: { $0["id"]?.string == rest[0] }) else { return notFound }
        if request.method == "GET" {
            if state.templateDelay > 0 {
                state.templateDelay -= 1
                return notFound
            }
            return .json(200, state.templates[index])
        }
        if request.method == "DELETE" {
            state.templates.remove(at: index)
            return .json(204, .null)
        }
        var template = state.templates[index].object ?? [:]
        template["tokens"] = .array((template["tokens"]?.array ?? []) + [request.body ?? .null])
        state.templates[index] = .object(template)
        return .json(200, request.body ?? .null)
    }

    private static func event(_ body: JSONValue, _ state: inout State) -> FakeAnswer {
        guard let id = body["id"]?.string else { return error(400, "VALIDATION_ERROR", "no id") }
        guard let contact = body["objectId"]?.string else { return error(400, "VALIDATION_ERROR", "no contact") }
        guard state.contacts[contact] != nil else { return notFound }
        if state.events[id] != nil {
            return error(400, "VALIDATION_ERROR", "Event ID already in use, please choose a new unique ID")
        }
        state.events[id] = body
        state.order.append(id)
        return .json(201, .object((body.object ?? [:]).merging(["createdAt": "x", "objectType": "contacts"]) { $1 }))
    }

    private static func events(_ body: JSONValue?, _ state: inout State, always: Int? = nil) -> FakeAnswer {
        var results: [JSONValue] = []
        var errors: [JSONValue] = []
        for input in body?["inputs"]?.array ?? [] {
            if case .json(201, let made, _) = event(input, &state) {
                results.append(made)
            } else {
                errors.append(["status": "error", "message": "bad input", "category": "VALIDATION_ERROR"])
            }
        }
        return .json(always ?? (errors.isEmpty ? 201 : 207), done(results, errors: errors))
    }
}

extension String {
    /// Of an address in a path.
    var replacingAt: String {
        var bytes: [UInt8] = []
        var rest = Array(utf8)[...]
        while let byte = rest.first {
            if byte == 37, rest.count >= 3,
                let code = UInt8(String(decoding: rest.dropFirst().prefix(2), as: UTF8.self), radix: 16)
            {
                bytes.append(code)
                rest = rest.dropFirst(3)
            } else {
                bytes.append(byte)
                rest = rest.dropFirst()
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
