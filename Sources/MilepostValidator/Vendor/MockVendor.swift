// SPDX-License-Identifier: Apache-2.0

internal import MilepostModel
internal import MilepostPluginHost
internal import Synchronization

/// The host's other side for a plugin under examination: a vendor that plays a script and makes the faults of a plan, the
/// journal, storage and the log. Nothing leaves the process.
final class MockVendor: PluginServices {
    struct Item: Sendable {
        var json: [String: JSONValue]
        var key: String?
        var isVisible: Bool
    }

    /// An operation that is about to run: whose records, which attempt.
    struct Running: Sendable {
        let deliveries: [String]
        let attempt: Int
    }

    struct State {
        var collections: [String: [Item]] = [:]
        var nextID: Int64 = 501
        var nextNumber = 0
        var running: [UInt64: Running] = [:]
        var journals: [String: [JournalEntry]] = [:]
        /// How often each step of each delivery was applied at the vendor.
        var effects: [String: Int] = [:]
        var plan: FaultPlan?
        var met = 0
        var isLagging = false
        var journalFails = false
        var storageConflicts = false
        var values: [[UInt8]: (value: [UInt8], version: UInt64)] = [:]
        var calls: [PluginHTTPCall] = []
        var transcript: [String] = []
        var lines: [PluginLogLine] = []
        var denied: [String] = []
        var rejectedCredentials = 0
        /// Random waiting before each answer; nil for none.
        var delays: SeededRandom?
        var openChanges = 0
        /// Changes that were sent while another had no answer yet.
        var overlappingChanges = 0
        /// Record indexes of all changes, in the order of sending.
        var order: [UInt32] = []
        var endpoints: [String: String] = [:]
        var settingsHosts: Set<String> = []
    }

    let subject: Subject
    let clock: PluginClock
    let manifest: JSONValue
    let state = Mutex(State())

    init(_ subject: Subject, clock: PluginClock, manifest: JSONValue) {
        self.subject = subject
        self.clock = clock
        self.manifest = manifest
    }

    func change(_ body: (inout State) -> Void) { state.withLock { body(&$0) } }
    func read<Value: Sendable>(_ body: (State) -> Value) -> Value { state.withLock { body($0) } }
    func nextNumber() -> Int {
        state.withLock { state in
            defer { state.nextNumber += 1 }
            return state.nextNumber
        }
    }
    var now: Timestamp { Timestamp(milliseconds: Int64(clock.wallNanoseconds() / 1_000_000)) }

    func note(_ line: String) {
        subject.trace.append(line)
        state.withLock { $0.transcript.append(line) }
    }

    // MARK: Requests

    func submitHTTP(_ call: PluginHTTPCall, for connection: ConnectionID) async -> PluginHTTPResult {
        note(
            "http \(call.method) \(call.url) step=\(call.step ?? "-") records=\(call.records) "
                + "idempotent=\(call.isIdempotent) credential=\(call.credential ?? "-") "
                + "headers=\(call.headers.map { "\($0.name): \($0.value)" }) "
                + "body=\(String(decoding: call.body.prefix(4096), as: UTF8.self))")
        state.withLock { $0.calls.append(call) }
        guard let address = Address(call.url), isApproved(address.host) else {
            state.withLock { $0.denied.append(call.url) }
            return answer(PluginCallStatus.denied, wire: 0, error: "refused_by_policy")
        }
        let isChange = call.method != "GET" && call.method != "HEAD"
        let fault = takeFault(isChange: isChange)
        if isChange {
            writeIntents(call)
            state.withLock { state in
                if state.openChanges > 0 { state.overlappingChanges += 1 }
                state.openChanges += 1
                state.order += call.records
            }
        }
        let result = await carryOut(call, address, isChange: isChange, fault)
        await linger()
        if isChange {
            writeOutcomes(call, result)
            state.withLock { $0.openChanges -= 1 }
        }
        return result
    }

