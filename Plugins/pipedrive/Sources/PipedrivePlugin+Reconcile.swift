// SPDX-License-Identifier: Apache-2.0

public import MilepostKit

/// How far the vendor's clock may be behind the host's.
private let clockSkewSeconds: Int64 = 300

extension PipedrivePlugin: Reconciling {
    public func reconcile(_ record: DeliveryRecord, action: String, _ operation: Operation) async throws -> Finding {
        let crossing = try Self.crossing(of: record, action: action)
        let vendor = vendor(settings)
        guard let done = record.result(of: "deal") else {
            return try await reconcileDeal(record, crossing, vendor, operation)
        }
        guard let dealID = done["deal_id"]?.int else {
            return .unknown(step: "note", message: "The journal names no deal to look for the note on.")
        }
        return try await reconcileNote(record, dealID: dealID, vendor, operation)
    }

    // MARK: The deal

    private func reconcileDeal(
        _ record: DeliveryRecord, _ crossing: ThresholdCrossing, _ vendor: Vendor, _ operation: Operation
    ) async throws -> Finding {
        if let deal = Self.answeredDeal(record) {
            return applied(deal, "The vendor's stored answer names deal \(deal.id).")
        }
        let times = (record.journal ?? []).filter { $0.step == "deal" }.compactMap { $0.intent_at }
        let intents = (times.isEmpty ? [record.first_attempt_at].compactMap { $0 } : times).compactMap(epochSeconds)
        guard let intent = intents.min() else {
            return .unknown(step: "deal", message: "The journal does not tell when the deal was sent.")
        }
        let since = intent - clockSkewSeconds
        let plan = try await plan(of: record, crossing, vendor, operation)
        let own = plan.fieldKey == nil ? try await ownUser(vendor, operation) : nil

        func isOurs(_ deal: Deal) -> Bool {
            guard deal.bears(plan) else { return false }
            if let key = plan.fieldKey { return deal.value(of: key) == plan.fieldValue }
            return deal.creatorID == nil || deal.creatorID == own
        }
        var candidates = try await newestDeals(.live, since: since, vendor, operation).filter(isOurs)
        let looked = Self.description(of: plan, since: since)
        if candidates.isEmpty, let key = plan.fieldKey, let value = plan.fieldValue {
            candidates = try await searchedDeals(key: key, value: value, since: since, vendor, operation)
                .filter { $0.bears(plan) }
        }
        // Somebody may have put it away since: made again it would be a second one (decision 6).
        for shelf in [Deal.Shelf.archived, .deleted] where candidates.isEmpty {
            candidates = try await newestDeals(shelf, since: since, vendor, operation).filter(isOurs)
        }
        let here = candidates.filter { $0.pipelineID == plan.pipelineID }.sorted { $0.id < $1.id }
        if let oldest = here.first {
            let note = here.count > 1 ? " \(here.count) deals match; the oldest counts, look at the others." : ""
            if here.count > 1 {
                operation.log(.warning, "several deals match one delivery", ["delivery": .string(record.delivery_id)])
            }
            let put = Self.warning(about: oldest.id, on: oldest.shelf)
            if let put { operation.log(.warning, put.message, ["delivery": .string(record.delivery_id)]) }
            return applied(oldest, "Found deal \(oldest.id): \(looked).\(note)" + (put.map { " \($0.message)" } ?? ""))
        }
        // Field and title are the delivery's own mark (decisions 6). A deal that bears it and was moved by hand is the
        // hand-over at work (DEAL-12): it is neither made again nor moved back.
        let moved = candidates.filter { plan.fieldKey != nil && $0.wasMoved != false }
        if let deal = moved.min(by: { $0.id < $1.id }) {
            let pipeline = deal.pipelineID.map { "\($0)" } ?? "another one"
            return applied(deal, "Found deal \(deal.id), moved to pipeline \(pipeline) since: \(looked).")
        }
        if let elsewhere = candidates.min(by: { $0.id < $1.id }) {
            // Made there by another connection, or only alike: neither may be guessed.
            return .unknown(
                step: "deal",
                message: "Deal \(elsewhere.id) matches but lies in another pipeline: \(looked). Check it by hand.")
        }
        return .notApplied(step: "deal", message: "No deal found, archived and deleted ones included: \(looked).")
    }

    private func applied(_ deal: Deal, _ message: String) -> Finding {
        .applied(
            step: "deal", result: Self.result(of: deal), remoteID: String(deal.id), remoteURL: dealPage(deal.id),
            message: message)
    }

    private static func description(of plan: Plan, since: Int64) -> String {
        let field = plan.fieldKey.map { "field \($0.prefix(8))… \(plan.fieldValue ?? ""), " } ?? "our own user, "
        return "newest deals with \(field)title \"\(plan.title)\", pipeline \(plan.pipelineID), not older than \(since)"
    }

    /// What was sent: from the journal, else as today's settings would send it.
    private func plan(
        of record: DeliveryRecord, _ crossing: ThresholdCrossing, _ vendor: Vendor, _ operation: Operation
    ) async throws -> Plan {
        if let plan = record.result(of: Plan.step).flatMap({ Plan($0) }) { return plan }
        let settings = settings
        var key: String?
        if let name = settings.linkField {
            let fields = try await fields(vendor, operation)
            if case .found(let field) = DealField.find(name, in: fields) { key = field.key }
        }
        return Plan(
            title: DealText.title(crossing, settings),
            pipelineID: Self.id(crossing.deal?.pipeline) ?? settings.pipelineID ?? 0,
            fieldKey: key, fieldValue: VendorText.line(crossing.scope.id, longest: 255))
    }

