// SPDX-License-Identifier: Apache-2.0

/// The two successors of timeline events: app events, generation 2026-03, and custom behavioural events.
extension HubSpot {
    // MARK: App events

    mutating func appEvents(_ call: HubSpotCall) throws(HubSpotFailure) -> VendorResponse {
        guard call.method == "POST" else { throw .unsupported(call.request) }
        try call.needs("timeline")
        try call.takes()
        if manners.closed.contains("app_events") { throw Self.closedPart("app events") }
        switch Array(call.segments[3...]) {
        case ["events"]:
            let event = try addAppEvent(try call.body(.appEvent), call)
            return Self.ok(.object(event.sent), status: 201)
        case ["events", "batch"]:
            let body = try call.body(.appEventBatch)
            var outcome = BatchOutcome()
            for input in try Self.inputs(body, most: HubSpotLimits.batch) {
                do throws(HubSpotFailure) {
                    outcome.results.append(.object(try addAppEvent(input, call).sent))
                } catch {
                    outcome.errors.append(error.batchEntry(adding: ["id": [input["id"]?.string ?? ""]]))
                }
            }
            // This generation says 200 with the errors inside, never 207.
            var response = outcome.answer(call.now)
            response.status = 200
            return response
        case ["types", "projects"]:
            let body = try call.body(.typeQuery)
            let name = "\(body["projectName"]?.string ?? "")/\(body["developerSymbol"]?.string ?? "")"
            guard let full = app.eventTypes[name] else { throw .notFound }
            return Self.ok(.object([("fullyQualifiedName", .string(full)), ("developerQualifiedSymbol", body)]))
        default: throw .unsupported(call.request)
        }
    }

    private mutating func addAppEvent(_ json: JSONValue, _ call: HubSpotCall) throws(HubSpotFailure) -> HubSpotEvent {
        guard let sent = json.object else { throw .misfit("an event must be an object") }
        let type = sent["eventTypeName"]?.string ?? ""
        guard app.eventTypes.values.contains(type) else { throw .invalid("Unknown event type \(type)") }
        let id = sent["id"]?.string ?? ""
        guard !id.isEmpty else { throw .invalid("id must not be empty") }
        let objectID = try target(of: sent, "contacts", call, changesEmail: false)
        let event = HubSpotEvent(
            kind: .appEvent, id: id, type: type, objectType: "contacts", objectID: objectID, sent: sent,
            timestamp: sent["timestamp"]?.string.flatMap { Instant(rfc3339WithFraction: $0) } ?? call.now,
            receivedAt: call.now)
        return try keep(event, call, repeats: .conflict)
    }

    // MARK: Custom events

    mutating func customEvents(_ call: HubSpotCall) throws(HubSpotFailure) -> VendorResponse {
        guard call.method == "POST" else { throw .unsupported(call.request) }
        try call.needs("analytics.behavioral_events.send")
        try call.takes()
        if manners.closed.contains("custom_events") { throw Self.closedPart("custom events") }
        switch Array(call.segments[3...]) {
        case []: try addCustomEvent(try call.body(.customEvent), call)
        case ["batch"]:
            let body = try call.body(.customEventBatch)
            let inputs = try Self.inputs(body, most: HubSpotLimits.customEvents)
            let before = self
            for input in inputs {
                do throws(HubSpotFailure) {
                    try addCustomEvent(input, call)
                } catch {
                    self = before
                    throw error
                }
            }
        default: throw .unsupported(call.request)
        }
        return Self.empty
    }

    private mutating func addCustomEvent(_ json: JSONValue, _ call: HubSpotCall) throws(HubSpotFailure) {
        guard let sent = json.object else { throw .misfit("an event must be an object") }
        let name = sent["eventName"]?.string ?? ""
        guard portals[call.hubID]?.customEvents.contains(name) == true else {
            throw .invalid("No event definition named \(name) exists in this account")
        }
        let properties = sent["properties"]?.object?.members ?? []
        guard properties.count <= 50 else { throw .invalid("An event takes at most 50 properties") }
        for member in properties {
            let most = member.key.contains("url") || member.key.contains("referrer") ? 1024 : 256
            guard (member.value.string ?? "").unicodeScalars.count <= most else {
                throw .invalid("The value of \(member.key) is longer than \(most) characters")
            }
        }
        let objectID = try target(of: sent, "contacts", call, changesEmail: false)
        // `uuid` does not promise that a repeated event is one, so each is kept: a client that sends twice shows twice.
        portals[call.hubID]?.events.append(
            HubSpotEvent(
                kind: .customEvent, id: sent["uuid"]?.string ?? "", type: name, objectType: "contacts",
                objectID: objectID, sent: sent,
                timestamp: sent["occurredAt"]?.string.flatMap { Instant(rfc3339WithFraction: $0) } ?? call.now,
                receivedAt: call.now))
    }
}
