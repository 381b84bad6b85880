// SPDX-License-Identifier: Apache-2.0

/// Batches of records: read, create, update, upsert, archive.
extension HubSpot {
    /// What a batch did: good rows, and one failure per bad input.
    struct BatchOutcome {
        var results: [JSONValue] = []
        var errors: [JSONValue] = []

        /// 200 (or 201) when all went well, 207 otherwise.
        func answer(_ now: Instant, status: Int = 200) -> VendorResponse {
            var members: [(String, JSONValue)] = [("status", "COMPLETE"), ("results", .array(results))]
            if !errors.isEmpty {
                members += [("numErrors", .integer(errors.count)), ("errors", .array(errors))]
            }
            members += [
                ("startedAt", .string(now.rfc3339Milliseconds)), ("completedAt", .string(now.rfc3339Milliseconds)),
            ]
            return VendorResponse(status: errors.isEmpty ? status : 207, json: .object(members))
        }
    }

    mutating func batch(_ call: HubSpotCall, _ type: String) throws(HubSpotFailure) -> VendorResponse {
        let verb = call.part(5)
        guard ["read", "create", "update", "upsert", "archive"].contains(verb) else { throw .unsupported(call.request) }
        try call.needs(Self.scope(type, verb == "read" ? "read" : "write"))
        try call.takes(verb == "read" ? "archived" : "")
        if let empty = try batchWithoutInputs(call) { return empty }
        switch verb {
        case "read": return try batchRead(call, type)
        case "create":
            return try batchWrite(call, type, .batchCreate, status: 201) { hub, input throws(HubSpotFailure) in
                let record = try hub.create(type, input, call)
                return record.json(
                    names: record.properties.keys.sorted(), nulls: false, trace: input["objectWriteTraceId"]?.string)
            }
        case "update":
            return try batchWrite(call, type, .batchWrite, status: 200) { hub, input throws(HubSpotFailure) in
                try hub.batchUpdate(type, input, call)
            }
        case "upsert":
            return try batchWrite(call, type, .batchWrite, status: 200) { hub, input throws(HubSpotFailure) in
                try hub.upsert(type, input, call)
            }
        default:
            let body = try call.body(.batchArchive)
            for input in body["inputs"]?.array ?? [] {
                archive(type, input["id"]?.string ?? "", hub: call.hubID, at: call.now)
            }
            return Self.empty
        }
    }

    /// A body without the `inputs` wrapper gets a complete, empty result: a trap of the vendor's, and a breach of its
    /// document.
    private mutating func batchWithoutInputs(_ call: HubSpotCall) throws(HubSpotFailure) -> VendorResponse? {
        guard try call.json()["inputs"] == nil else { return nil }
        violations.append("body.inputs is required")
        return BatchOutcome().answer(call.now)
    }

    static func inputs(_ body: JSONValue, most: Int) throws(HubSpotFailure) -> [JSONValue] {
        let inputs = body["inputs"]?.array ?? []
        guard inputs.count <= most else {
            throw .invalid("The maximum number of inputs supported in a batch request is \(most)")
        }
        return inputs
    }

    private func batchRead(_ call: HubSpotCall, _ type: String) throws(HubSpotFailure) -> VendorResponse {
        let body = try call.body(.batchRead)
        let names = (body["properties"]?.array ?? []).compactMap(\.string)
        let history = (body["propertiesWithHistory"]?.array ?? []).compactMap(\.string)
        var outcome = BatchOutcome()
        var missing: [String] = []
        var seen: Set<String> = []
        for input in try Self.inputs(body, most: HubSpotLimits.batch) {
            let name = input["id"]?.string ?? ""
            let id = try find(type, name, idProperty: body["idProperty"]?.string, hub: call.hubID)
            guard let id, let record = portals[call.hubID]?.tables[type]?[id] else {
                missing.append(name)
                continue
            }
            guard seen.insert(id).inserted else { continue }
            let shown = names.isEmpty ? HubSpotProperty.shown(type) : names + Self.always(type)
            outcome.results.append(.object(record.json(names: shown + history, history: history)))
        }
        if !missing.isEmpty {
            let failure = HubSpotFailure(
                status: 404, category: "OBJECT_NOT_FOUND",
                "Could not get some \(type) objects, they may be deleted or not exist.",
                context: ["ids": missing])
            outcome.errors.append(failure.batchEntry())
        }
        return outcome.answer(call.now)
    }

    /// Writes every input. With an `objectWriteTraceId` on each, bad ones are reported and the rest is written; without,
    /// one bad input fails the whole batch and only the first is named.
    private mutating func batchWrite(
        _ call: HubSpotCall, _ type: String, _ shape: HubSpotShape, status: Int,
        write: (inout HubSpot, JSONValue) throws(HubSpotFailure) -> JSONObject?
    ) throws(HubSpotFailure) -> VendorResponse {
        let body = try call.body(shape)
        let inputs = try Self.inputs(body, most: HubSpotLimits.batch)
        let traces = inputs.compactMap { $0["objectWriteTraceId"]?.string }
        let isTraced = traces.count == inputs.count
        guard Set(traces).count == traces.count else {
            throw .invalid("objectWriteTraceId must be unique within a batch")
        }
        let before = self
        var outcome = BatchOutcome()
        for input in inputs {
            do throws(HubSpotFailure) {
                if let row = try write(&self, input) { outcome.results.append(.object(row)) }
            } catch {
                guard isTraced, let trace = input["objectWriteTraceId"]?.string else {
                    self = before
                    throw error
                }
                outcome.errors.append(error.batchEntry(adding: ["objectWriteTraceId": [trace]]))
            }
        }
        return outcome.answer(call.now, status: status)
    }

    /// - Returns: nil when the input is passed over: `batch/update` works on record ids, and an e-mail address there changes
    ///   nothing and says nothing.
    private mutating func batchUpdate(
        _ type: String, _ input: JSONValue, _ call: HubSpotCall
    ) throws(HubSpotFailure) -> JSONObject? {
        let property = input["idProperty"]?.string
        if property == "email" { return nil }
        guard let id = try find(type, input["id"]?.string ?? "", idProperty: property, hub: call.hubID) else {
            throw .notFound
        }
        let values = input["properties"]?.object ?? JSONObject()
        let record = try update(type, id, values, call)
        return record.json(names: values.keys + Self.always(type), trace: input["objectWriteTraceId"]?.string)
    }

    private mutating func upsert(
        _ type: String, _ input: JSONValue, _ call: HubSpotCall
    ) throws(HubSpotFailure) -> JSONObject? {
        guard let property = input["idProperty"]?.string else { throw .invalid("idProperty is required for an upsert") }
        let name = input["id"]?.string ?? ""
        let values = input["properties"]?.object ?? JSONObject()
        let trace = input["objectWriteTraceId"]?.string
        var json: JSONObject
        if let id = try find(type, name, idProperty: property, hub: call.hubID) {
            let record = try update(type, id, values, call)
            json = record.json(names: values.keys + Self.always(type), nulls: false, trace: trace)
            json["new"] = .bool(false)
            return json
        }
        if property == "hs_object_id" { throw .notFound }
        guard values[property]?.string?.lowercased() == name.lowercased() else {
            throw .invalid("A new record needs \(property) among its properties")
        }
        let record = try create(type, .object([("properties", .object(values))]), call)
        json = record.json(names: record.properties.keys.sorted(), nulls: false, trace: trace)
        json["new"] = .bool(true)
        return json
    }
}
