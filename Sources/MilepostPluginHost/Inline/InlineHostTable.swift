// SPDX-License-Identifier: Apache-2.0

internal import CMilepostABI
internal import CMilepostLinux

/// The host table of inline plugins: C functions that find their instance by id, copy what they are given, and hand it
/// to the same code that serves workers.
///
/// Written once before any plugin sees it, read only afterwards, alive as long as the process.
@safe struct InlineHostTable: @unchecked Sendable {
    static let shared = InlineHostTable()
    /// The header promises plugins one address for the life of the process, so this is never freed.
    let table: UnsafePointer<mp_host>

    private init() {
        var table = mp_host()
        table.struct_size = UInt32(MemoryLayout<mp_host>.size)
        table.abi_minor = hostABIMinor
        Self.fillOperations(&table)
        Self.fillServices(&table)
        Self.fillFacts(&table)
        let place = UnsafeMutablePointer<mp_host>.allocate(capacity: 1)
        unsafe place.initialize(to: table)
        unsafe self.table = UnsafePointer(place)
    }

    private static func fillOperations(_ table: inout mp_host) {
        unsafe table.op_complete = { id, operation, status, result in
            guard let transport = InlineRegistry.transport(id), let instance = transport.instance else { return stale }
            let answer = instance.complete(operation, status: status, body: unsafe result.copied ?? [])
            transport.dropBlobs(of: operation)
            return answer
        }
        unsafe table.op_partial = { id, operation, result in
            guard let instance = InlineRegistry.transport(id)?.instance else { return stale }
            return instance.partial(operation, body: unsafe result.copied ?? [])
        }
        unsafe table.http_submit = { id, request in
            guard let transport = InlineRegistry.transport(id), let instance = transport.instance else { return stale }
            guard let request = unsafe request, unsafe request.pointee.struct_size >= 8 else {
                return PluginCallStatus.invalid
            }
            var copy = unsafe mp_http_request()
            unsafe withUnsafeMutableBytes(of: &copy) { bytes in
                let size = unsafe min(Int(request.pointee.struct_size), MemoryLayout<mp_http_request>.size)
                unsafe bytes.copyMemory(from: UnsafeRawBufferPointer(start: request, count: size))
            }
            guard let draft = unsafe PluginInstance.HTTPDraft(copy) else { return PluginCallStatus.tooLarge }
            return instance.submit(draft, from: transport.attachment)
        }
        table.http_cancel = { id, token in
            InlineRegistry.transport(id)?.instance?.cancelHTTP(token: token) ?? stale
        }
        unsafe table.journal_put = { id, operation, token, record, step, result in
            guard let transport = InlineRegistry.transport(id), let instance = transport.instance else { return stale }
            return instance.putJournal(
                operation, token: token, record: record, step: unsafe step.copied ?? [],
                result: unsafe result.copied ?? [], from: transport.attachment)
        }
    }

    private static func fillServices(_ table: inout mp_host) {
        table.log_enabled = { id, level in
            guard let instance = InlineRegistry.transport(id)?.instance else { return 0 }
            return level >= instance.core.logLevel ? 1 : 0
        }
        unsafe table.log = { id, operation, level, message, fields in
            InlineRegistry.transport(id)?.instance?.log(
                level, operation: operation, message: unsafe message.copied ?? [], fields: unsafe fields.copied)
        }
        unsafe table.metric_add = { id, metric, value, labels, count in
            guard let instance = InlineRegistry.transport(id)?.instance else { return stale }
            guard let list = unsafe copyLabels(labels, count) else { return PluginCallStatus.invalid }
            return instance.metric(isObservation: false, index: metric, value: value, labels: list)
        }
        unsafe table.metric_observe = { id, metric, value, labels, count in
            guard let instance = InlineRegistry.transport(id)?.instance else { return stale }
            guard let list = unsafe copyLabels(labels, count) else { return PluginCallStatus.invalid }
            return instance.metric(isObservation: true, index: metric, value: value, labels: list)
        }
        unsafe table.kv_get = { id, token, key in
            keyValue(id, token, .get(key: unsafe key.copied ?? []))
        }
        unsafe table.kv_put = { id, token, key, value, version, life in
            let timeToLive: Duration? = life == 0 ? nil : .milliseconds(Int64(clamping: life))
            return keyValue(
                id, token,
                .put(
                    key: unsafe key.copied ?? [], value: unsafe value.copied ?? [], version: version,
                    timeToLive: timeToLive))
        }
        unsafe table.kv_delete = { id, token, key, version in
            keyValue(id, token, .delete(key: unsafe key.copied ?? [], version: version))
        }
        unsafe table.kv_list = { id, token, prefix in
            keyValue(id, token, .list(prefix: unsafe prefix.copied ?? []))
        }
        table.timer_set = { id, token, delay in
            guard let transport = InlineRegistry.transport(id), let instance = transport.instance else { return stale }
            return instance.setTimer(token: token, delayMilliseconds: delay, from: transport.attachment)
        }
        table.timer_clear = { id, token in
            InlineRegistry.transport(id)?.instance?.clearTimer(token: token) ?? stale
        }
        unsafe table.cred_reject = { id, operation, credential, reason in
            InlineRegistry.transport(id)?.instance?.rejectCredential(
                unsafe credential.copied ?? [], reason: unsafe reason.copied ?? [], operation: operation) ?? stale
        }
        unsafe table.sign = { id, token, credential, scheme, bytes in
            guard let transport = InlineRegistry.transport(id), let instance = transport.instance else { return stale }
            return instance.sign(
                unsafe credential.copied ?? [], scheme: unsafe scheme.copied ?? [], bytes: unsafe bytes.copied ?? [],
                token: token, from: transport.attachment)
        }
    }

