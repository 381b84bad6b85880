// SPDX-License-Identifier: Apache-2.0

public import MilepostEgress
public import MilepostModel
public import MilepostPluginHost
public import MilepostStore
import Synchronization

/// What the core does for plugins: sends their requests with intent and outcome on disk around them, keeps their journal
/// and small storage, passes on their log lines.
public final class PluginGateway: PluginServices {
    let store: any Store
    let egress: any Egress
    private let limiter: RateLimiter
    let clock: any DaemonClock
    private let settings: Settings
    private let log: @Sendable (PluginLogLine) -> Void
    private let count: @Sendable (PluginMetric) -> Void
    let contexts = OperationContexts()
    private let lines = Mutex<[ConnectionID: Line]>([:])
    /// Who keeps OAuth tokens alive; nil before the engine is wired.
    private let tokens = Mutex<(any TokenSupply)?>(nil)

    public struct Settings: Sendable {
        public var requestTimeout: Duration
        /// Bytes of an answer's body where the plugin names no number.
        public var responseCap: Int
        /// The most that a plugin may ask for. The SDK reads no more in one piece, and it fits a frame with its headers.
        public var largestResponseCap: Int
        /// How long a request waits for a budget before it is given back as "not sent".
        public var limiterPatience: Duration
        /// Bytes of an answer kept in the journal for reconcile.
        public var journalBodyCap: Int

        public init(
            requestTimeout: Duration = .seconds(30), responseCap: Int = 1 << 20, largestResponseCap: Int = 16 << 20,
            limiterPatience: Duration = .seconds(30),
            journalBodyCap: Int = 8192
        ) {
            self.requestTimeout = requestTimeout
            self.responseCap = responseCap
            self.largestResponseCap = largestResponseCap
            self.limiterPatience = limiterPatience
            self.journalBodyCap = journalBodyCap
        }
    }

    /// A connection as the gateway knows it.
    private struct Line {
        var declaration: PluginDeclaration
        var account: String?
        var credentials: [String: JSONValue]
    }

    public init(
        store: any Store, egress: any Egress, limiter: RateLimiter, clock: any DaemonClock, settings: Settings,
        log: @escaping @Sendable (PluginLogLine) -> Void, count: @escaping @Sendable (PluginMetric) -> Void
    ) {
        self.store = store
        self.egress = egress
        self.limiter = limiter
        self.clock = clock
        self.settings = settings
        self.log = log
        self.count = count
    }

    /// Lets a connection's requests out, within the budgets of its plan.
    ///
    /// - Parameter held: the credentials that it may name; others of the manifest are refused.
    func open(
        _ connection: ConnectionID, declaration: PluginDeclaration, held: [PluginManifest.Auth], account: String?,
        facts known: CredentialFacts? = nil, ratePlan: String?
    ) {
        for bucket in declaration.buckets(connection: connection, account: account, plan: ratePlan) {
            limiter.define(bucket)
        }
        var facts: [String: JSONValue] = [:]
        for auth in held {
            facts[auth.credential] = .object(
                CredentialFacts.members(known, of: auth.credential).merging([
                    "ref": .string(auth.credential), "scheme": .string(auth.scheme), "account": JSONValue(account),
                ]) { $1 })
        }
        lines.withLock { $0[connection] = Line(declaration: declaration, account: account, credentials: facts) }
    }

    /// A refresh changed what is known of a token; an instance that lives on is told so when it asks.
    func renew(_ connection: ConnectionID, _ facts: CredentialFacts) {
        lines.withLock { lines in
            guard let old = lines[connection]?.credentials[facts.credential]?.object else { return }
            lines[connection]?.credentials[facts.credential] = .object(
                old.merging(CredentialFacts.members(facts, of: facts.credential)) { $1 })
        }
    }

    func attach(_ supply: any TokenSupply) { tokens.withLock { $0 = supply } }

    func close(_ connection: ConnectionID) { lines.withLock { _ = $0.removeValue(forKey: connection) } }

    // MARK: HTTP

