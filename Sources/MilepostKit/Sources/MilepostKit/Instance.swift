// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin
import Synchronization

/// The Swift side of one instance: hands operations to tasks and events to those who wait.
///
/// Exactly one completion: an operation's whole work is one function that returns status and body whatever happens;
/// `start` calls the host once with what it returned, and nothing else in the SDK completes anything.
final class Instance: Sendable {
    let host: Host
    private let state = Mutex(State())

    struct State {
        var plugin: (any Plugin)?
        var isClosing = false
        var nextToken: UInt64 = 1
        /// Running operations. Each task belongs to its operation and ends with it.
        var tasks: [UInt64: Task<Void, Never>] = [:]
        var waitingForHTTP: [UInt64: CheckedContinuation<Result<HTTPAnswer, HTTPFailure>, Never>] = [:]
        var waitingForStatus: [UInt64: CheckedContinuation<Int32, Never>] = [:]
        var waitingForIdle: [CheckedContinuation<Void, Never>] = []
    }

    /// An answer as it came with the event: a large body is still the host's.
    struct HTTPAnswer: Sendable {
        var response: HTTPResponse
        var blob: UInt64
        var blobLength: UInt64
    }

    init(host: Host) { self.host = host }

    var plugin: any Plugin {
        guard let plugin = state.withLock({ $0.plugin }) else { preconditionFailure("a verb before create returned") }
        return plugin
    }

    func adopt(_ plugin: any Plugin) { state.withLock { $0.plugin = plugin } }

    // MARK: Operations

    /// A finished operation: status and body for `op_complete`.
    typealias Ending = (status: Int32, body: [UInt8])

    /// Accepts an operation. Returns MP_OK, or MP_CANCELLED once shutdown has begun.
    func start(_ op: mp_op, body: @escaping @Sendable (Operation) async -> Ending) -> Int32 {
        let id = unsafe op.id
        let operation = Operation(
            instance: self, id: id, attempt: unsafe op.attempt, deadlineNanoseconds: unsafe op.deadline_ns, record: nil,
            trace: SendTrace())
        return state.withLock { state in
            if state.isClosing { return MP_CANCELLED }
            // Owner: this instance, under the operation's id; ends with the operation. The task's own removal waits
            // for this lock, so it cannot come before the entry.
            state.tasks[id] = Task {
                let ending = await body(operation)
                // Told first, forgotten then: shutdown's own completion must not overtake this one.
                self.host.complete(id, status: ending.status, body: ending.body)
                self.finish(id)
            }
            return MP_OK
        }
    }

    private func finish(_ id: UInt64) {
        let idle = state.withLock { state -> [CheckedContinuation<Void, Never>] in
            state.tasks[id] = nil
            guard state.tasks.isEmpty else { return [] }
            defer { state.waitingForIdle = [] }
            return state.waitingForIdle
        }
        for waiter in idle { waiter.resume() }
    }

    func cancel(_ id: UInt64) {
        state.withLock { $0.tasks[id] }?.cancel()
    }

    /// Accepts nothing more, gives what runs half of the time that is left, then asks it to stop, and completes.
    func shutdown(_ op: mp_op) -> Int32 {
        let id = unsafe op.id
        let deadline = unsafe op.deadline_ns
        state.withLock { $0.isClosing = true }
        // Owner: the host, which waits for this completion before it destroys the instance; ends when the last
        // operation has.
        Task {
            let now = host.now()?.monotonic ?? 0
            let left = deadline > now ? min(deadline - now, 60_000_000_000) : 0
            let impatience = Task {
                // A cancelled sleep means that all is idle already; cancelling nobody is then harmless.
                try? await Task.sleep(for: .nanoseconds(Int64(left / 2)))
                cancelAll()
            }
            await idle()
            impatience.cancel()
            host.complete(id, status: MP_OK, body: Array("{}".utf8))
        }
        return MP_OK
    }

    private func cancelAll() {
        let tasks = state.withLock { Array($0.tasks.values) }
        for task in tasks { task.cancel() }
    }

    private func idle() async {
        await withCheckedContinuation { continuation in
            let isIdle = state.withLock { state in
                if state.tasks.isEmpty { return true }
                state.waitingForIdle.append(continuation)
                return false
            }
            if isIdle { continuation.resume() }
        }
    }

    /// Ends every wait of an instance whose host is gone, so that no task hangs for ever.
    func abandon() {
        let (http, status) = state.withLock { state in
            defer {
                state.waitingForHTTP = [:]
                state.waitingForStatus = [:]
            }
            state.isClosing = true
            return (Array(state.waitingForHTTP.values), Array(state.waitingForStatus.values))
        }
        for waiter in http {
            waiter.resume(
                returning: .failure(HTTPFailure(wire: .maybeSent, code: "destroyed", message: "The instance is gone.")))
        }
        for waiter in status { waiter.resume(returning: MP_CALL_STALE) }
        cancelAll()
    }

    // MARK: Host calls that answer by an event

    func send(_ request: HTTPRequest, op: UInt64, records: [UInt32]) async -> Result<HTTPResponse, HTTPFailure> {
        if Task.isCancelled {
            return .failure(HTTPFailure(wire: .neverSent, code: "cancelled", message: "Given up before it was sent."))
        }
        let token = newToken()
        let answer = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                // Waiting first, submitting then: the event may come before the call returns.
                state.withLock { $0.waitingForHTTP[token] = continuation }
                let status = host.submit(request, op: op, token: token, records: records)
                guard status != MP_CALL_OK else { return }
                resumeHTTP(
                    token,
                    .failure(
                        HTTPFailure(
                            wire: .neverSent, code: "host_call_\(status)",
                            message: "The host did not take the request (\(status)).")))
            }
        } onCancel: {
            host.cancelHTTP(token)
        }
        return answer.flatMap { answer in
            guard answer.blob != 0 else { return .success(answer.response) }
            var response = answer.response
            // 16 MiB: no answer of a CRM that a plugin reads in one piece is longer.
            guard let body = host.blob(answer.blob, length: answer.blobLength, cap: 16 << 20) else {
                return .failure(HTTPFailure(wire: .answered, code: "blob_unreadable", message: "The body is gone."))
            }
            response.body = body
            response.isTruncated = response.isTruncated || UInt64(body.count) < answer.blobLength
            return .success(response)
        }
    }

    func journal(_ step: String, result: [UInt8], op: UInt64, record: UInt32) async -> Int32 {
        let token = newToken()
        return await withCheckedContinuation { continuation in
            state.withLock { $0.waitingForStatus[token] = continuation }
            let status = host.journal(op, token: token, record: record, step: step, result: result)
            if status != MP_CALL_OK { resumeStatus(token, status) }
        }
    }

    private func newToken() -> UInt64 {
        state.withLock { state in
            defer { state.nextToken += 1 }
            return state.nextToken
        }
    }

    func resumeHTTP(_ token: UInt64, _ answer: Result<HTTPAnswer, HTTPFailure>) {
        state.withLock { $0.waitingForHTTP.removeValue(forKey: token) }?.resume(returning: answer)
    }

    func resumeStatus(_ token: UInt64, _ status: Int32) {
        state.withLock { $0.waitingForStatus.removeValue(forKey: token) }?.resume(returning: status)
    }
}