    /// A moment of its own for each answer, so that answers overtake each other.
    func linger() async {
        let wait = state.withLock { state in
            state.delays.map { _ in Int.random(in: 0...15_000, using: &state.delays!) }
        }
        if let wait { try? await clock.sleep(.microseconds(wait)) }  // cancelled: the answer may come at once
    }

    private func takeFault(isChange: Bool) -> Fault? {
        state.withLock { state in
            guard let plan = state.plan, plan.meets(isChange: isChange) else { return nil }
            defer { state.met += 1 }
            return state.met >= plan.after && state.met - plan.after < plan.times ? plan.fault : nil
        }
    }

    private func carryOut(
        _ call: PluginHTTPCall, _ address: Address, isChange: Bool, _ fault: Fault?
    ) async -> PluginHTTPResult {
        switch fault {
        case nil: return apply(call, address)
        case .status(let status, let retryAfter)?:
            var headers = [("content-type", "application/json")]
            if let retryAfter { headers.append(("retry-after", String(retryAfter))) }
            let body: JSONValue = ["error": "made by the check", "message": "made by the check", "success": false]
            return answer(status: status, headers: headers, body: body.bytes)
        case .neverSent?: return answer(PluginCallStatus.ok, wire: 0, error: "connect_failed")
        case .cut(let isApplied)?:
            if isApplied { _ = apply(call, address) }
            return answer(PluginCallStatus.ok, wire: 1, error: "reset")
        case .timeout(let isApplied)?:
            if isApplied { _ = apply(call, address) }
            return answer(PluginCallStatus.ok, wire: 1, error: "timeout")
        case .bytes(let bytes, let type, let isTruncated, let headers)?:
            if isChange { _ = apply(call, address) }
            return answer(
                status: 200, headers: [("content-type", type)] + headers, body: bytes, truncated: isTruncated)
        case .bomb?:
            if isChange { _ = apply(call, address) }
            let cap = Int(call.responseCap == 0 ? 1 << 20 : max(16, min(call.responseCap, 64 << 20)))
            return answer(
                status: 200, headers: [("content-type", "application/json")],
                body: Array("{\"id\":\"".utf8) + [UInt8](repeating: 0x30, count: cap - 7), truncated: true)
        case .hang?:
            if isChange { _ = apply(call, address) }
            do { try await clock.sleep(.seconds(600)) } catch {}  // cancelled: the plugin or the deadline gave it up
            return answer(PluginCallStatus.ok, wire: 1, error: "cancelled")
        case .redirect(let target)?:
            return answer(status: 302, headers: [("location", target)], body: [])
        case .refused?: return answer(PluginCallStatus.busy, wire: 0, error: "refused_by_policy")
        case .then(let action)?:
            let result = apply(call, address)
            await action()
            return result
        }
    }

    private func isApproved(_ host: String) -> Bool {
        let (endpoints, others) = state.withLock {
            ($0.endpoints.values.compactMap { HostPattern.host(of: $0) }, $0.settingsHosts)
        }
        if endpoints.contains(host) || others.contains(host) { return true }
        let patterns = (manifest["egress"]?.array ?? []).flatMap { ($0["hosts"]?.array ?? []).compactMap(\.string) }
        return patterns.contains { $0 != "*" && HostPattern.matches($0, host) }
    }

    // MARK: The vendor

