// SPDX-License-Identifier: Apache-2.0

public import MilepostKit

extension HubSpotPlugin {
    /// A record on its way to the timeline.
    private struct Item: Sendable {
        var record: DeliveryRecord
        var event: TimelineEvent
    }

    /// How a back end takes events: one alone, or many.
    private struct Channel: Sendable {
        var single: String
        var batch: String
        /// Custom events answer with nothing; the others name what they took.
        var answersWithResults = true
        var body: @Sendable (TimelineEvent) -> JSONValue
    }

    /// TL-01, TL-11: one event for each click, many in one request, each with its own verdict.
    func deliverTimeline(_ records: [DeliveryRecord], _ settings: Settings, _ operation: Operation)
        async throws(Verdict)
        -> Outcomes
    {
        var outcomes: Outcomes = [:]
        var items: [Item] = []
        for record in records {
            do {
                let payload = try record.read(as: ClickPayload.self)
                items.append(Item(record: record, event: TimelineEvent(payload, titleTemplate: settings.eventTitle)))
            } catch { outcomes[record.index] = .failure(error) }
        }
        let backend = try await backend(settings, operation)
        let vendor = vendor(settings)
        if backend == .off {
            let done = Delivered(warnings: [
                Warning(code: "timeline_off", message: "No way to show clicks is possible or wanted; none was sent.")
            ])
            for item in items { outcomes[item.record.index] = .success(done) }
            return outcomes
        }
        items = try await addressed(items, &outcomes, vendor, operation)
        let sent: Outcomes
        if backend == .note {
            let events = Dictionary(items.map { ($0.record.index, $0.event) }) { first, _ in first }
            sent = await operation.each(items.map(\.record)) { record, operation in
                guard let event = events[record.index] else { throw Self.unknown(Contact(id: nil, email: nil)) }
                return try await self.note(event, record, vendor, operation)
            }
        } else {
            let channel = try channel(backend, settings, vendor)
            var collected: Outcomes = [:]
            for start in stride(from: 0, to: items.count, by: Self.largestBatch) {
                let slice = Array(items[start..<min(start + Self.largestBatch, items.count)])
                collected.merge(await send(slice, channel, vendor, operation)) { $1 }
            }
            sent = collected
        }
        return outcomes.merging(sent) { $1 }
    }

    /// Gives each event the contact's id: by an e-mail address HubSpot would make a contact that nobody asked for.
    private func addressed(
        _ items: [Item], _ outcomes: inout Outcomes, _ vendor: Vendor, _ operation: Operation
    ) async throws(Verdict) -> [Item] {
        let emails = items.compactMap { $0.event.contact.id == nil ? $0.event.contact.email : nil }
        // Without the right to read contacts the address itself is all there is.
        let known = emails.isEmpty ? [:] : try await identifiers(of: emails, vendor, operation)
        var ready: [Item] = []
        for var item in items {
            let contact = item.event.contact
            if contact.id == nil {
                guard let email = contact.email, !email.isEmpty else {
                    outcomes[item.record.index] = .failure(Self.unknown(contact))
                    continue
                }
                if let known {
                    guard let id = known[email.lowercased()] else {
                        outcomes[item.record.index] = .failure(Self.unknown(contact))
                        continue
                    }
                    item.event.contact = Contact(id: id, email: nil)
                }
            }
            ready.append(item)
        }
        return ready
    }

