// SPDX-License-Identifier: Apache-2.0

/// What a client reads before it writes: users, pipelines, stages, field definitions.
extension Pipedrive {
    // MARK: Users (v1 only)

    func users(_ call: PipedriveCall) throws(PipedriveFailure) -> VendorResponse {
        let company = company(of: call)
        switch call.segments.count {
        case 1:
            return Self.success(
                .array(company.users.map { .object(user($0, of: company, isYou: $0.id == call.userID)) }))
        case 2 where call.segments[1] == "me":
            guard let me = company.user(call.userID) else { throw .unauthorized }
            let account = JSONObject([
                ("company_id", .integer(company.id)), ("company_name", .string(company.name)),
                ("company_domain", .string(company.domain)), ("company_country", "DE"),
                ("company_industry", "IT Services"),
                ("language", .object([("language_code", "en"), ("country_code", "US")])),
            ])
            return Self.success(.object(user(me, of: company, isYou: true).merging(account)))
        case 2:
            guard let user = company.user(try Self.id(in: call)) else { throw .notFound("User") }
            return Self.success(.object(self.user(user, of: company, isYou: user.id == call.userID)))
        default: throw PipedriveFailure(status: 404, error: "Unknown method .")
        }
    }

    private func user(_ user: PipedriveUser, of company: PipedriveCompany, isYou: Bool) -> JSONObject {
        let start = company.pipelines.first?.addTime.plain ?? Instant(milliseconds: 0).plain
        func access(_ app: String, _ set: String) -> JSONValue {
            .object([("app", .string(app)), ("admin", .bool(user.isAdmin)), ("permission_set_id", .string(set))])
        }
        return JSONObject([
            ("id", .integer(user.id)), ("name", .string(user.name)), ("default_currency", "EUR"),
            ("locale", "en_US"), ("lang", .integer(1)), ("email", .string(user.email)), ("phone", .null),
            ("activated", .bool(true)), ("last_login", .string(start)), ("created", .string(start)),
            ("modified", .string(start)), ("has_created_company", .bool(user.isAdmin)),
            (
                "access",
                .array([
                    access("sales", "62cc4d7f-4038-4352-abf3-a8c1c822b631"),
                    access("global", "233b7976-39bd-43a9-b305-ef3a2b0998e5"),
                ])
            ),
            ("active_flag", .bool(true)), ("timezone_name", "Europe/Berlin"), ("timezone_offset", "+01:00"),
            ("role_id", .integer(1)), ("icon_url", .null), ("is_you", .bool(isYou)), ("is_deleted", .bool(false)),
        ])
    }

    // MARK: Pipelines and stages

    func pipelines(_ call: PipedriveCall) throws(PipedriveFailure) -> VendorResponse {
        let company = company(of: call)
        if call.segments.count == 2 {
            guard let pipeline = company.pipeline(try Self.id(in: call)) else { throw .notFound("Pipeline") }
            return Self.success(view(pipeline, call))
        }
        let sorted = try sort(
            company.pipelines.filter { !$0.isDeleted }, call, keys: ["id", "update_time", "add_time"]
        ) {
            (pipeline, key) in
            switch key {
            case "update_time": pipeline.updateTime.milliseconds
            case "add_time": pipeline.addTime.milliseconds
            default: Int64(pipeline.id)
            }
        }
        let views = sorted.map { view($0, call) }
        return call.generation == .v1 ? Self.success(.array(views)) : try Self.list(views, of: call)
    }

    private func view(_ pipeline: PipedrivePipeline, _ call: PipedriveCall) -> JSONValue {
        switch call.generation {
        case .v2:
            .object([
                ("id", .integer(pipeline.id)), ("name", .string(pipeline.name)), ("order_nr", .integer(pipeline.order)),
                ("is_deleted", .bool(pipeline.isDeleted)), ("is_deal_probability_enabled", .bool(true)),
                ("add_time", .string(pipeline.addTime.rfc3339)), ("update_time", .string(pipeline.updateTime.rfc3339)),
            ])
        case .v1:
            .object([
                ("id", .integer(pipeline.id)), ("name", .string(pipeline.name)),
                ("url_title", .string(pipeline.name.split(separator: " ").joined(separator: "-"))),
                ("order_nr", .integer(pipeline.order)), ("active", .bool(!pipeline.isDeleted)),
                ("deal_probability", .bool(true)), ("add_time", .string(pipeline.addTime.plain)),
                ("update_time", .string(pipeline.updateTime.plain)), ("selected", .bool(pipeline.order == 1)),
            ])
        }
    }

    func stages(_ call: PipedriveCall) throws(PipedriveFailure) -> VendorResponse {
        let company = company(of: call)
        if call.segments.count == 2 {
            guard let stage = company.stage(try Self.id(in: call)) else { throw .notFound("Stage") }
            return Self.success(view(stage, company, call))
        }
        var found = company.stages.filter { !$0.isDeleted && company.pipeline($0.pipelineID) != nil }
        if let pipelineID = try call.integer("pipeline_id") {
            guard company.pipeline(pipelineID) != nil else { throw .notFound("Pipeline") }
            found = found.filter { $0.pipelineID == pipelineID }
        }
        let sorted = try sort(found, call, keys: ["id", "update_time", "add_time", "order_nr"]) { (stage, key) in
            switch key {
            case "update_time": stage.updateTime.milliseconds
            case "add_time": stage.addTime.milliseconds
            case "order_nr": Int64(stage.order)
            default: Int64(stage.id)
            }
        }
        return try Self.list(sorted.map { view($0, company, call) }, of: call)
    }

