// SPDX-License-Identifier: Apache-2.0

internal import MilepostModel
internal import MilepostPluginHost

/// Checks 27 to 32: what a delivery makes of the vendor's answers.
enum DeliveryChecks {
    static let all = [
        Check(
            number: 27, title: "one result for each record",
            proves:
                "a batch brings one result of the right shape for each index, ok at a well vendor, in a declared order",
            cure:
                "Answer {\"records\":[{\"index\":…,\"class\":…}]} with every index of the request, once; with ordering_key send "
                + "the next of equal key when the one before was answered.",
            level: 2,
            run: { try await oneEach($0) }),
        Check(
            number: 28, title: "a poison record spoils no other",
            proves: "records with an unusable payload are refused beside good ones that are delivered",
            cure: "Judge each record by itself; never refuse the operation for one.", level: 4,
            run: { try await poison($0) }),
        Check(
            number: 29, title: "reads the vendor's answers rightly",
            proves: "400 to 504, time-outs and resets become the right class, and Retry-After is handed on",
            cure: "See the table of verdicts in docs/plugin-guide.md.", level: 3, run: { try await statuses($0) }),
        Check(
            number: 30, title: "a cut connection doubles nothing",
            proves:
                "cut before sending, cut after the vendor applied, cut before it did: after look-up and retry one effect each",
            cure: "Give the step a name, write a key that reconcile can find, and say uncertain when no answer came.",
            level: 5, run: { try await cuts($0) }),
        Check(
            number: 31, title: "finds out what became of a request",
            proves: "reconcile: applied when it is there, not applied only when the vendor's lag has passed",
            cure: "Inside read_lag_ms of the intent answer unknown with ask_again_ms in place of not_applied.",
            level: 5,
            run: { try await lookUps($0) }),
        Check(
            number: 32, title: "a replay makes nothing new",
            proves: "delivering the same records again, with their journal, changes nothing at the vendor",
            cure: "Skip the steps that the journal has as done, or send the idempotency key.", level: 4,
            run: { try await replay($0) }),
    ]

    /// A bench whose plugin delivers to a well vendor; skipped where it cannot.
    static func ready(
        _ subject: Subject, _ isolation: PluginIsolation = .inline,
        configure: (inout PluginHostConfiguration) -> Void = { _ in }
    ) async throws -> (Bench, PluginInstance, Courier) {
        let bench = try Bench(subject, isolation, configure: configure)
        try await expectDelivers(bench)
        let instance = try await bench.instance()
        let courier = try Courier(bench, instance)
        if !subject.script.isGiven {
            var parcels = courier.parcels(1, prefix: "trial")
            let result = await courier.deliver(&parcels)
            guard parcels[0].verdict?.kind == "ok" || result.status == .crashed else {
                throw skip(
                    "the built-in vendor does not satisfy deliver (\(parcels[0].verdict?.code ?? result.shown)); give a "
                        + "vendor's script")
            }
            bench.vendor.change { state in
                state.calls = []
                state.transcript = []
                state.effects = [:]
            }
        }
        return (bench, instance, courier)
    }

    /// Ends the check for a plugin that delivers nothing and says so; one that names actions and has no deliver fails.
    static func expectDelivers(_ bench: Bench) async throws {
        guard try await !bench.load().supports(.deliver) else { return }
        if (bench.manifest["actions"]?.array ?? []).isEmpty { throw inapplicable("it has no deliver") }
        throw fail("the manifest names actions, and the table has no deliver")
    }

    static func size(_ subject: Subject, _ bench: Bench) throws -> Int {
        min(50, Int(try subject.action(bench.manifest)["batch"]?["max_records"]?.integer ?? 1))
    }

    /// Fails unless each record has one well-formed result.
    static func expectOneEach(_ result: OperationResult, _ count: Int, _ what: String) throws {
        guard result.status == .ok else { return }
        try result.expectFits("deliver.result.json", what)
        let indexes = (result.json?["records"]?.array ?? []).compactMap { $0["index"]?.integer }
        for index in 0..<Int64(count) {
            let times = indexes.filter { $0 == index }.count
            if times != 1 { throw fail("\(what): record \(index) of \(count) has \(times) results") }
        }
        if let stray = indexes.first(where: { $0 >= count }) {
            throw fail("\(what): a result names index \(stray), which was not asked")
        }
    }

