// SPDX-License-Identifier: Apache-2.0

internal import CMilepostProbe
internal import MilepostModel
internal import MilepostPluginHost
internal import Synchronization

/// Checks 33 to 38: hostile answers, odd sizes, cancelling, and completing once.
enum RobustnessChecks {
    static let all = [
        Check(
            number: 33, title: "survives what the vendor should not answer",
            proves:
                "broken JSON, nothing, HTML, deep nesting, a mebibyte cut in two, gzip bombs: answered, and no refusal",
            cure: "An answer to a change that cannot be read is uncertain; to a look-up, a retry. Inflate nothing.",
            level: 5,
            run: { try await answers($0) }),
        Check(
            number: 34, title: "takes records of every size",
            proves:
                "none, one, a full batch, a mebibyte in one field, emoji, right-to-left text, nulls: one result each",
            cure: "Size buffers by what comes; cut texts for the vendor at character borders.", level: 4,
            run: { try await sizes($0) }),
        Check(
            number: 35, title: "gives up when asked",
            proves: "operations cancelled at random moments complete once within the grace, and the instance goes on",
            cure: "Implement cancel: complete with MP_CANCELLED, or MP_UNCERTAIN after a request left.", level: 5,
            run: { try await cancelled($0) }),
        Check(
            number: 36, title: "meets a deadline that has passed",
            proves: "an operation whose deadline is over completes within the grace",
            cure: "Implement cancel; do not wait for an event that never comes.", level: 4,
            run: { try await overdue($0) }),
        Check(
            number: 37, title: "asks declared hosts only",
            proves: "every request goes to an endpoint or an egress pattern, and none follows a redirect elsewhere",
            cure: "Build addresses from the endpoints of the configuration; never from an answer.", level: 3,
            run: { try await hosts($0) }),
        Check(
            number: 38, title: "completes once and in time",
            proves: "a hundred operations at once, each completed exactly once, whatever thread it comes from",
            cure: "Mark an operation as ended, under a lock, before you complete it.", level: 4,
            run: { try await once($0) }),
    ]

    private static let garbage: [(name: String, fault: Fault)] = [
        ("broken JSON", .bytes(Array("{\"id\": 5, \"data\": {".utf8), type: "application/json")),
        ("nothing", .bytes([], type: "application/json")),
        ("HTML", .bytes(Array("<html><body>It works!</body></html>".utf8), type: "text/html")),
        ("binary", .bytes([0xff, 0xfe, 0x00, 0x01] + [UInt8](repeating: 0x80, count: 5000), type: "application/json")),
        (
            "JSON of another shape",
            .bytes(Array("[[],null,{\"data\":[1,{\"id\":{}}]},1e400]".utf8), type: "application/json")
        ),
        (
            "a mebibyte, cut",
            .bytes(
                Array("{\"data\":\"".utf8) + [UInt8](repeating: 0x61, count: 1 << 20), type: "application/json",
                truncated: true)
        ),
        ("a gzip bomb, as far as the host lets it in", .bomb),
        (
            "a gzip bomb that nobody unpacked",
            .bytes(GzipBomb.bytes, type: "application/json", headers: [(name: "content-encoding", value: "gzip")])
        ),
        (
            "deep nesting",
            .bytes(
                [UInt8](repeating: 0x5b, count: 50_000) + [UInt8](repeating: 0x5d, count: 50_000),
                type: "application/json")
        ),
    ]

    private static func answers(_ subject: Subject) async throws -> Outcome {
        let (bench, instance, courier) = try await DeliveryChecks.ready(subject)
        let plugin = try await bench.load()
        for (number, item) in garbage.enumerated() {
            let before = mp_peak_bytes()
            bench.vendor.change { state in
                state.plan = FaultPlan(target: .changes, times: 1, fault: item.fault)
                state.met = 0
            }
            var parcels = courier.parcels(1, prefix: "garbage\(number)")
            let result = await courier.deliver(&parcels)
            try DeliveryChecks.expectOneEach(result, 1, "a change answered with \(item.name)")
            let kind = parcels[0].verdict?.kind ?? ""
            guard ["ok", "uncertain"].contains(kind) else {
                return .failed("a change answered 200 with \(item.name) becomes \(kind); it was applied: uncertain")
            }
            bench.vendor.change { state in
                state.plan = FaultPlan(target: .all, fault: item.fault)
                state.met = 0
            }
            for picker in bench.manifest["pickers"]?.array ?? [] where plugin.supports(.options) {
                let shown = await instance.ask(
                    .options,
                    ["picker": picker["id"] ?? .null, "values": subject.settings(bench.manifest)])
                try shown.expectFits("options.result.json", "a picker answered with \(item.name)")
            }
            if plugin.supports(.connect) {
                let connected = await instance.ask(.connect, ["settings": subject.settings(bench.manifest)])
                try connected.expectFits("connect.result.json", "connect answered with \(item.name)")
                let dead: [PluginStatus] = [.authRevoked, .authExpired]
                if dead.contains(connected.status) {
                    return .failed("connect takes \(item.name) for a dead credential")
                }
            }
            if plugin.supports(.reconcile) {
                let found = await courier.call(.reconcile, parcels)
                try found.expectFits("reconcile.result.json", "reconcile answered with \(item.name)")
                if found.json?["records"]?[0]?["answer"]?.string == "not_applied", found.status == .ok {
                    return .failed("reconcile takes \(item.name) for proof that nothing was applied")
                }
            }
            let peak = mp_peak_bytes()
            // The kernel's figure may shrink by what its threads' counters had not told yet.
            let grown = peak > before ? peak - before : 0
            let cap = bench.vendor.read { $0.calls.map(\.responseCap).max() ?? 0 }
            if grown > GzipBomb.mostBytes(answer: min(cap, 64 << 20)) {
                return .failed("for \(item.name) it takes \(grown >> 20) MiB of memory")
            }
        }
        try bench.expectNoMisbehaviour()
        await bench.close()
        return .passed("\(garbage.count) kinds")
    }

