// SPDX-License-Identifier: Apache-2.0

internal import MilepostModel
internal import MilepostPluginHost

/// One delivery as the check keeps it.
struct Parcel: Sendable {
    let id: String
    var payload: JSONValue
    var attempts = 0
    var verdict: Verdict?

    struct Verdict: Sendable, Equatable {
        var kind: String
        var code: String?
        var retryAfter: Int64?
        var remoteID: String?
    }
}

/// Delivers as the daemon does: journal in, verdicts out, and nothing of unknown outcome sent again before `reconcile`
/// has answered (invariant 4). Waiting is left out: the vendor's lag is over when the check says so.
struct Courier {
    let bench: Bench
    let instance: PluginInstance
    let action: String

    var vendor: MockVendor { bench.vendor }

    /// The manifest's first action, or the one of the script's first payload.
    init(_ bench: Bench, _ instance: PluginInstance) throws {
        self.bench = bench
        self.instance = instance
        action = try bench.subject.action(bench.manifest)["name"]?.string ?? ""
    }

    func parcels(_ count: Int, prefix: String = "dlv") -> [Parcel] {
        // A link of its own for each: vendors without a key are searched by title.
        (0..<count).map { index in
            let number = vendor.nextNumber()
            return Parcel(
                id: "\(prefix)_\(index + 1)", payload: bench.subject.payload(bench.manifest, number: number))
        }
    }

    // MARK: One call

    func body(_ parcels: [Parcel]) -> JSONValue {
        let journals = vendor.read { $0.journals }
        let now = vendor.now.description
        return [
            "action": .string(action),
            "records": .array(
                parcels.enumerated().map { index, parcel in
                    [
                        "index": .integer(Int64(index)), "delivery_id": .string(parcel.id),
                        "idempotency_key": .string(parcel.id), "attempt": .integer(Int64(parcel.attempts)),
                        "first_attempt_at": .string(now), "payload": parcel.payload,
                        "journal": .array((journals[parcel.id] ?? []).map(\.json)),
                    ]
                }),
        ]
    }

    /// Asks for one verb with records and returns the raw end.
    func call(_ verb: PluginVerb, _ parcels: [Parcel], timeout: Duration = .seconds(10)) async -> OperationResult {
        let operation = instance.reserveOperation()
        let attempt = parcels.map(\.attempts).max() ?? 1
        vendor.change { $0.running[operation] = .init(deliveries: parcels.map(\.id), attempt: max(1, attempt)) }
        let result = await instance.perform(
            verb, body: body(parcels).bytes, timeout: timeout, attempt: UInt32(max(1, attempt)), operation: operation,
            records: parcels.map { DeliveryID($0.id) })
        vendor.note("\(verb) ends \(result.status) \(String(decoding: result.body.prefix(8192), as: UTF8.self))")
        return result
    }

    /// Delivers once and reads a verdict for each record; what is missing is uncertain (rule 18).
    func deliver(_ parcels: inout [Parcel], timeout: Duration = .seconds(10)) async -> OperationResult {
        for index in parcels.indices { parcels[index].attempts += 1 }
        let result = await call(.deliver, parcels, timeout: timeout)
        let items = (result.status == .ok ? result.json : nil)?["records"]?.array ?? []
        for index in parcels.indices {
            let item = items.first { $0["index"]?.integer == Int64(index) }
            parcels[index].verdict =
                item.map(Self.verdict)
                ?? Parcel.Verdict(
                    kind: result.status == .ok ? "uncertain" : Self.word(result.status),
                    code: result.json?["code"]?.string, retryAfter: result.json?["retry_after_ms"]?.integer)
        }
        return result
    }

    static func verdict(_ item: JSONValue) -> Parcel.Verdict {
        Parcel.Verdict(
            kind: item["class"]?.string ?? "", code: item["error"]?["code"]?.string,
            retryAfter: item["error"]?["retry_after_ms"]?.integer, remoteID: item["remote_id"]?.string)
    }

    /// The class of a whole operation, in the words of a record's.
    static func word(_ status: PluginStatus) -> String {
        switch status {
        case .ok: "ok"
        case .rejected: "rejected"
        case .retry: "retry"
        case .rateLimited: "rate_limited"
        case .authExpired: "auth_expired"
        case .authRevoked: "auth_revoked"
        case .config: "config"
        case .uncertain: "uncertain"
        case .cancelled: "cancelled"
        case .deadline: "deadline"
        case .pluginBug: "plugin_bug"
        case .crashed: "crashed"
        case .unsupported: "unsupported"
        }
    }

    // MARK: To the end

    private func openStep(_ parcel: Parcel) -> JournalEntry? {
        vendor.read { $0.journals[parcel.id]?.first { $0.leavesOutcomeOpen } }
    }

