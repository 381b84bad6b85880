// SPDX-License-Identifier: Apache-2.0

/// Associations, generation v4, and the ones that come with a new record.
extension HubSpot {
    /// A link that a create call asks for, checked before anything is written.
    struct PlannedLink {
        let type: String
        let id: String
        let kinds: [HubSpotLinkKind]
    }

    /// Reads the `associations` of a create call. The type of the other end follows from the association type.
    func plannedLinks(_ list: [JSONValue], from type: String, _ call: HubSpotCall) throws(HubSpotFailure)
        -> [PlannedLink]
    {
        var planned: [PlannedLink] = []
        for item in list {
            let id = item["to"]?["id"]?.string ?? ""
            for kind in item["types"]?.array ?? [] {
                let number = kind["associationTypeId"]?.integer ?? 0
                let other = ["contacts", "deals", "companies", "notes"].first {
                    HubSpotLinkKind.standard(type, $0)?.typeID == number
                }
                guard kind["associationCategory"] == "HUBSPOT_DEFINED", let other else {
                    throw .invalid("association type \(number) does not lead from \(type) to another object type")
                }
                guard let found = portals[call.hubID]?.tables[other]?[id] else {
                    throw .invalid("No \(other) with ID \(id) exists, so it cannot be associated")
                }
                planned.append(PlannedLink(type: other, id: found.id, kinds: [HubSpotLinkKind(typeID: number)]))
            }
        }
        return planned
    }

    mutating func associations(_ call: HubSpotCall) throws(HubSpotFailure) -> VendorResponse {
        switch (call.method, call.part(2), call.segments.count) {
        case ("POST", "associations", 7) where call.part(5) == "batch" && call.part(6) == "read":
            return try readAssociations(call)
        case ("POST", "associations", 7) where call.part(5) == "batch" && call.part(6) == "create":
            return try createAssociations(call)
        case ("POST", "associations", 8) where call.segments[5...] == ["batch", "associate", "default"]:
            return try createDefaultAssociations(call)
        case ("GET", "associations", 6) where call.part(5) == "labels": return try labels(call)
        case ("GET", "objects", 7) where call.part(5) == "associations": return try listAssociations(call)
        case ("PUT", "objects", 9) where call.part(5) == "associations" && call.part(6) == "default":
            return try putDefaultAssociation(call)
        case ("DELETE", "objects", 8) where call.part(5) == "associations":
            try needs("write", call, call.part(3), call.part(6))
            portals[call.hubID]?.links.disconnect(call.part(3), call.part(4), call.part(6), call.part(7))
            return Self.empty
        default: throw .unsupported(call.request)
        }
    }

    private func needs(_ right: String, _ call: HubSpotCall, _ from: String, _ to: String) throws(HubSpotFailure) {
        guard portals[call.hubID]?.tables[from] != nil, portals[call.hubID]?.tables[to] != nil else {
            throw .invalid("Unable to infer object type from: \(from), \(to)")
        }
        try call.needs(Self.scope(from, right), Self.scope(to, right))
    }

    private func readAssociations(_ call: HubSpotCall) throws(HubSpotFailure) -> VendorResponse {
        let (from, to) = (call.part(3), call.part(4))
        try needs("read", call, from, to)
        try call.takes()
        let body = try call.body(.associationRead)
        var outcome = BatchOutcome()
        for input in try Self.inputs(body, most: HubSpotLimits.associationReads) {
            let name = input["id"]?.string ?? ""
            let id = portals[call.hubID]?.tables[from]?.resolve(name) ?? name
            let links = portals[call.hubID]?.links.of(from, id, to: to) ?? []
            if links.isEmpty {
                let failure = HubSpotFailure(
                    status: 404, category: "OBJECT_NOT_FOUND",
                    "No \(to) is associated with \(from) \(name).",
                    subCategory: "crm.associations.NO_ASSOCIATIONS_FOUND",
                    context: ["fromObjectId": [name], "fromObjectType": [from], "toObjectType": [to]])
                outcome.errors.append(failure.batchEntry())
            } else {
                outcome.results.append(
                    .object([
                        ("from", .object([("id", .string(name))])), ("to", .array(links.map(json))),
                    ]))
            }
        }
        return outcome.answer(call.now)
    }

    private func json(_ link: HubSpotLinks.Link) -> JSONValue {
        let number = manners.hasNumericIDs ? Int(link.id) : nil
        return .object([
            ("toObjectId", number.map { .integer($0) } ?? .string(link.id)),
            ("associationTypes", .array(link.types.map(\.json))),
        ])
    }

