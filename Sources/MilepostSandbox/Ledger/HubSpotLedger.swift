// SPDX-License-Identifier: Apache-2.0

/// What stands in HubSpot, for tests and for people.
extension SandboxWorld {
    /// The part `hubspot` of the ledger. Filters: `hub` (id), `contact` (id, also one that was merged away).
    func hubspotLedger(_ request: VendorRequest) throws(ControlError) -> JSONValue {
        var portals = hubspot.portals.values.sorted { $0.id < $1.id }
        if let text = request.queryValue("hub") {
            portals = portals.filter { String($0.id) == text }
            guard !portals.isEmpty else { throw ControlError("no hub \(text)", status: 404) }
        }
        let contact = request.queryValue("contact")
        return .object([
            ("portals", .array(portals.map { Self.json($0, contact: contact) })),
            ("templates", .array(hubspot.app.templates.map(\.json))),
        ])
    }

    private static func json(_ portal: HubSpotPortal, contact: String?) -> JSONValue {
        func rows(_ type: String) -> [HubSpotRecord] { portal.tables[type]?.all ?? [] }
        let contacts = rows("contacts").filter { row in
            contact.map { portal.tables["contacts"]?.resolve($0) == row.id } ?? true
        }
        let events = Self.eventsByContact(portal)
        return .object([
            ("hub_id", .integer(portal.id)), ("name", .string(portal.name)),
            ("contacts", .array(contacts.map { Self.contact($0, events[$0.id] ?? [], portal) })),
            ("deals", .array(rows("deals").map { deal($0, portal) })),
            ("notes", .array(rows("notes").map { record($0, "notes", portal) })),
            (
                "events",
                .array(
                    portal.events.filter { event in
                        contact == nil || portal.tables["contacts"]?.resolve(event.objectID) == contacts.first?.id
                    }.map { event(of: $0, portal) })
            ),
            (
                "properties",
                .object(
                    portal.properties.sorted { $0.key < $1.key }.map { type, list in
                        (type, .array(list.filter { !$0.isHubSpotDefined && !$0.isArchived }.map { .string($0.name) }))
                    })
            ),
        ])
    }

    private static func record(_ row: HubSpotRecord, _ type: String, _ portal: HubSpotPortal) -> JSONValue {
        var json = row.json(names: row.properties.keys.sorted())
        json["associations"] = .object(
            ["contacts", "deals", "companies", "notes"].compactMap { other in
                let links = portal.links.of(type, row.id, to: other)
                return links.isEmpty ? nil : (other, .array(links.map { .string($0.id) }))
            })
        return .object(json)
    }

    /// The events of each contact, under the id it has now.
    private static func eventsByContact(_ portal: HubSpotPortal) -> [String: [HubSpotEvent]] {
        Dictionary(grouping: portal.events) { portal.tables["contacts"]?.resolve($0.objectID) ?? $0.objectID }
    }

    private static func contact(
        _ row: HubSpotRecord, _ events: [HubSpotEvent], _ portal: HubSpotPortal
    ) -> JSONValue {
        var json = record(row, "contacts", portal).object ?? JSONObject()
        json["history"] = .array(row.history.map(change))
        json["events"] = .array(events.map { event(of: $0, portal) })
        return .object(json)
    }

    private static func deal(_ row: HubSpotRecord, _ portal: HubSpotPortal) -> JSONValue {
        var json = record(row, "deals", portal).object ?? JSONObject()
        var moves: [JSONValue] = []
        var stage: String?
        for change in row.history where change.name == "dealstage" {
            if let from = stage {
                moves.append(
                    .object([
                        ("from", .string(from)), ("to", .string(change.value)),
                        ("at", .string(change.at.rfc3339Milliseconds)),
                        ("at_ms", .integer(Int(change.at.milliseconds))),
                        ("source", .string(change.source)),
                    ]))
            }
            stage = change.value
        }
        json["moves"] = .array(moves)
        json["history"] = .array(row.history.map(change))
        return .object(json)
    }

