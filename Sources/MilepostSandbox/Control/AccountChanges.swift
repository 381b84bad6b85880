// SPDX-License-Identifier: Apache-2.0

/// Changes that an administrator of the CRM would make behind a client's back: pipelines, stages, field definitions.
extension SandboxWorld {
    mutating func changeAccount(
        _ request: VendorRequest, kind: String, rest: [String], now: Instant
    ) throws(ControlError) -> VendorResponse {
        let body = try Self.body(request)
        let companyID =
            body["company_id"]?.integer ?? request.queryValue("company_id").flatMap(Int.init)
            ?? Pipedrive.firstCompanyID
        guard var company = pipedrive.companies[companyID] else {
            throw ControlError("no company \(companyID)", status: 404)
        }
        let made: JSONValue
        switch (request.method, kind, rest.first) {
        case ("POST", "pipelines", nil): made = try company.addPipeline(body, now: now)
        case ("POST", "stages", nil): made = try company.addStage(body, now: now)
        case ("POST", "fields", nil): made = try company.addField(body, keys: &pipedrive.keys, now: now)
        case ("PATCH", "pipelines", let id?), ("DELETE", "pipelines", let id?):
            made = try company.changePipeline(id, body, isDeletion: request.method == "DELETE", now: now)
        case ("PATCH", "stages", let id?), ("DELETE", "stages", let id?):
            made = try company.changeStage(id, body, isDeletion: request.method == "DELETE", now: now)
        case ("PATCH", "fields", let key?), ("DELETE", "fields", let key?):
            made = try company.changeField(key, body, isDeletion: request.method == "DELETE")
        default: throw ControlError("no \(request.method) \(request.path)", status: 404)
        }
        pipedrive.companies[companyID] = company
        return Self.ok(made, status: request.method == "POST" ? 201 : 200)
    }

    /// What stands in the accounts, without the objects and without the tokens themselves.
    func stateJSON() -> JSONValue {
        .object([
            ("plan", .string(pipedrive.plan.rawValue)),
            ("daily_budget", .optional(pipedrive.dailyBudget ?? pipedrive.plan.dailyBudget)),
            ("search_lag_ms", .integer(Int(pipedrive.searchLagMilliseconds))),
            ("faults", .integer(faults.faults.count)),
            ("requests", .integer(ledger.entries.count + ledger.dropped)),
            ("companies", .array(pipedrive.companies.values.sorted { $0.id < $1.id }.map(state))),
        ])
    }

    private func state(_ company: PipedriveCompany) -> JSONValue {
        .object([
            ("id", .integer(company.id)), ("name", .string(company.name)), ("domain", .string(company.domain)),
            ("tokens", .integer(pipedrive.tokens.values.count { $0.companyID == company.id && !$0.isRevoked })),
            ("spent", .integer(company.spent)), ("deals", .integer(company.deals.rows.count)),
            ("notes", .integer(company.notes.rows.count)), ("persons", .integer(company.persons.rows.count)),
            ("pipelines", .array(company.pipelines.filter { !$0.isDeleted }.map(\.json))),
            ("stages", .array(company.stages.filter { !$0.isDeleted }.map(\.json))),
            ("fields", .array(company.customFields.map(\.json))),
        ])
    }
}

extension PipedriveCompany {
    fileprivate static func name(_ body: JSONValue) throws(ControlError) -> String {
        guard let name = body["name"]?.string, !name.isEmpty else { throw ControlError("name must be a text") }
        return name
    }

    fileprivate mutating func addPipeline(_ body: JSONValue, now: Instant) throws(ControlError) -> JSONValue {
        let id = (pipelines.map(\.id).max() ?? 0) + 1
        let made = PipedrivePipeline(
            id: id, name: try Self.name(body), order: pipelines.count + 1, addTime: now, updateTime: now)
        pipelines.append(made)
        return made.json
    }

