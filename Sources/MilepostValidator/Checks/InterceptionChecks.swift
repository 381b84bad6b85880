// SPDX-License-Identifier: Apache-2.0

internal import MilepostModel
internal import MilepostPluginHost

/// Check 39: judging what others are about to do.
enum InterceptionChecks {
    static let all = [
        Check(
            number: 39, title: "judges equal events equally, and in time",
            proves:
                "intercept gives one verdict for equal input, twenty times; 99 of 100 answers come within budget_ms when whom it "
                + "asks answers at once; and when whom it asks fails it ends with an error, so that on_failure decides",
            cure:
                "Decide by the event and the settings alone, keep what is slow out of intercept, and complete with MP_RETRY "
                + "when a request fails: what that means is the administrator's to say.", level: 4,
            run: { try await judges($0) })
    ]

    private static func judges(_ subject: Subject) async throws -> Outcome {
        let bench = try Bench(subject, .inline) { $0.grace = .seconds(20) }
        let declared = bench.manifest["hooks"]?.array ?? []
        let points = declared.compactMap { $0["point"]?.string }
        guard try await bench.load().supports(.intercept) else {
            if points.isEmpty { throw inapplicable("it has no intercept") }
            return .failed("its manifest declares hooks (\(points.joined(separator: ", "))), and it has no intercept")
        }
        let instance = try await bench.instance()
        var notes: [String] = []
        for (index, point) in (points.isEmpty ? ["deal.before"] : points).enumerated() {
            let given = declared.indices.contains(index) ? declared[index]["budget_ms"]?.integer : nil
            let judge = Judge(bench: bench, instance: instance, point: point, budget: given ?? 5000)
            let verdict = try await judge.expectOneVerdict()
            notes.append("\(point) p99 \(try await judge.expectInTime()) ms of \(judge.budget)")
            try await judge.expectErrors(insteadOf: verdict)
        }
        try bench.expectNoMisbehaviour()
        await bench.close()
        return .passed(notes.joined(separator: ", "))
    }
}

/// One plugin asked at one point.
private struct Judge {
    let bench: Bench
    let instance: PluginInstance
    let point: String
    /// Milliseconds; the daemon's own when the manifest names none.
    let budget: Int64

    private func ask(timeout: Duration? = nil) async -> OperationResult {
        let question: JSONValue = [
            "point": .string(point), "delivery_id": "dlv_check", "idempotency_key": "dlv_check", "ask": 1,
            "asked_at": "2026-11-02T10:00:00Z", "budget_ms": .integer(budget), "integration": "destination",
            "action": "deal", "event": bench.subject.payload(bench.manifest, number: 0),
        ]
        return await instance.ask(.intercept, question, timeout: timeout ?? .milliseconds(budget) + .seconds(10))
    }

    func expectOneVerdict() async throws -> OperationResult {
        let first = await ask()
        try first.expectFits("intercept.result.json", "intercept")
        if first.status != .ok {
            let sentence = "at \(point) a question is answered with \(first.shown)"
            throw bench.subject.script.isGiven ? fail(sentence) : skip("\(sentence); give a vendor's script")
        }
        for _ in 0..<20 {
            let again = await ask()
            if again.status != first.status || again.json != first.json {
                throw fail("equal events are judged \(first.json ?? .null) and then \(again.json ?? .null)")
            }
        }
        return first
    }

    // MARK: Time

    private static let questions = 100
    private static let rounds = 3

    /// Milliseconds of the 99th of a hundred answers.
    ///
    /// A machine's noise must not decide. Each question is measured beside a ping of the same instance, and what the slowest
    /// ping of the round took is the machine's; time without a processor is left out as everywhere (`Patience`); and of three
    /// rounds one in time is enough, because a plugin that is too slow is so in each.
    func expectInTime() async throws -> Int64 {
        var slowest: Int64 = 0
        for _ in 0..<Self.rounds {
            let found = try await round()
            if found <= budget { return found }
            slowest = found
        }
        throw fail(
            "at \(point) more than one answer in a hundred takes longer than the \(budget) ms of its budget, in each of "
                + "\(Self.rounds) rounds: \(slowest) ms, although whom it asks answers at once")
    }

    private func round() async throws -> Int64 {
        // Answers that are slow within a large budget are measured as often as there is time.
        var whole = Patience(.seconds(5), bench)
        var answers: [Int64] = []
        var ping: Int64 = 0
        repeat {
            ping = max(ping, try await time { await instance.ask(.ping) })
            answers.append(try await time { await ask() })
            // Two of a hundred are too many, whatever the rest takes.
            if answers.count(where: { $0 - ping > budget }) > 1 { break }
        } while answers.count < Self.questions && !whole.isOver
        answers.sort()
        let rank = answers.count < Self.questions ? answers.count - 1 : Self.questions * 99 / 100 - 1
        return max(0, answers[rank] - ping)
    }

    private func time(_ operation: () async -> OperationResult) async throws -> Int64 {
        var watch = Patience(.seconds(3600), bench)
        let result = await operation()
        _ = watch.isOver
        if result.status == .crashed { throw fail("at \(point) it crashed: \(result.shown)") }
        return Int64(watch.spentNanoseconds / 1_000_000)
    }

    // MARK: Failures

    /// What a failure means is said by `on_failure` and the connection's settings. A plugin that makes a verdict of one takes
    /// that from the administrator.
    func expectErrors(insteadOf verdict: OperationResult) async throws {
        let faults: [(String, Fault)] = [
            ("answers 500", .status(500)), ("cuts the connection", .cut(applied: false)),
            ("is not to be reached", .neverSent),
            ("answers rubbish", .bytes(Array("<html>".utf8), type: "text/html")), ("does not answer", .hang),
        ]
        defer { bench.vendor.change { $0.plan = nil } }
        for (what, fault) in faults {
            bench.vendor.change { state in
                state.plan = FaultPlan(target: .all, fault: fault)
                state.met = 0
            }
            let ended = LastResult()
            // Not awaited when it does not end: the check is over then, and so is its process.
            Task { ended.set(await ask(timeout: .milliseconds(500))) }
            var patience = Patience(.milliseconds(2500), bench)
            _ = try await patience.wait(bench) { ended.value != nil }
            guard let result = ended.value, result.status != .deadline else {
                throw fail(
                    "at \(point), when whom it asks \(what), the question is not ended within two seconds of its deadline"
                )
            }
            guard bench.vendor.read({ $0.met > 0 }) else { return }  // it asks nobody
            try result.expectFits("intercept.result.json", "intercept when whom it asks \(what)")
            if result.status == .ok, result.json != verdict.json {
                throw fail(
                    "when whom it asks \(what) it judges \(result.json ?? .null) by itself, where on_failure should decide"
                )
            }
        }
    }
}
