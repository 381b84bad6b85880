// SPDX-License-Identifier: Apache-2.0

internal import CMilepostProbe
internal import Glibc
internal import MilepostModel
internal import MilepostPluginHost
internal import Synchronization

/// Checks 40 and 42 to 47: webhooks, clocks, the sandbox, failing services and a killed worker.
enum IsolationChecks {
    static let all = [
        Check(
            number: 40, title: "takes vendors' calls with care",
            proves: "webhook: a repeated call brings equal events, an unverified or broken one none",
            cure: "Give events dedupe keys made from the call; answer no events when verified is false.", level: 4,
            run: { try await webhooks($0) }),
        Check(
            number: 42, title: "bears a clock that jumps",
            proves:
                "deliveries are ok on leap day, at midnight of a new year, after 2038, and when time goes back, and the machine's "
                + "time zone changes nothing that is sent",
            cure: "Compare differences of monotonic_ns, never of wall_ns; write moments in UTC.", level: 5,
            run: { try await clocks($0) }),
        Check(
            number: 43, title: "keeps to itself",
            proves:
                "no socket, process, program, foreign file or printing, seen call by call; the sandboxed worker delivers",
            cure: "Leave requests, files and output to the host: http_submit, kv_put, log.", level: 2,
            run: { try await keepsToItself($0) }),
        Check(
            number: 44, title: "does the same inline and in a worker",
            proves:
                "one scenario gives equal transcripts in both modes, but for what differs in one mode too, like a time",
            cure: "Do not ask in which mode you run, nor for process ids or the environment.", level: 4,
            run: { try await sameTranscripts($0) }),
        Check(
            number: 45, title: "bears a host that says no",
            proves: "requests refused, journal full, storage in conflict: completed, not ok, nothing applied twice",
            cure: "Look at the status of every host call and event.", level: 5, run: { try await services($0) }),
        Check(
            number: 47, title: "a killed worker doubles nothing",
            proves:
                "kill -9 after the vendor applied and before anybody heard: after restart and look-up one effect each",
            cure: "Keep nothing that matters in memory; resume from the journal and reconcile by a key.", level: 5,
            run: { try await killed($0) }),
    ]

    private static func webhooks(_ subject: Subject) async throws -> Outcome {
        let bench = try Bench(subject, .inline)
        let instance = try await bench.instance()
        guard try await bench.load().supports(.webhook) else { throw inapplicable("it has no webhook") }
        func call(_ body: String, verified: Bool) async throws -> OperationResult {
            let result = await instance.ask(
                .webhook,
                [
                    "method": "POST", "path": "/", "headers": [["content-type", "application/json"]],
                    "body_base64": .string(body), "verified": .bool(verified),
                ])
            try result.expectFits("webhook.result.json", "webhook")
            return result
        }
        // {"id":"evt_1","type":"deal.updated"}
        let body = "eyJpZCI6ImV2dF8xIiwidHlwZSI6ImRlYWwudXBkYXRlZCJ9"
        let first = try await call(body, verified: true)
        let again = try await call(body, verified: true)
        if first.json?["events"] != again.json?["events"] {
            return .failed("the same call twice brings different events, so the second cannot be told from a new one")
        }
        for (what, text, isVerified) in [("an unverified call", body, false), ("a broken body", "%%%", true)] {
            let result = try await call(text, verified: isVerified)
            if result.status == .ok, let events = result.json?["events"]?.array, !events.isEmpty {
                return .failed("\(what) brings \(events.count) events")
            }
        }
        await bench.close()
        return .passed(ReservedVerb.note)
    }

    private static func clocks(_ subject: Subject) async throws -> Outcome {
        let (bench, _, courier) = try await DeliveryChecks.ready(subject)
        let moments = ["2028-02-29T23:59:59Z", "2026-12-31T23:59:59Z", "2038-01-19T03:14:08Z", "2020-01-01T00:00:00Z"]
        for moment in moments {
            guard let time = Timestamp(rfc3339: moment) else { continue }
            bench.wall.set(time)
            let name = "at-\(time.milliseconds / 1000)"
            let ended = try await courier.finish(courier.parcels(1, prefix: name))
            try DeliveryChecks.expectOneEffect(bench, ended, "a delivery when the clock says \(moment)")
        }
        await bench.close()
        if let difference = try await zones(subject) { return .failed(difference) }
        return .passed("\(moments.count) moments, the last in the past; two time zones")
    }

