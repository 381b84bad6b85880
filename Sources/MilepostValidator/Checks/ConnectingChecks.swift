// SPDX-License-Identifier: Apache-2.0

internal import MilepostModel
internal import MilepostPluginHost

/// Checks 24 to 26: the credential, live choices, and what must never be seen.
enum ConnectingChecks {
    static let all = [
        Check(
            number: 24, title: "tells good credentials from bad ones",
            proves:
                "connect names the account; 401 is auth_revoked or auth_expired, 403 a missing permission, and nothing changes",
            cure: "Map 401 to MP_AUTH_REVOKED or MP_AUTH_EXPIRED, 403 to MP_CONFIG with code permission_missing.",
            level: 3,
            run: { try await connects($0) }),
        Check(
            number: 25, title: "pickers answer",
            proves:
                "each picker fits its schema, its pages end, search narrows, an unknown one and a failing vendor are errors",
            cure: "Answer {\"items\":[{\"value\":…,\"label\":…}]}; complete with an error when the vendor fails.",
            level: 3,
            run: { try await pickers($0) }),
        Check(
            number: 26, title: "repeats no secret",
            proves:
                "a canary in the vendor's answers and in the environment is in no log line, URL, body, journal or result",
            cure: "Name the members that you use; never log or store whole answers.", level: 4,
            run: { try await canary($0) }),
    ]

    private static func connects(_ subject: Subject) async throws -> Outcome {
        let bench = try Bench(subject, .inline)
        let instance = try await bench.instance()
        guard try await bench.load().supports(.connect) else { throw inapplicable("it has no connect") }
        let request: JSONValue = ["settings": subject.settings(bench.manifest)]
        let good = await instance.ask(.connect, request)
        try good.expectFits("connect.result.json", "connect")
        let calls = bench.vendor.read { $0.calls }
        if good.status != .ok {
            if subject.script.isGiven { return .failed("a good credential is answered with \(good.shown)") }
            throw skip("the built-in vendor does not satisfy connect (\(good.shown)); give a vendor's script")
        }
        if let change = calls.first(where: { $0.method != "GET" && $0.method != "HEAD" && !$0.isIdempotent }) {
            return .failed("connect sent \(change.method) \(change.url); it must change nothing")
        }
        guard !calls.isEmpty else { return .passed("connect asks nobody") }
        for (status, classes) in [
            (Int32(401), [PluginStatus.authRevoked, .authExpired]), (403, [.config, .authRevoked]),
        ] {
            bench.vendor.change { $0.plan = FaultPlan(target: .all, fault: .status(status)) }
            let result = await instance.ask(.connect, request)
            try result.expectFits("connect.result.json", "connect after \(status)")
            let missing = (result.json?["missing_scopes"]?.array ?? []).isEmpty == false
            guard classes.contains(result.status) || (status == 403 && missing) else {
                return .failed("connect answers the vendor's \(status) with \(result.shown)")
            }
        }
        bench.vendor.change { $0.plan = FaultPlan(target: .all, fault: .status(500)) }
        let failing = await instance.ask(.connect, request)
        let permanent: [PluginStatus] = [.ok, .authRevoked, .authExpired, .rejected]
        if permanent.contains(failing.status) {
            return .failed(
                "connect answers the vendor's 500 with \(failing.shown), as if that were the credential's fault")
        }
        try bench.expectNoMisbehaviour()
        await bench.close()
        return .passed("")
    }

    // MARK: Pickers

    private static func pickers(_ subject: Subject) async throws -> Outcome {
        let bench = try Bench(subject, .inline)
        let instance = try await bench.instance()
        let declared = bench.manifest["pickers"]?.array ?? []
        guard !declared.isEmpty else { throw inapplicable("the manifest declares no picker") }
        guard try await bench.load().supports(.options) else {
            return .failed("the manifest declares pickers, and the table has no options")
        }
        let settings = subject.settings(bench.manifest)
        for picker in declared {
            guard let id = picker["id"]?.string else { continue }
            if let outcome = try await problem(of: id, picker, settings, bench, instance) { return outcome }
        }
        bench.vendor.change { $0.plan = nil }
        let unknown = await instance.ask(.options, ["picker": "no-such-picker", "values": settings])
        try unknown.expectFits("options.result.json", "an unknown picker")
        if unknown.status == .ok { return .failed("options answers a picker that nobody declared with choices") }
        await bench.close()
        return .passed("\(declared.count) pickers")
    }