    public func submitHTTP(_ call: PluginHTTPCall, for connection: ConnectionID) async -> PluginHTTPResult {
        guard let line = lines.withLock({ $0[connection] }) else { return .refused(PluginCallStatus.stale) }
        var credentials: [CredentialUse] = []
        if let name = call.credential {
            guard line.credentials[name] != nil, let placement = line.declaration.placement(call.placement, of: name)
            else {
                return .refused(PluginCallStatus.denied)
            }
            credentials.append(
                CredentialUse(reference: CredentialReference(connection: connection, name: name), placement: placement))
        }
        let intent: Intent?
        if call.isIdempotent {
            intent = nil
        } else {
            guard let step = call.step, let context = contexts.context(of: call.operation), context.leavesIntents else {
                // Outside of these nothing may be changed: connect proves and changes nothing (decisions 16). A click is
                // sent again after a crash, so its requests must say that they may be (decisions 25).
                return .refused(PluginCallStatus.denied)
            }
            let indexes = call.records.map(Int.init)
            if let provision = context.provision {
                intent = Intent(operation: call.operation, deliveries: [], step: step, attempt: 1, provision: provision)
            } else if !indexes.isEmpty, indexes.allSatisfy(context.deliveries.indices.contains) {
                intent = Intent(
                    operation: call.operation, deliveries: indexes.map { context.deliveries[$0] }, step: step,
                    attempt: context.attempts[indexes[0]])
            } else {
                return .refused(PluginCallStatus.invalid)
            }
        }
        let request = EgressRequest(
            method: call.method, url: call.url, headers: call.headers, body: call.body, credentials: credentials,
            isIdempotent: call.isIdempotent, followsRedirects: call.followsRedirects,
            timeout: min(call.timeout ?? settings.requestTimeout, settings.requestTimeout),
            responseCap: call.responseCap == 0
                ? settings.responseCap : min(Int(clamping: call.responseCap), settings.largestResponseCap),
            charges: line.declaration.charges(
                connection: connection, account: line.account, bucket: call.bucket, cost: max(1, Int(call.cost))),
            limiterPatience: settings.limiterPatience, policy: line.declaration.policy)
        let outcome = await send(request, intent: intent, call, connection, line)
        if let failure = outcome.failure, failure.code == .rateLimited, let opensAt = failure.opensAt {
            let isDaily = line.declaration.dailyKeys(connection: connection, account: line.account).contains {
                limiter.blockedUntil($0) != nil
            }
            contexts.note(ClosedBudget(opensAt: opensAt, isDaily: isDaily), on: call.operation)
        }
        return PluginHTTPResult(outcome, now: clock.now)
    }

    /// Sends with a living token, and once more with a fresh one after a 401: that answer says that nothing was applied.
    private func send(
        _ request: EgressRequest, intent: Intent?, _ call: PluginHTTPCall, _ connection: ConnectionID, _ line: Line
    ) async -> EgressOutcome {
        guard let name = call.credential, line.declaration.oauth(name) != nil,
            let tokens = tokens.withLock({ $0 })
        else { return await send(request, intent: intent) }
        let version: Int64
        switch await tokens.ready(connection, credential: name) {
        case .unmanaged: return await send(request, intent: intent)
        case .ready(let stored): version = stored
        case .closed(let until, let reason):
            contexts.note(ClosedBudget(opensAt: until, isDaily: false, reason: reason), on: call.operation)
            return Self.notSent(reason, opensAt: until)
        case .ended(let kind, let reason):
            contexts.note(
                ClosedBudget(opensAt: clock.now, isDaily: false, reason: reason, ends: kind), on: call.operation)
            return Self.notSent(reason, opensAt: nil)
        }
        let first = await send(request, intent: intent)
        if first.failure?.code == .secretUnavailable { await tokens.examine(connection) }
        guard first.response?.status == 401,
            await tokens.refused(connection, credential: name, version: version)
        else { return first }
        return await send(request, intent: intent)
    }

    private static func notSent(_ reason: Reason, opensAt: Timestamp?) -> EgressOutcome {
        EgressOutcome(
            wire: .neverSent,
            failure: EgressFailure(code: .secretUnavailable, message: reason.message, opensAt: opensAt))
    }

