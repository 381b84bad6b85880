// SPDX-License-Identifier: Apache-2.0

internal import CMilepostCurl

/// What `CurlThread` has under way: transfers that libcurl has, those that wait for a connection to their server, and
/// handles to use again. Touched by that thread alone.
///
/// libcurl would queue by itself, but counts the wait against the request's time: a burst to a slow server would time out
/// without having been sent. Here a request's time begins when it may connect.
@safe final class CurlTransfers {
    /// Requests on their way to one server that speaks HTTP/2, for each connection: libcurl's own default.
    private static let streams = 100

    private typealias Entry = (transfer: Transfer, continuation: CurlThread.Continuation)

    private struct Server {
        var active = 0
        var speaksHTTP2 = false
        private var arrived: [Entry] = []
        /// The next one last.
        private var waiting: [Entry] = []

        var isIdle: Bool { active == 0 && arrived.isEmpty && waiting.isEmpty }

        mutating func append(_ entry: Entry) { arrived.append(entry) }

        mutating func next() -> Entry? {
            if waiting.isEmpty {
                waiting = arrived.reversed()
                arrived = []
            }
            return waiting.popLast()
        }

        mutating func remove(_ id: UInt64) -> Entry? {
            if let index = waiting.firstIndex(where: { $0.transfer.id == id }) { return waiting.remove(at: index) }
            return arrived.firstIndex { $0.transfer.id == id }.map { arrived.remove(at: $0) }
        }
    }

    private let multi: UnsafeMutableRawPointer
    private let settings: CurlThread.Settings
    private let onEnd: () -> Void
    private var active: [UInt64: Entry] = [:]
    private var servers: [EgressPolicy.Origin: Server] = [:]
    private var spares: [UnsafeMutableRawPointer] = unsafe []

    /// - Parameter onEnd: a transfer is about to be answered.
    init(_ multi: UnsafeMutableRawPointer, settings: CurlThread.Settings, onEnd: @escaping () -> Void) {
        unsafe self.multi = unsafe multi
        self.settings = settings
        self.onEnd = onEnd
    }

    deinit { while let spare = unsafe spares.popLast() { unsafe curl_easy_cleanup(spare) } }

    /// Transfers that libcurl has.
    var count: Int { active.count }

    private func hasRoom(_ origin: EgressPolicy.Origin) -> Bool {
        guard let server = servers[origin] else { return true }
        return server.active < settings.connectionsPerHost * (server.speaksHTTP2 ? Self.streams : 1)
    }

    func take(_ transfer: Transfer, _ continuation: CurlThread.Continuation) {
        let origin = transfer.request.origin
        if hasRoom(origin) {
            begin(transfer, continuation)
        } else {
            servers[origin]?.append((transfer, continuation))
        }
    }

    private func begin(_ transfer: Transfer, _ continuation: CurlThread.Continuation) {
        let isReady = unsafe transfer.prepare(
            spares.popLast(), connectTimeout: settings.connectTimeout, userAgent: settings.userAgent,
            certificateAuthorities: settings.certificateAuthorities)
        guard isReady, unsafe curl_multi_add_handle(multi, transfer.easy) == CURLM_OK else {
            var result = transfer.abandon("")
            result.failure = (.requestInvalid, "libcurl refuses the request's options")
            onEnd()
            continuation.resume(returning: result)
            return
        }
        active[transfer.id] = (transfer, continuation)
        servers[transfer.request.origin, default: Server()].active += 1
    }

    /// Hands on what has ended.
    ///
    /// - Returns: whether anything that waited began.
    func collect() -> Bool {
        var left: Int32 = 0
        var hasBegun = false
        while let message = unsafe curl_multi_info_read(multi, &left) {
            guard unsafe message.pointee.msg == CURLMSG_DONE else { continue }
            let status = unsafe mp_curl_message_result(message)
            // The private pointer is the Transfer, alive because `active` holds it until `end`.
            var context: UnsafePointer<CChar>?
            guard unsafe mp_curl_get_string(message.pointee.easy_handle, CURLINFO_PRIVATE, &context) == CURLE_OK,
                let context = unsafe context
            else { preconditionFailure("a finished transfer has lost its context") }
            let transfer = unsafe Unmanaged<Transfer>.fromOpaque(UnsafeRawPointer(context)).takeUnretainedValue()
            if transfer.spokeHTTP2 { servers[transfer.request.origin]?.speaksHTTP2 = true }
            end(transfer.id) { $0.finish(status) }
            if beginWaiting(for: transfer.request.origin) { hasBegun = true }
        }
        return hasBegun
    }

    private func beginWaiting(for origin: EgressPolicy.Origin) -> Bool {
        var hasBegun = false
        while hasRoom(origin), let next = servers[origin]?.next() {
            begin(next.transfer, next.continuation)
            hasBegun = true
        }
        // Servers come and go with the addresses that customers name; what is known of HTTP/2 is learned again.
        if servers.count > 1024, servers[origin]?.isIdle == true { servers[origin] = nil }
        return hasBegun
    }

    private func end(_ id: UInt64, _ verdict: (Transfer) -> TransferResult) {
        guard let (transfer, continuation) = active.removeValue(forKey: id) else { return }
        let result = verdict(transfer)
        unsafe curl_multi_remove_handle(multi, transfer.easy)
        servers[transfer.request.origin]?.active -= 1
        if let easy = unsafe transfer.takeBack() {
            if unsafe spares.count < settings.connectionsPerHost {
                unsafe spares.append(easy)
            } else {
                unsafe curl_easy_cleanup(easy)
            }
        }
        onEnd()
        continuation.resume(returning: result)
    }

    func cancel(_ id: UInt64, _ reason: String) {
        if let origin = active[id]?.transfer.request.origin {
            end(id) { $0.abandon(reason) }
            _ = beginWaiting(for: origin)
            return
        }
        for origin in servers.keys {
            guard let (transfer, continuation) = servers[origin]?.remove(id) else { continue }
            onEnd()
            continuation.resume(returning: transfer.abandon(reason))
            return
        }
    }

    func cancelAll(_ reason: String) {
        for id in Array(active.keys) { end(id) { $0.abandon(reason) } }
        for origin in servers.keys {
            while let (transfer, continuation) = servers[origin]?.next() {
                onEnd()
                continuation.resume(returning: transfer.abandon(reason))
            }
        }
    }
}