    /// What is sent at one moment on a machine in UTC and on one that is 14 hours ahead, where it is another day. POSIX names,
    /// which need no database of zones.
    private static func zones(_ subject: Subject) async throws -> String? {
        func transcript(_ zone: String) async throws -> [[Substring]] {
            unsafe setenv("TZ", zone, 1)
            tzset()
            let bench = try Bench(subject, .inline)
            guard let moment = Timestamp(rfc3339: "2026-11-30T20:30:00Z") else { return [] }
            bench.wall.freeze(at: moment)
            try await scenario(bench)
            let lines = bench.vendor.read { $0.transcript }
            await bench.close()
            return lines.map(Transcript.words)
        }
        let utc = try await transcript("UTC0")
        let ahead = try await transcript("LINT-14")
        // Who reads the machine's own clock tells another second now: what differs here as well is no matter of zones.
        try await WallClock().clock.sleep(.milliseconds(1100))
        let again = try await transcript("UTC0")
        return Transcript.difference(utc, ahead, [again], named: ("in UTC", "14 hours ahead of it"))
    }

    // MARK: The sandbox

    private static func keepsToItself(_ subject: Subject) async throws -> Outcome {
        try await worksInWorker(subject)
        // From here on the whole process is watched, so the worker had to come first.
        let bench = try Bench(subject, .inline)
        let error = unsafe mp_watch_start(subject.folder)
        if error != 0 { throw skip("system calls cannot be watched on this kernel (error \(-error))") }
        try await scenario(bench)
        var text = [CChar](repeating: 0, count: 8192)
        let count = unsafe text.withUnsafeMutableBufferPointer { unsafe mp_watch_report($0.baseAddress, $0.count) }
        guard count == 0 else {
            let calls = Probes.text(text).split(separator: "\n").map(String.init)
            return .failed("the sandbox would refuse \(count) calls: \(calls.prefix(6).joined(separator: ", "))")
        }
        return .passed("no refused call, nothing printed")
    }

    private static func worksInWorker(_ subject: Subject) async throws {
        let bench = try Bench(subject, .worker)
        try await scenario(bench)
        if let health = bench.health, health.restarts > 0 {
            throw fail("the worker died: \(health.lastCrash ?? "no word of it")")
        }
        // What was printed comes by a pipe of its own, into the loop that also hears the channel: an operation that began
        // after it is answered after it.
        let instance = try await bench.instance(connection: "con_last")
        for _ in 0..<3 { _ = await instance.ask(.ping) }
        let printed = bench.vendor.read { state in
            state.lines.filter { $0.source == .standardOutput || $0.source == .standardError }.map(\.message)
        }
        if let line = printed.first { throw fail("it prints: \(line.prefix(120))") }
        if let (bench, _, courier) = try? await DeliveryChecks.ready(subject, .worker) {
            var parcels = courier.parcels(1, prefix: "sandboxed")
            let result = await courier.deliver(&parcels)
            if parcels[0].verdict?.kind != "ok" {
                throw fail("in the worker's sandbox a delivery ends with \(parcels[0].verdict?.code ?? result.shown)")
            }
            await bench.close()
        }
        await bench.close()
    }

