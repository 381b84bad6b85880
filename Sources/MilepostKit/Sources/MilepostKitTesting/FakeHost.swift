// SPDX-License-Identifier: Apache-2.0

public import CMilepostPlugin
public import MilepostKit
import Synchronization

/// A request as the host received it: a copy of everything.
public struct SentRequest: Sendable {
    public var method: String
    public var url: String
    public var headers: [(name: String, value: String)]
    public var body: JSONValue?
    public var credential: String?
    public var step: String?
    public var bucket: String?
    public var isIdempotent: Bool
    public var cost: UInt32
    public var records: [UInt32]
}

/// What the fake vendor does with a request.
public enum FakeAnswer: Sendable {
    case json(Int, JSONValue, headers: [(String, String)] = [])
    /// Any bytes, said to be JSON.
    case bytes(Int, [UInt8])
    case text(Int, String, headers: [(String, String)] = [])
    /// A body that the plugin has to read as a blob.
    case blob(Int, [UInt8])
    case fails(HTTPFailure.Wire, String)
    /// No event until `cancel`; then the given wire state.
    case hangs(HTTPFailure.Wire)
    /// The host refuses the call with this MP_CALL_….
    case refused(Int32)
}

/// A completed operation.
public struct Completion: Sendable {
    public var status: Int32
    public var body: JSONValue
}

/// A host in Swift that drives one plugin through its real C table and answers its requests from a script.
///
/// Events are delivered on threads of Swift's pool after the host call returned, as the contract asks. One plugin type
/// at a time: tests that use it belong in a serialized suite.
///
/// `@unchecked Sendable`: everything that changes lies in `state`; the pointers are set in `init` and never after.
@safe public final class FakeHost: @unchecked Sendable {
    public typealias Script = @Sendable (SentRequest) -> FakeAnswer

    struct State {
        var sent: [SentRequest] = []
        var journal: [(record: UInt32, step: String, result: JSONValue)] = []
        var completions: [UInt64: [Completion]] = [:]
        var waiting: [UInt64: CheckedContinuation<Completion, Never>] = [:]
        var hanging: [UInt64: (op: UInt64, wire: HTTPFailure.Wire)] = [:]
        var rejected: [String] = []
        var partials: [JSONValue] = []
        var blobs: [UInt64: [UInt8]] = [:]
        var nextOperation: UInt64 = 1
        var journalStatus = MP_CALL_OK
    }

    private let script: Script
    private let state = Mutex(State())
    let services = Mutex(FakeServices())
    public let table: UnsafePointer<mp_plugin>
    private let hostTable: UnsafeMutablePointer<mp_host>
    private let id: UInt64
    private var plugin: UnsafeMutableRawPointer?

    /// Loads the type through the entry helper and creates one instance.
    /// - Returns: nil when entry or `create` refuse.
    public init?(_ type: any Plugin.Type, configuration: JSONValue, hostSize: UInt32 = 184, script: @escaping Script) {
        var info = unsafe mp_host_info()
        unsafe info.struct_size = UInt32(MemoryLayout<mp_host_info>.size)
        var status: Int32 = 0
        guard let table = unsafe PluginEntry.table(of: type, &info, &status) else { return nil }
        unsafe self.table = table
        self.script = script
        unsafe hostTable = makeHostTable(size: hostSize)
        id = FakeHosts.shared.reserve()
        FakeHosts.shared.put(self, at: id)
        let created = unsafe call(configuration.bytes) { view in
            unsafe table.pointee.create(hostTable, id, view, &plugin)
        }
        guard created == MP_OK, unsafe plugin != nil else { return nil }
    }

    /// Ends the instance. Not in `deinit`: a test says when.
    /// - Parameter keepingHost: whether late calls of the plugin still reach this host; end it with `forget` then.
    public func destroy(keepingHost: Bool = false) {
        unsafe table.pointee.destroy(plugin)
        unsafe plugin = nil
        if !keepingHost { forget() }
    }

    /// Late calls of the plugin are stale from now on.
    public func forget() { FakeHosts.shared.remove(id) }

    // MARK: Driving

