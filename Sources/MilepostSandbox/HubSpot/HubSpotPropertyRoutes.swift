// SPDX-License-Identifier: Apache-2.0

/// Definitions of properties: read, create, change, archive.
extension HubSpot {
    mutating func properties(_ call: HubSpotCall) throws(HubSpotFailure) -> VendorResponse {
        let type = call.part(3)
        guard portals[call.hubID]?.properties[type] != nil else { throw .unsupported(call.request) }
        let scope = type == "notes" ? "contacts" : type
        let isRead = call.method == "GET" || call.part(5) == "read"
        if isRead {
            try call.needs("crm.objects.\(scope).read", "crm.schemas.\(scope).read", "crm.schemas.\(scope).write")
        } else {
            try call.needs("crm.schemas.\(scope).write")
        }
        switch (call.method, call.segments.count) {
        case ("GET", 4):
            try call.takes("archived", "properties")
            let wanted = try call.flag("archived")
            let rows = (portals[call.hubID]?.properties[type] ?? []).filter { $0.isArchived == wanted }
            return Self.ok(.object([("results", .array(rows.map(\.json)))]))
        case ("POST", 4):
            try call.takes()
            let made = try define(type, try call.body(.property), call)
            return Self.ok(made.json, status: 201)
        case ("GET", 5) where call.part(4) == "groups": return groups(call, type)
        case ("GET", 5):
            try call.takes("archived", "properties")
            guard let property = portals[call.hubID]?.property(type, call.part(4)) else { throw .notFound }
            return Self.ok(property.json)
        case ("PATCH", 5): return try redefine(call, type)
        case ("DELETE", 5):
            try call.takes()
            try archiveProperty(call, type)
            return Self.empty
        case ("POST", 6) where call.part(5) == "create": return try defineMany(call, type)
        case ("POST", 6) where call.part(5) == "read": return try readMany(call, type)
        default: throw .unsupported(call.request)
        }
    }

    private func groups(_ call: HubSpotCall, _ type: String) -> VendorResponse {
        var names: [String] = []
        for property in portals[call.hubID]?.properties[type] ?? [] where !names.contains(property.groupName) {
            names.append(property.groupName)
        }
        let rows = names.enumerated().map { order, name in
            JSONValue.object([
                ("name", .string(name)), ("label", .string(name)), ("displayOrder", .integer(order)),
                ("archived", .bool(false)),
            ])
        }
        return Self.ok(.object([("results", .array(rows))]))
    }

    /// Creates a definition. The vendor's answer to a name that is taken is assumed to be 409.
    mutating func define(_ type: String, _ body: JSONValue, _ call: HubSpotCall) throws(HubSpotFailure)
        -> HubSpotProperty
    {
        let name = body["name"]?.string ?? ""
        let known = portals[call.hubID]?.properties[type] ?? []
        guard let first = name.first, first.isLetter,
            name.allSatisfy({ $0.isASCII && ($0.isLowercase || $0.isNumber || $0 == "_") }), name.utf8.count <= 100
        else { throw .invalid("Property name \(name) must be lower case letters, digits and underscores") }
        if known.contains(where: { $0.name == name }) {
            throw .conflict("A property named '\(name)' already exists.")
        }
        let group = body["groupName"]?.string ?? ""
        guard known.contains(where: { $0.groupName == group }) else {
            throw .invalid("Property group '\(group)' does not exist")
        }
        let kind = body["type"]?.string ?? "string"
        let options = Self.options(body)
        if kind == "enumeration", options.isEmpty { throw .invalid("An enumeration needs options") }
        let isUnique = body["hasUniqueValue"]?.bool ?? false
        if isUnique, known.count(where: { $0.isUnique && !$0.isHubSpotDefined }) >= 10 {
            throw .invalid("At most 10 properties of an object type may have unique values")
        }
        let made = HubSpotProperty(
            name: name, label: body["label"]?.string ?? name, type: kind,
            fieldType: body["fieldType"]?.string ?? "text", groupName: group,
            description: body["description"]?.string ?? "", options: options, isUnique: isUnique, createdAt: call.now,
            updatedAt: call.now)
        portals[call.hubID]?.properties[type]?.append(made)
        return made
    }

    private static func options(_ body: JSONValue) -> [HubSpotProperty.Option] {
        (body["options"]?.array ?? []).map {
            HubSpotProperty.Option(label: $0["label"]?.string ?? "", value: $0["value"]?.string ?? "")
        }
    }

    private mutating func redefine(_ call: HubSpotCall, _ type: String) throws(HubSpotFailure) -> VendorResponse {
        try call.takes()
        let body = try call.body(.propertyUpdate)
        guard let place = portals[call.hubID]?.properties[type]?.firstIndex(where: { $0.name == call.part(4) }),
            var property = portals[call.hubID]?.properties[type]?[place]
        else { throw .notFound }
        guard !property.isHubSpotDefined else {
            throw .invalid("\(property.name) is read only: its definition cannot be changed")
        }
        if let label = body["label"]?.string { property.label = label }
        if let description = body["description"]?.string { property.description = description }
        if let group = body["groupName"]?.string { property.groupName = group }
        if let kind = body["type"]?.string { property.type = kind }
        if let kind = body["fieldType"]?.string { property.fieldType = kind }
        if body["options"] != nil { property.options = Self.options(body) }
        property.updatedAt = call.now
        portals[call.hubID]?.properties[type]?[place] = property
        return Self.ok(property.json)
    }

    private mutating func archiveProperty(_ call: HubSpotCall, _ type: String) throws(HubSpotFailure) {
        guard
            let place = portals[call.hubID]?.properties[type]?.firstIndex(where: {
                $0.name == call.part(4) && !$0.isArchived
            })
        else { throw .notFound }
        guard portals[call.hubID]?.properties[type]?[place].isHubSpotDefined == false else {
            throw .invalid("\(call.part(4)) is HubSpot defined and cannot be archived")
        }
        portals[call.hubID]?.properties[type]?[place].isArchived = true
    }

    private mutating func defineMany(_ call: HubSpotCall, _ type: String) throws(HubSpotFailure) -> VendorResponse {
        try call.takes()
        let body = try call.body(.propertyBatch)
        var outcome = BatchOutcome()
        for input in try Self.inputs(body, most: HubSpotLimits.batch) {
            do throws(HubSpotFailure) {
                outcome.results.append(try define(type, input, call).json)
            } catch {
                outcome.errors.append(error.batchEntry(adding: ["name": [input["name"]?.string ?? ""]]))
            }
        }
        return outcome.answer(call.now, status: 201)
    }

    private func readMany(_ call: HubSpotCall, _ type: String) throws(HubSpotFailure) -> VendorResponse {
        let body = try call.body(.propertyRead)
        var outcome = BatchOutcome()
        for input in try Self.inputs(body, most: HubSpotLimits.batch) {
            let name = input["name"]?.string ?? ""
            if let property = portals[call.hubID]?.property(type, name) {
                outcome.results.append(property.json)
            } else {
                outcome.errors.append(HubSpotFailure.notFound.batchEntry(adding: ["name": [name]]))
            }
        }
        return outcome.answer(call.now)
    }
}