    private static func oneEach(_ subject: Subject) async throws -> Outcome {
        let (bench, _, courier) = try await ready(subject)
        let count = try size(subject, bench)
        for number in Set([1, count]).sorted() {
            var parcels = courier.parcels(number, prefix: "batch\(number)")
            let result = await courier.deliver(&parcels)
            if result.status != .ok { return .failed("\(number) records end with \(result.shown)") }
            try expectOneEach(result, number, "\(number) records")
            if let bad = parcels.first(where: { $0.verdict?.kind != "ok" }) {
                return .failed("\(bad.id) ends as \(bad.verdict?.kind ?? "?") although the vendor is well")
            }
        }
        let isOrdered = try await inOrder(subject, bench, courier, count)
        try bench.expectNoMisbehaviour()
        await bench.close()
        return .passed("batches of 1 and \(count)\(isOrdered ? ", in order" : "")")
    }

    /// Records of one key, at a vendor that takes its time: one after another, as they stand in the batch.
    ///
    /// - Returns: false when the action declares no ordering key, or takes one record at a time.
    private static func inOrder(
        _ subject: Subject, _ bench: Bench, _ courier: Courier, _ count: Int
    ) async throws -> Bool {
        guard let pointer = try subject.action(bench.manifest)["ordering_key"]?.string, count > 1 else { return false }
        var parcels = courier.parcels(count, prefix: "ordered")
        let steps = pointer.split(separator: "/").map(String.init)
        guard let key = steps.reduce(Optional(parcels[0].payload), { $0?[$1] }) else {
            throw fail("ordering_key \(pointer) points at nothing in the payload")
        }
        for index in parcels.indices {
            parcels[index].payload = parcels[index].payload.replacing(steps[...], with: key)
        }
        bench.vendor.change { state in
            state.order = []
            state.overlappingChanges = 0
            state.plan = FaultPlan(
                target: .changes,
                fault: .then { [clock = bench.wall.clock] in try? await clock.sleep(.milliseconds(3)) })
        }
        let result = await courier.deliver(&parcels)
        bench.vendor.change { $0.plan = nil }
        try expectOneEach(result, count, "\(count) records of one ordering key")
        let (order, overlapping) = bench.vendor.read { ($0.order, $0.overlappingChanges) }
        if order != order.sorted() { throw fail("records of one ordering key reach the vendor in the order \(order)") }
        if overlapping > 0 {
            throw fail("\(overlapping) changes of one ordering key were sent before the one ahead was answered")
        }
        return true
    }

    private static func poison(_ subject: Subject) async throws -> Outcome {
        let (bench, _, courier) = try await ready(subject)
        let count = min(4, try size(subject, bench))
        let payloads: [JSONValue] = [[:], ["kind": "nobody knows this"], ["kind": nil, "link": nil, "scope": nil]]
        for (number, payload) in payloads.enumerated() {
            var parcels = courier.parcels(count, prefix: "poison\(number)")
            let bad = count == 1 ? 0 : 1
            parcels[bad].payload = payload
            let result = await courier.deliver(&parcels)
            try expectOneEach(result, count, "a batch with payload \(payload)")
            if count > 1, result.status != .ok {
                return .failed("one bad payload makes the whole batch end with \(result.shown)")
            }
            for (index, parcel) in parcels.enumerated() where index != bad && parcel.verdict?.kind != "ok" {
                return .failed("a good record beside payload \(payload) ends as \(parcel.verdict?.kind ?? "?")")
            }
        }
        await bench.close()
        return .passed(count == 1 ? "alone: its batches hold one record" : "\(count) records")
    }

    // MARK: Answers

