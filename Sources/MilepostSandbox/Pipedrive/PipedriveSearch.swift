// SPDX-License-Identifier: Apache-2.0

/// What search sees: a copy of each object as it stood one lag ago.
struct PipedriveSearchIndex: Sendable {
    private struct Pending: Sendable {
        let kind: PipedriveKind
        let row: JSONObject
        let committed: Instant
    }

    private(set) var deals = PipedriveTable(nextID: 1)
    private(set) var persons = PipedriveTable(nextID: 1)
    private(set) var notes = PipedriveTable(nextID: 1)
    private var pending: [Pending] = []

    /// Remembers a commit. It becomes visible one lag later, in the order of the commits.
    mutating func note(_ kind: PipedriveKind, _ row: JSONObject, at instant: Instant) {
        pending.append(Pending(kind: kind, row: row, committed: instant))
    }

    /// Lets in what has waited long enough. Judged with the lag of today, so that setting it to 0 shows everything.
    mutating func settle(lagMilliseconds: Int64, now: Instant) {
        let due = pending.prefix { $0.committed.adding(milliseconds: lagMilliseconds) <= now }
        for entry in due {
            switch entry.kind {
            case .deal: deals.put(entry.row)
            case .person: persons.put(entry.row)
            case .note: notes.put(entry.row)
            }
        }
        pending.removeFirst(due.count)
    }
}

extension Pipedrive {
    /// Most rows that itemSearch hands out at once.
    private static let searchPage = 100

    /// The index of the caller's company as it stands now.
    private mutating func index(_ call: PipedriveCall) -> PipedriveSearchIndex {
        companies[call.companyID]?.index.settle(lagMilliseconds: searchLagMilliseconds, now: call.now)
        return company(of: call).index
    }

    /// A search term. Two characters at least, one when the match is exact.
    private static func term(_ call: PipedriveCall, isExact: Bool) throws(PipedriveFailure) -> String {
        let term = call.request.queryValue("term") ?? ""
        guard term.count >= (isExact ? 1 : 2) else {
            throw call.generation == .v2
                ? .schema("term", "must be at least \(isExact ? 1 : 2) characters long")
                : .badRequest("Search term must be at least \(isExact ? 1 : 2) characters long")
        }
        return term
    }

    // MARK: itemSearch

    mutating func itemSearch(_ call: PipedriveCall) throws(PipedriveFailure) -> VendorResponse {
        if call.segments.count == 2, call.segments[1] == "field" { return try fieldSearch(call) }
        guard call.segments.count == 1 else { throw PipedriveFailure(status: 404, error: "Unknown method .") }
        let kinds = try call.choices(
            "item_types",
            of: ["deal", "person", "organization", "product", "lead", "file", "mail_attachment", "project"])
        let fields = try call.choices(
            "fields",
            of: ["address", "code", "custom_fields", "email", "name", "notes", "phone", "title", "description"])
        var items: [JSONValue] = []
        if kinds?.contains("deal") != false { items += try foundDeals(call, fields: fields) }
        if kinds?.contains("person") != false { items += try foundPersons(call, fields: fields) }
        return try Self.searchAnswer(items, call, withRelated: true)
    }

    mutating func searchDeals(_ call: PipedriveCall) throws(PipedriveFailure) -> VendorResponse {
        let fields = try call.choices("fields", of: ["custom_fields", "notes", "title"])
        return try Self.searchAnswer(try foundDeals(call, fields: fields), call, withRelated: false)
    }

    mutating func searchPersons(_ call: PipedriveCall) throws(PipedriveFailure) -> VendorResponse {
        let fields = try call.choices("fields", of: ["custom_fields", "email", "notes", "phone", "name"])
        return try Self.searchAnswer(try foundPersons(call, fields: fields), call, withRelated: false)
    }

    private static func searchAnswer(
        _ items: [JSONValue], _ call: PipedriveCall, withRelated: Bool
    ) throws(PipedriveFailure) -> VendorResponse {
        let page = try page(items, of: call, limit: searchPage)
        let related: [(String, JSONValue)] = withRelated ? [("related_items", .array([]))] : []
        return success(.object([("items", .array(page.rows))] + related), more: [("additional_data", page.additional)])
    }

    private mutating func foundDeals(_ call: PipedriveCall, fields: [String]?) throws(PipedriveFailure) -> [JSONValue] {
        let isExact = try call.flag("exact_match") ?? false
        let term = try Self.term(call, isExact: isExact).lowercased()
        let statuses = try call.choices("status", of: ["open", "won", "lost"])
        let person = try call.integer("person_id")
        let index = index(call)
        let company = company(of: call)
        func matches(_ text: String) -> Bool {
            isExact ? text.lowercased() == term : text.lowercased().contains(term)
        }
        func wants(_ field: String) -> Bool { fields?.contains(field) ?? true }
        let searchedFields = company.customFields.filter { PipedriveField.searchableTypes.contains($0.type) }
        return index.deals.all.compactMap { deal in
            guard deal["is_deleted"] == .bool(false), statuses?.contains(deal["status"]?.string ?? "") != false,
                person == nil || deal["person_id"]?.integer == person
            else { return nil }
            let custom = searchedFields.compactMap { field in
                deal["custom_fields"]?[field.key].flatMap(field.searchable)
            }
            let notes = index.notes.all.filter { $0["deal_id"] == deal["id"] && $0["active_flag"] == .bool(true) }
                .compactMap { $0["content"]?.string }
            let isHit =
                wants("title") && matches(deal["title"]?.string ?? "")
                || wants("custom_fields") && custom.contains(where: matches)
                || wants("notes") && notes.contains(where: matches)
            guard isHit else { return nil }
            return Self.hit(
                Self.item(deal: deal, custom: custom.filter(matches), notes: notes.filter(matches), company))
        }
    }

