// SPDX-License-Identifier: Apache-2.0

internal import CMilepostABI
internal import CMilepostLinux
internal import Synchronization

/// One instance inside the daemon: a queue and the thread that works it off, so that calls never overlap.
final class InlineTransport: PluginTransport {
    private enum Job: Sendable {
        case create([UInt8])
        case operation(OperationStart)
        case cancel(UInt64)
        case event(PluginEvent)
        case destroy
    }

    private struct State {
        var jobs: [Job] = []
        var instance: PluginInstance?
        var id: UInt64 = 0
        var facts: [String: [UInt8]] = [:]
        var blobs: [UInt64: (operation: UInt64, bytes: [UInt8])] = [:]
        var isOver = false
    }

    /// A semaphore for one consumer; destroyed with the transport, which the thread keeps alive.
    @safe private struct Signal: ~Copyable, @unchecked Sendable {
        // sem_t is made to be used from many threads; the pointer never changes.
        private let raw: OpaquePointer
        init() {
            guard let raw = unsafe milepost_semaphore_create() else { preconditionFailure("no memory for a semaphore") }
            unsafe self.raw = raw
        }
        borrowing func send() { unsafe milepost_semaphore_signal(raw) }
        borrowing func wait() { unsafe milepost_semaphore_wait(raw) }
        deinit { unsafe milepost_semaphore_destroy(raw) }
    }

    private let core: HostCore
    private let table: InlineBackend.Table
    private let onHang: @Sendable (String) -> Void
    private let state = Mutex(State())
    private let signal = Signal()

    init(core: HostCore, table: InlineBackend.Table, onHang: @escaping @Sendable (String) -> Void) {
        self.core = core
        self.table = table
        self.onHang = onHang
    }

    // MARK: PluginTransport

    func attach(_ instance: PluginInstance, id: UInt64, config: [UInt8], credentials: [(name: String, facts: [UInt8])])
    {
        state.withLock { state in
            state.instance = instance
            state.id = id
            for credential in credentials { state.facts[credential.name] = credential.facts }
        }
        InlineRegistry.insert(self, id: id)
        enqueue(.create(config))
        // Ends after `destroy`; a plugin that never returns keeps it, which is what inline means.
        HostThread.start("mp-inline-\(id % 1_000_000)") { [self] in work(id: id) }
    }

    func start(_ operation: OperationStart, instance: UInt64) -> Bool { enqueue(.operation(operation)) }
    func cancel(operation: UInt64, instance: UInt64) { enqueue(.cancel(operation)) }
    func deliver(_ event: PluginEvent, instance: UInt64) { enqueue(.event(event)) }
    func destroy(instance: UInt64) { enqueue(.destroy) }
    func update(credential: String, facts: [UInt8], instance: UInt64) {
        state.withLock { $0.facts[credential] = facts }
    }

    func condemn(_ reason: String, instance: UInt64) {
        let target = state.withLock { state in
            state.isOver = true
            return state.instance
        }
        InlineRegistry.remove(instance)
        onHang(reason)
        target?.condemned(reason)
    }

    @discardableResult
    private func enqueue(_ job: Job) -> Bool {
        let (isQueued, isFirst) = state.withLock { state in
            guard !state.isOver else { return (false, false) }
            state.jobs.append(job)
            return (true, state.jobs.count == 1)
        }
        if isFirst { signal.send() }  // the thread takes the whole queue at once
        return isQueued
    }

    // MARK: The thread

    private func work(id: UInt64) {
        var pointer: UnsafeMutableRawPointer?
        var isCreated = false
        while true {
            signal.wait()
            let jobs = state.withLock { state in
                defer { state.jobs = [] }
                return state.jobs
            }
            // When the last call returned, where another follows at once: reading the clock is a fiftieth of an operation.
            var returned: UInt64?
            for job in jobs {
                let began = returned
                returned = nil
                switch job {
                case .create(let config):
                    let status = unsafe config.withView { view in
                        unsafe table.functions.create(InlineHostTable.shared.table, id, view, &pointer)
                    }
                    isCreated = status == MP_OK
                    state.withLock { $0.instance }?.created(id, status: status)
                case .operation(let start): returned = unsafe run(start, pointer, isCreated, began: began ?? core.now)
                case .cancel(let operation): if isCreated { unsafe table.functions.cancel?(pointer, operation) }
                case .event(let event): if isCreated { unsafe run(event, pointer) }
                case .destroy:
                    InlineRegistry.remove(id)
                    state.withLock { $0.isOver = true }
                    if isCreated { unsafe table.functions.destroy(pointer) }
                    state.withLock { $0.instance = nil }
                    return
                }
            }
        }
    }