    private static func fillFacts(_ table: inout mp_host) {
        unsafe table.now = { id, time in
            guard let instance = InlineRegistry.transport(id)?.instance else { return stale }
            guard let time = unsafe time, unsafe time.pointee.struct_size >= 8 else { return PluginCallStatus.invalid }
            let size = unsafe time.pointee.struct_size
            var value = mp_time(
                struct_size: size, reserved: 0, wall_ns: instance.core.clock.wallNanoseconds(),
                monotonic_ns: instance.core.now)
            unsafe withUnsafeBytes(of: &value) { bytes in
                unsafe UnsafeMutableRawPointer(time).copyMemory(
                    from: bytes.baseAddress!, byteCount: min(Int(size), bytes.count))
            }
            return PluginCallStatus.ok
        }
        unsafe table.random = { id, bytes, length in
            guard InlineRegistry.transport(id) != nil else { return stale }
            guard let bytes = unsafe bytes, length <= 1 << 20 else { return PluginCallStatus.invalid }
            return unsafe milepost_random(bytes, Int(length)) == 0
                ? PluginCallStatus.ok : PluginCallStatus.unsupported
        }
        unsafe table.cred_info = { id, credential, json, capacity, length in
            guard let transport = InlineRegistry.transport(id) else { return stale }
            let name = String(decoding: unsafe credential.copied ?? [], as: UTF8.self)
            guard let facts = transport.facts(name) else { return PluginCallStatus.notFound }
            unsafe copy(facts, from: 0, to: json, capacity)
            unsafe length?.pointee = UInt64(facts.count)
            return PluginCallStatus.ok
        }
        unsafe table.blob_read = { id, blob, offset, bytes, capacity, length in
            guard let data = InlineRegistry.transport(id)?.blob(blob) else { return stale }
            let count = unsafe copy(data, from: offset, to: bytes, capacity)
            unsafe length?.pointee = UInt64(count)
            return PluginCallStatus.ok
        }
        unsafe table.get_extension = { _, _ in nil }
    }
}

// Free functions, because a C function pointer cannot carry even a type.

private let stale: Int32 = PluginCallStatus.stale

private func keyValue(_ id: UInt64, _ token: UInt64, _ request: KeyValueRequest) -> Int32 {
    guard let transport = InlineRegistry.transport(id), let instance = transport.instance else { return stale }
    return instance.keyValue(request, token: token, from: transport.attachment)
}

private func copyLabels(_ labels: UnsafePointer<UInt32>?, _ count: UInt64) -> [UInt32]? {
    if count == 0 { return [] }
    guard let labels = unsafe labels, count <= 16 else { return nil }
    return unsafe Array(UnsafeBufferPointer(start: labels, count: Int(count)))
}

@discardableResult
private func copy(
    _ bytes: [UInt8], from offset: UInt64, to target: UnsafeMutablePointer<UInt8>?, _ capacity: UInt64
) -> Int {
    guard let target = unsafe target, offset < UInt64(bytes.count) else { return 0 }
    let count = min(bytes.count - Int(offset), Int(clamping: capacity))
    unsafe bytes.withUnsafeBufferPointer { source in
        unsafe target.update(from: source.baseAddress! + Int(offset), count: count)
    }
    return count
}

extension PluginInstance.HTTPDraft {
    /// Nil when a count is past its limit, or says that there is something where nothing is.
    init?(_ request: mp_http_request) {
        guard unsafe request.header_count <= 64, unsafe request.record_count <= 10_000 else { return nil }
        self.init()
        operation = unsafe request.op
        token = unsafe request.token
        flags = unsafe request.flags
        method = unsafe request.method.copied ?? []
        url = unsafe request.url.copied ?? []
        body = unsafe request.body.copied ?? []
        credential = unsafe request.credential.copied
        placement = unsafe request.placement.copied
        step = unsafe request.step.copied
        bucket = unsafe request.bucket.copied
        responseCap = unsafe request.response_cap
        timeoutMilliseconds = unsafe request.timeout_ms
        cost = unsafe request.cost
        if unsafe request.header_count > 0 {
            guard let pairs = unsafe request.headers else { return nil }
            for index in 0..<Int(unsafe request.header_count) {
                headers.append((unsafe pairs[index].name.copied ?? [], unsafe pairs[index].value.copied ?? []))
            }
        }
        if unsafe request.record_count > 0 {
            guard let indexes = unsafe request.records else { return nil }
            records = unsafe Array(UnsafeBufferPointer(start: indexes, count: Int(request.record_count)))
        }
    }
}