    /// What a class may be when a change that is not idempotent was answered so.
    private static let table: [(Int32, Set<String>)] = [
        (400, ["rejected", "config"]), (401, ["auth_revoked", "auth_expired"]),
        (403, ["config", "auth_revoked", "rejected", "rate_limited"]), (404, ["rejected", "config"]),
        (409, ["rejected", "uncertain", "ok", "config", "retry"]), (413, ["rejected", "config"]),
        (422, ["rejected", "config"]), (429, ["rate_limited", "retry"]), (500, ["uncertain"]), (502, ["uncertain"]),
        (503, ["retry", "rate_limited"]), (504, ["uncertain"]),
    ]

    private static func statuses(_ subject: Subject) async throws -> Outcome {
        let (bench, _, courier) = try await ready(subject)
        func verdict(_ name: String, _ fault: Fault) async throws -> (Parcel.Verdict, isIdempotent: Bool)? {
            bench.vendor.change { state in
                state.plan = FaultPlan(target: .changes, times: 1, fault: fault)
                state.met = 0
                state.calls = []
            }
            var parcels = courier.parcels(1, prefix: name)
            let result = await courier.deliver(&parcels)
            try expectOneEach(result, 1, "an answer \(name)")
            let change = bench.vendor.read { $0.calls.first { $0.method != "GET" && $0.method != "HEAD" } }
            guard let change, let verdict = parcels[0].verdict else { return nil }
            return (verdict, change.isIdempotent)
        }
        for (status, classes) in table {
            guard let (found, isIdempotent) = try await verdict("\(status)", .status(status)) else {
                throw skip("deliver sends no change")
            }
            var permitted = classes
            if isIdempotent && status >= 500 { permitted.formUnion(["retry", "rate_limited"]) }
            // What may be repeated may be repeated in vain: a receiver's address can be there tomorrow.
            if isIdempotent && status == 404 { permitted.insert("retry") }
            if status == 503 || status >= 500 && isIdempotent { permitted.insert("uncertain") }
            if !permitted.contains(found.kind) {
                return .failed(
                    "the vendor's \(status) becomes \(found.kind); right would be \(permitted.sorted().joined(separator: " or "))"
                )
            }
        }
        if let (limited, _) = try await verdict("retry-after", .status(429, retryAfter: 17)) {
            guard let wait = limited.retryAfter, wait >= 17_000 else {
                return .failed(
                    "Retry-After: 17 becomes retry_after_ms \(limited.retryAfter.map(String.init) ?? "absent")")
            }
        }
        let open: [(String, Fault)] = [("reset", .cut(applied: false)), ("timeout", .timeout(applied: false))]
        for (name, fault) in open {
            guard let (found, isIdempotent) = try await verdict(name, fault) else { continue }
            if found.kind != "uncertain", !(isIdempotent && found.kind == "retry") {
                return .failed(
                    "a \(name) after bytes had left becomes \(found.kind); it may have been applied: uncertain")
            }
        }
        if let (found, _) = try await verdict("never-sent", .neverSent), !["retry", "uncertain"].contains(found.kind) {
            return .failed("a request that never left becomes \(found.kind); it may be tried again: retry")
        }
        try bench.expectNoMisbehaviour()
        await bench.close()
        return .passed("\(table.count) statuses")
    }

    // MARK: Exactly once

    private static func cuts(_ subject: Subject) async throws -> Outcome {
        let (bench, _, courier) = try await ready(subject)
        let faults: [(String, Fault)] = [
            ("unsent", .neverSent), ("applied", .cut(applied: true)), ("unapplied", .cut(applied: false)),
            ("late", .timeout(applied: true)), ("failed", .status(503)),
        ]
        for (name, fault) in faults {
            // The second change too: a delivery of several steps is cut in its middle.
            for position in 0..<2 {
                bench.vendor.change { state in
                    state.plan = FaultPlan(target: .changes, after: position, times: 1, fault: fault)
                    state.met = 0
                }
                let ended = try await courier.finish(courier.parcels(1, prefix: "\(name)\(position)"))
                try expectOneEffect(bench, ended, "a connection cut (\(name), change \(position + 1))")
            }
        }
        await bench.close()
        return .passed("\(faults.count) ways, each at the first and the second change")
    }

