// SPDX-License-Identifier: Apache-2.0

/// Reading and writing one record.
extension HubSpot {
    /// The id of the record that a path or an input names.
    func find(_ type: String, _ name: String, idProperty: String?, hub: Int) throws(HubSpotFailure) -> String? {
        guard let table = portals[hub]?.tables[type] else { return nil }
        switch idProperty {
        case nil, "hs_object_id": return table[name]?.id
        case "email" where type == "contacts": return table.id(ofEmail: name)
        case let property?:
            guard portals[hub]?.property(type, property)?.isUnique == true else {
                throw .invalid("\(property) is not a unique identifier property of \(type)")
            }
            return table.all.first { $0.properties[property] == name }?.id
        }
    }

    func readObject(_ call: HubSpotCall, _ type: String) throws(HubSpotFailure) -> VendorResponse {
        try call.needs(Self.scope(type, "read"))
        try call.takes("idProperty", "properties", "propertiesWithHistory", "associations", "archived")
        let id = try find(type, call.part(4), idProperty: call.request.queryValue("idProperty"), hub: call.hubID)
        guard let id, let record = portals[call.hubID]?.tables[type]?[id] else { throw .notFound }
        return Self.ok(.object(shown(record, type, call)))
    }

    func listObjects(_ call: HubSpotCall, _ type: String) throws(HubSpotFailure) -> VendorResponse {
        try call.needs(Self.scope(type, "read"))
        try call.takes("limit", "after", "archived", "properties", "propertiesWithHistory", "associations")
        let rows = try call.flag("archived") ? [] : portal(call).tables[type]?.all ?? []
        return Self.ok(
            try Self.page(rows.map { .object(shown($0, type, call)) }, call, default: 10, most: HubSpotLimits.page))
    }

    /// A record with what the query asks for.
    private func shown(_ record: HubSpotRecord, _ type: String, _ call: HubSpotCall) -> JSONObject {
        let asked = call.words("properties")
        let history = call.words("propertiesWithHistory")
        let names = (asked.isEmpty ? HubSpotProperty.shown(type) : asked + Self.always(type)) + history
        var json = record.json(names: names, history: history)
        let wanted = call.words("associations")
        if !wanted.isEmpty, let links = portals[call.hubID]?.links {
            json["associations"] = .object(
                wanted.compactMap { other in
                    let found = links.of(type, record.id, to: other)
                    if found.isEmpty { return nil }
                    let results: [JSONValue] = found.flatMap { link in
                        link.types.map { kind in
                            .object([("id", .string(link.id)), ("type", .string(kind.name(from: type, to: other)))])
                        }
                    }
                    return (other, .object([("results", .array(results))]))
                })
        }
        return json
    }

    /// What every answer shows, asked for or not.
    static func always(_ type: String) -> [String] {
        let times = HubSpotProperty.times(type)
        return [times.created, times.changed, "hs_object_id"]
    }

    mutating func createObject(_ call: HubSpotCall, _ type: String) throws(HubSpotFailure) -> VendorResponse {
        try call.needs(Self.scope(type, "write"))
        try call.takes()
        let body = try call.body(.create)
        let record = try create(type, body, call)
        return Self.ok(
            .object(record.json(names: record.properties.keys.sorted(), nulls: false)), status: 201)
    }

    /// Creates a record from `properties` and `associations`.
    mutating func create(_ type: String, _ body: JSONValue, _ call: HubSpotCall) throws(HubSpotFailure) -> HubSpotRecord
    {
        var values = body["properties"]?.object ?? JSONObject()
        if type == "contacts", let email = values["email"]?.string,
            let existing = portals[call.hubID]?.tables[type]?.id(ofEmail: email)
        {
            throw .conflict("Contact already exists. Existing ID: \(existing)")
        }
        if type == "deals", values["pipeline"] == nil, values["dealstage"] != nil { values["pipeline"] = "default" }
        if type == "notes", values["hs_timestamp"] == nil {
            throw .invalid("Property values were not valid: hs_timestamp is required to create a note")
        }
        let links = try plannedLinks(body["associations"]?.array ?? [], from: type, call)
        var record = HubSpotRecord(id: "", at: call.now)
        try write(values, into: &record, type, call)
        guard let id = portals[call.hubID]?.tables[type]?.takeID() else { throw .notFound }
        var made = HubSpotRecord(id: id, at: call.now)
        made.properties = record.properties
        made.history = record.history
        save(type, made, hub: call.hubID, at: call.now)
        for link in links {
            portals[call.hubID]?.links.connect(type, id, link.type, link.id, kinds: link.kinds)
        }
        return portals[call.hubID]?.tables[type]?[id] ?? made
    }

