// SPDX-License-Identifier: Apache-2.0

/// What v2 takes in a request body, field by field. Source: the request schemas of `specs/pipedrive/v2-2026-08.json`;
/// nulls beyond that document are those that live accounts take to clear a field.
struct PipedriveSchema: Sendable {
    enum Kind: Sendable { case integer, number, string, day, boolean, integers, contacts, object }

    struct Rule: Sendable {
        let kind: Kind
        var isNullable = false
    }

    let rules: [String: Rule]

    static let deal = PipedriveSchema(rules: [
        "title": Rule(kind: .string), "owner_id": Rule(kind: .integer),
        "person_id": Rule(kind: .integer, isNullable: true), "org_id": Rule(kind: .integer, isNullable: true),
        "pipeline_id": Rule(kind: .integer), "stage_id": Rule(kind: .integer), "value": Rule(kind: .number),
        "currency": Rule(kind: .string), "is_deleted": Rule(kind: .boolean), "is_archived": Rule(kind: .boolean),
        "archive_time": Rule(kind: .string), "status": Rule(kind: .string),
        "probability": Rule(kind: .number, isNullable: true), "lost_reason": Rule(kind: .string, isNullable: true),
        "visible_to": Rule(kind: .integer), "close_time": Rule(kind: .string, isNullable: true),
        "won_time": Rule(kind: .string), "lost_time": Rule(kind: .string),
        "expected_close_date": Rule(kind: .day, isNullable: true), "label_ids": Rule(kind: .integers),
        // In no document, but the live refusal in errors.json names it with its type.
        "channel": Rule(kind: .number, isNullable: true), "channel_id": Rule(kind: .string, isNullable: true),
        "custom_fields": Rule(kind: .object),
    ])

    static let person = PipedriveSchema(rules: [
        "name": Rule(kind: .string), "owner_id": Rule(kind: .integer),
        "org_id": Rule(kind: .integer, isNullable: true), "add_time": Rule(kind: .string),
        "emails": Rule(kind: .contacts), "phones": Rule(kind: .contacts), "visible_to": Rule(kind: .integer),
        "label_ids": Rule(kind: .integers), "marketing_status": Rule(kind: .string),
        "custom_fields": Rule(kind: .object),
    ])

    /// Refuses the first field that is unknown or mistyped.
    func check(_ body: JSONObject) throws(PipedriveFailure) {
        for member in body.members {
            guard let rule = rules[member.key] else { throw .schema(member.key, "is not allowed") }
            if member.value.isNull, rule.isNullable { continue }
            if let expectation = Self.refusal(of: member.value, kind: rule.kind) {
                throw .schema(member.key, expectation)
            }
        }
    }

    private static func refusal(of value: JSONValue, kind: Kind) -> String? {
        switch kind {
        case .integer: value.integer == nil ? "must be an integer" : nil
        case .number: value.number == nil ? "must be a number" : nil
        case .string: value.string == nil ? "must be a string" : nil
        case .day: value.string.map(Instant.isDay) == true ? nil : "must be a date in the form YYYY-MM-DD"
        case .boolean: value.bool == nil ? "must be a boolean" : nil
        case .object: value.object == nil ? "must be an object" : nil
        case .integers: value.array?.allSatisfy { $0.integer != nil } == true ? nil : "must be an array of integers"
        case .contacts:
            value.array?.allSatisfy { item in
                item["value"]?.string != nil && (item["primary"] ?? .bool(false)).bool != nil
                    && (item["label"] ?? "work").string != nil
            } == true ? nil : "must be an array of objects with value, primary and label"
        }
    }
}

// MARK: Custom fields

extension PipedriveField {
    /// Longest text of a varchar field.
    static let maximumText = 255

