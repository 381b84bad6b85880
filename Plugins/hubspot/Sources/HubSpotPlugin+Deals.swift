// SPDX-License-Identifier: Apache-2.0

public import MilepostKit
import Synchronization

/// A deal as a rule judges it.
struct Deal: Sendable {
    var id: String
    var name: String?
    var pipeline: String?
    var stage: String?
    /// Decimal text, as HubSpot keeps it.
    var amount: String?
    var currency: String?
    var createdAt: String?
    var isClosed: Bool
    var isPrimary: Bool
    /// What the counter's property holds.
    var counted: Int64?

    var json: JSONValue {
        func text(_ value: String?) -> JSONValue { value.map { .string($0) } ?? .null }
        return [
            "id": .string(id), "name": text(name), "pipeline": text(pipeline), "stage": text(stage),
            "amount": text(amount), "currency": text(currency), "created_at": text(createdAt),
            "is_primary": .bool(isPrimary), "is_closed": .bool(isClosed),
        ]
    }
}

extension HubSpotPlugin: Querying {
    public func query(_ request: QueryRequest, _ operation: Operation) async throws -> JSONValue {
        switch request.query {
        case "rule_targets":
            guard let contact = try? request.arguments?["contact"]?.decoded(as: Contact.self) else {
                throw Verdict.rejected(code: "field_invalid", message: "rule_targets needs a contact.")
            }
            let settings = settings
            let vendor = vendor(settings)
            guard let id = try await find(contact, vendor, operation) else { throw Self.unknown(contact) }
            let pipeline = request.arguments?["pipeline"]?.identifier
            let deals = try await deals(of: id, settings, vendor, operation)
            return [
                "targets": .array(deals.filter { pipeline == nil || $0.pipeline == pipeline }.map(\.json))
            ]
        default:
            throw Verdict.rejected(
                code: "query_unknown",
                message: "HubSpot answers no query \(VendorText.line(request.query, longest: 80)).")
        }
    }
}

extension HubSpotPlugin {
    /// Every deal of a contact, by id.
    func deals(
        of contact: String, _ settings: Settings, _ vendor: Vendor, _ operation: Operation
    ) async throws(Verdict) -> [Deal] {
        var labels: [String: Bool] = [:]
        var after: String?
        // Ten pages of five hundred: nobody has more deals, and a list that does not end is an error of the vendor's.
        for page in 0..<10 {
            var input: [String: JSONValue] = ["id": .string(contact)]
            if let after { input["after"] = .string(after) }
            let answer = try await vendor.json(
                "POST", vendor.paths.dealsOfContacts, json: ["inputs": [.object(input)]], operation)
            let result = answer["results"]?[0]
            for deal in result?["to"]?.array ?? [] {
                guard let id = deal["toObjectId"]?.identifier else { continue }
                let isPrimary = (deal["associationTypes"]?.array ?? []).contains {
                    $0["label"]?.string.map { VendorText.text($0.lowercased(), holds: "primary") } ?? false
                }
                labels[id] = isPrimary || labels[id] == true
            }
            after = result?["paging"]?["next"]?["after"]?.identifier
            if after == nil { break }
            if page == 9 {
                throw .retry(
                    code: "answer_unreadable", message: "HubSpot's list of the contact's deals does not end.")
            }
        }
        var deals: [Deal] = []
        let ids = labels.keys.sorted()
        for start in stride(from: 0, to: ids.count, by: Self.largestBatch) {
            let slice = ids[start..<min(start + Self.largestBatch, ids.count)]
            let wanted = [
                "dealname", "dealstage", "pipeline", "amount", "deal_currency_code", "createdate", "hs_is_closed",
            ]
            let properties = wanted + (settings.countsOnDeals ? [settings.counter] : [])
            let body: JSONValue = [
                "inputs": .array(slice.map { ["id": .string($0)] }), "propertiesWithHistory": [],
                "properties": .array(properties.map { .string($0) }),
            ]
            let answer = try await vendor.json(
                "POST", vendor.paths.objects("deals", "/batch/read"), json: body, operation)
            for record in answer["results"]?.array ?? [] {
                guard let id = record["id"]?.identifier, record["archived"]?.bool != true else { continue }
                var deal = Self.deal(id, record, counter: settings.counter)
                deal.isPrimary = labels[id] ?? false
                deals.append(deal)
            }
        }
        // A contact's only deal is its primary one, whatever it is labelled.
        if deals.count == 1 { deals[0].isPrimary = true }
        if deals.contains(where: { $0.stage != nil }) {
            let closed = try await closedStages(vendor, operation)
            for index in deals.indices where deals[index].stage.map(closed.contains) == true {
                deals[index].isClosed = true
            }
        }
        return deals
    }