    mutating func updateObject(_ call: HubSpotCall, _ type: String) throws(HubSpotFailure) -> VendorResponse {
        try call.needs(Self.scope(type, "write"))
        try call.takes("idProperty")
        let body = try call.body(.update)
        let found = try find(type, call.part(4), idProperty: call.request.queryValue("idProperty"), hub: call.hubID)
        guard let found else { throw .notFound }
        let values = body["properties"]?.object ?? JSONObject()
        let record = try update(type, found, values, call)
        return Self.ok(.object(record.json(names: values.keys + Self.always(type))))
    }

    /// Writes values into a record that exists. Nothing is written when one of them is refused.
    mutating func update(
        _ type: String, _ id: String, _ values: JSONObject, _ call: HubSpotCall
    ) throws(HubSpotFailure) -> HubSpotRecord {
        guard var record = portals[call.hubID]?.tables[type]?[id] else { throw .notFound }
        try write(values, into: &record, type, call)
        save(type, record, hub: call.hubID, at: call.now)
        return portals[call.hubID]?.tables[type]?[id] ?? record
    }

    /// Checks all values, then sets them.
    private func write(
        _ values: JSONObject, into record: inout HubSpotRecord, _ type: String, _ call: HubSpotCall
    ) throws(HubSpotFailure) {
        var refusals: [HubSpotValueRefusal] = []
        for member in values.members {
            guard let property = portals[call.hubID]?.property(type, member.key) else {
                refusals.append(
                    HubSpotValueRefusal(
                        name: member.key, code: "PROPERTY_DOESNT_EXIST",
                        message: "Property \"\(member.key)\" does not exist"))
                continue
            }
            if let refusal = property.refusal(of: member.value.string ?? "") { refusals.append(refusal) }
        }
        if type == "deals", let refusal = stageRefusal(values, record, call) { refusals.append(refusal) }
        if !refusals.isEmpty { throw .values(refusals) }
        if type == "contacts", let email = values["email"]?.string, !email.isEmpty,
            let other = portals[call.hubID]?.tables[type]?.id(ofEmail: email), other != record.id
        {
            throw .conflict("A contact with the email '\(email)' already exists. Existing ID: \(other)")
        }
        for member in values.members {
            guard let value = member.value.string, (record.properties[member.key] ?? "") != value else { continue }
            // The stage of a life only moves forward; a step back is passed over without a word.
            if member.key == "lifecyclestage", let old = record.properties[member.key],
                let from = HubSpotProperty.lifecycle.firstIndex(of: old),
                let to = HubSpotProperty.lifecycle.firstIndex(of: value), to < from
            {
                continue
            }
            record.set(member.key, value, source: "INTEGRATION", at: call.now)
        }
    }

    /// A deal's stage must be one of its pipeline's.
    private func stageRefusal(
        _ values: JSONObject, _ record: HubSpotRecord, _ call: HubSpotCall
    ) -> HubSpotValueRefusal? {
        guard values["dealstage"] != nil || values["pipeline"] != nil, let portal = portals[call.hubID] else {
            return nil
        }
        let pipelineID = values["pipeline"]?.string ?? record.properties["pipeline"] ?? "default"
        guard let pipeline = portal.pipeline(pipelineID) else {
            return HubSpotValueRefusal(
                name: "pipeline", code: "INVALID_OPTION",
                message:
                    "\(pipelineID) was not one of the allowed options: [\(portal.pipelines.map(\.id).joined(separator: ", "))]"
            )
        }
        let stage = values["dealstage"]?.string ?? record.properties["dealstage"] ?? ""
        if pipeline.stages.contains(where: { $0.id == stage }) { return nil }
        return HubSpotValueRefusal(
            name: "dealstage", code: "INVALID_OPTION",
            message:
                "\(stage) was not one of the allowed options: [\(pipeline.stages.map(\.id).joined(separator: ", "))]")
    }

