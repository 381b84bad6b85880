// SPDX-License-Identifier: Apache-2.0

/// Persons, as far as a deal's contact needs them. The vendor allows duplicates, and so does this.
extension Pipedrive {
    mutating func createPerson(_ call: PipedriveCall) throws(PipedriveFailure) -> VendorResponse {
        let company = company(of: call)
        let written = try call.body()
        let body = call.generation == .v1 ? Self.personBody(legacy: written) : written
        try PipedriveSchema.person.check(body)
        guard let name = body["name"]?.string, !name.isEmpty else { throw .schema("name", "is required") }
        if let owner = body["owner_id"]?.integer, company.user(owner) == nil {
            throw .badRequest("User \(owner) does not exist")
        }
        if body["custom_fields"]?.object?.members.isEmpty == false {
            throw .schema("custom_fields", "the sandbox has no custom person fields")
        }
        let words = name.split(separator: " ", maxSplits: 1).map(String.init)
        let now = JSONValue.string(call.now.rfc3339)
        let person = JSONObject([
            ("id", .integer(company.persons.nextID)), ("name", .string(name)),
            ("first_name", .string(words.first ?? name)), ("last_name", .optional(words.count > 1 ? words[1] : nil)),
            ("owner_id", .integer(call.userID)), ("org_id", .null), ("add_time", now), ("update_time", now),
            ("emails", .array([])), ("phones", .array([])), ("is_deleted", .bool(false)), ("visible_to", .integer(3)),
            ("label_ids", .array([])), ("picture_id", .null), ("custom_fields", .object([])),
        ]).merging(body)
        commit(.person, person, call)
        return Self.success(view(person, self.company(of: call), call), status: call.generation == .v1 ? 201 : 200)
    }

    func readPerson(_ call: PipedriveCall) throws(PipedriveFailure) -> VendorResponse {
        let company = company(of: call)
        guard let person = company.persons[try Self.id(in: call)] else { throw .notFound("Person") }
        return Self.success(view(person, company, call))
    }

    func listPersons(_ call: PipedriveCall) throws(PipedriveFailure) -> VendorResponse {
        let company = company(of: call)
        var rows = company.persons.all
        if call.generation == .v2 {
            if let text = call.request.queryValue("ids") {
                let ids = text.split(separator: ",").compactMap { Int($0) }
                rows = rows.filter { ids.contains($0["id"]?.integer ?? 0) }
            }
            if let owner = try call.integer("owner_id") { rows = rows.filter { $0["owner_id"]?.integer == owner } }
            rows = try Self.window(rows, call)
        }
        return try Self.list(rows.map { view($0, company, call) }, of: call)
    }

    private static func personBody(legacy body: JSONObject) -> JSONObject {
        func contacts(_ value: JSONValue) -> JSONValue {
            if let text = value.string {
                return .array([.object([("value", .string(text)), ("primary", .bool(true)), ("label", "work")])])
            }
            return .array(
                (value.array ?? []).map { item in
                    guard let text = item.string else { return item }
                    return .object([("value", .string(text)), ("primary", .bool(false)), ("label", "work")])
                })
        }
        var translated = JSONObject()
        for member in body.members {
            switch member.key {
            case "name", "add_time", "marketing_status", "label_ids": translated[member.key] = member.value
            case "owner_id", "org_id", "visible_to":
                translated[member.key] = member.value.string.flatMap(Int.init).map { .integer($0) } ?? member.value
            case "email": translated["emails"] = contacts(member.value)
            case "phone": translated["phones"] = contacts(member.value)
            default: continue
            }
        }
        return translated
    }

    private func view(_ person: JSONObject, _ company: PipedriveCompany, _ call: PipedriveCall) -> JSONValue {
        guard call.generation == .v1 else { return .object(person) }
        let owner = company.user(person["owner_id"]?.integer ?? 0)
        let name = person["name"]?.string ?? ""
        return .object([
            ("id", person["id"] ?? .null), ("company_id", .integer(company.id)),
            (
                "owner_id",
                .object([
                    ("id", .optional(owner?.id)), ("name", .optional(owner?.name)), ("email", .optional(owner?.email)),
                    ("has_pic", .integer(0)), ("pic_hash", .null), ("active_flag", .bool(true)),
                    ("value", .optional(owner?.id)),
                ])
            ),
            ("org_id", .null), ("name", .string(name)), ("first_name", person["first_name"] ?? .null),
            ("last_name", person["last_name"] ?? .null), ("active_flag", .bool(true)),
            ("phone", person["phones"] ?? .array([])), ("email", person["emails"] ?? .array([])),
            ("first_char", .string(String(name.prefix(1)).lowercased())),
            ("add_time", .optional(Self.plainTime(person["add_time"]))),
            ("update_time", .optional(Self.plainTime(person["update_time"]))),
            ("visible_to", .optional(person["visible_to"]?.integer.map(String.init))), ("picture_id", .null),
            ("label_ids", person["label_ids"] ?? .array([])), ("org_name", .null),
            ("owner_name", .optional(owner?.name)),
        ])
    }
}
