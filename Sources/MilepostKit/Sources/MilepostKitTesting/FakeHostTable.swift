// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin
import MilepostKit
import Synchronization

/// The living fake hosts by instance id: the table's C functions carry nothing else.
final class FakeHosts: Sendable {
    static let shared = FakeHosts()
    private let hosts = Mutex<(next: UInt64, living: [UInt64: FakeHost])>((100, [:]))

    func reserve() -> UInt64 {
        hosts.withLock { hosts in
            hosts.next += 1
            return hosts.next
        }
    }
    func put(_ host: FakeHost, at id: UInt64) { hosts.withLock { $0.living[id] = host } }
    func remove(_ id: UInt64) { hosts.withLock { $0.living[id] = nil } }
    subscript(id: UInt64) -> FakeHost? { hosts.withLock { $0.living[id] } }
}

func copied(_ view: mp_view) -> [UInt8]? {
    guard let ptr = unsafe view.ptr else { return nil }
    return unsafe [UInt8](UnsafeBufferPointer(start: ptr, count: Int(view.len)))
}

func text(_ view: mp_view) -> String? { unsafe copied(view).map { String(decoding: $0, as: UTF8.self) } }

/// A table for the life of the process, as the contract promises it.
func makeHostTable(size: UInt32) -> UnsafeMutablePointer<mp_host> {
    var host = mp_host()
    host.struct_size = size
    unsafe host.op_complete = { instance, op, status, result in
        FakeHosts.shared[instance]?.complete(op, status, unsafe copied(result) ?? [])
        return MP_CALL_OK
    }
    unsafe host.op_partial = { instance, _, result in
        FakeHosts.shared[instance]?.partial(unsafe copied(result) ?? [])
        return MP_CALL_OK
    }
    unsafe host.http_submit = { instance, request in
        guard let host = FakeHosts.shared[instance], let request = unsafe request?.pointee else { return MP_CALL_STALE }
        return unsafe host.submit(sentRequest(request), op: request.op, token: request.token)
    }
    host.http_cancel = { instance, token in
        FakeHosts.shared[instance]?.cancelHTTP(token)
        return MP_CALL_OK
    }
    unsafe host.journal_put = { instance, op, token, record, step, result in
        guard let host = FakeHosts.shared[instance] else { return MP_CALL_STALE }
        return host.journal(
            record, unsafe text(step) ?? "", unsafe copied(result) ?? [], op: op, token: token)
    }
    unsafe host.now = { instance, time in
        guard let clock = FakeHosts.shared[instance]?.clock else { return MP_CALL_STALE }
        unsafe time?.pointee.wall_ns = clock
        unsafe time?.pointee.monotonic_ns = clock
        return MP_CALL_OK
    }
    unsafe host.cred_reject = { instance, _, credential, _ in
        FakeHosts.shared[instance]?.reject(unsafe text(credential) ?? "")
        return MP_CALL_OK
    }
    unsafe host.blob_read = { instance, blob, offset, bytes, capacity, length in
        guard let body = FakeHosts.shared[instance]?.blob(blob), let bytes = unsafe bytes else { return MP_CALL_STALE }
        // In pieces of 1,000 bytes, so that the reader has to loop.
        let piece = body.dropFirst(Int(offset)).prefix(min(Int(capacity), 1_000))
        for (index, byte) in piece.enumerated() { unsafe bytes[index] = byte }
        unsafe length?.pointee = UInt64(piece.count)
        return MP_CALL_OK
    }
    fillServices(&host)
    let table = UnsafeMutablePointer<mp_host>.allocate(capacity: 1)
    unsafe table.initialize(to: host)
    return unsafe table
}

