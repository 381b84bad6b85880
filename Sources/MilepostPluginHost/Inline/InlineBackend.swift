// SPDX-License-Identifier: Apache-2.0

internal import CMilepostABI
internal import CMilepostLinux
internal import MilepostModel
internal import Synchronization

/// A plugin loaded into the daemon itself: every instance has a thread of its own.
final class InlineBackend: PluginBackend {
    /// The plugin's table, copied; what an older plugin lacks is null. The functions live as long as the process,
    /// because a plugin is never unloaded, and C function pointers carry no state: sharing them is safe.
    struct Table: @unchecked Sendable {
        let functions: mp_plugin
    }

    private let plugin: LoadedPlugin
    private let table: Table
    private let state = Mutex<(isStopped: Bool, lastHang: String?)>((false, nil))

    private init(plugin: LoadedPlugin, table: Table) {
        self.plugin = plugin
        self.table = table
    }

    /// Loads on a thread of its own, because constructors and `describe` are foreign code. A load that does not come
    /// back is given up; its thread cannot be.
    static func load(_ plugin: LoadedPlugin, _ files: PluginFiles) async -> PluginLoadError? {
        let limit = plugin.core.configuration.loadBudget
        let clock = plugin.core.clock
        return await withCheckedContinuation { continuation in
            let once = Once(continuation)
            HostThread.start("mp-load") { once.resume(loadNow(plugin, files)) }
            // Owned by the load: ends with the sleep, and then has no effect if the load came back.
            Task {
                try? await clock.sleep(limit)  // a cancelled sleep only means an earlier look
                once.resume(
                    PluginLoadError(
                        code: .describeTooSlow, plugin: plugin.name, detail: "it did not come back from being loaded"))
            }
        }
    }

    private final class Once: Sendable {
        private let continuation: Mutex<CheckedContinuation<PluginLoadError?, Never>?>
        init(_ continuation: CheckedContinuation<PluginLoadError?, Never>) { self.continuation = Mutex(continuation) }
        func resume(_ error: PluginLoadError?) {
            let taken = continuation.withLock { current in
                defer { current = nil }
                return current
            }
            taken?.resume(returning: error)
        }
    }

    private static func loadNow(_ plugin: LoadedPlugin, _ files: PluginFiles) -> PluginLoadError? {
        do throws(PluginLoadError) {
            let (manifest, bytes) = try files.inspect()
            let functions = try openTable(plugin.name, files.library)
            var view = unsafe mp_view()
            let cpuBefore = milepost_thread_cpu_ns()
            let before = plugin.core.now
            unsafe functions.describe?(&view)
            let cpu = milepost_thread_cpu_ns() &- cpuBefore
            let wall = plugin.core.now &- before
            let verbs = verbMask(functions)
            let agreement = PluginAgreement(
                plugin: plugin.name, manifest: manifest, manifestBytes: bytes, described: unsafe view.copied ?? [],
                minHostMinor: functions.min_host_minor, verbs: verbs, describeCPU: cpu, describeWall: wall)
            if let error = agreement.firstProblem(budget: plugin.core.configuration.describeBudget) { return error }
            plugin.adopt(manifest: manifest, verbs: verbs)
            plugin.install(InlineBackend(plugin: plugin, table: Table(functions: functions)))
            return nil
        } catch {
            return error
        }
    }