    private func listAssociations(_ call: HubSpotCall) throws(HubSpotFailure) -> VendorResponse {
        let (type, to) = (call.part(3), call.part(6))
        try needs("read", call, type, to)
        try call.takes("after", "limit")
        guard let record = portals[call.hubID]?.tables[type]?[call.part(4)] else { throw .notFound }
        let links = portals[call.hubID]?.links.of(type, record.id, to: to) ?? []
        return Self.ok(try Self.page(links.map(json), call, default: 500, most: 500))
    }

    private func labels(_ call: HubSpotCall) throws(HubSpotFailure) -> VendorResponse {
        try needs("read", call, call.part(3), call.part(4))
        let kinds = [HubSpotLinkKind.standard(call.part(3), call.part(4))].compactMap { $0?.json }
        return Self.ok(.object([("results", .array(kinds))]))
    }

    /// The two records of a link, under the ids they have now.
    private func ends(
        _ call: HubSpotCall, _ from: String, _ fromID: String, _ to: String, _ toID: String
    ) throws(HubSpotFailure) -> (from: String, to: String) {
        guard let first = portals[call.hubID]?.tables[from]?[fromID],
            let second = portals[call.hubID]?.tables[to]?[toID]
        else { throw .notFound }
        return (first.id, second.id)
    }

    private mutating func putDefaultAssociation(_ call: HubSpotCall) throws(HubSpotFailure) -> VendorResponse {
        let (from, to) = (call.part(3), call.part(7))
        try needs("write", call, from, to)
        try call.takes()
        let ends = try ends(call, from, call.part(4), to, call.part(8))
        portals[call.hubID]?.links.connect(from, ends.from, to, ends.to)
        var outcome = BatchOutcome()
        outcome.results = Self.defaultLink(from, ends.from, to, ends.to)
        return outcome.answer(call.now)
    }

    /// Both directions of a new default link.
    private static func defaultLink(_ from: String, _ fromID: String, _ to: String, _ toID: String) -> [JSONValue] {
        [(from, fromID, to, toID), (to, toID, from, fromID)].compactMap { from, fromID, to, toID in
            HubSpotLinkKind.standard(from, to).map { kind in
                .object([
                    ("from", .object([("id", .string(fromID))])), ("to", .object([("id", .string(toID))])),
                    (
                        "associationSpec",
                        .object([
                            ("associationCategory", .string(kind.category)),
                            ("associationTypeId", .integer(kind.typeID)),
                        ])
                    ),
                ])
            }
        }
    }

    private mutating func createDefaultAssociations(_ call: HubSpotCall) throws(HubSpotFailure) -> VendorResponse {
        let (from, to) = (call.part(3), call.part(4))
        try needs("write", call, from, to)
        let body = try call.body(.associationDefault)
        var outcome = BatchOutcome()
        for input in try Self.inputs(body, most: HubSpotLimits.associationWrites) {
            let ends = try ends(
                call, from, input["from"]?["id"]?.string ?? "", to, input["to"]?["id"]?.string ?? "")
            portals[call.hubID]?.links.connect(from, ends.from, to, ends.to)
            outcome.results += Self.defaultLink(from, ends.from, to, ends.to)
        }
        return outcome.answer(call.now)
    }

    private mutating func createAssociations(_ call: HubSpotCall) throws(HubSpotFailure) -> VendorResponse {
        let (from, to) = (call.part(3), call.part(4))
        try needs("write", call, from, to)
        let body = try call.body(.associationCreate)
        var outcome = BatchOutcome()
        for input in try Self.inputs(body, most: HubSpotLimits.associationWrites) {
            let kinds = (input["types"]?.array ?? []).map { kind in
                HubSpotLinkKind(
                    category: kind["associationCategory"]?.string ?? "HUBSPOT_DEFINED",
                    typeID: kind["associationTypeId"]?.integer ?? 0)
            }
            do throws(HubSpotFailure) {
                let ends = try ends(
                    call, from, input["from"]?["id"]?.string ?? "", to, input["to"]?["id"]?.string ?? "")
                portals[call.hubID]?.links.connect(from, ends.from, to, ends.to, kinds: kinds)
                outcome.results.append(
                    .object([
                        ("fromObjectTypeId", .string(Self.typeID(from))), ("fromObjectId", .string(ends.from)),
                        ("toObjectTypeId", .string(Self.typeID(to))), ("toObjectId", .string(ends.to)),
                        ("labels", .array([])),
                    ]))
            } catch {
                outcome.errors.append(error.batchEntry())
            }
        }
        return outcome.answer(call.now, status: 201)
    }

    private static func typeID(_ type: String) -> String {
        ["contacts": "0-1", "companies": "0-2", "deals": "0-3", "notes": "0-46"][type] ?? type
    }
}
