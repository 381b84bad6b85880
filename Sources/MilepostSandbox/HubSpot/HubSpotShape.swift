// SPDX-License-Identifier: Apache-2.0

/// What a request body may look like, after the schemas of `specs/hubspot`. Members that the document does not name are
/// refused: the vendor may forgive them, a client that sends them is wrong.
indirect enum HubSpotShape: Sendable {
    case text, integer, flag, time, anything
    /// A map whose values are texts.
    case texts
    /// A map with any values.
    case map
    case choice([String])
    case list(HubSpotShape)
    case object([Member])

    struct Member: Sendable {
        let name: String
        let shape: HubSpotShape
        var isRequired = false
    }

    static func must(_ name: String, _ shape: HubSpotShape) -> Member {
        Member(name: name, shape: shape, isRequired: true)
    }

    static func may(_ name: String, _ shape: HubSpotShape) -> Member { Member(name: name, shape: shape) }

    /// Says what does not fit, or nil.
    func misfit(_ value: JSONValue, at place: String = "body") -> String? {
        switch self {
        case .anything: return nil
        case .text: return value.string == nil ? "\(place) must be a string" : nil
        case .integer: return value.integer == nil ? "\(place) must be an integer" : nil
        case .flag: return value.bool == nil ? "\(place) must be a boolean" : nil
        case .time:
            return value.string.flatMap { Instant(rfc3339WithFraction: $0) } == nil
                ? "\(place) must be a date-time" : nil
        case .choice(let words):
            return value.string.map(words.contains) == true
                ? nil : "\(place) must be one of [\(words.joined(separator: ", "))]"
        case .map: return value.object == nil ? "\(place) must be an object" : nil
        case .texts:
            guard let object = value.object else { return "\(place) must be an object" }
            return object.members.first { $0.value.string == nil }.map { "\(place).\($0.key) must be a string" }
        case .list(let shape):
            guard let items = value.array else { return "\(place) must be an array" }
            for (index, item) in items.enumerated() {
                if let misfit = shape.misfit(item, at: "\(place)[\(index)]") { return misfit }
            }
            return nil
        case .object(let members): return Self.misfit(value, members, at: place)
        }
    }

    private static func misfit(_ value: JSONValue, _ members: [Member], at place: String) -> String? {
        guard let object = value.object else { return "\(place) must be an object" }
        for member in members {
            guard let inner = object[member.name] else {
                if member.isRequired { return "\(place).\(member.name) is required" }
                continue
            }
            if let misfit = member.shape.misfit(inner, at: "\(place).\(member.name)") { return misfit }
        }
        let known = members.map(\.name)
        return object.keys.first { !known.contains($0) }.map { "\(place).\($0) is not in the vendor's document" }
    }
}

extension HubSpotShape {
    private static func batch(_ members: [Member], and more: [Member] = []) -> HubSpotShape {
        .object([must("inputs", .list(.object(members)))] + more)
    }

    private static let reference: HubSpotShape = .object([must("id", .text)])
    static let associationTypes: HubSpotShape = .list(
        .object([
            must("associationCategory", .choice(["HUBSPOT_DEFINED", "USER_DEFINED", "INTEGRATOR_DEFINED"])),
            must("associationTypeId", .integer),
        ]))
    private static let associations: HubSpotShape = .list(
        .object([must("types", associationTypes), must("to", reference)]))

    // Objects: contacts-v3.json, deals-v3.json.
    static let create: HubSpotShape = .object([must("properties", .texts), may("associations", associations)])
    static let update: HubSpotShape = .object([must("properties", .texts)])
    static let batchCreate = batch([
        must("properties", .texts), may("associations", associations), may("objectWriteTraceId", .text),
    ])
    static let batchWrite = batch([
        must("id", .text), must("properties", .texts), may("idProperty", .text), may("objectWriteTraceId", .text),
    ])
    static let batchRead = batch(
        [must("id", .text)],
        and: [
            must("properties", .list(.text)), must("propertiesWithHistory", .list(.text)), may("idProperty", .text),
        ])
    static let batchArchive = batch([must("id", .text)])
    static let merge: HubSpotShape = .object([must("primaryObjectId", .text), must("objectIdToMerge", .text)])
    static let erase: HubSpotShape = .object([must("objectId", .text), may("idProperty", .text)])
    static let search: HubSpotShape = .object([
        may("query", .text), may("limit", .integer), may("after", .text), may("sorts", .list(.text)),
        may("properties", .list(.text)),
        may(
            "filterGroups",
            .list(
                .object([
                    must(
                        "filters",
                        .list(
                            .object([
                                must("propertyName", .text), must("operator", .choice(HubSpotFilter.operators)),
                                may("value", .text), may("highValue", .text), may("values", .list(.text)),
                            ])))
                ]))),
    ])

