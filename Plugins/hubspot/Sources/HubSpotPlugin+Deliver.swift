// SPDX-License-Identifier: Apache-2.0

public import MilepostKit

extension HubSpotPlugin: BatchDelivering {
    /// HubSpot's limit for contacts and deals in one request; the same for events, where none is stated (crm-apis 3.4).
    static let largestBatch = 100

    public func deliver(batch records: [DeliveryRecord], action: String, _ operation: Operation) async throws
        -> Outcomes
    {
        let settings = settings
        switch action {
        case "timeline_event": return try await deliverTimeline(records, settings, operation)
        case "contact_properties": return try await deliverTouches(records, settings, operation)
        case "deal_counter":
            return await operation.each(records) { record, operation in
                try await self.count(record, settings, operation)
            }
        case "deal_stage", "move_deal", "deal.stage":
            return await operation.each(records) { record, operation in
                try await self.moveDeal(record, settings, operation)
            }
        default:
            throw Verdict.rejected(
                code: "action_unknown", message: "HubSpot has no action \(VendorText.line(action, longest: 80)).")
        }
    }

    /// Contact ids by e-mail address, lower case. An address that no contact has is missing in the answer.
    /// - Returns: nil when the token may not read contacts.
    func identifiers(
        of emails: [String], _ vendor: Vendor, _ operation: Operation
    ) async throws(Verdict) -> [String: String]? {
        let wanted = Array(Set(emails.map { $0.lowercased() })).sorted()
        var found: [String: String] = [:]
        if wanted.count > 1 {
            for start in stride(from: 0, to: wanted.count, by: Self.largestBatch) {
                let inputs = wanted[start..<min(start + Self.largestBatch, wanted.count)]
                let body: JSONValue = [
                    "idProperty": "email", "properties": ["email"], "propertiesWithHistory": [],
                    "inputs": .array(inputs.map { ["id": .string($0)] }),
                ]
                let response = try await vendor.send(
                    "POST", vendor.paths.objects("contacts", "/batch/read"), json: body, operation)
                if response.status == 403 { return nil }
                guard response.isSuccess else { throw vendor.verdict(for: response, operation) }
                for contact in response.json?["results"]?.array ?? [] {
                    guard let id = contact["id"]?.identifier, let email = contact["properties"]?["email"]?.string
                    else { continue }
                    found[email.lowercased()] = id
                }
            }
        }
        // A second address of a contact is found by asking for it alone.
        for email in wanted where found[email] == nil {
            do {
                found[email] = try await find(Contact(id: nil, email: email), vendor, operation)
            } catch {
                if error.httpStatus == 403 { return nil }
                throw error
            }
        }
        return found
    }
}