    fileprivate mutating func changePipeline(
        _ id: String, _ body: JSONValue, isDeletion: Bool, now: Instant
    ) throws(ControlError) -> JSONValue {
        guard let place = pipelines.firstIndex(where: { String($0.id) == id }) else {
            throw ControlError("no pipeline \(id)", status: 404)
        }
        if isDeletion { pipelines[place].isDeleted = true } else { pipelines[place].name = try Self.name(body) }
        pipelines[place].updateTime = now
        return pipelines[place].json
    }

    fileprivate mutating func addStage(_ body: JSONValue, now: Instant) throws(ControlError) -> JSONValue {
        guard let pipelineID = body["pipeline_id"]?.integer, pipeline(pipelineID) != nil else {
            throw ControlError("pipeline_id must be the id of a pipeline")
        }
        let made = PipedriveStage(
            id: (stages.map(\.id).max() ?? 10) + 1, pipelineID: pipelineID, name: try Self.name(body),
            order: stages.count { $0.pipelineID == pipelineID } + 1, addTime: now, updateTime: now)
        stages.append(made)
        return made.json
    }

    fileprivate mutating func changeStage(
        _ id: String, _ body: JSONValue, isDeletion: Bool, now: Instant
    ) throws(ControlError) -> JSONValue {
        guard let place = stages.firstIndex(where: { String($0.id) == id }) else {
            throw ControlError("no stage \(id)", status: 404)
        }
        if isDeletion { stages[place].isDeleted = true } else { stages[place].name = try Self.name(body) }
        stages[place].updateTime = now
        return stages[place].json
    }

    fileprivate mutating func addField(
        _ body: JSONValue, keys: inout SeededKeys, now: Instant
    ) throws(ControlError) -> JSONValue {
        let types = [
            "varchar", "varchar_auto", "text", "double", "phone", "date", "daterange", "time", "timerange", "set",
            "enum",
            "address", "monetary", "org", "people", "user",
        ]
        let type = body["field_type"]?.string ?? "varchar"
        guard types.contains(type) else {
            throw ControlError("field_type must be one of \(types.joined(separator: ", "))")
        }
        let key = body["key"]?.string ?? keys.fieldKey()
        guard key.utf8.count == 40, key.allSatisfy(\.isHexDigit) else {
            throw ControlError("key must be 40 hexadecimal characters")
        }
        guard !fields.contains(where: { $0.key == key }) else { throw ControlError("the key is taken", status: 409) }
        let labels = (body["options"]?.array ?? []).compactMap(\.string)
        return addField(name: try Self.name(body), type: type, labels: labels, key: key, isCustom: true, now: now).json
    }

    fileprivate mutating func changeField(
        _ key: String, _ body: JSONValue, isDeletion: Bool
    ) throws(ControlError) -> JSONValue {
        guard let place = fields.firstIndex(where: { $0.key == key && $0.isCustom }) else {
            throw ControlError("no custom field \(key)", status: 404)
        }
        if isDeletion { return fields.remove(at: place).json }
        if body["name"] != nil { fields[place].name = try Self.name(body) }
        if let labels = body["options"]?.array?.compactMap(\.string) {
            // A label that stays keeps its id; new ones get ids never used before.
            var next = (fields.flatMap(\.options).map(\.id).max() ?? 100) + 1
            fields[place].options = labels.map { label in
                if let kept = fields[place].options.first(where: { $0.label == label }) { return kept }
                defer { next += 1 }
                return PipedriveField.Option(id: next, label: label)
            }
        }
        return fields[place].json
    }
}

extension PipedrivePipeline {
    fileprivate var json: JSONValue { .object([("id", .integer(id)), ("name", .string(name))]) }
}

extension PipedriveStage {
    fileprivate var json: JSONValue {
        .object([("id", .integer(id)), ("pipeline_id", .integer(pipelineID)), ("name", .string(name))])
    }
}

extension PipedriveField {
    fileprivate var json: JSONValue {
        .object([
            ("id", .integer(id)), ("key", .string(key)), ("name", .string(name)), ("field_type", .string(type)),
            ("options", .array(options.map { .object([("id", .integer($0.id)), ("label", .string($0.label))]) })),
        ])
    }
}
