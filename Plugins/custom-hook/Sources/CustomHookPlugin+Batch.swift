// SPDX-License-Identifier: Apache-2.0

public import MilepostKit

/// Clicks that queue up together leave in one request, when the settings say so; everything else in requests of its own.
extension CustomHookPlugin: BatchDelivering {
    static let clickAction = "click_hook"
    /// Requests of one call under way at once. A few calls are; the daemon bounds the connections to one receiver.
    static let width = 64

    public func deliver(
        batch records: [DeliveryRecord], action: String, _ operation: Operation
    ) async throws -> Outcomes {
        let settings = settings
        guard action == Self.clickAction, settings.sendsBatches, !settings.url.isEmpty else {
            // Receivers tell repetitions by id and take events in any order, so none waits for another.
            return await operation.together(records, width: Self.width) {
                try await self.deliver($0, action: action, $1)
            }
        }
        var outcomes: Outcomes = [:]
        var events: [(index: UInt32, event: HookEvent)] = []
        for record in records {
            do throws(Verdict) {
                let event = try HookEvent(record)
                if let refusal = settings.only.refusal(of: event) {
                    throw Verdict.rejected(code: "filtered", message: refusal)
                }
                events.append((record.index, event))
            } catch {
                outcomes[record.index] = .failure(error)
            }
        }
        var start = 0
        var wall: Verdict?
        while start < events.count {
            let end = min(start + settings.batchSize, events.count)
            let part = events[start..<end]
            if let wall {
                for item in part { outcomes[item.index] = .failure(wall) }
            } else {
                let failure = try await send(part, settings, operation, &outcomes)
                // What the next request would meet, too, is not asked for again.
                if let failure, failure.status != .rejected { wall = failure }
            }
            start = end
        }
        return outcomes
    }

    /// Posts events in one request. Where the receiver refuses it as such, its halves are tried, so that one event that it
    /// does not take fails alone.
    ///
    /// - Returns: the verdict that all of them got; nil when they are delivered or were judged one by one.
    private func send(
        _ part: ArraySlice<(index: UInt32, event: HookEvent)>, _ settings: Settings, _ operation: Operation,
        _ outcomes: inout Outcomes
    ) async throws -> Verdict? {
        let events = part.map(\.event)
        let message = Message(batch: events, id: HookEvent.identity(ofBatch: events), settings)
        do {
            try await post(message, settings, operation)
            for item in part { outcomes[item.index] = .success(Delivered(remoteID: item.event.id)) }
            return nil
        } catch let verdict as Verdict {
            guard verdict.status == .rejected, part.count > 1 else {
                for item in part { outcomes[item.index] = .failure(verdict) }
                return verdict
            }
            let middle = part.startIndex + part.count / 2
            if let failure = try await send(part[..<middle], settings, operation, &outcomes),
                failure.status != .rejected
            {
                for item in part[middle...] { outcomes[item.index] = .failure(failure) }
                return failure
            }
            let failure = try await send(part[middle...], settings, operation, &outcomes)
            return failure.flatMap { $0.status == .rejected ? nil : $0 }
        }
    }
}

extension HookEvent {
    /// The same for the same events in the same order, and for no others: a receiver that knows it has seen this batch.
    /// Two FNV-1a hashes; the ids are digests themselves, so nobody chooses them.
    static func identity(ofBatch events: [HookEvent]) -> String {
        func hash(_ seed: UInt64) -> UInt64 {
            events.reduce(seed) { hash, event in
                (Array(event.id.utf8) + [0]).reduce(hash) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01B3 }
            }
        }
        let digits = [hash(0xCBF2_9CE4_8422_2325), hash(0x9E37_79B9_7F4A_7C15)].map { part in
            let text = String(part, radix: 16)
            return String(repeating: "0", count: 16 - text.count) + text
        }
        return "bat_" + digits.joined()
    }
}
