// SPDX-License-Identifier: Apache-2.0

import MilepostKit

extension HubSpotPlugin {
    /// Everything that is written to one contact: of several records the last click's values win (PROP-08, PROP-12).
    private struct Write: Sendable {
        var contact: Contact
        var properties: [String: JSONValue]
        var records: [DeliveryRecord]
        /// Names the input in the answer (crm-apis 3.6).
        var trace: String
        var path: String {
            if let id = contact.id { return "/" + VendorText.urlEncoded(id) }
            return "/\(VendorText.urlEncoded(contact.email ?? ""))?idProperty=email"
        }
    }

    /// PROP-02: the last campaign on the contact.
    func deliverTouches(_ records: [DeliveryRecord], _ settings: Settings, _ operation: Operation) async throws(Verdict)
        -> Outcomes
    {
        var outcomes: Outcomes = [:]
        var touches: [(record: DeliveryRecord, touch: ContactTouch)] = []
        for record in records {
            do { touches.append((record, try record.read(as: ContactTouch.self))) } catch {
                outcomes[record.index] = .failure(error)
            }
        }
        let vendor = vendor(settings)
        let writes = try await writes(touches, settings, &outcomes, vendor, operation)
        // By e-mail address only one at a time: an update of many takes such ids without a word and does nothing.
        let batched = writes.filter { $0.contact.id != nil }
        let single = writes.filter { $0.contact.id == nil }
        if batched.count == 1 {
            outcomes.merge(await writeSingly(batched + single, vendor, operation)) { $1 }
            return outcomes
        }
        for start in stride(from: 0, to: batched.count, by: Self.largestBatch) {
            let slice = Array(batched[start..<min(start + Self.largestBatch, batched.count)])
            outcomes.merge(await writeTogether(slice, vendor, operation)) { $1 }
        }
        outcomes.merge(await writeSingly(single, vendor, operation)) { $1 }
        return outcomes
    }

    /// What is to be written, one for each contact: HubSpot refuses a batch that names one twice.
    private func writes(
        _ touches: [(record: DeliveryRecord, touch: ContactTouch)], _ settings: Settings, _ outcomes: inout Outcomes,
        _ vendor: Vendor, _ operation: Operation
    ) async throws(Verdict) -> [Write] {
        let emails = touches.compactMap { item -> String? in
            item.touch.contact.id?.isEmpty == false ? nil : item.touch.contact.email
        }
        // One alone is addressed by its e-mail itself, which asks for less of the token.
        let known = emails.count < 2 ? nil : try await identifiers(of: emails, vendor, operation)
        var order: [String] = []
        var writes: [String: Write] = [:]
        // RFC 3339 in UTC with milliseconds, as the core writes it, sorts as text.
        for (record, touch) in touches.sorted(by: {
            ($0.touch.at, $0.record.index) < ($1.touch.at, $1.record.index)
        }) {
            var contact = Contact(touch.contact)
            if contact.id?.isEmpty != false {
                guard let email = contact.email?.lowercased(), !email.isEmpty else {
                    outcomes[record.index] = .failure(Self.unknown(contact))
                    continue
                }
                contact = Contact(id: known?[email], email: email)
                if known != nil, contact.id == nil {
                    outcomes[record.index] = .failure(Self.unknown(contact))
                    continue
                }
            }
            let values = Self.values(of: touch, settings)
            if values.isEmpty {
                // PROP-13: a click without a campaign wipes nothing.
                outcomes[record.index] = .success(Delivered(remoteID: contact.id))
                continue
            }
            let name = contact.id ?? contact.email ?? ""
            if writes[name] == nil {
                order.append(name)
                writes[name] = Write(contact: contact, properties: [:], records: [], trace: touch.key)
            }
            writes[name]?.properties.merge(values) { _, last in last }
            writes[name]?.records.append(record)
            writes[name]?.trace = touch.key
        }
        return order.compactMap { writes[$0] }
    }

    /// Values by property name. An empty text clears the property; the core sends one only when asked to.
    private static func values(of touch: ContactTouch, _ settings: Settings) -> [String: JSONValue] {
        var values: [String: JSONValue] = [:]
        // First-touch names were refused when the settings were read; nothing may bring one here all the same.
        for (field, name) in settings.properties.all where !FirstTouch.holds(name) {
            if let value = touch.utm[field] { values[name] = .string(VendorText.line(value, longest: 1_000)) }
        }
        return values
    }

