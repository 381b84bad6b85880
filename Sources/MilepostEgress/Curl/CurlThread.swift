// SPDX-License-Identifier: Apache-2.0

internal import CMilepostCurl
internal import MilepostModel
internal import Synchronization

#if canImport(Glibc)
    internal import Glibc
#elseif canImport(Darwin)
    internal import Darwin
#endif

/// The one thread that owns libcurl's multi handle: connections are shared and reused by everyone who sends through it.
///
/// `curl_multi_poll` measured 40% faster than `socket_action` with epoll (decisions 27). Other threads put work into the
/// inbox and wake it; they never touch the handle otherwise.
package final class CurlThread: Sendable {
    typealias Continuation = CheckedContinuation<TransferResult, Never>

    package struct Settings: Sendable {
        var userAgent = "Milepost"
        var connectTimeout = Duration.seconds(10)
        var certificateAuthorities: String?
        var connectionsPerHost = 8
        var connectionsInAll = 256

        package init() {}
    }

    /// Transfers under way at once, bodies in memory included; the engine keeps far fewer.
    static let maximumTransfers = 10_000

    private struct Inbox {
        var underWay = 0
        var arrivals: [(Transfer, Continuation)] = []
        var cancellations: [UInt64] = []
        /// Cancelled before they were handed over.
        var cancelledEarly: Set<UInt64> = []
        var lastID: UInt64 = 0
        var isStopping = false
        var hasEnded = false
        var whenEnded: [CheckedContinuation<Void, Never>] = []
    }

    /// `curl_multi_wakeup` is the only call allowed from other threads, and it is made under the lock of `handle`.
    @safe struct Multi: @unchecked Sendable {
        let raw: UnsafeMutableRawPointer
        init(_ raw: UnsafeMutableRawPointer) { unsafe self.raw = unsafe raw }
    }

    private let settings: Settings
    private let inbox = Mutex(Inbox())
    /// Nil once it is freed. Apart from the inbox, whose lock nobody should hold for the length of a system call.
    private let handle: Mutex<Multi?>

    /// libcurl's process-wide start, once and before any handle.
    private static let globalStatus = curl_global_init(Int(CURL_GLOBAL_DEFAULT))

    package init(settings: Settings) {
        precondition(Self.globalStatus == CURLE_OK, "libcurl does not start: \(Self.globalStatus.rawValue)")
        guard let raw = unsafe curl_multi_init() else {
            preconditionFailure("libcurl has no memory for a multi handle")
        }
        let multi = unsafe Multi(raw)
        unsafe mp_curl_multi_set_long(raw, CURLMOPT_PIPELINING, Int(CURLPIPE_MULTIPLEX))
        unsafe mp_curl_multi_set_long(raw, CURLMOPT_MAX_HOST_CONNECTIONS, settings.connectionsPerHost)
        unsafe mp_curl_multi_set_long(raw, CURLMOPT_MAX_TOTAL_CONNECTIONS, settings.connectionsInAll)
        unsafe mp_curl_multi_set_long(raw, CURLMOPT_MAXCONNECTS, settings.connectionsInAll)
        self.settings = settings
        handle = Mutex(multi)
        startThread(named: "mp-egress") { [self] in run(multi) }
    }

    /// Runs one transfer; cancelling the task ends it.
    package func perform(_ request: TransferRequest) async -> TransferResult {
        let id = inbox.withLock { inbox in
            inbox.lastID += 1
            return inbox.lastID
        }
        let transfer = Transfer(id: id, request: request)
        defer { inbox.withLock { _ = $0.cancelledEarly.remove(id) } }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                var isFirst = false
                let refusal = inbox.withLock { inbox -> (EgressFailure.Code, String)? in
                    if inbox.isStopping { return (.cancelled, "Milepost is shutting down") }
                    if inbox.cancelledEarly.contains(id) { return (.cancelled, "given up by the caller") }
                    if inbox.underWay >= Self.maximumTransfers {
                        return (.rateLimited, "\(Self.maximumTransfers) requests are under way; send fewer at once")
                    }
                    inbox.underWay += 1
                    inbox.arrivals.append((transfer, continuation))
                    isFirst = inbox.arrivals.count == 1
                    return nil
                }
                // The thread takes all there is, so the first of them wakes it for the others.
                if isFirst { wake() }
                if let refusal {
                    continuation.resume(returning: TransferResult(wire: .neverSent, failure: refusal))
                }
            }
        } onCancel: {
            inbox.withLock { inbox in
                inbox.cancelledEarly.insert(id)
                inbox.cancellations.append(id)
            }
            wake()
        }
    }

    private func wake() {
        handle.withLock { multi in
            if let multi { unsafe curl_multi_wakeup(multi.raw) }
        }
    }

    /// Ends all transfers (each reports how far it got) and the thread.
    package func stop() async {
        await withCheckedContinuation { continuation in
            let hasEnded = inbox.withLock { inbox in
                inbox.isStopping = true
                if inbox.hasEnded { return true }
                inbox.whenEnded.append(continuation)
                return false
            }
            if hasEnded { continuation.resume() } else { wake() }
        }
    }

    /// Like `stop`, without waiting: for an owner that is going away.
    func stopSoon() {
        inbox.withLock { $0.isStopping = true }
        wake()
    }
}

// MARK: - On the thread

extension CurlThread {
    private func run(_ multi: Multi) {
        let transfers = unsafe CurlTransfers(multi.raw, settings: settings) { [self] in
            inbox.withLock { $0.underWay -= 1 }
        }
        var pace = CurlPace(now: .now)
        while true {
            let (arrivals, cancellations, isStopping) = inbox.withLock { inbox in
                defer {
                    inbox.arrivals = []
                    inbox.cancellations = []
                }
                return (inbox.arrivals, inbox.cancellations, inbox.isStopping)
            }
            pace.begin(arrivals: arrivals.count, now: .now)
            for (transfer, continuation) in arrivals { transfers.take(transfer, continuation) }
            for id in cancellations { transfers.cancel(id, "given up by the caller") }
            if isStopping { break }
            var running: Int32 = 0
            unsafe curl_multi_perform(multi.raw, &running)
            var hasBegun = transfers.collect()
            // What ended made room for what waited. That is sent before any pause: it would wait for two turns instead of
            // one, and a server with few connections would bound the rate.
            if hasBegun {
                unsafe curl_multi_perform(multi.raw, &running)
                hasBegun = transfers.collect()
            }
            if let pause = pace.pause(underWay: transfers.count, now: .now) {
                usleep(UInt32(pause / .microseconds(1)))  // a thread of its own
            }
            // Arrivals wake it; libcurl's timers shorten it.
            unsafe curl_multi_poll(multi.raw, nil, 0, hasBegun ? 0 : 10_000, nil)
        }
        transfers.cancelAll("Milepost is shutting down")
        handle.withLock { open in
            open = nil
            unsafe curl_multi_cleanup(multi.raw)
        }
        let waiting = inbox.withLock { inbox in
            inbox.hasEnded = true
            defer { inbox.whenEnded = [] }
            return inbox.whenEnded
        }
        for continuation in waiting { continuation.resume() }
    }
}