    private static func deal(_ id: String, _ record: JSONValue, counter: String) -> Deal {
        let properties = record["properties"]
        func text(_ name: String) -> String? {
            let value = properties?[name]
            let text = value?.string ?? value?.int.map { String($0) }
            return text.flatMap { $0.isEmpty ? nil : VendorText.line($0, longest: 255) }
        }
        let closed = properties?["hs_is_closed"]
        return Deal(
            id: id, name: text("dealname"), pipeline: text("pipeline"), stage: text("dealstage"),
            amount: text("amount").flatMap { isDecimal($0) ? $0 : nil }, currency: text("deal_currency_code"),
            createdAt: text("createdate") ?? record["createdAt"]?.string.map { VendorText.line($0, longest: 64) },
            isClosed: closed?.bool ?? (closed?.string == "true"), isPrimary: false,
            counted: text(counter).flatMap { Int64($0) ?? Double($0).flatMap { Int64(exactly: $0) } })
    }

    package static func isDecimal(_ text: String) -> Bool {
        let body = text.hasPrefix("-") ? text.dropFirst() : Substring(text)
        let parts = body.utf8.split(separator: UInt8(ascii: "."), maxSplits: 1, omittingEmptySubsequences: false)
        return !body.isEmpty && parts.allSatisfy { !$0.isEmpty && $0.allSatisfy { (48...57).contains($0) } }
    }

    /// Ids of the stages in which a deal is won or lost; read once for each instance.
    private func closedStages(_ vendor: Vendor, _ operation: Operation) async throws(Verdict) -> Set<String> {
        if let known = state.withLock({ $0.closedStages }) { return known }
        let stages = try await pipelines(vendor, operation).flatMap(\.stages)
        let closed = Set(stages.filter(\.isClosed).map(\.id))
        state.withLock { $0.closedStages = closed }
        return closed
    }

    /// RULE-05, RULE-06: moves a deal on, unless somebody moved it meanwhile.
    func moveDeal(_ record: DeliveryRecord, _ settings: Settings, _ operation: Operation) async throws(Verdict)
        -> Delivered
    {
        let asked = try record.read(as: RulePayload.self)
        let vendor = vendor(settings)
        let path = vendor.paths.objects("deals", "/" + VendorText.urlEncoded(asked.target.id))
        let response = try await vendor.send("GET", path + "?properties=dealstage%2Cpipeline", operation)
        if response.status == 404 {
            throw .rejected(
                code: "target_moved",
                message: "HubSpot has no deal \(VendorText.line(asked.target.id, longest: 80)) any more.")
        }
        guard response.isSuccess else { throw vendor.verdict(for: response, operation) }
        // A merged deal's old id leads to the survivor.
        guard let json = response.json, let id = json["id"]?.identifier,
            let stage = json["properties"]?["dealstage"]?.string
        else {
            throw .retry(
                code: "answer_unreadable", message: "HubSpot's answer does not say which stage the deal is in.")
        }
        let done = Delivered(remoteID: id, remoteURL: page("0-3", id))
        // An earlier attempt whose answer was lost did this.
        if stage == asked.action.to_stage { return done }
        let pipeline = json["properties"]?["pipeline"]?.string
        if let from = asked.action.from_stage, stage != from {
            throw Self.moved(id, "it is in stage \(VendorText.line(stage, longest: 80)) and no longer in \(from)")
        }
        if let wanted = asked.action.pipeline, let pipeline, wanted != pipeline {
            throw Self.moved(
                id, "it is in pipeline \(VendorText.line(pipeline, longest: 80)) and no longer in \(wanted)")
        }
        let change: JSONValue = ["properties": ["dealstage": .string(asked.action.to_stage)]]
        let answer = try await vendor.send(
            "PATCH", vendor.paths.objects("deals", "/" + VendorText.urlEncoded(id)), json: change, operation)
        guard answer.isSuccess else {
            var verdict = vendor.verdict(for: answer, operation)
            if answer.status == 400 {
                verdict.code = "stage_missing"
                verdict.message =
                    "HubSpot does not move deal \(id) to stage \(VendorText.line(asked.action.to_stage, longest: 80)); "
                    + "look whether the stage still exists. \(verdict.message)"
            }
            throw verdict
        }
        return done
    }

    private static func moved(_ id: String, _ how: String) -> Verdict {
        .rejected(code: "target_moved", message: "Deal \(id) was left alone: \(how).")
    }
}
