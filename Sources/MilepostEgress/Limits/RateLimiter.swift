// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
internal import Synchronization

/// The right to send one request. Give it back with `RateLimiter.finish`, whatever became of the request.
public struct LimiterPermit: Sendable {
    /// Nil when nothing was charged.
    let ticket: LimiterMachine.Ticket?
    /// How long the request stood in line.
    public let waited: Duration
}

/// Keeps every vendor's budgets for the whole daemon: a thin shell around `LimiterMachine`.
///
/// Any thread or task may call any method; none blocks.
public final class RateLimiter: Sendable {
    private struct State {
        var machine = LimiterMachine()
        var waiting: [LimiterMachine.Ticket: CheckedContinuation<Void, any Error>] = [:]
        /// Tickets whose task was cancelled before they stood in line.
        var cancelledEarly: Set<LimiterMachine.Ticket> = []
        var timer: (task: Task<Void, Never>, at: Timestamp)?
    }

    private let clock: any DaemonClock
    private let state = Mutex(State())

    public init(clock: any DaemonClock) { self.clock = clock }

    deinit { state.withLock { $0.timer?.task.cancel() } }

    /// Adds a bucket, or changes the numbers of the one with this key and keeps what it has counted.
    public func define(_ bucket: RateBucket) {
        settle { machine, now in
            machine.define(bucket)
            return machine.pumpAll(at: now)
        }
    }

    /// Forgets a bucket, e.g. with the connection it belonged to. Requests that name it later fail as `unknown_bucket`.
    public func remove(_ key: String) {
        settle { machine, now in machine.remove(key, at: now) }
    }

    /// Waits until every charged bucket has room, first come first served per bucket.
    ///
    /// - Parameter patience: give up at once when the buckets are known to stay closed for longer; nil waits for ever.
    /// - Throws: `RateLimitError`, or `CancellationError` when the task is cancelled while waiting.
    public func acquire(_ charges: [BucketCharge], patience: Duration? = nil) async throws -> LimiterPermit {
        if charges.isEmpty { return LimiterPermit(ticket: nil, waited: .zero) }
        let ticket = state.withLock { $0.machine.nextTicket() }
        let start = clock.now
        defer { state.withLock { _ = $0.cancelledEarly.remove(ticket) } }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let isCancelled = state.withLock { state in
                    if state.cancelledEarly.contains(ticket) { return true }
                    state.waiting[ticket] = continuation
                    return false
                }
                if isCancelled {
                    continuation.resume(throwing: CancellationError())
                    return
                }
                settle { machine, now in machine.enqueue(ticket, charges: charges, patience: patience, at: now) }
            }
        } onCancel: {
            let continuation = state.withLock { state in
                let waiting = state.waiting.removeValue(forKey: ticket)
                if waiting == nil { state.cancelledEarly.insert(ticket) }
                return waiting
            }
            settle { machine, now in machine.cancel(ticket, at: now) }
            continuation?.resume(throwing: CancellationError())
        }
        return LimiterPermit(ticket: ticket, waited: clock.now - start)
    }

    /// Ends a request. `wasSent` false (nothing left) gives the charge back.
    public func finish(_ permit: LimiterPermit, wasSent: Bool) {
        guard let ticket = permit.ticket else { return }
        settle { machine, now in machine.finish(ticket, wasSent: wasSent, at: now) }
    }

    /// Takes the vendor's word about its budgets: limit, remaining, reset, `Retry-After` and a 429 (RATE-05, RATE-06).
    public func observe(_ charges: [BucketCharge], status: Int, headers: [(name: String, value: String)]) {
        guard !charges.isEmpty else { return }
        let byName = Dictionary(
            headers.map { ($0.name.lowercased(), $0.value) }, uniquingKeysWith: { first, _ in first })
        settle { machine, now in
            machine.observe(keys: charges.map(\.key), status: status, header: { byName[$0.lowercased()] }, at: now)
        }
    }

    /// Closes a bucket, e.g. because a plugin read "wait an hour" in an answer. At most a day.
    public func close(_ key: String, for duration: Duration) {
        settle { machine, now in
            machine.close(key, until: now + duration, at: now)
            return machine.pumpAll(at: now)
        }
    }

    /// When the bucket has room for one request again; nil when it has now.
    public func blockedUntil(_ key: String) -> Timestamp? {
        let now = clock.now
        return state.withLock { $0.machine.blockedUntil(key, at: now) }
    }

    /// All buckets, in the order of their keys.
    public func snapshot() -> [RateBucketSnapshot] {
        let now = clock.now
        return state.withLock { $0.machine.snapshot(at: now) }
    }

    /// Runs one step of the machine under the lock and hands out its decisions after it.
    private func settle(_ step: (inout LimiterMachine, Timestamp) -> [LimiterMachine.Decision]) {
        let now = clock.now
        let resumptions = state.withLock { state in
            var decisions = step(&state.machine, now)
            var resumptions: [(CheckedContinuation<Void, any Error>, RateLimitError?)] = []
            var index = 0
            while index < decisions.count {
                let (ticket, error): (LimiterMachine.Ticket, RateLimitError?) =
                    switch decisions[index] {
                    case .granted(let ticket): (ticket, nil)
                    case .failed(let ticket, let error): (ticket, error)
                    }
                if let continuation = state.waiting.removeValue(forKey: ticket) {
                    resumptions.append((continuation, error))
                } else {  // cancelled between two locks: the permit goes to the next in line
                    decisions += state.machine.finish(ticket, wasSent: false, at: now)
                }
                index += 1
            }
            schedule(&state, now: now)
            return resumptions
        }
        for (continuation, error) in resumptions {
            if let error { continuation.resume(throwing: error) } else { continuation.resume() }
        }
    }

    /// Keeps one timer for the earliest wake.
    private func schedule(_ state: inout State, now: Timestamp) {
        guard let wake = state.machine.nextWake() else {
            state.timer?.task.cancel()
            state.timer = nil
            return
        }
        if let timer = state.timer, timer.at == wake { return }
        state.timer?.task.cancel()
        let clock = clock
        // Owned by this limiter: ends when it fires, is replaced by an earlier one, or the limiter goes.
        let task = Task { [weak self] in
            do { try await clock.sleep(for: wake - now) } catch { return }  // replaced: the new timer wakes
            self?.fire(wake)
        }
        state.timer = (task, wake)
    }

    private func fire(_ wake: Timestamp) {
        state.withLock { if $0.timer?.at == wake { $0.timer = nil } }
        settle { machine, now in machine.pumpAll(at: now) }
    }
}