    /// Checks a value written through v2 (`crm-apis.md` 2.7).
    /// - Returns: what the vendor would call wrong, or nil.
    func refusal(of value: JSONValue) -> String? {
        if value.isNull { return nil }
        switch type {
        case "varchar", "varchar_auto", "phone":
            guard let text = value.string else { return "must be a string" }
            return text.unicodeScalars.count > Self.maximumText ? "must be at most \(Self.maximumText) characters" : nil
        case "text": return value.string == nil ? "must be a string" : nil
        case "double", "int": return value.number == nil ? "must be a number" : nil
        case "enum":
            guard let id = value.integer else { return "must be a number" }
            return options.contains { $0.id == id } ? nil : "must be the id of an option of this field"
        case "set":
            guard let ids = value.array, !ids.isEmpty else { return "must be a non-empty array of numbers" }
            let known = options.map(\.id)
            return ids.allSatisfy { $0.integer.map(known.contains) == true }
                ? nil : "must hold ids of options of this field"
        case "date":
            return value.string.map(Instant.isDay) == true ? nil : "must be a date in the form YYYY-MM-DD"
        case "monetary":
            guard value["value"]?.number != nil, value["currency"]?.string?.count == 3 else {
                return "must be an object with value and currency"
            }
            return nil
        case "user", "org", "people": return value.integer == nil ? "must be a number" : nil
        case "address", "daterange", "time", "timerange":
            return value["value"]?.string == nil ? "must be an object with value" : nil
        default: return "cannot be written"
        }
    }

    /// The number that a text of v1 holds; nil also for `nan` and `inf`, which are numbers to Swift and none to JSON.
    static func number(_ text: JSONValue) -> JSONValue? {
        guard let number = text.string.flatMap(Double.init), number.isFinite else { return nil }
        return .number(number)
    }

    /// Turns a value written through v1 (at the root, often as text) into what v2 keeps.
    func fromLegacy(_ value: JSONValue, currency: String?) -> JSONValue {
        let number = Self.number(value)
        switch type {
        case "enum", "user", "org", "people": return value.string.flatMap(Int.init).map { .integer($0) } ?? value
        case "double", "int": return number ?? value
        case "set":
            guard let text = value.string else { return value }
            return .array(
                text.split(separator: ",").map { part in Int(part).map { .integer($0) } ?? .string(String(part)) })
        case "monetary":
            if value.isNull || value.object != nil { return value }
            return .object([("value", number ?? value), ("currency", .string(currency ?? "EUR"))])
        default: return value
        }
    }

    /// The members that v1 shows for a value, at the root of the object.
    func legacy(_ value: JSONValue) -> [(String, JSONValue)] {
        switch type {
        case "enum": return [(key, .optional(value.integer.map(String.init)))]
        case "set":
            let ids = value.array?.compactMap { $0.integer.map(String.init) }
            return [(key, .optional(ids?.joined(separator: ",")))]
        case "monetary": return [(key, value["value"] ?? .null), (key + "_currency", value["currency"] ?? .null)]
        default: return [(key, value["value"] ?? value)]
        }
    }

    /// The value as search sees it: text-like, number, address, phone and monetary fields only.
    func searchable(_ value: JSONValue) -> String? {
        switch type {
        case "varchar", "varchar_auto", "text", "phone": value.string
        case "double", "int": value.number.map { JSONValue.number($0).text }
        case "monetary": (value["value"] ?? value).number.map { JSONValue.number($0).text }
        case "address": value["value"]?.string
        default: nil
        }
    }

    static let searchableTypes: Set<String> = [
        "varchar", "varchar_auto", "text", "phone", "double", "int", "monetary", "address",
    ]
}

extension PipedriveCompany {
    /// Checks and completes the `custom_fields` of a body.
    func customFields(_ written: JSONValue?, over current: JSONObject?) throws(PipedriveFailure) -> JSONValue {
        var values = current ?? JSONObject()
        for member in written?.object?.members ?? [] {
            guard let field = customFields.first(where: { $0.key == member.key }) else {
                throw .schema("custom_fields.\(member.key)", "is not allowed")
            }
            if let refusal = field.refusal(of: member.value) {
                throw .schema("custom_fields.\(member.key)", refusal)
            }
            values[member.key] = member.value
        }
        return .object(values)
    }
}
