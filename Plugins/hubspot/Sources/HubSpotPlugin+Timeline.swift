// SPDX-License-Identifier: Apache-2.0

import MilepostKit

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
                let payload = try record.read(as: ResolvedClick.self)
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
                return try await self.note(event, vendor, operation)
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

    /// How long HubSpot's search may not show a note that was made (crm-apis 3.4), and how late a request may still arrive.
    private static let noteLag = Duration.seconds(90)
    /// Longer than any retry of a click takes.
    private static let noteMemory = Duration.seconds(86_400)

    /// A note for a click, made once although HubSpot knows no key for it: what was sent is remembered before it leaves,
    /// and after a lost answer the note is looked up before another one is made.
    private func note(
        _ event: TimelineEvent, _ vendor: Vendor, _ operation: Operation
    ) async throws -> Delivered {
        let storage = operation.context.storage
        let name = "note/" + VendorText.line(event.payload.key, longest: 64)
        let now = Int64(operation.context.wallNanoseconds / 1_000_000)
        if let entry = try await storage.get(name), let memory = try? JSONValue(parsing: entry.value) {
            if let id = memory["id"]?.string { return noted(id, event) }
            if let id = try await findNote(event.payload.key, vendor, operation) {
                try await storage.put(name, ["id": .string(id)], lifetime: Self.noteMemory)
                return noted(id, event)
            }
            let age = Duration.milliseconds(max(0, now - (memory["sent"]?.int ?? now)))
            guard age >= Self.noteLag else {
                throw Verdict.retry(
                    code: "note_unconfirmed",
                    message: "The answer to a note was lost, and HubSpot's search does not show it yet.",
                    after: Self.noteLag - age)
            }
        }
        guard let contact = try await find(event.contact, vendor, operation) else { throw Self.unknown(event.contact) }
        try await storage.put(name, ["sent": .int(now)], lifetime: Self.noteMemory)
        let response = try await vendor.send(
            "POST", vendor.paths.objects("notes"), json: event.note(contact: contact), operation)
        guard response.isSuccess else {
            // 503 and everything below 500 say that nothing was made; of the rest nobody knows (decision 3).
            if response.status < 500 || response.status == 503 { try await storage.delete(name) }
            throw vendor.verdict(for: response, operation)
        }
        guard let id = response.json?["id"]?.identifier else {
            throw Verdict.retry(code: "answer_unreadable", message: "HubSpot's answer names no note.")
        }
        try await storage.put(name, ["id": .string(id)], lifetime: Self.noteMemory)
        return noted(id, event)
    }

    private func noted(_ id: String, _ event: TimelineEvent) -> Delivered {
        Delivered(remoteID: id, remoteURL: event.contact.id.flatMap { page("0-1", $0) })
    }

    /// The note that bears a click's key.
    private func findNote(_ key: String, _ vendor: Vendor, _ operation: Operation) async throws(Verdict) -> String? {
        let marker = TimelineEvent.marker(key)
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
            throw .retry(code: "answer_unreadable", message: "HubSpot's answer to the search cannot be read.")
        }
        for note in results {
            guard let id = note["id"]?.identifier, let text = note["properties"]?["hs_note_body"]?.string,
                VendorText.text(text, holds: marker)
            else { continue }
            return id
        }
        return nil
    }
}

extension KeyValueStorage {
    fileprivate func put(_ key: String, _ value: JSONValue, lifetime: Duration) async throws(HostCallError) {
        _ = try await put(key, value.bytes, lifetime: lifetime)
    }
}
