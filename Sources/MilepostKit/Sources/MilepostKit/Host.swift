// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin

/// The host's table as this instance sees it: a copy that is never longer than both sides know.
///
/// `@unchecked Sendable`: a table of C functions that the contract allows to be called from any thread; it is written
/// once, before anybody else sees it. The fake host's threaded tests would notice a race.
@safe final class Host: @unchecked Sendable {
    let table: mp_host
    let instance: UInt64

    init?(_ pointer: UnsafePointer<mp_host>?, instance: UInt64) {
        guard let table = sizedCopy(of: pointer, minimum: Int(MP_HOST_SIZE_1_0), zero: mp_host()) else {
            return nil
        }
        self.table = table
        self.instance = instance
    }

    func complete(_ op: UInt64, status: Int32, body: [UInt8]) {
        guard let call = unsafe table.op_complete else { return }
        _ = unsafe withView(body) { unsafe call(instance, op, status, $0) }
    }

    func partial(_ op: UInt64, body: [UInt8]) {
        guard let call = unsafe table.op_partial else { return }
        _ = unsafe withView(body) { unsafe call(instance, op, $0) }
    }

    func cancelHTTP(_ token: UInt64) {
        guard let call = table.http_cancel else { return }
        _ = call(instance, token)
    }

    func journal(_ op: UInt64, token: UInt64, record: UInt32, step: String, result: [UInt8]) -> Int32 {
        guard let call = unsafe table.journal_put else { return MP_CALL_UNSUPPORTED }
        return unsafe withView(step) { step in
            unsafe withView(result) { unsafe call(instance, op, token, record, step, $0) }
        }
    }

    func logEnabled(_ level: Int32) -> Bool {
        guard let call = table.log_enabled else { return false }
        return call(instance, level) != 0
    }

    func log(_ op: UInt64, level: Int32, message: String, fields: [UInt8]?) {
        guard let call = unsafe table.log else { return }
        unsafe withView(message) { message in
            if let fields {
                unsafe withView(fields) { unsafe call(instance, op, level, message, $0) }
            } else {
                unsafe call(instance, op, level, message, .absent)
            }
        }
    }

    func metric(_ index: UInt32, add value: Int64, labels: [UInt32]) {
        guard let call = unsafe table.metric_add else { return }
        unsafe labels.withUnsafeBufferPointer { buffer in
            _ = unsafe call(instance, index, value, buffer.baseAddress, UInt64(buffer.count))
        }
    }

    func metric(_ index: UInt32, observe value: Int64, labels: [UInt32]) {
        guard let call = unsafe table.metric_observe else { return }
        unsafe labels.withUnsafeBufferPointer { buffer in
            _ = unsafe call(instance, index, value, buffer.baseAddress, UInt64(buffer.count))
        }
    }

    /// Both clocks in nanoseconds; nil when the host offers none.
    func now() -> (wall: UInt64, monotonic: UInt64)? {
        guard let call = unsafe table.now else { return nil }
        var time = mp_time()
        time.struct_size = UInt32(MemoryLayout<mp_time>.size)
        guard unsafe call(instance, &time) == MP_CALL_OK else { return nil }
        return (time.wall_ns, time.monotonic_ns)
    }

    func random(_ count: Int) -> [UInt8]? {
        guard let call = unsafe table.random else { return nil }
        var bytes = [UInt8](repeating: 0, count: count)
        let status = unsafe bytes.withUnsafeMutableBufferPointer { buffer in
            unsafe call(instance, buffer.baseAddress, UInt64(buffer.count))
        }
        return status == MP_CALL_OK ? bytes : nil
    }

    func rejectCredential(_ op: UInt64, credential: String, reason: String) {
        guard let call = unsafe table.cred_reject else { return }
        unsafe withView(credential) { credential in
            _ = unsafe withView(reason) { unsafe call(instance, op, credential, $0) }
        }
    }

    /// Public facts of a credential as JSON bytes; nil when the host has none.
    func credentialFacts(_ credential: String) -> [UInt8]? {
        guard let call = unsafe table.cred_info else { return nil }
        // 64 KiB is far past any credential's facts; a host that claims more is not asked again.
        var bytes = [UInt8](repeating: 0, count: 65_536)
        var length: UInt64 = 0
        let status = unsafe withView(credential) { view in
            unsafe bytes.withUnsafeMutableBufferPointer { buffer in
                unsafe call(instance, view, buffer.baseAddress, UInt64(buffer.count), &length)
            }
        }
        guard status == MP_CALL_OK, length <= UInt64(bytes.count) else { return nil }
        return Array(bytes.prefix(Int(length)))
    }

    /// The whole of a large body, at most `cap` bytes.
    func blob(_ blob: UInt64, length: UInt64, cap: Int) -> [UInt8]? {
        guard let call = unsafe table.blob_read else { return nil }
        guard let wanted = Int(exactly: min(length, UInt64(cap))) else { return nil }
        var bytes = [UInt8](repeating: 0, count: wanted)
        var offset = 0
        while offset < wanted {
            var copied: UInt64 = 0
            let status = unsafe bytes.withUnsafeMutableBufferPointer { buffer in
                unsafe call(
                    instance, blob, UInt64(offset), buffer.baseAddress.map { unsafe $0 + offset },
                    UInt64(wanted - offset), &copied)
            }
            guard status == MP_CALL_OK, copied <= UInt64(wanted - offset) else { return nil }
            if copied == 0 { break }
            offset += Int(copied)
        }
        return Array(bytes.prefix(offset))
    }

    func submit(_ request: HTTPRequest, op: UInt64, token: UInt64, records: [UInt32]) -> Int32 {
        guard let call = unsafe table.http_submit else { return MP_CALL_UNSUPPORTED }
        let arena = ViewArena()
        let headers = unsafe request.headers.map { header in
            unsafe mp_pair(name: arena.view(header.name), value: arena.view(header.value))
        }
        return unsafe headers.withUnsafeBufferPointer { headers in
            unsafe records.withUnsafeBufferPointer { records in
                var wire = unsafe mp_http_request()
                unsafe wire.struct_size = UInt32(MemoryLayout<mp_http_request>.size)
                unsafe wire.flags = request.flags
                unsafe wire.op = op
                unsafe wire.token = token
                unsafe wire.method = arena.view(request.method)
                unsafe wire.url = arena.view(request.url)
                unsafe wire.headers = headers.baseAddress
                unsafe wire.header_count = UInt64(headers.count)
                unsafe wire.body = arena.view(request.body)
                unsafe wire.credential = arena.view(request.credential)
                unsafe wire.placement = arena.view(request.placement)
                unsafe wire.step = arena.view(request.step)
                unsafe wire.records = records.baseAddress
                unsafe wire.record_count = UInt64(records.count)
                unsafe wire.response_cap = UInt64(max(0, request.responseCap))
                unsafe wire.timeout_ms = request.timeoutMilliseconds
                unsafe wire.cost = request.cost
                unsafe wire.bucket = arena.view(request.bucket)
                return withExtendedLifetime(arena) { unsafe call(instance, &wire) }
            }
        }
    }
}

extension HTTPRequest {
    var flags: UInt32 {
        (step == nil ? UInt32(MP_HTTP_IDEMPOTENT) : 0) | (followsRedirects ? UInt32(MP_HTTP_FOLLOW_REDIRECTS) : 0)
    }
    var timeoutMilliseconds: UInt32 {
        timeout.map { UInt32(clamping: $0.milliseconds) } ?? 0
    }
}