    private static func problem(
        of id: String, _ picker: JSONValue, _ settings: JSONValue, _ bench: Bench, _ instance: PluginInstance
    ) async throws -> Outcome? {
        bench.vendor.change { $0.plan = nil }
        let values = await completed(settings, for: picker, bench, instance)
        func ask(_ search: String?, _ page: JSONValue) async throws -> OperationResult {
            let request: JSONValue = [
                "picker": .string(id), "values": values, "search": JSONValue(search), "page": page,
            ]
            let result = await instance.ask(.options, request)
            try result.expectFits("options.result.json", "picker \(id)")
            return result
        }
        var items: [JSONValue] = []
        var page = JSONValue.null
        for round in 0...100 {
            let result = try await ask(nil, page)
            guard result.status == .ok else {
                if bench.subject.script.isGiven { return .failed("picker \(id) ends with \(result.shown)") }
                throw skip(
                    "the built-in vendor does not satisfy picker \(id) (\(result.shown)); give a vendor's script")
            }
            items += result.json?["items"]?.array ?? []
            guard let next = result.json?["next"], next != .null else { break }
            page = next
            if round == 100 { return .failed("picker \(id) has a next page after a hundred of them") }
        }
        let narrowed = try await ask("zz-no-such-label-zz", .null)
        if narrowed.status == .ok, let found = narrowed.json?["items"]?.array, !found.isEmpty,
            found.count >= items.count
        {
            return .failed("picker \(id) answers a search that matches nothing with \(found.count) choices")
        }
        if let label = items.first?["label"]?.string, !label.isEmpty {
            let result = try await ask(label, .null)
            let found = result.json?["items"]?.array ?? []
            if result.status == .ok, !found.contains(where: { $0["label"]?.string == label }) {
                return .failed("picker \(id) does not find '\(label)', which it offers without a search")
            }
        }
        let before = bench.vendor.read { $0.calls.count }
        bench.vendor.change { $0.plan = FaultPlan(target: .all, fault: .status(500)) }
        let failing = try await ask(nil, .null)
        if failing.status == .ok, bench.vendor.read({ $0.calls.count }) > before {
            return .failed("picker \(id) answers with choices although the vendor failed")
        }
        return nil
    }

    /// What a picker depends on need not be a setting: a rule may hold it. Then the picker of that name tells a value.
    private static func completed(
        _ settings: JSONValue, for picker: JSONValue, _ bench: Bench, _ instance: PluginInstance
    ) async -> JSONValue {
        guard case .object(var members) = settings else { return settings }
        let known = Set((bench.manifest["pickers"]?.array ?? []).compactMap { $0["id"]?.string })
        for name in (picker["depends"]?.array ?? []).compactMap(\.string) where members[name] == nil {
            guard let source = [name, name + "s"].first(where: known.contains) else { continue }
            let result = await instance.ask(.options, ["picker": .string(source), "values": settings])
            members[name] = result.json?["items"]?[0]?["value"]
        }
        return .object(members)
    }

    // MARK: Secrets

    private static func canary(_ subject: Subject) async throws -> Outcome {
        let bench = try Bench(subject, .inline)
        let instance = try await bench.instance()
        let plugin = try await bench.load()
        let settings = subject.settings(bench.manifest)
        var ends: [OperationResult] = []
        if plugin.supports(.connect) { ends.append(await instance.ask(.connect, ["settings": settings])) }
        if plugin.supports(.configure) { ends.append(await instance.ask(.configure, ["settings": settings])) }
        for picker in bench.manifest["pickers"]?.array ?? [] where plugin.supports(.options) {
            ends.append(await instance.ask(.options, ["picker": picker["id"] ?? .null, "values": settings]))
        }
        if plugin.supports(.deliver), !(bench.manifest["actions"]?.array ?? []).isEmpty {
            let courier = try Courier(bench, instance)
            for (number, fault) in [nil, Fault.status(400), .status(500)].enumerated() {
                bench.vendor.change { $0.plan = fault.map { FaultPlan(target: .changes, fault: $0) } }
                var parcels = courier.parcels(1, prefix: "canary\(number)")
                ends.append(await courier.deliver(&parcels))
            }
        }
        let marker = Array(subject.canary.utf8)
        for end in ends {
            if end.body.contains(marker) || end.partials.contains(where: { $0.contains(marker) }) {
                return .failed("a result holds what the vendor's answer had under api_token")
            }
        }
        let seen = bench.vendor.read { state in state.transcript + state.lines.map(\.message) }
        // What the vendor said is not among these lines, only what the plugin did with it.
        if let line = seen.first(where: { $0.contains(subject.canary) }) {
            return .failed("the canary is in: \(line.prefix(200))")
        }
        await bench.close()
        return .passed("\(ends.count) operations, \(seen.count) calls")
    }
}

extension [UInt8] {
    /// Whether the bytes hold others somewhere.
    func contains(_ part: [UInt8]) -> Bool {
        guard let first = part.first, count >= part.count else { return part.isEmpty }
        for start in indices where self[start] == first && count - start >= part.count {
            if self[start..<(start + part.count)].elementsEqual(part) { return true }
        }
        return false
    }
}