    /// Starts a verb. The operation's id comes back at once.
    public func start(_ verb: Int32, _ body: JSONValue, deadlineNanoseconds: UInt64 = .max) -> (
        op: UInt64, status: Int32
    ) {
        let op = state.withLock { state in
            defer { state.nextOperation += 1 }
            return state.nextOperation
        }
        let status = unsafe call(body.bytes) { view -> Int32 in
            var wire = unsafe mp_op()
            unsafe wire.struct_size = UInt32(MemoryLayout<mp_op>.size)
            unsafe wire.verb = verb
            unsafe wire.id = op
            unsafe wire.deadline_ns = deadlineNanoseconds
            unsafe wire.attempt = 1
            unsafe wire.body = view
            guard let function = unsafe function(of: verb) else { return MP_UNSUPPORTED }
            return unsafe function(plugin, &wire)
        }
        return (op, status)
    }

    /// Waits for an operation's completion.
    public func completion(of op: UInt64) async -> Completion {
        await withCheckedContinuation { continuation in
            let ready = state.withLock { state -> Completion? in
                if let done = state.completions[op]?.first { return done }
                state.waiting[op] = continuation
                return nil
            }
            if let ready { continuation.resume(returning: ready) }
        }
    }

    public func run(_ verb: Int32, _ body: JSONValue) async -> Completion {
        let (op, status) = start(verb, body)
        guard status == MP_OK else { return Completion(status: status, body: .null) }
        return await completion(of: op)
    }

    public func cancel(_ op: UInt64) { unsafe table.pointee.cancel(plugin, op) }

    public var sent: [SentRequest] { state.withLock { $0.sent } }
    public var journal: [(record: UInt32, step: String, result: JSONValue)] { state.withLock { $0.journal } }
    public var partials: [JSONValue] { state.withLock { $0.partials } }
    public var rejectedCredentials: [String] { state.withLock { $0.rejected } }
    public func completionCount(of op: UInt64) -> Int { state.withLock { $0.completions[op]?.count ?? 0 } }
    public func failJournal(with status: Int32) { state.withLock { $0.journalStatus = status } }

    private func function(of verb: Int32) -> (
        @convention(c) (UnsafeMutableRawPointer?, UnsafePointer<mp_op>?) -> Int32
    )? {
        let table = unsafe table.pointee
        return switch verb {
        case MP_VERB_CONFIGURE: unsafe table.configure
        case MP_VERB_CONNECT: unsafe table.connect
        case MP_VERB_PROVISION: unsafe table.provision
        case MP_VERB_DEPROVISION: unsafe table.deprovision
        case MP_VERB_QUERY: unsafe table.query
        case MP_VERB_OPTIONS: unsafe table.options
        case MP_VERB_CATALOG: unsafe table.catalog
        case MP_VERB_DELIVER: unsafe table.deliver
        case MP_VERB_RECONCILE: unsafe table.reconcile
        case MP_VERB_INTERCEPT: unsafe table.intercept
        case MP_VERB_WEBHOOK: unsafe table.webhook
        case MP_VERB_PULL: unsafe table.pull
        case MP_VERB_PING: unsafe table.ping
        case MP_VERB_SHUTDOWN: unsafe table.shutdown
        default: nil
        }
    }

    // MARK: What the plugin calls

    func complete(_ op: UInt64, _ status: Int32, _ body: [UInt8]) {
        let done = Completion(status: status, body: (try? JSONValue(parsing: body)) ?? .string("unreadable"))
        let waiter = state.withLock { state in
            state.completions[op, default: []].append(done)
            return state.waiting.removeValue(forKey: op)
        }
        waiter?.resume(returning: done)
    }

    func partial(_ body: [UInt8]) {
        state.withLock { $0.partials.append((try? JSONValue(parsing: body)) ?? .string("unreadable")) }
    }

    func reject(_ credential: String) { state.withLock { $0.rejected.append(credential) } }