    private mutating func foundPersons(_ call: PipedriveCall, fields: [String]?) throws(PipedriveFailure) -> [JSONValue]
    {
        let isExact = try call.flag("exact_match") ?? false
        let term = try Self.term(call, isExact: isExact).lowercased()
        let index = index(call)
        func matches(_ text: String) -> Bool {
            isExact ? text.lowercased() == term : text.lowercased().contains(term)
        }
        func wants(_ field: String) -> Bool { fields?.contains(field) ?? true }
        return index.persons.all.compactMap { person in
            let emails = Self.values(person["emails"])
            let phones = Self.values(person["phones"])
            guard
                wants("name") && matches(person["name"]?.string ?? "")
                    || wants("email") && emails.contains(where: matches)
                    || wants("phone") && phones.contains(where: matches)
            else { return nil }
            return Self.hit(
                .object([
                    ("id", person["id"] ?? .null), ("type", "person"), ("name", person["name"] ?? .null),
                    ("phones", .array(phones.map { .string($0) })), ("emails", .array(emails.map { .string($0) })),
                    ("visible_to", person["visible_to"] ?? .null),
                    ("owner", .object([("id", person["owner_id"] ?? .null)])),
                    ("organization", .null), ("custom_fields", .array([])), ("notes", .array([])),
                ]))
        }
    }

    private static func values(_ contacts: JSONValue?) -> [String] {
        (contacts?.array ?? []).compactMap { $0["value"]?.string }
    }

    private static func hit(_ item: JSONValue) -> JSONValue {
        .object([("result_score", .number(0.5)), ("item", item)])
    }

    private static func item(
        deal: JSONObject, custom: [String], notes: [String], _ company: PipedriveCompany
    ) -> JSONValue {
        let stage = company.stage(deal["stage_id"]?.integer ?? 0)
        let person = deal["person_id"]?.integer.flatMap { company.persons[$0] }
        func kept(_ key: String) -> (String, JSONValue) { (key, deal[key] ?? .null) }
        let contact: JSONValue =
            person.map { .object([("id", $0["id"] ?? .null), ("name", $0["name"] ?? .null)]) } ?? .null
        let standing: JSONValue = .object([("id", deal["stage_id"] ?? .null), ("name", .optional(stage?.name))])
        let owner: JSONValue = .object([("id", deal["owner_id"] ?? .null)])
        return .object([
            kept("id"), ("type", "deal"), kept("title"), kept("value"), kept("currency"), kept("status"),
            kept("visible_to"), ("owner", owner), ("stage", standing), ("person", contact), ("organization", .null),
            ("custom_fields", .array(custom.map { .string($0) })), ("notes", .array(notes.map { .string($0) })),
            kept("is_archived"),
        ])
    }

    // MARK: itemSearch/field

    /// Search in one field, case sensitive. v2 says `entity_type`, `field`, `match`; v1 `field_type`, `field_key`, `exact_match`.
    private mutating func fieldSearch(_ call: PipedriveCall) throws(PipedriveFailure) -> VendorResponse {
        let isOld = call.generation == .v1
        let entities = ["deal", "lead", "person", "organization", "product", "project"]
        let entity = try call.choice(
            isOld ? "field_type" : "entity_type", of: isOld ? entities.map { $0 + "Field" } : entities, default: "")
        let key = call.request.queryValue(isOld ? "field_key" : "field") ?? ""
        guard !entity.isEmpty, !key.isEmpty else {
            throw isOld
                ? .badRequest("field_type and field_key are required") : .schema("entity_type, field", "are required")
        }
        let match: String
        if isOld {
            match = try call.flag("exact_match") == true ? "exact" : "middle"
        } else {
            match = try call.choice("match", of: ["exact", "beginning", "middle"], default: "exact")
        }
        let term = try Self.term(call, isExact: match == "exact")
        let index = index(call)
        guard entity.hasPrefix("deal") else { return try Self.list([], of: call, limit: Self.searchPage) }
        guard let field = company(of: call).fields.first(where: { $0.key == key }) else {
            throw .badRequest("Field not found")
        }
        guard PipedriveField.searchableTypes.contains(field.type) else {
            throw .badRequest("Field type \(field.type) is not searchable")
        }
        let rows: [JSONValue] = index.deals.all.compactMap { deal in
            guard deal["is_deleted"] == .bool(false),
                let value = field.isCustom ? deal["custom_fields"]?[key] : deal[key],
                let text = field.searchable(value)
            else { return nil }
            let isHit =
                switch match {
                case "exact": text == term
                case "beginning": text.hasPrefix(term)
                default: text.contains(term)
                }
            guard isHit else { return nil }
            return .object([("id", deal["id"] ?? .null)] + (key == "id" ? [] : [(key, .string(text))]))
        }
        return try Self.list(rows, of: call, limit: Self.searchPage)
    }
}