/// Log, metrics, storage, timers, randomness, facts and signatures.
private func fillServices(_ host: inout mp_host) {
    host.log_enabled = { _, level in level >= MP_LOG_INFO ? 1 : 0 }
    unsafe host.log = { instance, _, _, message, _ in
        FakeHosts.shared[instance]?.noteLog(unsafe text(message) ?? "")
    }
    unsafe host.metric_add = { instance, metric, value, labels, count in
        unsafe counted(instance, metric, value, labels, count, isObservation: false)
    }
    unsafe host.metric_observe = { instance, metric, value, labels, count in
        unsafe counted(instance, metric, value, labels, count, isObservation: true)
    }
    unsafe host.kv_get = { instance, token, key in
        FakeHosts.shared[instance]?.storageGet(unsafe text(key) ?? "", token: token) ?? MP_CALL_STALE
    }
    unsafe host.kv_put = { instance, token, key, value, version, lifetime in
        FakeHosts.shared[instance]?.storagePut(
            unsafe text(key) ?? "", unsafe copied(value) ?? [], version: version, lifetime: lifetime, token: token)
            ?? MP_CALL_STALE
    }
    unsafe host.kv_delete = { instance, token, key, version in
        FakeHosts.shared[instance]?.storageDelete(unsafe text(key) ?? "", version: version, token: token)
            ?? MP_CALL_STALE
    }
    unsafe host.kv_list = { instance, token, prefix in
        FakeHosts.shared[instance]?.storageList(unsafe text(prefix) ?? "", token: token) ?? MP_CALL_STALE
    }
    host.timer_set = { instance, token, delay in
        FakeHosts.shared[instance]?.setTimer(token, milliseconds: delay) ?? MP_CALL_STALE
    }
    host.timer_clear = { instance, token in FakeHosts.shared[instance]?.clearTimer(token) ?? MP_CALL_STALE }
    unsafe host.random = { instance, bytes, length in
        guard let host = FakeHosts.shared[instance], let bytes = unsafe bytes else { return MP_CALL_STALE }
        for index in 0..<Int(length) { unsafe bytes[index] = host.randomByte() }
        return MP_CALL_OK
    }
    unsafe host.cred_info = { instance, credential, bytes, capacity, length in
        guard let facts = FakeHosts.shared[instance]?.facts(of: unsafe text(credential) ?? "") else {
            return MP_CALL_NOT_FOUND
        }
        for (index, byte) in facts.prefix(Int(capacity)).enumerated() { unsafe bytes?[index] = byte }
        unsafe length?.pointee = UInt64(facts.count)
        return MP_CALL_OK
    }
    unsafe host.sign = { instance, token, credential, scheme, bytes in
        FakeHosts.shared[instance]?.sign(
            unsafe copied(bytes) ?? [], unsafe text(credential) ?? "", unsafe text(scheme) ?? "", token: token)
            ?? MP_CALL_STALE
    }
}

private func counted(
    _ instance: UInt64, _ metric: UInt32, _ value: Int64, _ labels: UnsafePointer<UInt32>?, _ count: UInt64,
    isObservation: Bool
) -> Int32 {
    var list: [UInt32] = []
    for index in 0..<Int(count) { if let label = unsafe labels?[index] { list.append(label) } }
    FakeHosts.shared[instance]?.count(
        CountedMetric(index: metric, value: value, labels: list, isObservation: isObservation))
    return MP_CALL_OK
}

private func sentRequest(_ request: mp_http_request) -> SentRequest {
    var headers: [(name: String, value: String)] = []
    for index in 0..<(unsafe Int(request.header_count)) {
        guard let pair = unsafe request.headers?[index] else { break }
        headers.append((unsafe text(pair.name) ?? "", unsafe text(pair.value) ?? ""))
    }
    var records: [UInt32] = []
    for index in 0..<(unsafe Int(request.record_count)) {
        if let record = unsafe request.records?[index] { records.append(record) }
    }
    return unsafe SentRequest(
        method: text(request.method) ?? "", url: text(request.url) ?? "", headers: headers,
        body: copied(request.body).flatMap { try? JSONValue(parsing: $0) }, credential: text(request.credential),
        step: text(request.step), bucket: text(request.bucket),
        isIdempotent: request.flags & UInt32(MP_HTTP_IDEMPOTENT) != 0, cost: request.cost, records: records)
}
