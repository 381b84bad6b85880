// SPDX-License-Identifier: Apache-2.0

public import CMilepostPlugin
import Synchronization

/// Makes the table that the exported function returns.
public enum PluginEntry {
    /// The plugin's type. One for each shared object: `create` is a C function and cannot carry a type of its own.
    static let registered = Mutex<(any Plugin.Type)?>(nil)

    /// The whole of a plugin's entry. Cheap, does no I/O, may be called again.
    /// - Parameter minimumHostMinor: the oldest host minor that the plugin works with.
    /// - Returns: null, with `ret_status` set, when this host will not do.
    public static func table(
        of plugin: any Plugin.Type, _ info: UnsafePointer<mp_host_info>?,
        _ ret_status: UnsafeMutablePointer<Int32>?, minimumHostMinor: UInt32 = 0
    ) -> UnsafePointer<mp_plugin>? {
        let zero = unsafe mp_host_info()
        guard
            let info = unsafe sizedCopy(of: info, minimum: MemoryLayout<mp_host_info>.size, zero: zero)
        else {
            unsafe ret_status?.pointee = MP_CONFIG
            return nil
        }
        guard unsafe info.abi_minor >= minimumHostMinor else {
            unsafe ret_status?.pointee = MP_UNSUPPORTED
            return nil
        }
        registered.withLock { $0 = plugin }
        return unsafe Tables.shared.table(of: plugin, minimumHostMinor: minimumHostMinor)
    }
}

/// Tables and manifests live as long as the process, as the contract asks: they are allocated once and never freed.
///
/// `@unchecked Sendable`: pointers to memory that is written before it is published under the lock, and never after.
@safe final class Tables: @unchecked Sendable {
    static let shared = Tables()
    private let made = Mutex<[ObjectIdentifier: Made]>([:])

    @safe struct Made: @unchecked Sendable {
        let table: UnsafePointer<mp_plugin>
        let manifest: UnsafeBufferPointer<UInt8>
        let metrics: MetricNames
    }

    func table(of plugin: any Plugin.Type, minimumHostMinor: UInt32) -> UnsafePointer<mp_plugin> {
        unsafe made.withLock { made in
            if let known = made[ObjectIdentifier(plugin)] { return unsafe known.table }
            let manifest = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: max(1, plugin.manifest.count))
            _ = unsafe manifest.initialize(from: plugin.manifest)
            let table = UnsafeMutablePointer<mp_plugin>.allocate(capacity: 1)
            unsafe table.initialize(to: verbs(of: plugin, minimumHostMinor: minimumHostMinor))
            let known = unsafe Made(
                table: UnsafePointer(table),
                manifest: UnsafeBufferPointer(rebasing: UnsafeBufferPointer(manifest)[..<plugin.manifest.count]),
                metrics: MetricNames(manifest: plugin.manifest))
            made[ObjectIdentifier(plugin)] = known
            return unsafe known.table
        }
    }

    func metrics(of plugin: any Plugin.Type) -> MetricNames {
        made.withLock { $0[ObjectIdentifier(plugin)]?.metrics } ?? MetricNames(manifest: [])
    }

    func manifest(of plugin: any Plugin.Type) -> mp_view {
        unsafe made.withLock { made in
            guard let known = made[ObjectIdentifier(plugin)] else { return .absent }
            return unsafe mp_view(ptr: known.manifest.baseAddress, len: UInt64(known.manifest.count))
        }
    }
}

/// The table of a type: a verb whose protocol the type lacks stays null.
private func verbs(of plugin: any Plugin.Type, minimumHostMinor: UInt32) -> mp_plugin {
    var table = mp_plugin()
    table.struct_size = UInt32(MemoryLayout<mp_plugin>.size)
    table.abi_minor = UInt32(MP_ABI_MINOR)
    table.min_host_minor = minimumHostMinor
    unsafe table.describe = unsafe describeThunk
    unsafe table.create = unsafe createThunk
    unsafe table.destroy = unsafe destroyThunk
    unsafe table.ping = unsafe pingThunk
    unsafe table.shutdown = unsafe shutdownThunk
    unsafe table.cancel = unsafe cancelThunk
    unsafe table.on_event = unsafe eventThunk
    if plugin is any Configuring.Type { unsafe table.configure = unsafe configureThunk }
    if plugin is any Connecting.Type { unsafe table.connect = unsafe connectThunk }
    if plugin is any Provisioning.Type {
        unsafe table.provision = unsafe provisionThunk
        unsafe table.deprovision = unsafe deprovisionThunk
    }
    if plugin is any Querying.Type { unsafe table.query = unsafe queryThunk }
    if plugin is any Choosing.Type { unsafe table.options = unsafe optionsThunk }
    if plugin is any Cataloguing.Type { unsafe table.catalog = unsafe catalogThunk }
    if plugin is any Delivering.Type { unsafe table.deliver = unsafe deliverThunk }
    if plugin is any Reconciling.Type { unsafe table.reconcile = unsafe reconcileThunk }
    if plugin is any Intercepting.Type { unsafe table.intercept = unsafe interceptThunk }
    if plugin is any WebhookReceiving.Type { unsafe table.webhook = unsafe webhookThunk }
    if plugin is any Pulling.Type { unsafe table.pull = unsafe pullThunk }
    return table
}