    private static func openTable(_ name: PluginName, _ library: String) throws(PluginLoadError) -> mp_plugin {
        func refuse(_ code: PluginLoadError.Code, _ detail: String) -> PluginLoadError {
            PluginAgreement.refusal(code, plugin: name, detail: detail, library: library)
        }
        var message = [CChar](repeating: 0, count: 512)
        let handle = unsafe message.withUnsafeMutableBufferPointer { buffer in
            unsafe milepost_library_open(library, buffer.baseAddress, buffer.count)
        }
        guard let handle = unsafe handle else {
            let bytes = message.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
            throw refuse(.loadFailed, String(decoding: bytes, as: UTF8.self))
        }
        guard let symbol = unsafe milepost_library_symbol(handle, MP_ENTRY_NAME) else {
            throw refuse(.entryMissing, "")
        }
        let entry = unsafe unsafeBitCast(
            symbol,
            to: (@convention(c) (UnsafePointer<mp_host_info>?, UnsafeMutablePointer<Int32>?) -> UnsafePointer<
                mp_plugin
            >?)
            .self)
        var status: Int32 = 0
        let version = Array("milepost".utf8)
        let table = unsafe version.withView { view in
            var info = unsafe mp_host_info(
                struct_size: UInt32(MemoryLayout<mp_host_info>.size), abi_minor: hostABIMinor,
                isolation: MP_ISOLATION_INLINE, schema_revision: MP_SCHEMA_REVISION, host_version: view)
            return unsafe entry(&info, &status)
        }
        guard let table = unsafe table else {
            throw refuse(
                status == MP_CONFIG ? .loadFailed : .hostTooOld, "the entry refused this host with status \(status)")
        }
        let size = unsafe table.pointee.struct_size
        guard size >= MP_PLUGIN_SIZE_1_0 else {
            throw refuse(.loadFailed, "its table has \(size) bytes, fewer than the \(MP_PLUGIN_SIZE_1_0) of ABI 1.0")
        }
        var copy = mp_plugin()
        unsafe withUnsafeMutableBytes(of: &copy) { bytes in
            unsafe bytes.copyMemory(
                from: UnsafeRawBufferPointer(start: table, count: min(Int(size), MemoryLayout<mp_plugin>.size)))
        }
        guard copy.min_host_minor <= hostABIMinor else {
            throw refuse(.hostTooOld, "it needs ABI 1.\(copy.min_host_minor), this host offers 1.\(hostABIMinor)")
        }
        guard unsafe copy.describe != nil, unsafe copy.create != nil, unsafe copy.destroy != nil,
            unsafe copy.on_event != nil, unsafe copy.ping != nil, unsafe copy.shutdown != nil
        else {
            throw refuse(
                .loadFailed, "describe, create, destroy, on_event, ping or shutdown is missing in its table")
        }
        return copy
    }

    private static func verbMask(_ table: mp_plugin) -> UInt64 {
        PluginVerb.allCases.reduce(0) { mask, verb in
            unsafe table.function(verb) == nil ? mask : mask | 1 << UInt64(verb.rawValue)
        }
    }

    // MARK: PluginBackend

    func transport(until deadline: UInt64) async -> Result<any PluginTransport, Unavailable> {
        if state.withLock({ $0.isStopped }) {
            return .failure(Unavailable(code: "plugin_closed", message: "the daemon is stopping"))
        }
        return .success(
            InlineTransport(core: plugin.core, table: table) { [self] reason in
                state.withLock { $0.lastHang = reason }
                plugin.core.services.metric(.host(plugin: plugin.name, event: "quarantine", code: "inline"))
                plugin.announce(
                    4, "\(reason); inline it cannot be ended, so the connection is quarantined: restart the daemon")
            })
    }

    func tick(now: UInt64) {}

    func health() -> BackendHealth {
        let hang = state.withLock { $0.lastHang }
        var health = BackendHealth(state: hang == nil ? .loaded : .quarantined, reason: hang)
        health.lastCrash = hang
        return health
    }

    func stop() { state.withLock { $0.isStopped = true } }
}

extension mp_plugin {
    typealias VerbFunction = @convention(c) (UnsafeMutableRawPointer?, UnsafePointer<mp_op>?) -> Int32

    func function(_ verb: PluginVerb) -> VerbFunction? {
        switch verb {
        case .configure: unsafe configure
        case .connect: unsafe connect
        case .provision: unsafe provision
        case .deprovision: unsafe deprovision
        case .query: unsafe query
        case .options: unsafe options
        case .catalog: unsafe catalog
        case .deliver: unsafe deliver
        case .reconcile: unsafe reconcile
        case .intercept: unsafe intercept
        case .webhook: unsafe webhook
        case .pull: unsafe pull
        case .ping: unsafe ping
        case .shutdown: unsafe shutdown
        }
    }
}

extension mp_view {
    /// The receiver copies; nil when absent.
    var copied: [UInt8]? {
        guard let start = unsafe ptr else { return nil }
        return unsafe Array(UnsafeBufferPointer(start: start, count: Int(clamping: len)))
    }
}

extension Array where Element == UInt8 {
    /// Lends the bytes for one call. An empty array is empty, not absent.
    func withView<Value>(_ body: (mp_view) -> Value) -> Value {
        unsafe withUnsafeBufferPointer { buffer in
            unsafe body(mp_view(ptr: buffer.baseAddress ?? emptyBytes, len: UInt64(buffer.count)))
        }
    }
}

/// Somewhere to point for an empty view: one byte for the life of the process, never written after this.
nonisolated(unsafe) private let emptyBytes: UnsafePointer<UInt8> = {
    let byte = UnsafeMutablePointer<UInt8>.allocate(capacity: 1)
    unsafe byte.initialize(to: 0)
    return unsafe UnsafePointer(byte)
}()