    private func view(_ stage: PipedriveStage, _ company: PipedriveCompany, _ call: PipedriveCall) -> JSONValue {
        switch call.generation {
        case .v2:
            .object([
                ("id", .integer(stage.id)), ("order_nr", .integer(stage.order)), ("name", .string(stage.name)),
                ("is_deleted", .bool(stage.isDeleted)), ("deal_probability", .integer(100)),
                ("pipeline_id", .integer(stage.pipelineID)), ("is_deal_rot_enabled", .bool(false)),
                ("days_to_rotten", .null), ("add_time", .string(stage.addTime.rfc3339)),
                ("update_time", .string(stage.updateTime.rfc3339)),
            ])
        case .v1:
            .object([
                ("id", .integer(stage.id)), ("order_nr", .integer(stage.order)), ("name", .string(stage.name)),
                ("active_flag", .bool(!stage.isDeleted)), ("deal_probability", .integer(100)),
                ("pipeline_id", .integer(stage.pipelineID)), ("rotten_flag", .bool(false)), ("rotten_days", .null),
                ("add_time", .string(stage.addTime.plain)), ("update_time", .string(stage.updateTime.plain)),
                ("pipeline_name", .string(company.pipeline(stage.pipelineID)?.name ?? "")),
                ("pipeline_deal_probability", .bool(true)),
            ])
        }
    }

    /// Sorts by `sort_by` and `sort_direction` of v2; v1 lists come in the order of their ids.
    private func sort<Row>(
        _ rows: [Row], _ call: PipedriveCall, keys: [String], by value: (Row, String) -> Int64
    ) throws(PipedriveFailure) -> [Row] {
        guard call.generation == .v2 else { return rows.sorted { value($0, "id") < value($1, "id") } }
        let key = try call.choice("sort_by", of: keys, default: "id")
        let isDescending = try call.choice("sort_direction", of: ["asc", "desc"], default: "asc") == "desc"
        return rows.sorted { left, right in
            let (first, second) = isDescending ? (right, left) : (left, right)
            return (value(first, key), value(first, "id")) < (value(second, key), value(second, "id"))
        }
    }

    // MARK: Field definitions

    func dealFields(_ call: PipedriveCall) throws(PipedriveFailure) -> VendorResponse {
        let company = company(of: call)
        if call.segments.count == 2 {
            let wanted = call.segments[1]
            let found = company.fields.first { call.generation == .v2 ? $0.key == wanted : String($0.id) == wanted }
            guard let found else { throw .notFound("Field") }
            return Self.success(view(found, order: 1, call))
        }
        let views = company.fields.enumerated().map { view($0.element, order: $0.offset + 1, call) }
        return try Self.list(views, of: call)
    }

    private func view(_ field: PipedriveField, order: Int, _ call: PipedriveCall) -> JSONValue {
        let options: JSONValue =
            field.options.isEmpty
            ? .null
            : .array(field.options.map { .object([("id", .integer($0.id)), ("label", .string($0.label))]) })
        switch call.generation {
        case .v2:
            let subfields: JSONValue =
                field.type != "monetary"
                ? .null
                : .array([
                    subfield(field.key, "Amount of \(field.name)", "double"),
                    subfield(
                        field.isCustom ? field.key + "_currency" : "currency", "Currency of \(field.name)", "varchar"),
                ])
            return .object([
                ("field_name", .string(field.name)), ("field_code", .string(field.key)), ("description", ""),
                ("field_type", .string(field.type)), ("options", options), ("subfields", subfields),
                ("is_custom_field", .bool(field.isCustom)), ("is_optional_response_field", .bool(false)),
            ])
        case .v1:
            let time = JSONValue.string(field.addTime.plain)
            return .object(
                [
                    ("id", .integer(field.id)), ("key", .string(field.key)), ("name", .string(field.name)),
                    ("order_nr", .integer(order)), ("field_type", .string(field.type)), ("add_time", time),
                    ("update_time", time), ("last_updated_by_user_id", .integer(1)),
                    ("created_by_user_id", .integer(1)),
                    ("active_flag", .bool(true)), ("edit_flag", .bool(field.isCustom)),
                    ("index_visible_flag", .bool(true)), ("details_visible_flag", .bool(true)),
                    ("add_visible_flag", .bool(false)), ("important_flag", .bool(false)),
                    ("bulk_edit_allowed", .bool(true)), ("searchable_flag", .bool(field.isCustom)),
                    ("filtering_allowed", .bool(true)), ("sortable_flag", .bool(true)),
                    ("mandatory_flag", .bool(field.key == "title")),
                ] + (options.isNull ? [] : [("options", options)]))
        }
    }

    private func subfield(_ key: String, _ name: String, _ type: String) -> JSONValue {
        .object([("field_code", .string(key)), ("field_name", .string(name)), ("field_type", .string(type))])
    }
}
