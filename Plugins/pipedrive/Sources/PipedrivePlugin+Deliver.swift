// SPDX-License-Identifier: Apache-2.0

public import MilepostKit

extension PipedrivePlugin: Delivering {
    public func deliver(_ record: DeliveryRecord, action: String, _ operation: Operation) async throws -> Delivered {
        let crossing = try Self.crossing(of: record, action: action)
        let settings = settings
        let vendor = vendor(settings)
        var warnings: [Warning] = []

        let deal: JSONValue
        if let done = record.result(of: "deal") {
            deal = done
        } else if let answered = Self.answeredDeal(record) {
            // The answer reached the host's disk, the plugin's word did not: the deal is there.
            deal = Self.result(of: answered)
            try await operation.journal("deal", deal)
        } else {
            deal = try await createDeal(crossing, settings, vendor, &warnings, operation)
        }
        guard let dealID = deal["deal_id"]?.int else {
            throw Verdict.rejected(
                code: "journal_unreadable", message: "The journal of \(record.delivery_id) names no deal for its note.")
        }
        let shelf = deal["shelf"]?.string.flatMap { Deal.Shelf(rawValue: $0) } ?? .live
        if let warning = Self.warning(about: dealID, on: shelf) { warnings.append(warning) }
        if shelf != .deleted, record.result(of: "note") == nil, Self.answeredNote(record) == nil {
            let text = DealText.note(crossing, deliveryID: record.delivery_id)
            do {
                let note = try await vendor.post(
                    "note", vendor.v1("/notes"),
                    ["content": .string(text), "deal_id": .int(dealID), "pinned_to_deal_flag": 1], cost: 10, operation)
                try await operation.journal("note", ["note_id": note["id"] ?? .null])
            } catch let verdict as Verdict where verdict.status == .rejected && shelf == .archived {
                // The vendor may keep archived deals as they are; the warning about the deal says where it lies.
                warnings.append(
                    Warning(
                        code: "note_refused", message: "The archived deal \(dealID) takes no note. \(verdict.message)"))
            }
        }
        return Delivered(remoteID: String(dealID), remoteURL: dealPage(dealID), warnings: warnings)
    }

    /// What an operator should know of a deal that was found again, but not where deals are.
    static func warning(about deal: Int64, on shelf: Deal.Shelf) -> Warning? {
        switch shelf {
        case .live: nil
        case .archived:
            Warning(
                code: "deal_archived", message: "Deal \(deal) was made and then archived; none is made in its place.")
        case .deleted:
            Warning(
                code: "deal_deleted",
                message: "Deal \(deal) was made and then deleted; none is made in its place, and it gets no note. "
                    + "Pipedrive can restore it for 30 days.")
        }
    }

    static func crossing(of record: DeliveryRecord, action: String) throws -> ThresholdCrossing {
        guard action == "deal" else {
            throw Verdict.rejected(
                code: "action_unknown", message: "Pipedrive has no action \(VendorText.line(action, longest: 80)).")
        }
        do { return try record.payload.decoded() } catch {
            throw Verdict.rejected(
                code: "payload_unreadable", message: "The payload of \(record.delivery_id) is no threshold crossing.")
        }
    }

    /// The deal in a stored 2xx answer whose step the plugin did not confirm.
    static func answeredDeal(_ record: DeliveryRecord) -> Deal? { answer(to: "deal", record).flatMap { Deal($0) } }

    static func answeredNote(_ record: DeliveryRecord) -> Int64? { answer(to: "note", record)?["id"]?.int }

    private static func answer(to step: String, _ record: DeliveryRecord) -> JSONValue? {
        let entry = record.journal?.last { $0.step == step }
        guard let entry, entry.state == "answered", let status = entry.http_status, (200..<300).contains(status),
            let body = entry.body
        else { return nil }
        // A capped body may be cut: it then tells nothing, and the deal is looked up instead.
        return try? JSONValue(parsing: Array(body.utf8))["data"]
    }

    /// What the journal keeps of a deal.
    static func result(of deal: Deal) -> JSONValue {
        var members: [String: JSONValue] = ["deal_id": .int(deal.id)]
        if deal.shelf != .live { members["shelf"] = .string(deal.shelf.rawValue) }
        return .object(members)
    }

