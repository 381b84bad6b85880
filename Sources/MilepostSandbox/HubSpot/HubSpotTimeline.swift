// SPDX-License-Identifier: Apache-2.0

/// Timeline events, generation v3.
extension HubSpot {
    mutating func timeline(_ call: HubSpotCall) throws(HubSpotFailure) -> VendorResponse {
        guard call.part(3) == "events" else { throw .unsupported(call.request) }
        try call.needs("timeline")
        if manners.closed.contains("timeline") { throw Self.closedPart("timeline events") }
        switch (call.method, call.segments.count) {
        case ("POST", 4):
            try call.takes()
            let event = try addEvent(try call.body(.event), call)
            return Self.ok(answer(event), status: 201)
        case ("POST", 6) where call.part(4) == "batch" && call.part(5) == "create": return try addEvents(call)
        case ("GET", 6), ("GET", 7): return try readEvent(call)
        default: throw .unsupported(call.request)
        }
    }

    private mutating func addEvents(_ call: HubSpotCall) throws(HubSpotFailure) -> VendorResponse {
        try call.takes()
        if try call.json()["inputs"] == nil {
            violations.append("body.inputs is required")
            return BatchOutcome().answer(call.now, status: 201)
        }
        let body = try call.body(.eventBatch)
        var outcome = BatchOutcome()
        for input in try Self.inputs(body, most: HubSpotLimits.batch) {
            do throws(HubSpotFailure) {
                outcome.results.append(answer(try addEvent(input, call)))
            } catch {
                // Which input failed is not said: a client finds it by the ids that are missing among the results.
                outcome.errors.append(error.batchEntry())
            }
        }
        return outcome.answer(call.now, status: 201)
    }

    private mutating func addEvent(_ json: JSONValue, _ call: HubSpotCall) throws(HubSpotFailure) -> HubSpotEvent {
        guard var sent = json.object else { throw .misfit("an event must be an object") }
        let templateID = sent["eventTemplateId"]?.string ?? ""
        guard let template = app.template(templateID),
            template.createdAt.adding(milliseconds: manners.templateDelayMilliseconds) <= call.now
        else {
            throw HubSpotFailure(
                status: 404, category: "OBJECT_NOT_FOUND",
                "No event template with ID \(templateID) is known for this app")
        }
        try Self.check(sent["tokens"]?.object ?? JSONObject(), template)
        let id = (sent["id"]?.string ?? "{{uuid}}").replacing("{{uuid}}", with: eventKeys.uuid())
        sent["id"] = .string(id)
        let objectID = try target(of: sent, template.objectType, call, changesEmail: true)
        let timestamp = sent["timestamp"]?.string.flatMap { Instant(rfc3339WithFraction: $0) } ?? call.now
        let event = HubSpotEvent(
            kind: .timeline, id: id, type: templateID, objectType: template.objectType, objectID: objectID, sent: sent,
            timestamp: timestamp, receivedAt: call.now)
        let kept = try keep(event, call, repeats: manners.repeats)
        for token in template.tokens {
            guard let property = token.objectPropertyName, let value = sent["tokens"]?[token.name]?.string,
                var record = portals[call.hubID]?.tables[template.objectType]?[objectID]
            else { continue }
            record.set(property, value, source: "TIMELINE", at: call.now)
            save(template.objectType, record, hub: call.hubID, at: call.now)
        }
        return kept
    }

    private static func check(_ tokens: JSONObject, _ template: HubSpotTemplate) throws(HubSpotFailure) {
        for member in tokens.members {
            guard let token = template.tokens.first(where: { $0.name == member.key }) else {
                throw .invalid("Token \(member.key) is not defined in the event template \(template.id)")
            }
            if let refusal = token.refusal(of: member.value.string ?? "") {
                throw .invalid("Invalid token: \(refusal)")
            }
        }
    }