    private static func change(_ change: HubSpotChange) -> JSONValue {
        .object([
            ("name", .string(change.name)), ("value", .string(change.value)),
            ("at", .string(change.at.rfc3339Milliseconds)), ("at_ms", .integer(Int(change.at.milliseconds))),
            ("source", .string(change.source)),
        ])
    }

    /// An event, with the moment it was received beside the moment it tells of, so that latency can be measured.
    private static func event(of event: HubSpotEvent, _ portal: HubSpotPortal) -> JSONValue {
        .object([
            ("kind", .string(event.kind.rawValue)), ("id", .string(event.id)), ("type", .string(event.type)),
            ("object_type", .string(event.objectType)),
            ("object_id", .string(portal.tables[event.objectType]?.resolve(event.objectID) ?? event.objectID)),
            ("timestamp", .string(event.timestamp.rfc3339Milliseconds)),
            ("received_at", .string(event.receivedAt.rfc3339Milliseconds)),
            ("received_at_ms", .integer(Int(event.receivedAt.milliseconds))),
            ("latency_ms", .integer(Int(event.receivedAt.milliseconds - event.timestamp.milliseconds))),
            ("repeats", .integer(event.repeats)), ("sent", .object(event.sent)),
        ])
    }

    /// Grants and refreshes of both vendors, oldest first.
    func oauthLedger() -> JSONValue {
        let events =
            hubspot.oauth.events.map { ($0.at, $0.json(vendor: "hubspot")) }
            + pipedrive.oauth.events.map { ($0.at, $0.json(vendor: "pipedrive")) }
        return .array(
            events.enumerated().sorted { ($0.element.0, $0.offset) < ($1.element.0, $1.offset) }.map(\.element.1))
    }

    // MARK: For people

    func hubspotText() -> String {
        var text = ""
        for portal in hubspot.portals.values.sorted(by: { $0.id < $1.id }) where isHubSpotUsed {
            let events = Self.eventsByContact(portal)
            text += "\(portal.name) (hub \(portal.id))\n\n"
            text += Self.table(
                head: ["contact", "email", "events", "last change"],
                rows: (portal.tables["contacts"]?.all ?? []).map { row in
                    let last = row.history.last.map { "\($0.name) = \($0.value) (\($0.source))" }
                    return [row.id, row.properties["email"] ?? "", String(events[row.id]?.count ?? 0), last ?? ""]
                })
            text += "\n"
            text += Self.table(
                head: ["deal", "name", "stage", "amount", "moves"],
                rows: (portal.tables["deals"]?.all ?? []).map { row in
                    let stages = row.history.filter { $0.name == "dealstage" }.map(\.value)
                    return [
                        row.id, row.properties["dealname"] ?? "", row.properties["dealstage"] ?? "",
                        row.properties["amount"] ?? "", stages.joined(separator: " > "),
                    ]
                })
            text += "\n"
            text += Self.table(
                head: ["event", "kind", "contact", "happened", "received", "repeats"],
                rows: portal.events.map { event in
                    [
                        event.id, event.kind.rawValue, event.objectID, event.timestamp.rfc3339Milliseconds,
                        event.receivedAt.rfc3339Milliseconds, String(event.repeats),
                    ]
                })
            text += "\n"
        }
        let tokens = oauthLedger().array ?? []
        if !tokens.isEmpty {
            text += "Tokens\n\n"
            text += Self.table(
                head: ["time", "vendor", "event", "account", "grant", "detail"],
                rows: tokens.map { event in
                    ["at", "vendor", "event", "account", "grant", "detail"].map { name in
                        event[name].map { $0.string ?? ($0.isNull ? "" : $0.text) } ?? ""
                    }
                })
            text += "\n"
        }
        if !ledger.violations.isEmpty {
            text += "Breaches of the vendors' documents\n\n"
            text += Self.table(
                head: ["request", "vendor", "what"],
                rows: ledger.violations.map { [String($0.request), $0.vendor, $0.detail] })
            text += "\n"
        }
        return text
    }
}