    /// Deals added since then, newest first. These listings do not use the search index (crm-apis 2.8).
    /// - Throws: `Verdict` when a page fails or the listing does not get that far within twenty pages.
    private func newestDeals(
        _ shelf: Deal.Shelf, since: Int64, _ vendor: Vendor, _ operation: Operation
    ) async throws -> [Deal] {
        let order = vendor.api == .v2 ? "sort_by=add_time&sort_direction=desc" : "sort=add_time%20DESC"
        let path =
            switch shelf {
            case .live: "/deals?"
            case .archived: "/deals/archived?"
            // Pipedrive keeps deleted deals for thirty days; deliveries are looked up sooner.
            case .deleted: "/deals?status=deleted&"
            }
        let cost: UInt32 = (shelf == .archived ? 20 : 10) * (vendor.api == .v2 ? 1 : 2)
        var found: [Deal] = []
        var page = Page.first
        for _ in 0..<20 {
            let json: JSONValue
            do {
                json = try await vendor.get(
                    vendor.url("\(path)\(order)&\(page.query(limit: 500))"), cost: cost, operation)
            } catch let verdict as Verdict where shelf == .archived && verdict.httpStatus == 404 {
                return []  // an account, or a stand-in for one, that has no archive
            }
            // v1 answers an empty list with null.
            guard let items = json["data"]?.array ?? (json["data"]?.isNull == true ? [] : nil) else {
                throw Verdict.retry(code: "answer_unreadable", message: "Pipedrive's list of deals has no data.")
            }
            var deals = items.compactMap { Deal($0) }
            for index in deals.indices { deals[index].shelf = shelf }
            // A deal without a readable time may be ours: it counts as new.
            found += deals.filter { $0.addedAt.map { $0 >= since } ?? true }
            if let oldest = deals.last?.addedAt, oldest < since { return found }
            guard let next = page.next(after: json) else { return found }
            page = next
        }
        throw Verdict.retry(
            code: "answer_unreadable", message: "More than 10,000 deals are newer than the delivery; check by hand.")
    }

    /// Deals that the search index knows by the field, read in full.
    private func searchedDeals(
        key: String, value: String, since: Int64, _ vendor: Vendor, _ operation: Operation
    ) async throws -> [Deal] {
        let term = VendorText.urlEncoded(value)
        let query =
            vendor.api == .v2
            ? "entity_type=deal&field=\(key)&match=exact&term=\(term)&limit=100"
            : "field_type=dealField&field_key=\(key)&exact_match=true&return_item_ids=true&term=\(term)&limit=100"
        let json = try await vendor.get(
            vendor.url("/itemSearch/field?\(query)"), cost: vendor.api == .v2 ? 20 : 40, bucket: "search", operation)
        let items = json["data"]?.array ?? json["data"]?["items"]?.array ?? []
        let ids = items.compactMap { $0["id"]?.int ?? $0["item"]?["id"]?.int }.sorted(by: >)
        guard !ids.isEmpty else { return [] }
        var deals: [Deal] = []
        if vendor.api == .v2 {
            let list = ids.prefix(100).map { String($0) }.joined(separator: ",")
            let json = try await vendor.get(vendor.url("/deals?ids=\(list)&limit=100"), cost: 10, operation)
            deals = (json["data"]?.array ?? []).compactMap { Deal($0) }
        } else {
            // Ids grow, so the newest ten hold whatever was added since the intent.
            for id in ids.prefix(10) {
                let json = try await vendor.get(vendor.url("/deals/\(id)"), cost: 2, operation)
                if let deal = json["data"].flatMap({ Deal($0) }) { deals.append(deal) }
            }
        }
        return deals.filter { $0.value(of: key) == value && ($0.addedAt.map { $0 >= since } ?? true) }
    }

    // MARK: The note

    private func reconcileNote(
        _ record: DeliveryRecord, dealID: Int64, _ vendor: Vendor, _ operation: Operation
    ) async throws -> Finding {
        if let id = Self.answeredNote(record) {
            return .applied(
                step: "note", result: ["note_id": .int(id)], remoteID: String(dealID), remoteURL: dealPage(dealID),
                message: "The vendor's stored answer names note \(id).")
        }
        let marker = DealText.marker(record.delivery_id)
        var page = Page.first
        // Ten pages of 500: a deal that is minutes old has a handful of notes.
        for _ in 0..<10 {
            let json = try await vendor.get(
                vendor.v1("/notes?deal_id=\(dealID)&sort=add_time%20DESC&\(page.query(limit: 500))"), cost: 20,
                operation)
            for note in json["data"]?.array ?? [] {
                guard let id = note["id"]?.int, let content = note["content"]?.string,
                    VendorText.text(content, holds: marker)
                else { continue }
                return .applied(
                    step: "note", result: ["note_id": .int(id)], remoteID: String(dealID), remoteURL: dealPage(dealID),
                    message: "Note \(id) of deal \(dealID) holds the delivery's id.")
            }
            guard let next = page.next(after: json) else {
                return .notApplied(
                    step: "note", message: "No note of deal \(dealID) holds the text \"\(marker)\".")
            }
            page = next
        }
        return .unknown(step: "note", message: "Deal \(dealID) has more notes than can be looked through.")
    }
}
