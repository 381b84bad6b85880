// SPDX-License-Identifier: Apache-2.0

/// Deals as v1 speaks of them: relations as objects, custom fields at the root, times without zone.
/// Shapes: `specs/pipedrive/v1-legacy-2026-01.json`.
extension Pipedrive {
    /// Translates a body of v1. Fields that v1 does not know are left out, because v1 ignores them.
    static func dealBody(legacy body: JSONObject, _ company: PipedriveCompany) -> JSONObject {
        var translated = JSONObject()
        var custom = JSONObject()
        for member in body.members {
            let whole: JSONValue = member.value.string.flatMap(Int.init).map { .integer($0) } ?? member.value
            let number = PipedriveField.number(member.value) ?? member.value
            switch member.key {
            case "title", "currency", "status", "lost_reason", "expected_close_date", "close_time", "won_time",
                "lost_time":
                translated[member.key] = member.value
            case "person_id", "org_id", "pipeline_id", "stage_id", "visible_to": translated[member.key] = whole
            case "user_id": translated["owner_id"] = whole
            case "value", "probability": translated[member.key] = number
            case "label": translated["label_ids"] = member.value.array == nil ? .array([whole]) : member.value
            case "is_archived": translated[member.key] = .bool(whole == .integer(1) || member.value == .bool(true))
            default:
                guard let field = company.customFields.first(where: { $0.key == member.key }) else { continue }
                custom[member.key] = field.fromLegacy(member.value, currency: body[member.key + "_currency"]?.string)
            }
        }
        if !custom.members.isEmpty { translated["custom_fields"] = .object(custom) }
        return translated
    }

    /// `status`, `stage_id`, `user_id` and `sort` of the v1 list.
    static func legacyFiltered(_ call: PipedriveCall, _ company: PipedriveCompany) throws(PipedriveFailure)
        -> [JSONObject]
    {
        let status = try call.choice(
            "status", of: ["open", "won", "lost", "deleted", "all_not_deleted"], default: "all_not_deleted")
        var rows = company.deals.all.filter { row in
            let isDeleted = row["is_deleted"] == .bool(true)
            switch status {
            case "deleted": return isDeleted
            case "all_not_deleted": return !isDeleted
            default: return !isDeleted && row["status"]?.string == status
            }
        }
        if let stage = try call.integer("stage_id") { rows = rows.filter { $0["stage_id"]?.integer == stage } }
        if let user = try call.integer("user_id") { rows = rows.filter { $0["owner_id"]?.integer == user } }
        return try legacySorted(rows, call, keys: ["id", "add_time", "update_time", "title"])
    }

    /// `sort=add_time DESC, id ASC`.
    static func legacySorted(_ rows: [JSONObject], _ call: PipedriveCall, keys: [String]) throws(PipedriveFailure)
        -> [JSONObject]
    {
        guard let text = call.request.queryValue("sort"), let first = text.split(separator: ",").first else {
            return rows
        }
        let words = first.split(separator: " ").map(String.init)
        guard let key = words.first, keys.contains(key) else {
            throw .badRequest("Bad request: sort field is not allowed")
        }
        let isDescending = words.dropFirst().first?.uppercased() == "DESC"
        let sorted = rows.sorted { left, right in
            (key == "id" ? "" : left[key]?.string ?? "", left["id"]?.integer ?? 0)
                < (key == "id" ? "" : right[key]?.string ?? "", right["id"]?.integer ?? 0)
        }
        return isDescending ? sorted.reversed() : sorted
    }

    /// A deal in the shape of v1.
    func legacy(_ deal: JSONObject, _ company: PipedriveCompany) -> JSONObject {
        let owner = company.user(deal["owner_id"]?.integer ?? 0)
        let stage = company.stage(deal["stage_id"]?.integer ?? 0)
        let person = deal["person_id"]?.integer.flatMap { company.persons[$0] }
        let isDeleted = deal["is_deleted"] == .bool(true)
        func time(_ key: String) -> JSONValue { .optional(Self.plainTime(deal[key])) }
        func kept(_ key: String) -> (String, JSONValue) { (key, deal[key] ?? .null) }
        var view = JSONObject([
            kept("id"), ("creator_user_id", Self.relation(company.user(deal["creator_user_id"]?.integer ?? 0))),
            ("user_id", Self.relation(owner)), ("person_id", Self.relation(person: person)), ("org_id", .null),
            kept("stage_id"), kept("title"), kept("value"), kept("currency"), ("add_time", time("add_time")),
            ("update_time", time("update_time")), ("stage_change_time", time("stage_change_time")),
            ("active", .bool(!isDeleted && deal["status"] == "open")), ("deleted", .bool(isDeleted)),
            kept("is_archived"), ("status", isDeleted ? "deleted" : deal["status"] ?? .null), kept("probability"),
            kept("lost_reason"), ("visible_to", .optional(deal["visible_to"]?.integer.map(String.init))),
            ("close_time", time("close_time")), kept("pipeline_id"), ("won_time", time("won_time")),
            ("lost_time", time("lost_time")), kept("expected_close_date"),
            ("notes_count", .integer(notes(on: deal["id"]?.integer, company).count)),
            ("label", .optional(deal["label_ids"]?.array?.first?.integer.map(String.init))),
            ("stage_order_nr", .integer(stage?.order ?? 0)), ("person_name", person?["name"] ?? .null),
            ("org_name", .null), ("owner_name", .optional(owner?.name)), kept("origin"), kept("origin_id"),
            kept("channel"), kept("channel_id"), kept("arr"), kept("mrr"), kept("acv"),
        ])
        for field in company.customFields {
            let value = deal["custom_fields"]?[field.key] ?? .null
            for (key, value) in field.legacy(value) { view[key] = value }
        }
        return view
    }

    /// `2026-11-02T15:04:05Z` as `2026-11-02 15:04:05`.
    static func plainTime(_ value: JSONValue?) -> String? {
        value?.string.map { text in Instant(rfc3339: text)?.plain ?? text }
    }

    private static func relation(_ user: PipedriveUser?) -> JSONValue {
        guard let user else { return .null }
        return .object([
            ("id", .integer(user.id)), ("name", .string(user.name)), ("email", .string(user.email)),
            ("has_pic", .bool(false)), ("pic_hash", .null), ("active_flag", .bool(true)), ("value", .integer(user.id)),
        ])
    }

    private static func relation(person: JSONObject?) -> JSONValue {
        guard let person else { return .null }
        return .object([
            ("active_flag", .bool(true)), ("name", person["name"] ?? .null), ("email", person["emails"] ?? .array([])),
            ("phone", person["phones"] ?? .array([])), ("owner_id", person["owner_id"] ?? .null),
            ("value", person["id"] ?? .null),
        ])
    }
}
