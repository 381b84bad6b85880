// SPDX-License-Identifier: Apache-2.0

/// Deals: create, read, change, delete, list. Kept in the shape of v2; `PipedriveDealsLegacy.swift` speaks v1.
extension Pipedrive {
    // MARK: Write

    mutating func createDeal(_ call: PipedriveCall) throws(PipedriveFailure) -> VendorResponse {
        let company = company(of: call)
        let body = try dealBody(call, company)
        guard let title = body["title"]?.string, !title.isEmpty else { throw .schema("title", "is required") }
        let place = try place(of: body, current: nil, in: company)
        let now = JSONValue.string(call.now.rfc3339)
        let blank = JSONObject([
            ("id", .integer(company.deals.nextID)), ("title", .string(title)),
            ("creator_user_id", .integer(call.userID)),
            ("owner_id", .integer(call.userID)), ("value", .integer(0)), ("person_id", .null), ("org_id", .null),
            ("stage_id", .integer(place.stage)), ("pipeline_id", .integer(place.pipeline)), ("currency", "EUR"),
            ("archive_time", .null), ("add_time", now), ("update_time", now), ("stage_change_time", .null),
            ("status", "open"), ("is_archived", .bool(false)), ("is_deleted", .bool(false)), ("probability", .null),
            ("lost_reason", .null), ("visible_to", .integer(3)), ("close_time", .null), ("won_time", .null),
            ("lost_time", .null), ("local_won_date", .null), ("local_lost_date", .null), ("local_close_date", .null),
            ("expected_close_date", .null), ("label_ids", .array([])), ("origin", "API"), ("origin_id", .null),
            ("channel", .null), ("channel_id", .null), ("source_lead_id", .null), ("acv", .null), ("arr", .null),
            ("mrr", .null), ("custom_fields", .object([])),
        ])
        let deal = try changed(blank, by: body, call, company)
        commit(.deal, deal, call)
        return Self.success(view(deal, call, self.company(of: call)), status: call.generation == .v1 ? 201 : 200)
    }

    mutating func updateDeal(_ call: PipedriveCall) throws(PipedriveFailure) -> VendorResponse {
        let company = company(of: call)
        let current = try deal(call, company)
        let body = try dealBody(call, company)
        guard current["is_deleted"] == .bool(false) || body["is_deleted"] == .bool(false) else {
            throw .notFound("Deal")
        }
        if let title = body["title"], title.string?.isEmpty != false { throw .schema("title", "must not be empty") }
        let deal = try changed(current, by: body, call, company)
        commit(.deal, deal, call)
        return Self.success(view(deal, call, self.company(of: call)))
    }

    mutating func deleteDeal(_ call: PipedriveCall) throws(PipedriveFailure) -> VendorResponse {
        let company = company(of: call)
        var deal = try deal(call, company)
        guard deal["is_deleted"] == .bool(false) else { throw .notFound("Deal") }
        deal["is_deleted"] = .bool(true)
        deal["update_time"] = .string(call.now.rfc3339)
        commit(.deal, deal, call)
        return Self.success(.object([("id", deal["id"] ?? .null)]))
    }

    /// The body in the shape of v2, checked.
    private func dealBody(_ call: PipedriveCall, _ company: PipedriveCompany) throws(PipedriveFailure) -> JSONObject {
        let written = try call.body()
        let body = call.generation == .v1 ? Self.dealBody(legacy: written, company) : written
        try PipedriveSchema.deal.check(body)
        return body
    }

    /// A deal after a body has been applied to it, with the times that follow from the change.
    private func changed(
        _ current: JSONObject, by body: JSONObject, _ call: PipedriveCall, _ company: PipedriveCompany
    ) throws(PipedriveFailure) -> JSONObject {
        var deal = current.merging(body)
        let place = try place(of: body, current: current, in: company)
        try checkRelations(body, company)
        deal["pipeline_id"] = .integer(place.pipeline)
        deal["stage_id"] = .integer(place.stage)
        deal["custom_fields"] = try company.customFields(body["custom_fields"], over: current["custom_fields"]?.object)
        let now = JSONValue.string(call.now.rfc3339)
        deal["update_time"] = now
        if current["stage_id"] != deal["stage_id"] { deal["stage_change_time"] = now }
        if current["is_archived"] != deal["is_archived"] {
            deal["archive_time"] = deal["is_archived"] == .bool(true) ? now : .null
        }
        if let status = body["status"]?.string { try apply(status: status, to: &deal, body: body, call) }
        return deal
    }

