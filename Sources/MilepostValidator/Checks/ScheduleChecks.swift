// SPDX-License-Identifier: Apache-2.0

internal import MilepostModel
internal import MilepostPluginHost

/// Checks 41 and 46: streams read page by page, and answers that come in any order.
enum ScheduleChecks {
    static let all = [
        Check(
            number: 41, title: "reads a stream without loss",
            proves:
                "pull: from every cursor a new instance goes on with what follows, nothing comes twice, a strange cursor and "
                + "a failing vendor are errors",
            cure: "Keep the place in the cursor alone; answer a cursor you did not make with the code cursor_invalid.",
            level: 4, run: { try await streams($0) }),
        Check(
            number: 46, title: "bears any order of events",
            proves:
                "four instances at once, each answer late by a time of its own (seeded): every delivery ends ok, once",
            cure: "Keep what an operation needs with the operation, and find it by the event's token.", level: 5,
            run: { try await anyOrder($0) }),
    ]

    // MARK: Streams

    private struct Page {
        let records: [JSONValue]
        let next: JSONValue
        let hasMore: Bool
    }

    /// Pages so small that there are several.
    private static let limit: Int64 = 1
    private static let mostPages = 200

    private static func page(
        _ stream: String, _ cursor: JSONValue, _ instance: PluginInstance
    ) async throws -> Result<Page, Finding> {
        let result = await instance.ask(
            .pull, ["stream": .string(stream), "cursor": cursor, "limit": .integer(limit)])
        try result.expectFits("pull.result.json", "pull of \(stream) from \(cursor)")
        guard result.status == .ok, let json = result.json else {
            return .failure(fail("pull of \(stream) from \(cursor) ends with \(result.shown)"))
        }
        let records = json["records"]?.array ?? []
        if records.count > limit { throw fail("asked for \(limit) records of \(stream) it gives \(records.count)") }
        return .success(
            Page(records: records, next: json["next_cursor"] ?? .null, hasMore: json["more"]?.bool ?? false))
    }

    /// Every page from a cursor to the end, each with the cursor that it was asked by.
    private static func walk(
        _ stream: String, from start: JSONValue, _ instance: PluginInstance
    ) async throws -> [(cursor: JSONValue, records: [JSONValue])] {
        var pages: [(cursor: JSONValue, records: [JSONValue])] = []
        var cursor = start
        while pages.count < mostPages {
            let found = try await page(stream, cursor, instance).get()
            pages.append((cursor, found.records))
            guard found.hasMore else { return pages }
            if found.next == .null { throw fail("a page of \(stream) has more behind it and no next_cursor") }
            cursor = found.next
        }
        throw fail("\(stream) has no end after \(mostPages) pages")
    }

    private static func streams(_ subject: Subject) async throws -> Outcome {
        let bench = try Bench(subject, .inline)
        let names = (bench.manifest["streams"]?.array ?? []).compactMap { $0["name"]?.string }
        guard try await bench.load().supports(.pull) else {
            if names.isEmpty { throw inapplicable("it has no pull") }
            return .failed("the manifest names streams (\(names.joined(separator: ", "))), and the table has no pull")
        }
        guard !names.isEmpty else { return .failed("the table has pull, and the manifest names no stream") }
        var pages = 0
        for name in names { pages += try await examine(name, bench) }
        try bench.expectNoMisbehaviour()
        await bench.close()
        return .passed("\(names.count) streams, \(pages) pages; \(ReservedVerb.note)")
    }

    private static func examine(_ stream: String, _ bench: Bench) async throws -> Int {
        let first = try await bench.instance(connection: "con_whole")
        let whole: [(cursor: JSONValue, records: [JSONValue])]
        do { whole = try await walk(stream, from: .null, first) } catch let finding as Finding {
            if bench.subject.script.isGiven { throw finding }
            throw skip("the built-in vendor does not satisfy pull; give a vendor's script")
        }
        let records = whole.flatMap(\.records)
        guard records.count > 1 else { throw skip("the vendor's script lists fewer than two records of \(stream)") }
        if Set(records.map(\.description)).count < records.count {
            throw fail("a walk through \(stream) brings a record twice")
        }
        // As after a crash between any two pages: whoever comes then knows the cursor and nothing else.
        for (number, place) in whole.enumerated() {
            let resumed = try await bench.instance(connection: "con_resumed\(number)")
            let rest = try await walk(stream, from: place.cursor, resumed).flatMap(\.records)
            if rest != whole[number...].flatMap(\.records) {
                throw fail(
                    "from cursor \(place.cursor) a new instance brings \(rest.count) records of \(stream), and there are "
                        + "\(whole[number...].flatMap(\.records).count) behind it")
            }
            await resumed.close()
        }
        if case .success(let found) = try await page(stream, "no cursor of yours \u{1f600}", first) {
            throw fail("a cursor that it never made brings \(found.records.count) records of \(stream), and no error")
        }
        bench.vendor.change { $0.plan = FaultPlan(target: .all, fault: .status(500)) }
        if case .success = try await page(stream, .null, first), bench.vendor.read({ $0.met > 0 }) {
            throw fail("a page of \(stream) is answered although the vendor failed: its records would be lost")
        }
        bench.vendor.change { $0.plan = nil }
        return whole.count
    }

    // MARK: Any order

    private static let lanes = 4
    private static let rounds = 3

    private static func anyOrder(_ subject: Subject) async throws -> Outcome {
        let (bench, _, courier) = try await DeliveryChecks.ready(subject)
        var couriers = [courier]
        for number in 1..<lanes {
            couriers.append(try Courier(bench, try await bench.instance(connection: "con_lane\(number)")))
        }
        bench.vendor.change { $0.delays = SeededRandom(seed: subject.seed) }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for (instance, courier) in couriers.enumerated() {
                for lane in 0..<lanes {
                    group.addTask {
                        for round in 0..<rounds {
                            let name = "any\(instance)x\(lane)x\(round)"
                            let ended = try await courier.finish(courier.parcels(1, prefix: name), rounds: 4)
                            try DeliveryChecks.expectOneEffect(bench, ended, "answers in an order of their own")
                        }
                    }
                }
            }
            try await group.waitForAll()
        }
        try bench.expectNoMisbehaviour()
        await bench.close()
        return .passed("\(lanes * lanes * rounds) deliveries, seed \(subject.seed)")
    }
}