    private func writeTogether(_ writes: [Write], _ vendor: Vendor, _ operation: Operation) async -> Outcomes {
        guard !writes.isEmpty else { return [:] }
        let inputs = writes.map { write -> JSONValue in
            [
                "id": .string(write.contact.id ?? ""), "objectWriteTraceId": .string(write.trace),
                "properties": .object(write.properties),
            ]
        }
        do throws(Verdict) {
            let response = try await vendor.send(
                "POST", vendor.paths.objects("contacts", "/batch/update"), json: ["inputs": .array(inputs)], operation)
            switch response.status {
            case 200..<300:
                var taken: Set<String> = []
                for result in response.json?["results"]?.array ?? [] {
                    if let trace = result["objectWriteTraceId"]?.string { taken.insert(trace) }
                    if let id = result["id"]?.identifier { taken.insert(id) }
                }
                let refused = Set(
                    (response.json?["errors"]?.array ?? []).flatMap {
                        VendorError(json: $0, status: 207).context["objectWriteTraceId"] ?? []
                    })
                // Only what the answer names counts as written: an answer without results is no success.
                let done = writes.filter {
                    !refused.contains($0.trace) && (taken.contains($0.trace) || taken.contains($0.contact.id ?? ""))
                }
                let traces = Set(done.map(\.trace))
                let rest = await writeSingly(writes.filter { !traces.contains($0.trace) }, vendor, operation)
                return outcomes(of: done).merging(rest) { $1 }
            case 400, 404, 409, 422: return await writeSingly(writes, vendor, operation)
            default: throw vendor.verdict(for: response, operation)
            }
        } catch {
            return Dictionary(writes.flatMap(\.records).map { ($0.index, .failure(error)) }) { first, _ in first }
        }
    }

    private func outcomes(of writes: [Write]) -> Outcomes {
        var outcomes: Outcomes = [:]
        for write in writes {
            let done = Delivered(remoteID: write.contact.id, remoteURL: write.contact.id.flatMap { page("0-1", $0) })
            for record in write.records { outcomes[record.index] = .success(done) }
        }
        return outcomes
    }

    private func writeSingly(_ writes: [Write], _ vendor: Vendor, _ operation: Operation) async -> Outcomes {
        // One record stands for all of its contact; the others get its outcome.
        let leaders = Dictionary(writes.compactMap { write in write.records.last.map { ($0.index, write) } }) { $1 }
        var outcomes = await operation.each(writes.compactMap(\.records.last)) { record, operation in
            guard let write = leaders[record.index] else { throw Self.unknown(Contact(id: nil, email: nil)) }
            return try await self.writeOne(write, vendor, operation)
        }
        for write in writes {
            guard let leader = write.records.last, let outcome = outcomes[leader.index] else { continue }
            for record in write.records { outcomes[record.index] = outcome }
        }
        return outcomes
    }

    private func writeOne(_ write: Write, _ vendor: Vendor, _ operation: Operation) async throws(Verdict) -> Delivered {
        let body: JSONValue = ["properties": .object(write.properties)]
        var response = try await vendor.send(
            "PATCH", vendor.paths.objects("contacts", write.path), json: body, operation)
        if response.status == 404 || Self.saysNoSuchRecord(response) {
            guard write.contact.id != nil, let id = try await find(write.contact, vendor, operation),
                id != write.contact.id
            else { throw Self.unknown(write.contact) }
            response = try await vendor.send(
                "PATCH", vendor.paths.objects("contacts", "/" + VendorText.urlEncoded(id)), json: body, operation)
        }
        guard response.isSuccess else {
            throw Self.propertyVerdict(response) ?? vendor.verdict(for: response, operation)
        }
        let id = response.json?["id"]?.identifier ?? write.contact.id
        return Delivered(remoteID: id, remoteURL: id.flatMap { page("0-1", $0) })
    }

    /// A 400 for an id that is none.
    private static func saysNoSuchRecord(_ response: HTTPResponse) -> Bool {
        guard response.status == 400 else { return false }
        let said = VendorError(response)
        return said.category == "OBJECT_NOT_FOUND"
            || ["not found", "invalid id", "not a valid"].contains {
                VendorText.text(said.text.lowercased(), holds: $0)
            } && !VendorText.text(said.text, holds: "PROPERTY_")
    }

    /// What a refused property means. HubSpot hides the details in its message, as JSON inside text (crm-apis 3.3).
    static func propertyVerdict(_ response: HTTPResponse) -> Verdict? {
        guard response.status == 400, let message = response.json?["message"]?.string else { return nil }
        var verdict: Verdict
        let shown = VendorText.line(message, longest: 300)
        if VendorText.text(message, holds: "PROPERTY_DOESNT_EXIST") {
            // It can be made at any time, and what waits is written then.
            verdict = .retry(
                code: "property_missing",
                message: "A property is missing in HubSpot: milepost provision hubspot makes it. \(shown)",
                after: .seconds(20))
        } else if VendorText.text(message, holds: "READ_ONLY_VALUE") || VendorText.text(message, holds: "calculated") {
            verdict = .rejected(
                code: "property_read_only",
                message: "HubSpot takes no value for a property: map the field to one of your own. \(shown)",
                pointer: "/property_mapping")
        } else {
            return nil
        }
        verdict.httpStatus = 400
        return verdict
    }
}
