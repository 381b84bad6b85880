// SPDX-License-Identifier: Apache-2.0

/// Records, links, pipelines and definitions that a person of the account makes, changes and removes.
extension SandboxWorld {
    mutating func changeRecords(
        _ method: String, _ type: String, _ id: String?, _ body: JSONValue, hub: Int, now: Instant
    ) throws(ControlError) -> VendorResponse {
        switch (method, id) {
        case ("POST", nil):
            var made: [JSONValue] = []
            for item in body.array ?? [body] { made.append(try addRecord(type, item, hub: hub, now: now)) }
            return Self.ok(body.array == nil ? made[0] : .array(made), status: 201)
        case ("PATCH", let id?):
            guard var record = hubspot.portals[hub]?.tables[type]?[id] else {
                throw ControlError("no \(type) \(id)", status: 404)
            }
            for member in body["properties"]?.object?.members ?? [] {
                record.set(member.key, member.value.string ?? member.value.text, source: "CRM_UI", at: now)
            }
            hubspot.save(type, record, hub: hub, at: now)
            return Self.ok(.object(record.json(names: record.properties.keys.sorted())))
        case ("DELETE", let id?):
            guard hubspot.portals[hub]?.tables[type]?[id] != nil else {
                throw ControlError("no \(type) \(id)", status: 404)
            }
            hubspot.archive(type, id, hub: hub, at: now)
            return Self.ok(.object([("archived", .bool(true))]))
        default: throw ControlError("no \(method) of \(type)", status: 404)
        }
    }

    private mutating func addRecord(
        _ type: String, _ body: JSONValue, hub own: Int, now: Instant
    ) throws(ControlError) -> JSONValue {
        let hub = body["hub_id"]?.integer ?? own
        guard hubspot.portals[hub] != nil else { throw ControlError("no hub \(hub)", status: 404) }
        let asked = body["id"].flatMap { $0.string ?? $0.integer.map(String.init) }
        guard let id = asked ?? hubspot.portals[hub]?.tables[type]?.takeID() else {
            throw ControlError("no \(type)", status: 404)
        }
        guard hubspot.portals[hub]?.tables[type]?[id] == nil else {
            throw ControlError("\(type) \(id) is there already", status: 409)
        }
        var record = HubSpotRecord(id: id, at: now)
        var values = body["properties"]?.object ?? JSONObject()
        if type == "deals" {
            if values["pipeline"] == nil { values["pipeline"] = "default" }
            if values["dealstage"] == nil {
                let pipeline = values["pipeline"]?.string.flatMap { hubspot.portals[hub]?.pipeline($0) }
                values["dealstage"] = .optional(pipeline?.stages.min { $0.order < $1.order }?.id)
            }
        }
        for member in values.members {
            guard hubspot.portals[hub]?.property(type, member.key) != nil else {
                throw ControlError("\(type) have no property \(member.key)")
            }
            record.set(member.key, member.value.string ?? member.value.text, source: "CRM_UI", at: now)
        }
        hubspot.save(type, record, hub: hub, at: now)
        for other in ["contacts", "deals", "companies"] {
            for item in body[other]?.array ?? [] {
                guard let name = item.string ?? item.integer.map(String.init),
                    let found = hubspot.portals[hub]?.tables[other]?[name]
                else { throw ControlError("no \(other) \(item.text)", status: 404) }
                hubspot.portals[hub]?.links.connect(type, id, other, found.id)
            }
        }
        let saved = hubspot.portals[hub]?.tables[type]?[id] ?? record
        return .object(saved.json(names: saved.properties.keys.sorted()))
    }

    mutating func associate(_ method: String, _ body: JSONValue, hub: Int) throws(ControlError) -> VendorResponse {
        guard let from = body["from"]?.string, let to = body["to"]?.string,
            let first = hubspot.portals[hub]?.tables[from]?[body["from_id"]?.string ?? ""],
            let second = hubspot.portals[hub]?.tables[to]?[body["to_id"]?.string ?? ""]
        else { throw ControlError("from, from_id, to and to_id must name two records", status: 404) }
        if method == "DELETE" {
            hubspot.portals[hub]?.links.disconnect(from, first.id, to, second.id)
        } else {
            let label = body["label"]?.string.map {
                HubSpotLinkKind(category: "USER_DEFINED", typeID: body["type_id"]?.integer ?? 28, label: $0)
            }
            hubspot.portals[hub]?.links.connect(from, first.id, to, second.id, kinds: label.map { [$0] } ?? [])
        }
        return Self.ok(.object([("associated", .bool(method == "POST"))]), status: method == "POST" ? 201 : 200)
    }

