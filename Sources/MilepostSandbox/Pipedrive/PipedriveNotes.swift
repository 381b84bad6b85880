// SPDX-License-Identifier: Apache-2.0

/// Notes exist in v1 only, and are not deprecated there.
extension Pipedrive {
    private static let targets = ["lead_id", "deal_id", "person_id", "org_id", "project_id", "task_id"]
    private static let pins = ["lead", "deal", "organization", "person", "project", "task"].map {
        "pinned_to_\($0)_flag"
    }

    /// The notes on a deal that have not been deleted, oldest first.
    func notes(on dealID: Int?, _ company: PipedriveCompany) -> [JSONObject] {
        company.notes.all.filter {
            $0["deal_id"]?.integer == dealID && dealID != nil && $0["active_flag"] == .bool(true)
        }
    }

    mutating func createNote(_ call: PipedriveCall) throws(PipedriveFailure) -> VendorResponse {
        let company = company(of: call)
        let body = try call.body()
        guard let content = body["content"]?.string, !content.isEmpty else {
            throw .badRequest("Bad request: content is required")
        }
        guard Self.targets.contains(where: { body[$0].map { !$0.isNull } ?? false }) else {
            throw .badRequest(
                "Bad request: one of lead_id, deal_id, person_id, org_id, project_id or task_id is required")
        }
        let now = JSONValue.string(call.now.plain)
        var note = JSONObject([
            ("id", .integer(company.notes.nextID)), ("active_flag", .bool(true)), ("add_time", now),
            ("content", .string(content)), ("lead_id", .null), ("deal_id", .null), ("person_id", .null),
            ("org_id", .null),
            ("project_id", .null), ("task_id", .null), ("last_update_user_id", .null),
        ])
        for pin in Self.pins { note[pin] = .bool(false) }
        note["update_time"] = now
        note["user_id"] = .integer(call.userID)
        try apply(body, to: &note, company)
        commit(.note, note, call)
        return Self.success(view(note, self.company(of: call), call))
    }

    mutating func updateNote(_ call: PipedriveCall) throws(PipedriveFailure) -> VendorResponse {
        let company = company(of: call)
        var note = try note(call, company)
        let body = try call.body()
        if let content = body["content"] {
            guard let text = content.string, !text.isEmpty else {
                throw .badRequest("Bad request: content must be text")
            }
            note["content"] = .string(text)
        }
        try apply(body, to: &note, company)
        note["update_time"] = .string(call.now.plain)
        note["last_update_user_id"] = .integer(call.userID)
        commit(.note, note, call)
        return Self.success(view(note, self.company(of: call), call))
    }

    mutating func deleteNote(_ call: PipedriveCall) throws(PipedriveFailure) -> VendorResponse {
        let company = company(of: call)
        var note = try note(call, company)
        note["active_flag"] = .bool(false)
        commit(.note, note, call)
        return Self.success(.bool(true))
    }

    func readNote(_ call: PipedriveCall) throws(PipedriveFailure) -> VendorResponse {
        let company = company(of: call)
        return Self.success(view(try note(call, company), company, call))
    }

    func listNotes(_ call: PipedriveCall) throws(PipedriveFailure) -> VendorResponse {
        let company = company(of: call)
        var rows = company.notes.all.filter { $0["active_flag"] == .bool(true) }
        for name in Self.targets.dropFirst() + ["user_id"] {
            if let wanted = try call.integer(name) { rows = rows.filter { $0[name]?.integer == wanted } }
        }
        if let wanted = call.request.queryValue("lead_id") { rows = rows.filter { $0["lead_id"]?.string == wanted } }
        for pin in Self.pins {
            if let wanted = try call.flag(pin) { rows = rows.filter { $0[pin] == .bool(wanted) } }
        }
        if let since = try call.time("updated_since")?.plain {
            rows = rows.filter { ($0["update_time"]?.string ?? "") >= since }
        }
        rows = try Self.legacySorted(rows, call, keys: ["id", "add_time", "update_time", "content"])
        return try Self.list(rows.map { view($0, company, call) }, of: call)
    }

    private func note(_ call: PipedriveCall, _ company: PipedriveCompany) throws(PipedriveFailure) -> JSONObject {
        guard let note = company.notes[try Self.id(in: call)], note["active_flag"] == .bool(true) else {
            throw .notFound("Note")
        }
        return note
    }

    private func apply(_ body: JSONObject, to note: inout JSONObject, _ company: PipedriveCompany)
        throws(PipedriveFailure)
    {
        for name in Self.targets {
            guard let value = body[name], !value.isNull else { continue }
            // v1 is lenient: a form, and many clients, send ids as text.
            let id: JSONValue = value.string.flatMap(Int.init).map { .integer($0) } ?? value
            switch name {
            case "deal_id": guard let id = id.integer, company.deals[id] != nil else { throw .notFound("Deal") }
            case "person_id": guard let id = id.integer, company.persons[id] != nil else { throw .notFound("Person") }
            default: break
            }
            note[name] = id
        }
        for pin in Self.pins {
            guard let value = body[pin] else { continue }
            guard let flag = value.integer ?? value.string.flatMap(Int.init), flag == 0 || flag == 1 else {
                throw .badRequest("Bad request: \(pin) must be 0 or 1")
            }
            note[pin] = .bool(flag == 1)
        }
    }

    private func view(_ note: JSONObject, _ company: PipedriveCompany, _ call: PipedriveCall) -> JSONValue {
        var view = note
        let deal = note["deal_id"]?.integer.flatMap { company.deals[$0] }
        let person = note["person_id"]?.integer.flatMap { company.persons[$0] }
        view["deal"] = deal.map { .object([("title", $0["title"] ?? .null)]) } ?? .null
        view["person"] = person.map { .object([("name", $0["name"] ?? .null)]) } ?? .null
        for name in ["organization", "project", "task"] { view[name] = .null }
        let user = company.user(note["user_id"]?.integer ?? 0)
        view["user"] = .object([
            ("email", .optional(user?.email)), ("icon_url", .null), ("is_you", .bool(user?.id == call.userID)),
            ("name", .optional(user?.name)),
        ])
        return .object(view)
    }
}