    private struct Intent {
        var operation: UInt64
        var deliveries: [DeliveryID]
        var step: String
        var attempt: Int
        var provision: ProvisionJournal?
    }

    private func send(_ request: EgressRequest, intent: Intent?) async -> EgressOutcome {
        let isIntentStored = Mutex(false)
        let outcome = await egress.send(request) { [store, clock, contexts] in
            guard let intent else { return }
            guard contexts.mayWriteIntent(for: intent.operation) else { throw CancellationError() }
            defer { contexts.wroteIntent(for: intent.operation) }
            CrashPoint.reach("before_intent")
            if let provision = intent.provision {
                try await provision.open(intent.step, at: clock.now)
                isIntentStored.withLock { $0 = true }
                CrashPoint.reach("after_intent")
                return
            }
            try await store.storeIntent(
                deliveries: intent.deliveries, step: intent.step, attempt: intent.attempt, at: clock.now)
            isIntentStored.withLock { $0 = true }
            CrashPoint.reach("after_intent")
        }
        if let intent, isIntentStored.withLock({ $0 }) {
            CrashPoint.reach("before_outcome")
            do {
                if let provision = intent.provision {
                    // 503 and 429 say "not applied"; after any other failure on the vendor's side nobody knows.
                    let status = outcome.response?.status
                    let isKnown = outcome.wire == .neverSent || status.map { $0 < 500 || $0 == 503 } == true
                    if isKnown { try await provision.close(intent.step) }
                    CrashPoint.reach("after_outcome")
                    return outcome
                }
                try await store.storeOutcome(
                    deliveries: intent.deliveries, step: intent.step, wire: outcome.wire.rawValue,
                    httpStatus: outcome.response?.status, body: journalText(outcome.response), at: clock.now)
            } catch {
                // The intent stays open, so the delivery becomes uncertain: the careful side.
            }
            CrashPoint.reach("after_outcome")
        }
        return outcome
    }

    private func journalText(_ response: EgressResponse?) -> String? {
        guard let response, !response.body.isEmpty else { return nil }
        return String(decoding: response.body.prefix(settings.journalBodyCap), as: UTF8.self)
    }

    // MARK: Journal, storage, credentials

    public func storeJournal(
        connection: ConnectionID, op: UInt64, record: UInt32, step: String, result: [UInt8]
    ) async -> Int32 {
        guard let context = contexts.context(of: op), context.deliveries.indices.contains(Int(record)) else {
            return PluginCallStatus.stale
        }
        guard context.leavesIntents else { return PluginCallStatus.denied }
        guard let value = try? JSONValue(parsing: result, limits: JSONLimits(bytes: 64 * 1024, depth: 16)) else {
            return PluginCallStatus.invalid
        }
        CrashPoint.reach("before_journal")
        do {
            try await store.storeStep(
                delivery: context.deliveries[Int(record)], step: step, result: value, at: clock.now)
        } catch {
            return PluginCallStatus.busy
        }
        CrashPoint.reach("after_journal")
        return PluginCallStatus.ok
    }

    public func keyValue(_ request: KeyValueRequest, for connection: ConnectionID) async -> KeyValueResult {
        do {
            switch request {
            case .get(let key):
                guard let found = try await store.pluginValue(connection: connection, key: text(key), at: clock.now)
                else {
                    return KeyValueResult(callStatus: PluginCallStatus.notFound, json: Array("{}".utf8))
                }
                return KeyValueResult(
                    callStatus: PluginCallStatus.ok, json: versionJSON(found.version), value: found.value)
            case .put(let key, let value, let version, let timeToLive):
                guard key.count <= 512, value.count <= 64 * 1024 else {
                    return KeyValueResult(callStatus: PluginCallStatus.tooLarge, json: Array("{}".utf8))
                }
                let stored = try await store.setPluginValue(
                    connection: connection, key: text(key), value: value, expecting: version,
                    expiresAt: timeToLive.map { clock.now + $0 }, at: clock.now)
                return KeyValueResult(callStatus: PluginCallStatus.ok, json: versionJSON(stored))
            case .delete(let key, let version):
                try await store.deletePluginValue(connection: connection, key: text(key), expecting: version)
                return KeyValueResult(callStatus: PluginCallStatus.ok, json: Array("{}".utf8))
            case .list(let prefix):
                let keys = try await store.pluginKeys(connection: connection, prefix: text(prefix), at: clock.now)
                let json: JSONValue = ["keys": .array(keys.map(JSONValue.string))]
                return KeyValueResult(callStatus: PluginCallStatus.ok, json: json.bytes)
            }
        } catch let error as StoreError where error.code == .conflict {
            return KeyValueResult(callStatus: PluginCallStatus.invalid, json: Array("{}".utf8))
        } catch {
            return KeyValueResult(callStatus: PluginCallStatus.busy, json: Array("{}".utf8))
        }
    }