    private func apply(
        status: String, to deal: inout JSONObject, body: JSONObject, _ call: PipedriveCall
    ) throws(PipedriveFailure) {
        let now = JSONValue.string(call.now.rfc3339)
        let today = JSONValue.string(String(call.now.rfc3339.prefix(10)))
        switch status {
        case "open":
            for key in ["won_time", "lost_time", "close_time", "local_won_date", "local_lost_date", "local_close_date"]
            {
                deal[key] = .null
            }
        case "won", "lost":
            deal["\(status)_time"] = body["\(status)_time"] ?? now
            deal["close_time"] = body["close_time"] ?? now
            deal["local_\(status)_date"] = today
            deal["local_close_date"] = today
        case "deleted": deal["is_deleted"] = .bool(true)
        default: throw .schema("status", "must be one of [open, won, lost, deleted]")
        }
        if status != "lost", body["lost_reason"]?.string != nil {
            throw .badRequest("lost_reason can only be set when the deal status is lost")
        }
    }

    /// Where a deal stands: an explicit stage decides, a bare pipeline means its first stage, nothing means no move.
    private func place(
        of body: JSONObject, current: JSONObject?, in company: PipedriveCompany
    ) throws(PipedriveFailure) -> (pipeline: Int, stage: Int) {
        func first(of pipelineID: Int) throws(PipedriveFailure) -> Int {
            let stages = company.stages.filter { $0.pipelineID == pipelineID && !$0.isDeleted }
            guard let stage = stages.min(by: { $0.order < $1.order }) else {
                throw .badRequest("Pipeline has no stages")
            }
            return stage.id
        }
        let wantedPipeline = body["pipeline_id"]?.integer
        if let wantedPipeline, company.pipeline(wantedPipeline) == nil {
            throw .badRequest("Pipeline \(wantedPipeline) does not exist")
        }
        if let stageID = body["stage_id"]?.integer {
            guard let stage = company.stage(stageID) else { throw .badRequest("Stage \(stageID) does not exist") }
            if let wantedPipeline, wantedPipeline != stage.pipelineID {
                throw .badRequest("Stage \(stageID) does not belong to pipeline \(wantedPipeline)")
            }
            return (stage.pipelineID, stage.id)
        }
        let standing = (current?["pipeline_id"]?.integer, current?["stage_id"]?.integer)
        if let pipeline = standing.0, let stage = standing.1, wantedPipeline == nil || wantedPipeline == pipeline {
            return (pipeline, stage)
        }
        let live = company.pipelines.filter { !$0.isDeleted }
        guard let pipeline = wantedPipeline ?? live.min(by: { $0.order < $1.order })?.id else {
            throw .badRequest("The company has no pipeline")
        }
        return (pipeline, try first(of: pipeline))
    }

    private func checkRelations(_ body: JSONObject, _ company: PipedriveCompany) throws(PipedriveFailure) {
        if let owner = body["owner_id"]?.integer, company.user(owner) == nil {
            throw .badRequest("User \(owner) does not exist")
        }
        if let person = body["person_id"]?.integer, company.persons[person] == nil {
            throw .badRequest("Person \(person) does not exist")
        }
        if let organization = body["org_id"]?.integer {
            throw .badRequest("Organization \(organization) does not exist")
        }
        if let visible = body["visible_to"]?.integer, ![1, 3, 5, 7].contains(visible) {
            throw .schema("visible_to", "must be one of [1, 3, 5, 7]")
        }
        if let currency = body["currency"]?.string, currency.utf8.count != 3 {
            throw .badRequest("Currency is invalid")
        }
    }

    // MARK: Read

    func readDeal(_ call: PipedriveCall) throws(PipedriveFailure) -> VendorResponse {
        let company = company(of: call)
        return Self.success(try shown(try deal(call, company), call, company))
    }

    /// Deals, or the archived ones: since 2025-07-15 neither list shows the other's.
    func listDeals(_ call: PipedriveCall, archived: Bool = false) throws(PipedriveFailure) -> VendorResponse {
        let company = company(of: call)
        let all = try call.generation == .v2 ? filtered(call, company) : Self.legacyFiltered(call, company)
        let rows = all.filter { ($0["is_archived"] == .bool(true)) == archived }
        // The page is cut before the rows are rendered: rendering the whole table for each page would be quadratic.
        let page = try Self.page(rows.map { .object($0) }, of: call)
        var shown: [JSONValue] = []
        for row in page.rows { shown.append(try self.shown(row.object ?? JSONObject(), call, company)) }
        return Self.success(.array(shown), more: [("additional_data", page.additional)])
    }