    private func apply(_ call: PluginHTTPCall, _ address: Address) -> PluginHTTPResult {
        let route = subject.script.routes.first {
            $0.matches(method: call.method, segments: address.segments, query: address.query)
        }
        if subject.script.isGiven, route == nil {
            return answer(
                status: 404, headers: [("content-type", "application/json")],
                body: Array("{\"error\":\"the vendor's script has no such route\"}".utf8))
        }
        return state.withLock { state in
            var item: JSONValue = .null
            let isChange = call.method != "GET" && call.method != "HEAD"
            if let collection = route?.creates ?? (route == nil && isChange ? address.segments.first ?? "things" : nil)
            {
                item = .object(create(call, address, route, in: collection, &state))
            }
            let listed = route?.lists ?? (route == nil ? address.segments.first : nil)
            let items = listed.map { list($0, address, route, state) } ?? []
            let body = route.map { $0.body ?? .null } ?? Self.plausible
            let filled = fill(body, item: item, items: items)
            let status = route?.status ?? (isChange ? 201 : 200)
            let headers =
                (route?.headers ?? []) + [("content-type", "application/json"), ("x-echo-token", subject.canary)]
            return answer(status: status, headers: headers, body: withCanary(filled).bytes)
        }
    }

    /// Answers with all the names under which APIs tell what was made or found.
    private static let plausible: JSONValue = [
        "id": "{{id}}", "success": true, "data": "{{item}}", "items": "{{items}}", "results": "{{items}}",
        "account": ["id": "1", "name": "Check"], "name": "Check", "next": nil,
    ]

    private func create(
        _ call: PluginHTTPCall, _ address: Address, _ route: VendorScript.Route?, in collection: String,
        _ state: inout State
    ) -> [String: JSONValue] {
        let sent = (try? JSONValue(parsing: call.body)) ?? .null
        var key: String?
        switch route?.upserts {
        case nil:
            // Without a script, what says of itself that it may be repeated is one thing however often it comes.
            if route == nil, call.isIdempotent { key = "\(call.url) \(String(decoding: call.body, as: UTF8.self))" }
        case "path"?: key = address.segments.last
        case let place? where place.hasPrefix("header:"):
            key = call.headers.first { $0.name.lowercased() == place.dropFirst(7).lowercased() }?.value
        case let place?: key = sent[String(place.dropFirst(5))]?.description
        }
        if let key, let known = state.collections[collection]?.first(where: { $0.key == key }) { return known.json }
        var json = sent.object ?? ["body": .string(String(decoding: call.body.prefix(65536), as: UTF8.self))]
        json["id"] = .integer(state.nextID)
        state.nextID += 1
        for (name, value) in route?.with ?? [:] { json[name] = fill(value, item: .null, items: []) }
        state.collections[collection, default: []].append(Item(json: json, key: key, isVisible: !state.isLagging))
        for (delivery, step) in whose(call, state) { state.effects["\(delivery) \(step)", default: 0] += 1 }
        return json
    }

    private func list(
        _ collection: String, _ address: Address, _ route: VendorScript.Route?, _ state: State
    ) -> [JSONValue] {
        (state.collections[collection] ?? []).filter { item in
            guard item.isVisible || !(route?.lags ?? true) else { return false }
            return (route?.filter ?? [:]).allSatisfy { member, parameter in
                let wanted = parameter == "path" ? address.segments.last : address.query[parameter]
                let value = item.json[member]
                return wanted == nil || value?.string == wanted || value?.description == wanted
            }
        }.map { .object($0.json) }
    }

    private func fill(_ value: JSONValue, item: JSONValue, items: [JSONValue]) -> JSONValue {
        switch value {
        case .string("{{item}}"): item
        case .string("{{items}}"): .array(items)
        case .string("{{first}}"): items.first ?? .null
        case .string("{{count}}"): .integer(Int64(items.count))
        case .string("{{id}}"): item["id"] ?? .integer(1)
        case .string("{{now}}"): .string(now.description)
        case .array(let members): .array(members.map { fill($0, item: item, items: items) })
        case .object(let members): .object(members.mapValues { fill($0, item: item, items: items) })
        default: value
        }
    }

    /// Vendors do show keys in their answers; egress masks those that it knows, and no other.
    private func withCanary(_ value: JSONValue) -> JSONValue {
        guard case .object(var members) = value else { return value }
        members["api_token"] = .string(subject.canary)
        return .object(members)
    }

    // MARK: The journal