    private func channel(_ backend: Settings.Backend, _ settings: Settings, _ vendor: Vendor) throws(Verdict) -> Channel
    {
        switch backend {
        case .timelineV3, .timelineAlias:
            guard let template = template(settings) else {
                throw Self.templatePending("No event template is known yet")
            }
            let path = Paths.timelineEvents(alias: backend == .timelineAlias)
            return Channel(single: path, batch: path + "/batch/create") { $0.timeline(template: template) }
        case .appEvents:
            guard let type = settings.appEventType else {
                throw .config(
                    code: "setting_missing", message: "app_event_type is not set.", pointer: "/app_event_type")
            }
            return Channel(single: Paths.appEvents, batch: Paths.appEvents + "/batch") { $0.appEvent(type: type) }
        case .customEvents:
            guard let name = settings.customEventName else {
                throw .config(
                    code: "setting_missing", message: "custom_event_name is not set.", pointer: "/custom_event_name")
            }
            let path = vendor.paths.customEvents
            return Channel(single: path, batch: path + "/batch", answersWithResults: false) {
                $0.customEvent(name: name)
            }
        case .auto, .note, .off: preconditionFailure("\(backend.rawValue) has no channel")
        }
    }

    /// Events wait for their template and do not fail (HCON-05).
    private static func templatePending(_ what: String) -> Verdict {
        .retry(
            code: "template_pending",
            message: "\(what): milepost provision hubspot --app makes it, and HubSpot takes up to a minute to show it.",
            after: .seconds(10))
    }

    private func send(_ items: [Item], _ channel: Channel, _ vendor: Vendor, _ operation: Operation) async -> Outcomes {
        guard items.count > 1 else { return await sendSingly(items, channel, vendor, operation) }
        do throws(Verdict) {
            let body: JSONValue = ["inputs": .array(items.map { channel.body($0.event) })]
            let response = try await vendor.send("POST", channel.batch, json: body, operation)
            switch response.status {
            case 200..<300:
                var taken: Set<String> = []
                if channel.answersWithResults {
                    for result in response.json?["results"]?.array ?? [] {
                        if let id = result["id"]?.string { taken.insert(id) }
                    }
                } else if response.status != 207 {
                    taken = Set(items.map(\.event.payload.key))
                }
                // Which input failed is not told by index (crm-apis 3.5): what is not among the results goes again alone.
                var outcomes: Outcomes = [:]
                for item in items where taken.contains(item.event.payload.key) {
                    outcomes[item.record.index] = .success(delivered(item.event))
                }
                let rest = items.filter { !taken.contains($0.event.payload.key) }
                return outcomes.merging(await sendSingly(rest, channel, vendor, operation)) { $1 }
            case 400, 404, 409, 413, 422: return await sendSingly(items, channel, vendor, operation)
            default: throw vendor.verdict(for: response, operation)
            }
        } catch {
            return Dictionary(items.map { ($0.record.index, .failure(error)) }) { first, _ in first }
        }
    }

    private func sendSingly(_ items: [Item], _ channel: Channel, _ vendor: Vendor, _ operation: Operation) async
        -> Outcomes
    {
        let events = Dictionary(items.map { ($0.record.index, $0.event) }) { first, _ in first }
        var pending: Verdict?
        return await operation.each(items.map(\.record)) { record, operation in
            // The next event would meet the same missing template.
            if let pending { throw pending }
            guard let event = events[record.index] else { throw Self.unknown(Contact(id: nil, email: nil)) }
            do throws(Verdict) { return try await self.sendOne(event, channel, vendor, operation) } catch {
                if error.code == "template_pending" { pending = error }
                throw error
            }
        }
    }

    private func sendOne(
        _ event: TimelineEvent, _ channel: Channel, _ vendor: Vendor, _ operation: Operation
    ) async throws(Verdict) -> Delivered {
        let response = try await vendor.send("POST", channel.single, json: channel.body(event), operation)
        if response.isSuccess || VendorError.saysAlreadyThere(response) { return delivered(event) }
        let verdict = vendor.verdict(for: response, operation)
        let said = verdict.message.lowercased()
        let isMissing =
            response.status == 404
            || (response.status == 400
                && ["not found", "not exist", "unknown"].contains { VendorText.text(said, holds: $0) })
        guard isMissing else { throw verdict }
        if VendorText.text(said, holds: "template") {
            throw Self.templatePending("HubSpot does not know the event template yet")
        }
        // The contact, or something else? A merged one lives on under another id (RES-08).
        guard let id = try await find(event.contact, vendor, operation) else { throw Self.unknown(event.contact) }
        guard event.contact.id != nil, id != event.contact.id else {
            throw response.status == 404
                ? Self.templatePending("HubSpot does not know the event template yet") : verdict
        }
        var moved = event
        moved.contact = Contact(id: id, email: nil)
        let again = try await vendor.send("POST", channel.single, json: channel.body(moved), operation)
        if again.isSuccess || VendorError.saysAlreadyThere(again) { return delivered(moved) }
        throw vendor.verdict(for: again, operation)
    }