    /// Brings every parcel to its end, or gives up after `rounds`.
    func finish(_ parcels: [Parcel], rounds: Int = 12) async throws -> [Parcel] {
        var done: [Parcel] = []
        var open = parcels
        for _ in 0..<rounds where !open.isEmpty {
            let unsure = open.filter { openStep($0) != nil || $0.verdict?.kind == "uncertain" }
            for parcel in unsure { try await lookUp(parcel) }
            var ready = open.filter { openStep($0) == nil }
            let waiting = open.filter { openStep($0) != nil }
            if !ready.isEmpty { _ = await deliver(&ready) }
            let final: Set<String> = ["ok", "rejected", "config", "auth_revoked", "auth_expired", "unsupported"]
            done += ready.filter {
                final.contains($0.verdict?.kind ?? "") && openStep($0) == nil || $0.verdict?.kind == "ok"
            }
            let ended = Set(done.map(\.id))
            open = waiting + ready.filter { !ended.contains($0.id) }
        }
        return done + open
    }

    /// Reconciles one parcel and writes what was found into its journal.
    private func lookUp(_ parcel: Parcel) async throws {
        guard let step = openStep(parcel) else { return }
        guard try await bench.load().supports(.reconcile) else {
            // Without reconcile the daemon trusts the vendor's own idempotency.
            vendor.change { $0.journals[parcel.id]?.removeAll { $0.step == step.step } }
            return
        }
        let lag = try bench.subject.action(bench.manifest)["read_lag_ms"]?.integer ?? 0
        // The daemon asks when the lag has passed. Inline the plugin's clock is ours to move; a worker has the machine's.
        if bench.isolation == .inline {
            bench.wall.move(by: lag / 1000 + 31)
        } else {
            try await bench.wall.clock.sleep(.milliseconds(min(lag, 3000)))
        }
        let result = await call(.reconcile, [parcel])
        let found = result.json?["records"]?[0]
        switch found?["answer"]?.string {
        case "applied":
            vendor.change { state in
                vendor.store(
                    found?["result"] ?? .object([:]), step: step.step, for: parcel.id, attempt: parcel.attempts, &state)
            }
        case "not_applied":
            vendor.change { $0.journals[parcel.id]?.removeAll { $0.step == step.step && $0.state != .done } }
        default: break
        }
    }
}

extension JSONValue {
    subscript(index: Int) -> JSONValue? {
        guard case .array(let items) = self, items.indices.contains(index) else { return nil }
        return items[index]
    }

    /// With another value where a path of member names leads.
    func replacing(_ path: ArraySlice<String>, with value: JSONValue) -> JSONValue {
        guard let name = path.first else { return value }
        guard case .object(var members) = self, let inner = members[name] else { return self }
        members[name] = inner.replacing(path.dropFirst(), with: value)
        return .object(members)
    }
}

extension Subject {
    /// The action that deliveries are tried with.
    func action(_ manifest: JSONValue) throws -> JSONValue {
        let actions = manifest["actions"]?.array ?? []
        let wanted = actions.first { script.payloads[$0["name"]?.string ?? ""] != nil }
        guard let action = wanted ?? actions.first(where: { $0["trigger"]?.string == "threshold" }) ?? actions.first
        else { throw inapplicable("the manifest names no action") }
        return action
    }

    /// A payload of the action: the script's, else that of schemas/payload.deal.json, with a link, key and ids of its own.
    func payload(_ manifest: JSONValue, number: Int) -> JSONValue {
        let action = (try? action(manifest)["name"]?.string) ?? ""
        let sample = script.payloads[action] ?? Schemas.named("payload.deal.json")?["examples"]?[0] ?? [:]
        return replaced(sample, number: number)
    }

    private func replaced(_ value: JSONValue, number: Int) -> JSONValue {
        guard case .object(var members) = value else { return value }
        for place in ["scope", "link"] {
            guard case .object(var inner)? = members[place] else { continue }
            inner["id"] = .string("lnk_\(number + 1)")
            inner[place == "scope" ? "name" : "slug"] = .string("slug-\(number + 1)")
            members[place] = .object(inner)
        }
        // What makes a click or a rule's record another one at the vendor.
        for (place, first) in [("click", 1), ("target", 9001)] {
            guard case .object(var inner)? = members[place] else { continue }
            inner["id"] = .string(place == "click" ? "evt_\(number + first)" : "\(number + first)")
            members[place] = .object(inner)
        }
        if members["key"]?.string != nil {
            let digits = String(number + 1, radix: 16)
            members["key"] = .string(String(repeating: "0", count: max(0, 32 - digits.count)) + digits)
        }
        return .object(members)
    }
}