    private static func sizes(_ subject: Subject) async throws -> Outcome {
        let (bench, _, courier) = try await DeliveryChecks.ready(subject)
        let most = try DeliveryChecks.size(subject, bench)
        var none: [Parcel] = []
        let empty = await courier.deliver(&none)
        if empty.status == .deadline { return .failed("no records at all: the operation is never completed") }
        try DeliveryChecks.expectOneEach(empty, 0, "no records")
        let texts = [
            "\u{1f469}\u{200d}\u{1f469}\u{200d}\u{1f467} \u{1f3f4}",
            "\u{5e9}\u{5dc}\u{5d5}\u{5dd} \u{202e}\u{645}\u{631}",
            "a\"b\\c\nd\te", String(repeating: "\u{1f600}", count: 262_144),
        ]
        for (number, text) in texts.enumerated() {
            var parcels = courier.parcels(1, prefix: "text\(number)")
            parcels[0].payload = replacing(parcels[0].payload, with: text)
            let result = await courier.deliver(&parcels)
            try DeliveryChecks.expectOneEach(result, 1, "a text of \(text.utf8.count) bytes")
            if !["ok", "rejected"].contains(parcels[0].verdict?.kind ?? "") {
                return .failed("a text of \(text.utf8.count) bytes ends as \(parcels[0].verdict?.kind ?? "nothing")")
            }
        }
        var nulls = courier.parcels(1, prefix: "nulls")
        nulls[0].payload = withNulls(nulls[0].payload)
        let result = await courier.deliver(&nulls)
        try DeliveryChecks.expectOneEach(result, 1, "null fields")
        if nulls[0].verdict?.kind != "ok" {
            return .failed("optional fields that are null end as \(nulls[0].verdict?.kind ?? "nothing")")
        }
        var full = courier.parcels(most, prefix: "full")
        try DeliveryChecks.expectOneEach(await courier.deliver(&full), most, "\(most) records")
        try bench.expectNoMisbehaviour()
        await bench.close()
        return .passed("0, 1 and \(most) records")
    }

    private static func replacing(_ payload: JSONValue, with text: String) -> JSONValue {
        guard case .object(var members) = payload else { return payload }
        for place in ["scope", "link"] {
            guard case .object(var inner)? = members[place] else { continue }
            for name in ["name", "slug", "title"] where inner[name] != nil { inner[name] = .string(text) }
            members[place] = .object(inner)
        }
        return .object(members)
    }

    /// Every optional member that a deal's schema permits to be null.
    private static func withNulls(_ payload: JSONValue) -> JSONValue {
        guard payload["kind"]?.string == "threshold_crossing", case .object(var members) = payload else {
            return payload
        }
        members["utm"] = ["source": nil, "medium": nil, "campaign": nil]
        members["analytics_url"] = .null
        if case .object(var link)? = members["link"] {
            for name in ["short_url", "destination", "title", "folder", "owner", "slug"] { link[name] = .null }
            members["link"] = .object(link)
        }
        if case .object(var scope)? = members["scope"] {
            scope["name"] = .null
            members["scope"] = .object(scope)
        }
        return .object(members)
    }

    // MARK: Giving up