    mutating func archiveObject(_ call: HubSpotCall, _ type: String) throws(HubSpotFailure) -> VendorResponse {
        try call.needs(Self.scope(type, "write"))
        try call.takes()
        guard portals[call.hubID]?.tables[type]?[call.part(4)] != nil else { throw .notFound }
        archive(type, call.part(4), hub: call.hubID, at: call.now)
        return Self.empty
    }

    mutating func archive(_ type: String, _ id: String, hub: Int, at now: Instant) {
        guard var record = portals[hub]?.tables[type]?[id] else { return }
        record.archivedAt = now
        save(type, record, hub: hub, at: now)
    }

    /// A deletion under privacy law: the contact, its links and its events go.
    mutating func eraseContact(_ call: HubSpotCall) throws(HubSpotFailure) -> VendorResponse {
        try call.needs("crm.objects.contacts.write")
        let body = try call.body(.erase)
        let id = try find(
            "contacts", body["objectId"]?.string ?? "", idProperty: body["idProperty"]?.string, hub: call.hubID)
        guard let id, let record = portals[call.hubID]?.tables["contacts"]?[id] else { return Self.empty }
        portals[call.hubID]?.tables["contacts"]?.erase(id)
        portals[call.hubID]?.links.remove("contacts", id)
        portals[call.hubID]?.events.removeAll { $0.objectID == id }
        portals[call.hubID]?.index.note("contacts", record, at: call.now, isErased: true)
        return Self.empty
    }

    // MARK: Merge

    mutating func mergeObjects(_ call: HubSpotCall, _ type: String) throws(HubSpotFailure) -> VendorResponse {
        try call.needs(Self.scope(type, "write"))
        let body = try call.body(.merge)
        let primary = body["primaryObjectId"]?.string ?? ""
        let other = body["objectIdToMerge"]?.string ?? ""
        guard let record = merge(type, primary, other, newID: true, hub: call.hubID, at: call.now) else {
            throw .notFound
        }
        return Self.ok(.object(record.json(names: record.properties.keys.sorted(), nulls: false)))
    }

    /// Merges `other` into `primary`. Both old ids go on to find the survivor.
    /// - Parameter newID: whether the survivor gets an id of its own, as the vendor's newer merges do.
    mutating func merge(
        _ type: String, _ primary: String, _ other: String, newID: Bool, hub: Int, at now: Instant
    ) -> HubSpotRecord? {
        guard let first = portals[hub]?.tables[type]?[primary], let second = portals[hub]?.tables[type]?[other],
            first.id != second.id
        else { return nil }
        var survivor = first
        if newID, let id = portals[hub]?.tables[type]?.takeID() {
            survivor = HubSpotRecord(id: id, at: first.createdAt)
            survivor.properties = first.properties
            survivor.history = first.history
        }
        for (name, value) in second.properties where survivor.properties[name] == nil {
            survivor.set(name, value, source: "MERGE_OBJECTS", at: now)
        }
        let merged = [first.properties["hs_merged_object_ids"], second.properties["hs_merged_object_ids"]].compactMap {
            $0
        }
        let ids = merged + [first.id, second.id].filter { $0 != survivor.id }
        survivor.properties["hs_merged_object_ids"] = ids.joined(separator: ";")
        for gone in [first, second] where gone.id != survivor.id {
            portals[hub]?.tables[type]?.erase(gone.id)
            portals[hub]?.tables[type]?.alias(gone.id, to: survivor.id)
            portals[hub]?.links.move(type, gone.id, to: survivor.id)
            portals[hub]?.index.note(type, gone, at: now, isErased: true)
        }
        save(type, survivor, hub: hub, at: now)
        return portals[hub]?.tables[type]?[survivor.id]
    }
}
