// SPDX-License-Identifier: Apache-2.0

internal import CMilepostLinux
internal import Synchronization

/// One permanent thread: it spawns workers, reads what they send, and watches every deadline.
final class EventLoop: Sendable {
    /// What a descriptor's readiness runs, on the loop's thread.
    typealias Handler = @Sendable () -> Void

    private struct State {
        var handlers: [UInt64: Handler] = [:]
        var jobs: [Handler] = []
        var tick: (@Sendable (UInt64) -> Void)?
        var isStopping = false
        var whenStopped: [CheckedContinuation<Void, Never>] = []
    }

    /// How often deadlines are looked at while operations run: a hundredth of the grace is exact enough.
    private static let busyInterval: UInt64 = 20_000_000
    /// Stays alert this long after the last operation, so that a stream of short ones wakes the thread once.
    private static let alertness: UInt64 = 1_000_000_000

    private let clock: PluginClock
    private let idleInterval: UInt64
    private let poller: Int32
    private let wakeup: Int32
    private let state = Mutex(State())
    private let alertUntil = Atomic<UInt64>(0)
    private let nextTag = Atomic<UInt64>(1)

    init(clock: PluginClock, idleInterval: UInt64) {
        self.clock = clock
        self.idleInterval = max(idleInterval / 2, Self.busyInterval)
        poller = milepost_poller_create()
        wakeup = milepost_wakeup_create()
        precondition(poller >= 0 && wakeup >= 0, "no descriptors left for the plugin loop")
        _ = milepost_poller_add(poller, wakeup, 0, 0)
    }

    /// Not where the thread ends: whoever still wakes it would write into a file that has the number by then.
    deinit {
        _ = milepost_descriptor_close(poller)
        _ = milepost_descriptor_close(wakeup)
    }

    /// Starts the thread. It holds the loop until `stop`.
    func run(tick: @escaping @Sendable (UInt64) -> Void) {
        state.withLock { $0.tick = tick }
        HostThread.start("mp-plugin-loop") { [self] in body() }
    }

    /// Runs `job` on the loop's thread, soon.
    func enqueue(_ job: @escaping Handler) {
        state.withLock { $0.jobs.append(job) }
        milepost_wakeup_signal(wakeup)
    }

    /// Deadlines exist: look at them often. One atomic read when that is known already.
    func beAlert(now: UInt64) {
        let until = alertUntil.load(ordering: .relaxed)
        if until > now.addingSaturating(Self.alertness / 2) { return }
        alertUntil.store(now.addingSaturating(Self.alertness), ordering: .relaxed)
        if until <= now { milepost_wakeup_signal(wakeup) }
    }

    /// Watches a descriptor until `unwatch` with the returned tag.
    func watch(_ descriptor: Int32, _ handler: @escaping Handler) -> UInt64 {
        let tag = nextTag.wrappingAdd(1, ordering: .relaxed).oldValue
        state.withLock { $0.handlers[tag] = handler }
        _ = milepost_poller_add(poller, descriptor, tag, 0)
        return tag
    }

    func watchForWriting(_ descriptor: Int32, tag: UInt64, _ wanted: Bool) {
        _ = milepost_poller_change(poller, descriptor, tag, wanted ? 1 : 0)
    }

    func unwatch(_ descriptor: Int32, tag: UInt64) {
        _ = milepost_poller_remove(poller, descriptor)
        _ = state.withLock { $0.handlers.removeValue(forKey: tag) }
    }

    var isWatching: Bool { state.withLock { !$0.handlers.isEmpty } }

    func stop() async {
        await withCheckedContinuation { continuation in
            state.withLock {
                $0.isStopping = true
                $0.whenStopped.append(continuation)
            }
            milepost_wakeup_signal(wakeup)
        }
    }

    private func body() {
        var tags = [UInt64](repeating: 0, count: 64)
        var lastTick: UInt64 = 0
        while true {
            let now = clock.monotonicNanoseconds()
            let isAlert = alertUntil.load(ordering: .relaxed) > now
            let timeout = Int32((isAlert ? Self.busyInterval : idleInterval) / 1_000_000)
            let count = unsafe tags.withUnsafeMutableBufferPointer {
                unsafe milepost_poller_wait(poller, $0.baseAddress, 64, timeout)
            }
            for index in 0..<Int(max(count, 0)) {
                let tag = tags[index]
                if tag == 0 {
                    milepost_wakeup_clear(wakeup)
                } else if let handler = state.withLock({ $0.handlers[tag] }) {
                    handler()
                }
            }
            let (jobs, tick, isStopping) = state.withLock { state in
                defer { state.jobs = [] }
                return (state.jobs, state.tick, state.isStopping)
            }
            for job in jobs { job() }
            let after = clock.monotonicNanoseconds()
            if after &- lastTick >= Self.busyInterval {
                lastTick = after
                tick?(after)
            }
            if isStopping { break }
        }
        let waiting = state.withLock { state in
            state.tick = nil
            state.handlers = [:]
            return state.whenStopped
        }
        for continuation in waiting { continuation.resume() }
    }
}

/// Threads of our own, for what may block: the cooperative pool must not.
enum HostThread {
    private final class Body: Sendable {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    static func start(_ name: String, _ run: @escaping @Sendable () -> Void) {
        // Retained here, released by the thread once.
        let context = unsafe Unmanaged.passRetained(Body(run)).toOpaque()
        let error = unsafe milepost_thread_start(
            name,
            { context in
                guard let context = unsafe context else { return }
                let body = unsafe Unmanaged<Body>.fromOpaque(context).takeRetainedValue()
                body.run()
            }, context)
        precondition(error == 0, "no thread for \(name): error \(-error)")
    }

    /// Runs something that may block on a thread of its own and waits for it without holding a cooperative thread.
    static func call<Value: Sendable>(_ name: String, _ body: @escaping @Sendable () -> Value) async -> Value {
        await withCheckedContinuation { continuation in
            start(name) { continuation.resume(returning: body()) }
        }
    }
}