    static func expectOneEffect(_ bench: Bench, _ parcels: [Parcel], _ what: String) throws {
        let effects = bench.vendor.read { $0.effects }
        for parcel in parcels {
            guard parcel.verdict?.kind == "ok" else {
                throw fail(
                    "after \(what), \(parcel.id) does not come to its end: \(parcel.verdict?.kind ?? "nothing") "
                        + "\(parcel.verdict?.code ?? "")")
            }
            let own = effects.filter { $0.key.hasPrefix(parcel.id + " ") }
            if own.isEmpty {
                throw fail("after \(what), \(parcel.id) counts as delivered and the vendor has nothing of it")
            }
            if let doubled = own.first(where: { $0.value > 1 }) {
                let step = doubled.key.dropFirst(parcel.id.count + 1)
                throw fail("after \(what), step '\(step)' of \(parcel.id) was applied \(doubled.value) times")
            }
        }
    }

    private static func lookUps(_ subject: Subject) async throws -> Outcome {
        let (bench, _, courier) = try await ready(subject)
        guard try await bench.load().supports(.reconcile) else { throw inapplicable("it has no reconcile") }
        let lag = try subject.action(bench.manifest)["read_lag_ms"]?.integer ?? 0
        // What lies between intent and look-up is the check's to say, not the machine's.
        bench.wall.freeze()
        func ask(_ name: String, _ fault: Fault, isLagging: Bool) async throws -> JSONValue? {
            bench.vendor.change { state in
                state.plan = FaultPlan(target: .changes, times: 1, fault: fault)
                state.met = 0
                state.isLagging = isLagging
            }
            var parcels = courier.parcels(1, prefix: name)
            _ = await courier.deliver(&parcels)
            guard bench.vendor.read({ $0.journals[parcels[0].id]?.contains { $0.leavesOutcomeOpen } ?? false }) else {
                return nil
            }
            // Past the lag, unless it is the lag that is asked about.
            if !isLagging { bench.wall.move(by: lag / 1000 + 60) }
            let result = await courier.call(.reconcile, parcels)
            try result.expectFits("reconcile.result.json", "reconcile (\(name))")
            if result.status != .ok { throw fail("reconcile (\(name)) ends with \(result.shown)") }
            return result.json?["records"]?[0]
        }
        guard let there = try await ask("there", .cut(applied: true), isLagging: false) else {
            let changes = bench.vendor.read { $0.calls.filter { $0.method != "GET" && $0.method != "HEAD" } }
            if !changes.isEmpty, changes.allSatisfy(\.isIdempotent) {
                throw inapplicable("all its changes may be repeated, so none leaves an open outcome")
            }
            throw skip("no change of it leaves an open outcome")
        }
        if there["answer"]?.string != "applied" {
            return .failed("reconcile says \(there["answer"] ?? "nothing") of a change that the vendor has")
        }
        if let absent = try await ask("absent", .cut(applied: false), isLagging: false),
            absent["answer"]?.string == "applied"
        {
            return .failed("reconcile says applied of a change that the vendor does not have")
        }
        if lag > 0, let lagging = try await ask("lagging", .cut(applied: true), isLagging: true),
            lagging["answer"]?.string == "not_applied"
        {
            return .failed("reconcile says not_applied within read_lag_ms (\(lag)) of a change that is not listed yet")
        }
        await bench.close()
        return .passed(lag > 0 ? "with a lag of \(lag) ms" : "no lag declared")
    }

    private static func replay(_ subject: Subject) async throws -> Outcome {
        let (bench, _, courier) = try await ready(subject)
        let ended = try await courier.finish(courier.parcels(1, prefix: "replay"))
        try expectOneEffect(bench, ended, "a first delivery")
        let before = bench.vendor.read { $0.effects }
        let again = try await courier.finish(ended)
        try expectOneEffect(bench, again, "the same delivery twice")
        let after = bench.vendor.read { $0.effects }
        if after != before { return .failed("delivering again changed something more at the vendor") }
        await bench.close()
        return .passed("")
    }
}