    private func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }
    private func versionJSON(_ version: UInt64) -> [UInt8] {
        JSONValue.object(["version": .integer(Int64(version))]).bytes
    }

    /// Signatures are placements, made by egress at the moment of sending; no scheme needs this service yet.
    public func sign(_ request: PluginSignatureRequest, for connection: ConnectionID) async -> PluginSignatureResult {
        PluginSignatureResult(callStatus: PluginCallStatus.unsupported, signature: [])
    }

    public func credentialInfo(_ name: String, for connection: ConnectionID) -> [UInt8]? {
        lines.withLock { $0[connection]?.credentials[name] }?.bytes
    }

    /// The verdict of the record says the same and moves the state; here it is only worth a line.
    public func credentialRejected(_ name: String, reason: String, op: UInt64, for connection: ConnectionID) {
        count(
            .host(
                plugin: lines.withLock { $0[connection]?.declaration.manifest.name } ?? PluginName(""),
                event: "credential_rejected", code: name))
    }

    public func log(_ line: PluginLogLine) { log(line) as Void }
    public func metric(_ metric: PluginMetric) { count(metric) }
}

extension PluginHTTPResult {
    static func refused(_ status: Int32) -> Self {
        Self(callStatus: status, wire: 0, httpStatus: 0, json: Array("{}".utf8), body: [])
    }

    /// `include/milepost/schemas/http.event.json`
    init(_ outcome: EgressOutcome, now: Timestamp) {
        let wire: Int32 =
            switch outcome.wire {
            case .neverSent: 0
            case .maybeSent: 1
            case .answered: 2
            }
        let json =
            switch outcome.result {
            case .success(let response): Self.json(response)
            case .failure(let failure): Self.json(failure, outcome.wire, now: now)
            }
        self.init(
            callStatus: PluginCallStatus.ok, wire: wire, httpStatus: Int32(outcome.response?.status ?? 0),
            json: json, body: outcome.response?.body ?? [])
    }

    /// Piece by piece and in the order of its names, because there is one for every request.
    private static func json(_ response: EgressResponse) -> [UInt8] {
        let headers = JSONValue.array(response.headers.map { .array([.string($0.name), .string($0.value)]) })
        let times = response.timings
        var text = Array("{\"error\":null,\"headers\":".utf8)
        text += headers.bytes
        text += ",\"status\":\(response.status),\"timings\":{\"connect_ms\":\(times.connect.wholeMilliseconds)".utf8
        text +=
            ",\"limiter_ms\":\(times.limiter.wholeMilliseconds),\"queued_ms\":\(times.queued.wholeMilliseconds)".utf8
        text += ",\"total_ms\":\(times.total.wholeMilliseconds)},\"truncated\":\(response.truncated)".utf8
        text += ",\"wire\":\"\(WireState.answered.rawValue)\"}".utf8
        return text
    }

    private static func json(_ failure: EgressFailure, _ wire: WireState, now: Timestamp) -> [UInt8] {
        var error: [String: JSONValue] = ["code": .string(failure.code.rawValue), "message": .string(failure.message)]
        if let opensAt = failure.opensAt {
            error["retry_after_ms"] = .integer(max(0, (opensAt - now).wholeMilliseconds))
        }
        let json: JSONValue = [
            "wire": .string(wire.rawValue), "status": 0, "headers": [], "truncated": false, "timings": [:],
            "error": .object(error),
        ]
        return json.bytes
    }
}