    private func deal(_ call: PipedriveCall, _ company: PipedriveCompany) throws(PipedriveFailure) -> JSONObject {
        guard let deal = company.deals[try Self.id(in: call)] else { throw .notFound("Deal") }
        return deal
    }

    private func filtered(_ call: PipedriveCall, _ company: PipedriveCompany) throws(PipedriveFailure) -> [JSONObject] {
        var rows = company.deals.all
        let statuses = try call.choices("status", of: ["open", "won", "lost", "deleted"])
        rows = rows.filter { row in
            if row["is_deleted"] == .bool(true) { return statuses?.contains("deleted") == true }
            return statuses?.contains(row["status"]?.string ?? "") ?? true
        }
        if let text = call.request.queryValue("ids") {
            let ids = text.split(separator: ",").compactMap { Int($0) }
            guard !ids.isEmpty, ids.count <= 100 else { throw .schema("ids", "must hold 1 to 100 ids") }
            rows = rows.filter { ids.contains($0["id"]?.integer ?? 0) }
        }
        for name in ["owner_id", "person_id", "org_id", "pipeline_id", "stage_id"] {
            if let wanted = try call.integer(name) { rows = rows.filter { $0[name]?.integer == wanted } }
        }
        return try Self.window(rows, call)
    }

    /// `updated_since` (inclusive), `updated_until` (exclusive), `sort_by` and `sort_direction` of v2.
    static func window(_ rows: [JSONObject], _ call: PipedriveCall) throws(PipedriveFailure) -> [JSONObject] {
        var rows = rows
        // Times in one form and one zone compare as text.
        if let since = try call.time("updated_since")?.rfc3339 {
            rows = rows.filter { ($0["update_time"]?.string ?? "") >= since }
        }
        if let until = try call.time("updated_until")?.rfc3339 {
            rows = rows.filter { ($0["update_time"]?.string ?? "") < until }
        }
        let key = try call.choice("sort_by", of: ["id", "update_time", "add_time"], default: "id")
        let isDescending = try call.choice("sort_direction", of: ["asc", "desc"], default: "asc") == "desc"
        let keyed = rows.map { (key == "id" ? "" : $0[key]?.string ?? "", $0["id"]?.integer ?? 0, $0) }
        let sorted = keyed.sorted { isDescending ? ($0.0, $0.1) > ($1.0, $1.1) : ($0.0, $0.1) < ($1.0, $1.1) }
        return sorted.map(\.2)
    }

    /// A deal as a reader sees it, with the options of the query applied.
    private func shown(
        _ deal: JSONObject, _ call: PipedriveCall, _ company: PipedriveCompany
    ) throws(PipedriveFailure) -> JSONValue {
        guard call.generation == .v2 else { return view(deal, call, company) }
        var deal = deal
        if let text = call.request.queryValue("custom_fields") {
            let wanted = text.split(separator: ",").map(String.init)
            guard wanted.count <= 15 else { throw .schema("custom_fields", "must hold at most 15 keys") }
            let all = Self.completed(deal, company).members.filter { wanted.contains($0.key) }
            deal["custom_fields"] = .object(all.map { ($0.key, $0.value) })
        } else {
            deal["custom_fields"] = .object(Self.completed(deal, company))
        }
        if try call.flag("include_option_labels") == true, var values = deal["custom_fields"]?.object {
            for member in values.members {
                guard let field = company.fields.first(where: { $0.key == member.key }), !field.options.isEmpty else {
                    continue
                }
                values[member.key] = field.labelled(member.value)
            }
            deal["custom_fields"] = .object(values)
        }
        return .object(deal)
    }

    /// Every custom field of the account with its value, or null.
    private static func completed(_ deal: JSONObject, _ company: PipedriveCompany) -> JSONObject {
        let values = deal["custom_fields"]?.object
        return JSONObject(company.customFields.map { ($0.key, values?[$0.key] ?? .null) })
    }

    func view(_ deal: JSONObject, _ call: PipedriveCall, _ company: PipedriveCompany) -> JSONValue {
        switch call.generation {
        case .v1: return .object(legacy(deal, company))
        case .v2:
            var deal = deal
            deal["custom_fields"] = .object(Self.completed(deal, company))
            return .object(deal)
        }
    }
}

extension PipedriveField {
    /// Option ids as `{id, label}`.
    fileprivate func labelled(_ value: JSONValue) -> JSONValue {
        func labelled(_ id: Int) -> JSONValue {
            .object([("id", .integer(id)), ("label", .optional(options.first { $0.id == id }?.label))])
        }
        if let id = value.integer { return labelled(id) }
        if let ids = value.array { return .array(ids.compactMap { $0.integer.map(labelled) }) }
        return value
    }
}
