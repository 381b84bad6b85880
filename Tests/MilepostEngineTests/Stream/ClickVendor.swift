// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostStore
import Synchronization

/// A vendor and its plugin in one that take every click: answer by script and remember what they were given.
final class ClickVendor: PluginPort {
    struct Call: Sendable {
        var connection: ConnectionID
        var action: String
        var payloads: [JSONValue]
    }
    typealias Answer = @Sendable (JSONValue) -> Verdict

    private struct State {
        var calls: [Call] = []
        var answer: Answer = { _ in Verdict(kind: .ok, remoteID: "1") }
        var hanging: Set<ConnectionID> = []
        var parked: [CheckedContinuation<Void, Never>] = []
        var watchers: [(count: Int, continuation: CheckedContinuation<Void, Never>)] = []
    }
    private let state = Mutex(State())
    let actions: [ClickAction]

    init(actions: [ClickAction]) { self.actions = actions }

    var calls: [Call] { state.withLock { $0.calls } }
    /// All records of an action so far, repeats included.
    func records(_ action: String) -> [JSONValue] { calls.filter { $0.action == action }.flatMap(\.payloads) }
    func answer(_ answer: @escaping Answer) { state.withLock { $0.answer = answer } }
    func forget() { state.withLock { $0.calls = [] } }
    func hang(_ connection: ConnectionID) { state.withLock { _ = $0.hanging.insert(connection) } }

    func letGo() {
        let parked = state.withLock { state in
            state.hanging = []
            defer { state.parked = [] }
            return state.parked
        }
        for continuation in parked { continuation.resume() }
    }

    /// Returns once that many records have been handed over.
    func received(_ count: Int) async {
        await withCheckedContinuation { continuation in
            let isThere = state.withLock { state in
                if state.calls.reduce(0, { $0 + $1.payloads.count }) >= count { return true }
                state.watchers.append((count, continuation))
                return false
            }
            if isThere { continuation.resume() }
        }
    }

    // MARK: PluginPort

    func traits(of plugin: PluginName, action: String) -> ActionTraits? {
        actions.first { $0.name == action }.map { ActionTraits(maximumBatch: $0.maximumBatch) }
    }
    func thresholdAction(of plugin: PluginName) -> String? { nil }
    func clickActions(of plugin: PluginName) -> [ClickAction] { actions }
    func obstacle(for plugin: PluginName) -> Reason? { nil }
    func reconcile(_ claims: [ClaimedDelivery], on connection: Connection) async -> [Finding] { [] }

    func deliver(_ claims: [ClaimedDelivery], on connection: Connection) async -> [Verdict] {
        await withCheckedContinuation { continuation in
            let passes = state.withLock { state in
                guard state.hanging.contains(connection.id) else { return true }
                state.parked.append(continuation)
                return false
            }
            if passes { continuation.resume() }
        }
        let (answer, done) = state.withLock { state in
            state.calls.append(
                Call(
                    connection: connection.id, action: claims.first?.delivery.action ?? "",
                    payloads: claims.map(\.delivery.payload)))
            let total = state.calls.reduce(0) { $0 + $1.payloads.count }
            let done = state.watchers.filter { $0.count <= total }.map(\.continuation)
            state.watchers.removeAll { $0.count <= total }
            return (state.answer, done)
        }
        for continuation in done { continuation.resume() }
        let verdicts = claims.map { answer($0.delivery.payload) }
        // The worker takes the whole batch with it.
        if let crash = verdicts.first(where: { $0.kind == .crashed }) { return claims.map { _ in crash } }
        return verdicts
    }
}

/// A clock that stands still until a test moves it; whoever sleeps wakes when his time has come.
final class StandingClock: DaemonClock {
    private struct State {
        var now: Timestamp
        var next = 0
        var sleepers: [Int: (until: Timestamp, continuation: CheckedContinuation<Void, any Error>)] = [:]
    }
    private let state: Mutex<State>

    init(_ start: Timestamp) { state = Mutex(State(now: start)) }

    var now: Timestamp { state.withLock { $0.now } }

    func advance(by duration: Duration) {
        let due = state.withLock { state in
            state.now = state.now + duration
            let now = state.now
            let due = state.sleepers.filter { $0.value.until <= now }
            for id in due.keys { state.sleepers[id] = nil }
            return due.values.map(\.continuation)
        }
        for continuation in due { continuation.resume() }
    }

    func sleep(for duration: Duration) async throws {
        let id = state.withLock { state in
            state.next += 1
            return state.next
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let isDue = state.withLock { state in
                    guard !Task.isCancelled else { return true }
                    state.sleepers[id] = (state.now + duration, continuation)
                    return false
                }
                if isDue { continuation.resume() }
            }
        } onCancel: {
            let sleeper = state.withLock { $0.sleepers.removeValue(forKey: id) }
            sleeper?.continuation.resume(throwing: CancellationError())
        }
        try Task.checkCancellation()
    }
}