    private static func cancelled(_ subject: Subject) async throws -> Outcome {
        let (bench, instance, courier) = try await DeliveryChecks.ready(subject) { $0.grace = .seconds(2) }
        var random = SeededRandom(seed: subject.seed)
        for round in 0..<12 {
            bench.vendor.change { state in
                state.plan = round % 3 == 0 ? nil : FaultPlan(target: .all, fault: .hang)
                state.met = 0
            }
            let parcels = courier.parcels(1, prefix: "cancel\(round)")
            let ended = LastResult()
            // Not awaited when it does not end: the check is over then, and so is its process.
            let task = Task { ended.set(await courier.call(.deliver, parcels, timeout: .seconds(60))) }
            try await bench.wall.clock.sleep(.microseconds(Int.random(in: 0...20_000, using: &random)))
            task.cancel()
            var patience = Patience(.milliseconds(2500), bench)
            _ = try await patience.wait(bench) { ended.value != nil }
            guard let result = ended.value else {
                return .failed("cancelled, it is not completed within two and a half seconds")
            }
            if result.status == .crashed { return .failed("cancelled, it ends as \(result.shown)") }
        }
        bench.vendor.change { $0.plan = nil }
        let ping = await instance.ask(.ping)
        if ping.status != .ok { return .failed("after cancelled operations ping ends with \(ping.shown)") }
        try bench.expectNoMisbehaviour()
        await bench.close()
        return .passed("12 operations, seed \(subject.seed)")
    }

    private static func overdue(_ subject: Subject) async throws -> Outcome {
        // The host's own grace is longer than the one that is judged, so that a busy machine does not decide.
        let (bench, instance, courier) = try await DeliveryChecks.ready(subject) { $0.grace = .seconds(20) }
        for fault in [nil, Fault.hang] {
            bench.vendor.change { $0.plan = fault.map { FaultPlan(target: .all, fault: $0) } }
            let ended = LastResult()
            let parcels = courier.parcels(1, prefix: "late")
            // Not awaited when it does not end, as above.
            Task { ended.set(await courier.call(.deliver, parcels, timeout: .zero)) }
            var patience = Patience(.seconds(2), bench)
            let isIn = try await patience.wait(bench) { ended.value != nil }
            if !isIn || ended.value?.status == .deadline {
                return .failed("a deadline in the past: the operation was not completed within the grace")
            }
        }
        bench.vendor.change { $0.plan = nil }
        let ping = await instance.ask(.ping)
        if ping.status != .ok { return .failed("afterwards ping ends with \(ping.shown)") }
        await bench.close()
        return .passed("")
    }

    private static func hosts(_ subject: Subject) async throws -> Outcome {
        let (bench, instance, courier) = try await DeliveryChecks.ready(subject)
        let plugin = try await bench.load()
        let settings = subject.settings(bench.manifest)
        let elsewhere = "https://elsewhere.example.net/v1/steal"
        for fault in [
            nil, Fault.redirect(elsewhere),
            .bytes(Array("{\"next\":\"\(elsewhere)\",\"url\":\"\(elsewhere)\"}".utf8), type: "application/json"),
        ] {
            bench.vendor.change { $0.plan = fault.map { FaultPlan(target: .all, fault: $0) } }
            if plugin.supports(.connect) { _ = await instance.ask(.connect, ["settings": settings]) }
            for picker in bench.manifest["pickers"]?.array ?? [] where plugin.supports(.options) {
                _ = await instance.ask(.options, ["picker": picker["id"] ?? .null, "values": settings])
            }
            var parcels = courier.parcels(1, prefix: "hosts")
            _ = await courier.deliver(&parcels)
            if plugin.supports(.reconcile) { _ = await courier.call(.reconcile, parcels) }
        }
        if let url = bench.vendor.read({ $0.denied.first }) {
            return .failed("it asked for \(url), which neither endpoints nor egress of the manifest name")
        }
        await bench.close()
        return .passed("\(bench.vendor.read { $0.calls.count }) requests")
    }

    private static func once(_ subject: Subject) async throws -> Outcome {
        let (bench, instance, courier) = try await DeliveryChecks.ready(subject)
        let plugin = try await bench.load()
        let settings = subject.settings(bench.manifest)
        // Answers that take a moment, so that operations are open beside each other however slow or quick the machine is.
        bench.vendor.change { state in
            state.plan = FaultPlan(
                target: .all, fault: .then { [clock = bench.wall.clock] in try? await clock.sleep(.milliseconds(3)) })
        }
        let wrong = await withTaskGroup(of: String?.self) { group in
            for lane in 0..<20 {
                group.addTask {
                    for round in 0..<5 {
                        var parcels = courier.parcels(1, prefix: "lane\(lane)x\(round)")
                        let result = await courier.deliver(&parcels)
                        if parcels[0].verdict?.kind != "ok" { return "deliver ends with \(result.shown)" }
                        let ping = await instance.ask(.ping)
                        if ping.status != .ok { return "ping ends with \(ping.shown)" }
                        if plugin.supports(.configure) { _ = await instance.ask(.configure, ["settings": settings]) }
                    }
                    return nil
                }
            }
            return await group.reduce(String?.none) { $0 ?? $1 }
        }
        if let wrong { return .failed("with twenty operations at once, \(wrong)") }
        try bench.expectNoMisbehaviour()
        await bench.close()
        return .passed("100 deliveries, 20 at once")
    }
}

/// The end of an operation that nobody awaits.
final class LastResult: Sendable {
    private let state = Mutex<OperationResult?>(nil)
    var value: OperationResult? { state.withLock { $0 } }
    func set(_ result: OperationResult) { state.withLock { $0 = result } }
}