    /// Sends the deal; where the vendor refuses, finds out whether target or fields are to blame.
    private func createDeal(
        _ crossing: ThresholdCrossing, _ settings: Settings, _ vendor: Vendor, _ warnings: inout [Warning],
        _ operation: Operation
    ) async throws -> JSONValue {
        guard let pipeline = Self.id(crossing.deal?.pipeline) ?? settings.pipelineID,
            let stage = Self.id(crossing.deal?.stage) ?? settings.stageID
        else {
            throw Verdict.config(
                code: "target_missing", message: "No pipeline and stage are chosen.", pointer: "/pipeline_id")
        }
        let custom = try await customFields(crossing, settings, vendor, &warnings, operation)
        let title = DealText.title(crossing, settings)
        let plan = Plan(
            title: title, pipelineID: pipeline, fieldKey: custom.linkKey,
            fieldValue: custom.linkKey == nil ? nil : custom.linkValue)
        try await storePlan(plan, operation)
        var body: [String: JSONValue] = [
            "title": .string(title), "pipeline_id": .int(pipeline), "stage_id": .int(stage),
        ]
        if vendor.api == .v2 {
            if !custom.members.isEmpty { body["custom_fields"] = .object(custom.members) }
        } else {
            body.merge(custom.members) { ours, _ in ours }
        }
        do {
            let data = try await vendor.post(
                "deal", vendor.url("/deals"), .object(body), cost: vendor.api == .v2 ? 5 : 10, operation)
            guard let deal = Deal(data) else { preconditionFailure("post answers with an id or throws") }
            let result = Self.result(of: deal)
            try await operation.journal("deal", result)
            return result
        } catch let verdict as Verdict where verdict.status == .rejected {
            // Not applied, and the settings may be why: the next attempt starts from fresh definitions.
            forgetFields()
            if let status = verdict.httpStatus, [400, 404, 409, 410, 422].contains(status),
                let missing = try await missingTarget(pipeline: pipeline, stage: stage, vendor, operation)
            {
                throw Verdict(
                    .config, code: missing.code, message: missing.message, httpStatus: status,
                    vendorCode: verdict.vendorCode, pointer: missing.pointer)
            }
            throw verdict
        }
    }

    static func id(_ value: JSONValue?) -> Int64? { value?.int ?? value?.string.flatMap { Int64($0) } }

    private func storePlan(_ plan: Plan, _ operation: Operation) async throws {
        do { try await operation.journal(Plan.step, plan.json) } catch {
            // Nothing has been sent yet, so this one failure of the journal is no uncertainty.
            throw Verdict.retry(code: error.code, message: error.message)
        }
    }

    struct CustomFields {
        var members: [String: JSONValue] = [:]
        var linkKey: String?
        var linkValue = ""
    }

    /// Settings' fields as the vendor wants them. What cannot be mapped is left out with a warning (FLD-02).
    private func customFields(
        _ crossing: ThresholdCrossing, _ settings: Settings, _ vendor: Vendor, _ warnings: inout [Warning],
        _ operation: Operation
    ) async throws -> CustomFields {
        var result = CustomFields(linkValue: VendorText.line(crossing.scope.id, longest: 255))
        var wanted: [(name: String, value: JSONValue, isLink: Bool)] = []
        for (name, value) in settings.fields.sorted(by: { $0.key < $1.key }) {
            let filled = value.string.map { JSONValue.string(DealText.fill($0, crossing)) } ?? value
            wanted.append((name, filled, false))
        }
        for (name, value) in (crossing.fields?.object ?? [:]).sorted(by: { $0.key < $1.key }).prefix(50) {
            wanted.append((name, value, false))
        }
        if let name = settings.linkField { wanted.append((name, .string(result.linkValue), true)) }
        guard !wanted.isEmpty else { return result }

        var fields = try await fields(vendor, operation)
        if wanted.contains(where: { DealField.find($0.name, in: fields) == .unknown }) {
            fields = try await self.fields(fresh: true, vendor, operation)
        }
        warnings += renames(in: fields)
        for (name, value, isLink) in wanted where !value.isNull {
            guard case .found(let field) = DealField.find(name, in: fields) else {
                if let warning = Self.warning(about: name, in: fields) { warnings.append(warning) }
                continue
            }
            do {
                result.members.merge(try field.wire(value, api: vendor.api)) { _, last in last }
                if isLink { result.linkKey = field.key }
            } catch {
                warnings.append(
                    Warning(
                        code: "field_invalid",
                        message: "Field \(VendorText.line(field.label, longest: 80)) was left out: \(error.reason)."))
            }
        }
        return result
    }
}