    private func delivered(_ event: TimelineEvent) -> Delivered {
        Delivered(remoteID: event.payload.key, remoteURL: event.contact.id.flatMap { page("0-1", $0) })
    }

    // MARK: Notes

    private func note(
        _ event: TimelineEvent, _ record: DeliveryRecord, _ vendor: Vendor, _ operation: Operation
    ) async throws(Verdict) -> Delivered {
        if let done = record.result(of: "note")?["note_id"]?.string { return noted(done, event) }
        if let id = Self.answeredNote(record) { return noted(id, event) }
        guard let contact = try await find(event.contact, vendor, operation) else { throw Self.unknown(event.contact) }
        let note = try await vendor.create(
            "note", vendor.paths.objects("notes"), event.note(contact: contact), operation)
        guard let id = note["id"]?.identifier else {
            throw .uncertain(code: "answer_unreadable", message: "HubSpot's answer names no note.")
        }
        try await operation.journal("note", ["note_id": .string(id)])
        return noted(id, event)
    }

    private func noted(_ id: String, _ event: TimelineEvent) -> Delivered {
        Delivered(remoteID: id, remoteURL: event.contact.id.flatMap { page("0-1", $0) })
    }

    /// The note of a stored 2xx answer whose step the plugin did not confirm. A cut body tells nothing.
    private static func answeredNote(_ record: DeliveryRecord) -> String? {
        guard let entry = record.journal?.last(where: { $0.step == "note" }), entry.state == "answered",
            let status = entry.http_status, (200..<300).contains(status), let body = entry.body
        else { return nil }
        return (try? JSONValue(parsing: Array(body.utf8)))?["id"]?.identifier
    }
}

extension HubSpotPlugin: Reconciling {
    /// Looks for a note whose answer was lost. Everything else that this plugin sends may be sent again.
    public func reconcile(_ record: DeliveryRecord, action: String, _ operation: Operation) async throws -> Finding {
        guard action == "timeline_event" else {
            return .notApplied(step: "", message: "What \(action) sends may be sent again.")
        }
        let payload = try record.read(as: ClickPayload.self)
        let vendor = vendor(settings)
        let marker = TimelineEvent.marker(payload.key)
        let body: JSONValue = [
            "filterGroups": [
                [
                    "filters": [
                        ["propertyName": "hs_note_body", "operator": "CONTAINS_TOKEN", "value": .string(marker)]
                    ]
                ]
            ],
            "properties": ["hs_note_body"], "limit": 10,
        ]
        let response = try await vendor.send(
            "POST", vendor.paths.objects("notes", "/search"), json: body, bucket: "search", operation)
        guard response.isSuccess else { throw vendor.verdict(for: response, operation) }
        guard let results = response.json?["results"]?.array else {
            return .unknown(step: "note", message: "HubSpot's answer to the search cannot be read.")
        }
        for note in results {
            guard let id = note["id"]?.identifier, let text = note["properties"]?["hs_note_body"]?.string,
                VendorText.text(text, holds: marker)
            else { continue }
            return .applied(
                step: "note", result: ["note_id": .string(id)], remoteID: id, remoteURL: nil,
                message: "The note was made: it bears the click's key.")
        }
        return .notApplied(step: "note", message: "No note of HubSpot bears the click's key.")
    }
}
