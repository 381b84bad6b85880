// SPDX-License-Identifier: Apache-2.0

import MilepostKit

/// How many clicks a deal's counter has seen, with the last records that it counted.
///
/// HubSpot cannot add to a number, so the sum is kept here and written as a whole: a retry writes what is there already,
/// and counts nobody twice (PROP-10).
package struct ClickCounter: Sendable, Equatable {
    /// Records remembered: a retry comes long before so many others.
    static let memory = 64
    private static let keyLength = 10

    package var total: Int64
    /// The first ten characters of each record's key, one after another: a text of 640 bytes at most.
    private(set) var keys: String

    package init(total: Int64) {
        self.total = total
        keys = ""
    }

    package init?(_ bytes: [UInt8]) {
        guard let json = try? JSONValue(parsing: bytes), let total = json["total"]?.int, let keys = json["keys"]?.string
        else { return nil }
        self.total = total
        self.keys = keys
    }

    package var bytes: [UInt8] { (["total": .int(total), "keys": .string(keys)] as JSONValue).bytes }

    private static func short(_ key: String) -> String {
        let start = key.prefix(keyLength)
        return start + String(repeating: "-", count: keyLength - start.count)
    }

    package func holds(_ key: String) -> Bool {
        let wanted = Array(Self.short(key)), all = Array(keys)
        return stride(from: 0, to: all.count, by: Self.keyLength).contains {
            all[$0..<min($0 + Self.keyLength, all.count)].elementsEqual(wanted)
        }
    }

    package mutating func add(_ clicks: Int64, key: String) {
        guard !holds(key) else { return }
        total = total.addingReportingOverflow(clicks).partialValue
        keys = String((keys + Self.short(key)).suffix(Self.memory * Self.keyLength))
    }
}

extension HubSpotPlugin {
    /// Thirty days after a deal's last click its counter is read from HubSpot again.
    private static let counterLifetime = Duration.seconds(30 * 86_400)

    /// Adds the clicks of a record to every open deal of the contact.
    func count(_ record: DeliveryRecord, _ settings: Settings, _ operation: Operation) async throws -> Delivered {
        // The setting may be off while the action is on: off is what a person sees.
        guard settings.countsOnDeals else { return Delivered() }
        let touch = try record.read(as: ContactTouch.self)
        let vendor = vendor(settings)
        guard let contact = try await find(Contact(touch.contact), vendor, operation) else {
            throw Self.unknown(Contact(touch.contact))
        }
        let clicks = max(1, touch.clicks)
        var written: [String] = []
        for deal in try await deals(of: contact, settings, vendor, operation) where !deal.isClosed {
            var total = try await counted(deal, clicks, key: touch.key, operation)
            while true {
                let body: JSONValue = ["properties": [settings.counter: .string(String(total))]]
                let response = try await vendor.send(
                    "PATCH", vendor.paths.objects("deals", "/" + VendorText.urlEncoded(deal.id)), json: body, operation)
                if response.status == 404 { break }
                guard response.isSuccess else {
                    throw Self.propertyVerdict(response) ?? vendor.verdict(for: response, operation)
                }
                // Somebody counted on while this was on its way: the last to write writes the last sum.
                let now = try await stored(deal.id, operation)?.counter.total ?? total
                if now == total { break }
                total = now
            }
            written.append(deal.id)
        }
        return Delivered(remoteID: written.first, remoteURL: written.first.flatMap { page("0-3", $0) })
    }

    private func stored(_ deal: String, _ operation: Operation) async throws -> (
        counter: ClickCounter, version: UInt64
    )? {
        guard let entry = try await operation.context.storage.get("counter/\(deal)"),
            let counter = ClickCounter(entry.value)
        else { return nil }
        return (counter, entry.version)
    }

    /// The sum with this record's clicks, stored before it is written to HubSpot.
    private func counted(_ deal: Deal, _ clicks: Int64, key: String, _ operation: Operation) async throws -> Int64 {
        for _ in 0..<16 {
            let found = try await stored(deal.id, operation)
            var counter = found?.counter ?? ClickCounter(total: deal.counted ?? 0)
            if counter.holds(key) { return counter.total }
            counter.add(clicks, key: key)
            do {
                try await operation.context.storage.put(
                    "counter/\(deal.id)", counter.bytes, ifVersion: found?.version, lifetime: Self.counterLifetime)
            } catch {
                // Another operation of this connection was faster: begin again with what it stored.
                if error.code == .invalid { continue }
                throw error
            }
            // Two first writers do not see each other by version: the one that was overwritten begins again.
            if found != nil { return counter.total }
        }
        throw Verdict.retry(code: "counter_busy", message: "The counter of deal \(deal.id) is being changed by others.")
    }
}