    /// Everything that the manifest offers, once, and deliveries with and without faults.
    private static func scenario(_ bench: Bench) async throws {
        let subject = bench.subject
        let instance = try await bench.instance()
        let plugin = try await bench.load()
        let settings = subject.settings(bench.manifest)
        func ask(_ verb: PluginVerb, _ body: JSONValue) async {
            guard plugin.supports(verb) else { return }
            let result = await instance.ask(verb, body)
            bench.vendor.note("\(verb) ends \(result.status) \(result.json?.description ?? "")")
        }
        await ask(.ping, [:])
        await ask(.configure, ["settings": settings])
        await ask(.connect, ["settings": settings])
        for picker in bench.manifest["pickers"]?.array ?? [] {
            await ask(.options, ["picker": picker["id"] ?? .null, "values": settings])
        }
        guard plugin.supports(.deliver), let courier = try? Courier(bench, instance) else { return }
        let faults: [Fault?] = [nil, .status(429, retryAfter: 3), .cut(applied: true), .status(422)]
        for (number, fault) in faults.enumerated() {
            bench.vendor.change { state in
                state.plan = fault.map { FaultPlan(target: .changes, times: 1, fault: $0) }
                state.met = 0
            }
            _ = try await courier.finish(courier.parcels(1, prefix: "scene\(number)"), rounds: 4)
        }
    }

    private static func sameTranscripts(_ subject: Subject) async throws -> Outcome {
        func transcript(_ isolation: PluginIsolation, later seconds: Int64 = 0) async throws -> [[Substring]] {
            let bench = try Bench(subject, isolation)
            bench.wall.move(by: seconds)
            try await scenario(bench)
            let lines = bench.vendor.read { $0.transcript }
            await bench.close()
            return lines.map(Transcript.words)
        }
        let first = try await transcript(.inline)
        let worker = try await transcript(.worker)
        // At another moment of another day: times, and what is drawn by lot, differ here as well.
        var others = [try await transcript(.inline, later: 90_061)]
        var difference = Transcript.difference(first, worker, others)
        if difference != nil {
            // A plugin that reads the machine's own clock sees the same second twice when all goes quickly.
            try await WallClock().clock.sleep(.milliseconds(1100))
            others.append(try await transcript(.inline))
            difference = Transcript.difference(first, worker, others)
        }
        if let difference { return .failed(difference) }
        return .passed("\(first.count) lines")
    }

    // MARK: Failing services and workers

    private static func services(_ subject: Subject) async throws -> Outcome {
        let (bench, instance, courier) = try await DeliveryChecks.ready(subject)
        bench.vendor.change { $0.plan = FaultPlan(target: .all, fault: .refused) }
        var refused = courier.parcels(1, prefix: "refused")
        let result = await courier.deliver(&refused)
        try DeliveryChecks.expectOneEach(result, 1, "a refused request")
        if refused[0].verdict?.kind == "ok" { return .failed("a request that the host refused counts as delivered") }
        bench.vendor.change { state in
            state.plan = nil
            state.journalFails = true
            state.storageConflicts = true
        }
        var unwritten = courier.parcels(1, prefix: "unwritten")
        let failing = await courier.deliver(&unwritten)
        if failing.status == .deadline { return .failed("a failing journal: the operation is never completed") }
        try DeliveryChecks.expectOneEach(failing, 1, "a failing journal")
        bench.vendor.change { state in
            state.journalFails = false
            state.storageConflicts = false
        }
        let ended = try await courier.finish(unwritten)
        try DeliveryChecks.expectOneEffect(bench, ended, "a journal that failed once")
        let ping = await instance.ask(.ping)
        if ping.status != .ok { return .failed("afterwards ping ends with \(ping.shown)") }
        try bench.expectNoMisbehaviour()
        await bench.close()
        return .passed("")
    }

    private static func killed(_ subject: Subject) async throws -> Outcome {
        let (bench, _, courier) = try await DeliveryChecks.ready(subject, .worker)
        for position in 0..<2 {
            bench.vendor.change { state in
                state.plan = FaultPlan(
                    target: .changes, after: position, times: 1,
                    fault: .then { [bench] in
                        guard let process = bench.health?.workerProcessID else { return }
                        _ = mp_child_kill(process)
                    })
                state.met = 0
            }
            let ended = try await courier.finish(courier.parcels(1, prefix: "killed\(position)"))
            try DeliveryChecks.expectOneEffect(bench, ended, "a worker killed at change \(position + 1)")
        }
        let restarts = bench.health?.restarts ?? 0
        await bench.close()
        return restarts > 0
            ? .passed("\(restarts) restarts") : .skipped("deliver sends no change, so nothing was killed")
    }
}