    private func whose(_ call: PluginHTTPCall, _ state: State) -> [(delivery: String, step: String)] {
        guard let running = state.running[call.operation] else { return [] }
        let indexes = call.records.isEmpty ? Array(running.deliveries.indices) : call.records.map { Int($0) }
        return indexes.filter { running.deliveries.indices.contains($0) }.map {
            (running.deliveries[$0], call.step ?? "\(call.method) \(call.url)")
        }
    }

    private func writeIntents(_ call: PluginHTTPCall) {
        guard let step = call.step, !call.isIdempotent else { return }
        let now = now
        state.withLock { state in
            let attempt = state.running[call.operation]?.attempt ?? 1
            for (delivery, _) in whose(call, state) {
                state.journals[delivery, default: []].removeAll { $0.step == step && $0.state != .done }
                state.journals[delivery, default: []].append(
                    JournalEntry(step: step, state: .intent, attempt: attempt, intentAt: now))
            }
        }
    }

    private func writeOutcomes(_ call: PluginHTTPCall, _ result: PluginHTTPResult) {
        guard let step = call.step, !call.isIdempotent else { return }
        state.withLock { state in
            for (delivery, _) in whose(call, state) {
                guard let at = state.journals[delivery]?.lastIndex(where: { $0.step == step && $0.state == .intent })
                else { continue }
                state.journals[delivery]?[at].state = .answered
                state.journals[delivery]?[at].wire = Self.wires[Int(result.wire)]
                state.journals[delivery]?[at].httpStatus = result.httpStatus == 0 ? nil : result.httpStatus
                state.journals[delivery]?[at].body = String(decoding: result.body.prefix(65536), as: UTF8.self)
            }
        }
    }

    static let wires = ["never_sent", "maybe_sent", "answered"]

    func storeJournal(
        connection: ConnectionID, op: UInt64, record: UInt32, step: String, result: [UInt8]
    ) async -> Int32 {
        note("journal \(record) \(step) \(String(decoding: result, as: UTF8.self))")
        await linger()
        let value = try? JSONValue(parsing: result)
        return state.withLock { state in
            if state.journalFails { return PluginCallStatus.busy }
            guard let value, case .object = value else { return PluginCallStatus.invalid }
            guard let running = state.running[op], running.deliveries.indices.contains(Int(record)) else {
                return PluginCallStatus.stale
            }
            store(value, step: step, for: running.deliveries[Int(record)], attempt: running.attempt, &state)
            return PluginCallStatus.ok
        }
    }

    func store(_ result: JSONValue, step: String, for delivery: String, attempt: Int, _ state: inout State) {
        let known = state.journals[delivery, default: []].lastIndex { $0.step == step }
        if let known {
            state.journals[delivery]?[known].state = .done
            state.journals[delivery]?[known].result = result
        } else {
            var entry = JournalEntry(step: step, state: .done, attempt: attempt, intentAt: now)
            entry.result = result
            state.journals[delivery, default: []].append(entry)
        }
    }

    // MARK: Answers

    private func answer(_ callStatus: Int32, wire: Int, error: String) -> PluginHTTPResult {
        let json: JSONValue = [
            "status": 0, "headers": [], "wire": .string(Self.wires[wire]), "truncated": false,
            "error": ["code": .string(error), "message": "made by the check"],
        ]
        return PluginHTTPResult(callStatus: callStatus, wire: Int32(wire), httpStatus: 0, json: json.bytes, body: [])
    }

    private func answer(
        status: Int32, headers: [(name: String, value: String)], body: [UInt8], truncated: Bool = false
    ) -> PluginHTTPResult {
        let json: JSONValue = [
            "status": .integer(Int64(status)),
            "headers": .array(headers.map { .array([.string($0.name), .string($0.value)]) }), "wire": "answered",
            "truncated": .bool(truncated), "error": nil,
        ]
        return PluginHTTPResult(
            callStatus: PluginCallStatus.ok, wire: 2, httpStatus: status, json: json.bytes, body: body)
    }
}