    // MARK: Pipelines

    mutating func changePipelines(
        _ method: String, _ kind: String, _ id: String?, _ body: JSONValue, hub: Int, now: Instant
    ) throws(ControlError) -> VendorResponse {
        guard var portal = hubspot.portals[hub] else { throw ControlError("no hub \(hub)", status: 404) }
        switch (method, kind, id) {
        case ("POST", "pipelines", nil):
            let name = try Self.text(body, "id")
            guard portal.pipeline(name) == nil else {
                throw ControlError("pipeline \(name) is there already", status: 409)
            }
            var stages: [HubSpotStage] = []
            for (order, stage) in (body["stages"]?.array ?? []).enumerated() {
                stages.append(try Self.stage(stage, order: order, now: now))
            }
            portal.pipelines.append(
                HubSpotPipeline(
                    id: name, label: body["label"]?.string ?? name, order: portal.pipelines.count, stages: stages,
                    createdAt: now, updatedAt: now))
        case ("DELETE", "pipelines", let id?):
            guard portal.pipeline(id) != nil else { throw ControlError("no pipeline \(id)", status: 404) }
            portal.pipelines.removeAll { $0.id == id }
        case ("POST", "stages", nil):
            let pipeline = body["pipeline"]?.string ?? "default"
            guard let place = portal.pipelines.firstIndex(where: { $0.id == pipeline }) else {
                throw ControlError("no pipeline \(pipeline)", status: 404)
            }
            let stage = try Self.stage(body, order: portal.pipelines[place].stages.count, now: now)
            guard !portal.pipelines[place].stages.contains(where: { $0.id == stage.id }) else {
                throw ControlError("stage \(stage.id) is there already", status: 409)
            }
            portal.pipelines[place].stages.append(stage)
        case ("DELETE", "stages", let id?):
            guard let place = portal.pipelines.firstIndex(where: { $0.stages.contains { $0.id == id } }) else {
                throw ControlError("no stage \(id)", status: 404)
            }
            portal.pipelines[place].stages.removeAll { $0.id == id }
        default: throw ControlError("no \(method) of \(kind)", status: 404)
        }
        hubspot.portals[hub] = portal
        return Self.ok(.array(portal.pipelines.map(\.json)), status: method == "POST" ? 201 : 200)
    }

    private static func text(_ body: JSONValue, _ name: String) throws(ControlError) -> String {
        guard let text = body[name]?.string, !text.isEmpty else { throw ControlError("\(name) must be a text") }
        return text
    }

    private static func stage(_ body: JSONValue, order: Int, now: Instant) throws(ControlError) -> HubSpotStage {
        let id = try text(body, "id")
        return HubSpotStage(
            id: id, label: body["label"]?.string ?? id, order: body["display_order"]?.integer ?? order,
            isClosed: body["closed"]?.bool ?? false, probability: body["probability"]?.string ?? "0.5", createdAt: now,
            updatedAt: now)
    }

    // MARK: Definitions

    mutating func changeProperties(
        _ method: String, _ rest: [String], _ body: JSONValue, hub: Int, now: Instant
    ) throws(ControlError) -> VendorResponse {
        let type = rest.first ?? body["object_type"]?.string ?? "contacts"
        guard var list = hubspot.portals[hub]?.properties[type] else { throw ControlError("no \(type)", status: 404) }
        let property: HubSpotProperty
        switch (method, rest.count) {
        case ("POST", 0):
            let name = try Self.text(body, "name")
            property = HubSpotProperty(
                name: name, label: body["label"]?.string ?? name, type: body["type"]?.string ?? "string",
                fieldType: body["field_type"]?.string ?? "text",
                groupName: body["group"]?.string ?? list.first?.groupName ?? "",
                options: (body["options"]?.array ?? []).compactMap(\.string).map { .init(label: $0, value: $0) },
                isReadOnly: body["read_only"]?.bool ?? false, isCalculated: body["calculated"]?.bool ?? false,
                createdAt: now, updatedAt: now)
            list.removeAll { $0.name == name }
            list.append(property)
        case ("DELETE", 2):
            guard let place = list.firstIndex(where: { $0.name == rest[1] }) else {
                throw ControlError("no property \(rest[1])", status: 404)
            }
            property = list.remove(at: place)
        default: throw ControlError("no \(method) of properties", status: 404)
        }
        hubspot.portals[hub]?.properties[type] = list
        return Self.ok(property.json, status: method == "POST" ? 201 : 200)
    }
}