    // Properties: properties-v3.json.
    private static let options: HubSpotShape = .list(
        .object([
            must("label", .text), must("value", .text), must("hidden", .flag), may("displayOrder", .integer),
            may("description", .text),
        ]))
    private static let fieldTypes = [
        "textarea", "text", "date", "file", "number", "select", "radio", "checkbox", "booleancheckbox",
        "calculation_equation",
    ]
    private static let propertyMembers: [Member] = [
        must("name", .text), must("label", .text), must("groupName", .text),
        must("type", .choice(["string", "number", "date", "datetime", "enumeration", "bool"])),
        must("fieldType", .choice(fieldTypes)), may("hidden", .flag), may("displayOrder", .integer),
        may("description", .text), may("formField", .flag), may("referencedObjectType", .text),
        may("options", options), may("calculationFormula", .text), may("hasUniqueValue", .flag),
        may("externalOptions", .flag),
    ]
    static let property: HubSpotShape = .object(propertyMembers)
    static let propertyBatch = batch(propertyMembers)
    static let propertyUpdate: HubSpotShape = .object(
        propertyMembers.filter {
            !["name", "referencedObjectType", "hasUniqueValue", "externalOptions"].contains($0.name)
        }.map { may($0.name, $0.shape) })
    static let propertyRead = batch([must("name", .text)], and: [must("archived", .flag)])

    // Associations: associations-v4.json.
    static let associationRead = batch([must("id", .text), may("after", .text)])
    static let associationCreate = batch([
        must("from", reference), must("to", reference), must("types", associationTypes),
    ])
    static let associationDefault = batch([must("from", reference), must("to", reference)])

    // Timeline: timeline-v3.json, app-events-2026-03.authored.json.
    private static let frame: HubSpotShape = .object([
        must("linkLabel", .text), must("headerLabel", .text), must("url", .text), must("width", .integer),
        must("height", .integer),
    ])
    private static let eventMembers: [Member] = [
        must("eventTemplateId", .text), must("tokens", .texts), may("id", .text), may("email", .text),
        may("objectId", .text), may("utk", .text), may("domain", .text), may("timestamp", .time),
        may("extraData", .anything), may("timelineIFrame", frame),
    ]
    static let event: HubSpotShape = .object(eventMembers)
    static let eventBatch = batch(eventMembers)
    private static let tokenOptions: HubSpotShape = .list(.object([must("label", .text), must("value", .text)]))
    private static let tokenMembers: [Member] = [
        must("name", .text), must("label", .text), must("type", .choice(["date", "enumeration", "number", "string"])),
        may("options", tokenOptions), may("objectPropertyName", .text), may("createdAt", .time),
        may("updatedAt", .time),
    ]
    static let token: HubSpotShape = .object(tokenMembers)
    static let tokenUpdate: HubSpotShape = .object([
        must("label", .text), may("options", tokenOptions), may("objectPropertyName", .text),
    ])
    private static let templateMembers: [Member] = [
        must("name", .text), must("tokens", .list(token)), may("headerTemplate", .text), may("detailTemplate", .text),
    ]
    static let template: HubSpotShape = .object(templateMembers + [must("objectType", .text)])
    static let templateUpdate: HubSpotShape = .object(templateMembers + [must("id", .text)])
    private static let appEventMembers: [Member] = [
        must("eventTypeName", .text), must("id", .text), must("properties", .map), may("objectId", .text),
        may("email", .text), may("utk", .text), may("domain", .text), may("timestamp", .time),
        may("extraData", .map), may("objectTypeFullyQualifiedName", .text), may("timelineIFrame", frame),
    ]
    static let appEvent: HubSpotShape = .object(appEventMembers)
    static let appEventBatch = batch(appEventMembers)
    static let typeQuery: HubSpotShape = .object([must("developerSymbol", .text), must("projectName", .text)])

    // Custom events: events-send-v3.json.
    private static let customMembers: [Member] = [
        must("eventName", .text), may("occurredAt", .time), may("uuid", .text), may("email", .text),
        may("objectId", .text), may("utk", .text), may("properties", .texts),
    ]
    static let customEvent: HubSpotShape = .object(customMembers)
    static let customEventBatch = batch(customMembers)
}
