// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin
import Synchronization

/// The Swift side of one instance: hands operations to tasks and events to those who wait.
///
/// Exactly one completion: an operation's whole work is one function that returns status and body whatever happens;
/// `start` calls the host once with what it returned, and nothing else in the SDK completes anything.
final class Instance: Sendable {
    let calls: HostCalls
    let metrics: MetricNames
    var host: Host { calls.host }
    private let state = Mutex(State())

    struct State {
        var plugin: (any Plugin)?
        var isClosing = false
        /// Running operations. Each task belongs to its operation and ends with it.
        var tasks: [UInt64: Task<Void, Never>] = [:]
        var waitingForIdle: [CheckedContinuation<Void, Never>] = []
    }

    init(host: Host, metrics: MetricNames) {
        calls = HostCalls(host: host)
        self.metrics = metrics
    }

    var context: PluginContext { PluginContext(calls: calls, metrics: metrics) }

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
            context: context, id: id, attempt: unsafe op.attempt, deadlineNanoseconds: unsafe op.deadline_ns,
            record: nil, trace: SendTrace())
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
        let isIdle = state.withLock { state in
            state.isClosing = true
            return state.tasks.isEmpty
        }
        if isIdle {
            // The common case needs no clock: a cancelled sleep keeps its memory until its time has come.
            host.complete(id, status: MP_OK, body: Array("{}".utf8))
            return MP_OK
        }
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
        state.withLock { $0.isClosing = true }
        calls.abandon()
        cancelAll()
    }
}