    func submit(_ request: SentRequest, op: UInt64, token: UInt64) -> Int32 {
        state.withLock { $0.sent.append(request) }
        let answer = script(request)
        switch answer {
        case .refused(let status): return status
        case .hangs(let wire): state.withLock { $0.hanging[token] = (op, wire) }
        case .json, .bytes, .text, .blob, .fails: later { self.deliver(answer, op: op, token: token) }
        }
        return MP_CALL_OK
    }

    func cancelHTTP(_ token: UInt64) {
        guard let (op, wire) = state.withLock({ $0.hanging.removeValue(forKey: token) }) else { return }
        later { self.deliver(.fails(wire, "cancelled"), op: op, token: token) }
    }

    func journal(_ record: UInt32, _ step: String, _ result: [UInt8], op: UInt64, token: UInt64) -> Int32 {
        let status = state.withLock { state in
            state.journal.append((record, step, (try? JSONValue(parsing: result)) ?? .string("unreadable")))
            return state.journalStatus
        }
        later { self.send(kind: MP_EVENT_JOURNAL, op: op, token: token, status: status) }
        return MP_CALL_OK
    }

    func blob(_ id: UInt64) -> [UInt8]? { state.withLock { $0.blobs[id] } }

    /// Owner: the test, which waits for the operation that the event belongs to.
    func later(_ work: @escaping @Sendable () -> Void) { Task { work() } }

    private func deliver(_ answer: FakeAnswer, op: UInt64, token: UInt64) {
        switch answer {
        case .json(let status, let json, let headers):
            answered(status, json.bytes, [("content-type", "application/json")] + headers, op, token)
        case .bytes(let status, let bytes):
            answered(status, bytes, [("content-type", "application/json")], op, token)
        case .text(let status, let text, let headers): answered(status, Array(text.utf8), headers, op, token)
        case .blob(let status, let bytes):
            state.withLock { $0.blobs[token] = bytes }
            send(
                kind: MP_EVENT_HTTP, op: op, token: token, wire: MP_WIRE_ANSWERED, http: Int32(status),
                json: ["status": .int(Int64(status))], blob: UInt64(bytes.count))
        case .fails(let wire, let code):
            send(
                kind: MP_EVENT_HTTP, op: op, token: token, wire: wire.rawValue,
                json: ["status": 0, "error": ["code": .string(code), "message": .string(code)]])
        case .hangs, .refused: break
        }
    }

    private func answered(
        _ status: Int, _ body: [UInt8], _ headers: [(String, String)], _ op: UInt64, _ token: UInt64
    ) {
        let pairs = headers.map { JSONValue.array([.string($0.0), .string($0.1)]) }
        send(
            kind: MP_EVENT_HTTP, op: op, token: token, wire: MP_WIRE_ANSWERED, http: Int32(status),
            json: ["status": .int(Int64(status)), "headers": .array(pairs), "truncated": false], data: body)
    }

    func send(
        kind: Int32, op: UInt64, token: UInt64, status: Int32 = MP_CALL_OK, wire: Int32 = 0, http: Int32 = 0,
        json: JSONValue = [:], data: [UInt8] = [], blob: UInt64 = 0, jsonBytes: [UInt8]? = nil
    ) {
        guard let plugin = unsafe plugin else { return }
        let isSilent = services.withLock { services in
            guard services.silent.contains(kind) else { return false }
            services.swallowed += 1
            return true
        }
        if isSilent { return }
        unsafe call(jsonBytes ?? json.bytes) { json in
            unsafe call(data) { data in
                var event = unsafe mp_event()
                unsafe event.struct_size = UInt32(MemoryLayout<mp_event>.size)
                unsafe event.kind = kind
                unsafe event.token = token
                unsafe event.op = op
                unsafe event.status = status
                unsafe event.wire = wire
                unsafe event.http_status = http
                unsafe event.json = json
                unsafe event.data = data
                unsafe event.blob = blob > 0 ? token : 0
                unsafe event.blob_len = blob
                unsafe table.pointee.on_event(plugin, &event)
            }
        }
    }
}

func call<Result>(_ bytes: [UInt8], _ body: (mp_view) -> Result) -> Result {
    unsafe bytes.withUnsafeBufferPointer {
        unsafe body(mp_view(ptr: $0.baseAddress, len: UInt64($0.count)))
    }
}