    /// - Returns: when the plugin's function came back.
    private func run(
        _ start: OperationStart, _ pointer: UnsafeMutableRawPointer?, _ isCreated: Bool, began: UInt64
    ) -> UInt64 {
        guard let function = unsafe table.functions.function(start.verb), isCreated else {
            state.withLock { $0.instance }?.notAccepted(start.id, status: MP_UNSUPPORTED)
            return began
        }
        let status = unsafe start.body.withView { view in
            var op = unsafe mp_op(
                struct_size: UInt32(MemoryLayout<mp_op>.size), verb: start.verb.rawValue, id: start.id,
                deadline_ns: start.deadline, attempt: start.attempt, flags: 0, body: view)
            return unsafe function(pointer, &op)
        }
        let returned = core.now
        if returned &- began > core.configuration.verbBudget.nanoseconds, let instance {
            core.services.metric(.host(plugin: instance.plugin, event: "slow_call", code: "\(start.verb)"))
        }
        if status != MP_OK { instance?.notAccepted(start.id, status: status) }
        return returned
    }

    private func run(_ event: PluginEvent, _ pointer: UnsafeMutableRawPointer?) {
        let json = event.json
        var data = event.data
        var blob: UInt64 = 0
        var blobLength: UInt64 = 0
        if let bytes = data, bytes.count > Int(MILEPOST_BLOB_THRESHOLD) {
            blob = core.makeID()
            blobLength = UInt64(bytes.count)
            state.withLock { $0.blobs[blob] = (event.operation, bytes) }
            data = nil
        }
        unsafe (json ?? []).withView { jsonView in
            unsafe (data ?? []).withView { dataView in
                let absent = unsafe mp_view(ptr: nil, len: 0)
                var raw = unsafe mp_event(
                    struct_size: UInt32(MemoryLayout<mp_event>.size), kind: event.kind.rawValue, token: event.token,
                    op: event.operation, status: event.status, wire: event.wire, http_status: event.httpStatus,
                    reserved: 0, json: json == nil ? absent : jsonView, data: data == nil ? absent : dataView,
                    blob: blob, blob_len: blobLength)
                unsafe table.functions.on_event(pointer, &raw)
            }
        }
        if blob != 0, instance?.hasOperation(event.operation) != true { dropBlobs(of: event.operation) }
    }

    // MARK: For the host table

    var instance: PluginInstance? { state.withLock { $0.instance } }
    var attachment: Attachment { Attachment(transport: self, id: state.withLock { $0.id }) }
    func facts(_ name: String) -> [UInt8]? { state.withLock { $0.facts[name] } }
    func blob(_ id: UInt64) -> [UInt8]? { state.withLock { $0.blobs[id]?.bytes } }
    func dropBlobs(of operation: UInt64) {
        state.withLock { state in
            if !state.blobs.isEmpty { state.blobs = state.blobs.filter { $0.value.operation != operation } }
        }
    }
}

extension PluginInstance {
    func hasOperation(_ operation: UInt64) -> Bool { state.withLock { $0.operations[operation] != nil } }
}

/// From instance id to transport, for C callbacks that carry nothing else. Ids are never used twice in a
/// process (`HostCore.makeID`), so a stale one finds nothing.
enum InlineRegistry {
    private static let transports = Mutex<[UInt64: InlineTransport]>([:])

    static func insert(_ transport: InlineTransport, id: UInt64) { transports.withLock { $0[id] = transport } }
    static func remove(_ id: UInt64) { _ = transports.withLock { $0.removeValue(forKey: id) } }
    static func transport(_ id: UInt64) -> InlineTransport? { transports.withLock { $0[id] } }
}