    /// The record that an event goes to: by id, by e-mail address (which makes a contact where none is), or by the cookie of
    /// the vendor's tracking, which a sandbox never knows.
    /// - Parameter changesEmail: whether an address beside an id overwrites the contact's, as the timeline does.
    mutating func target(
        of event: JSONObject, _ type: String, _ call: HubSpotCall, changesEmail: Bool
    ) throws(HubSpotFailure) -> String {
        let email = event["email"]?.string
        if let id = event["objectId"]?.string {
            guard var record = portals[call.hubID]?.tables[type]?[id] else {
                throw HubSpotFailure(
                    status: 404, category: "OBJECT_NOT_FOUND", "No \(type) object with ID \(id) exists")
            }
            if changesEmail, let email, type == "contacts", record.properties["email"] != email {
                record.set("email", email, source: "TIMELINE", at: call.now)
                save(type, record, hub: call.hubID, at: call.now)
            }
            return record.id
        }
        guard let email, type == "contacts" else {
            throw .invalid("One of objectId, email or utk must name a record that exists")
        }
        if let id = portals[call.hubID]?.tables[type]?.id(ofEmail: email) { return id }
        guard HubSpotProperty.isAddress(email) else { throw .invalid("Email address \(email) is invalid") }
        guard let id = portals[call.hubID]?.tables[type]?.takeID() else { throw .notFound }
        var made = HubSpotRecord(id: id, at: call.now)
        made.set("email", email, source: "TIMELINE", at: call.now)
        save(type, made, hub: call.hubID, at: call.now)
        return id
    }

    /// Stores an event under its id. What a repeated id does for the same record is not certain (`crm-apis.md` 3.5) and
    /// therefore a switch; for another record it is refused.
    mutating func keep(
        _ event: HubSpotEvent, _ call: HubSpotCall, repeats: HubSpotManners.Repeat
    ) throws(HubSpotFailure) -> HubSpotEvent {
        let key = HubSpotEventKey(type: event.type, id: event.id)
        guard let place = app.eventPlaces[key] else {
            app.eventPlaces[key] = HubSpotEventPlace(hubID: call.hubID, objectID: event.objectID)
            portals[call.hubID]?.events.append(event)
            return event
        }
        let taken = HubSpotFailure(
            status: 400, category: "VALIDATION_ERROR", "Event ID already in use, please choose a new unique ID")
        let known = portals[place.hubID]?.events.lastIndex { $0.type == event.type && $0.id == event.id }
        let isSame =
            place.hubID == call.hubID
            && portals[call.hubID]?.tables[event.objectType]?.resolve(place.objectID) == event.objectID
        guard let known, isSame else { throw taken }
        portals[place.hubID]?.events[known].repeats += 1
        switch repeats {
        case .refuse: throw taken
        case .conflict: throw .conflict("Event ID already in use, please choose a new unique ID")
        case .overwrite:
            portals[place.hubID]?.events[known].sent = event.sent
            portals[place.hubID]?.events[known].timestamp = event.timestamp
        case .ignore: break
        }
        return portals[place.hubID]?.events[known] ?? event
    }

    private func answer(_ event: HubSpotEvent) -> JSONValue {
        var json = event.sent
        json["objectType"] = .string(event.objectType)
        json["objectId"] = .string(event.objectID)
        json["timestamp"] = .string(event.timestamp.rfc3339Milliseconds)
        json["createdAt"] = .string(event.receivedAt.rfc3339Milliseconds)
        return .object(json)
    }

    private func readEvent(_ call: HubSpotCall) throws(HubSpotFailure) -> VendorResponse {
        let (templateID, id) = (call.part(4), call.part(5))
        let event = portals[call.hubID]?.events.last { $0.kind == .timeline && $0.type == templateID && $0.id == id }
        guard let event, let template = app.template(templateID) else { throw .notFound }
        var tokens = event.sent["tokens"]?.object ?? JSONObject()
        // Both templates may name what came with the event besides its tokens.
        for member in event.sent["extraData"]?.object?.members ?? [] {
            tokens["extraData." + member.key] = member.value
        }
        switch call.part(6) {
        case "":
            try call.takes()
            return Self.ok(answer(event))
        case "detail":
            try call.takes()
            return Self.ok(.object([("details", .string(HubSpotTemplate.render(template.detail, tokens)))]))
        case "render":
            try call.takes("detail")
            let text = try call.flag("detail") ? template.detail : template.header
            return Self.ok(.string(HubSpotTemplate.render(text, tokens)))
        default: throw .unsupported(call.request)
        }
    }
}
