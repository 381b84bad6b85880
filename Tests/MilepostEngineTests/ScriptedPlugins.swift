// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostStore
import Synchronization

/// A vendor and its plugin in one, for the engine on a real store: answers by script and remembers what it made.
final class ScriptedPlugins: PluginPort {
    /// What happens to one record of a `deliver`.
    enum Act: Sendable {
        case succeed
        case answer(Verdict)
        /// The request leaves, is applied, and nobody hears of it.
        case applyAndLose
        /// The request leaves, is not applied, and nobody hears of it.
        case loseBeforeApplying
    }

    struct Made: Sendable, Equatable {
        var scope: Scope
        var threshold: Int64
    }

    private struct State {
        var script: [Act] = []
        var made: [Made] = []
        var calls = 0
        var lookUps = 0
    }

    private let state = Mutex(State())
    private let store: any Store
    private let clock: any DaemonClock
    let batch: Int

    init(store: any Store, clock: any DaemonClock, batch: Int = 1) {
        self.store = store
        self.clock = clock
        self.batch = batch
    }

    var made: [Made] { state.withLock { $0.made } }
    var calls: Int { state.withLock { $0.calls } }
    var lookUps: Int { state.withLock { $0.lookUps } }

    /// The next records meet these, in order; after the last all succeed.
    func script(_ acts: [Act]) { state.withLock { $0.script = acts } }

    func traits(of plugin: PluginName, action: String) -> ActionTraits? {
        ActionTraits(maximumBatch: batch, readLag: .seconds(3), canReconcile: true)
    }
    func thresholdAction(of plugin: PluginName) -> String? { "deal" }
    func obstacle(for plugin: PluginName) -> Reason? { nil }

    func deliver(_ claims: [ClaimedDelivery], on connection: Connection) async -> [Verdict] {
        var verdicts: [Verdict] = []
        for claim in claims { verdicts.append(await deliver(claim.delivery, journal: claim.journal)) }
        return verdicts
    }

    private func deliver(_ delivery: Delivery, journal: [JournalEntry]) async -> Verdict {
        if journal.contains(where: { $0.step == "deal" && $0.state == .done }) {
            return Verdict(kind: .ok, remoteID: "known")
        }
        let act = state.withLock { state -> Act in
            state.calls += 1
            return state.script.isEmpty ? .succeed : state.script.removeFirst()
        }
        let made = Made(scope: delivery.scope, threshold: delivery.threshold)
        do {
            switch act {
            case .answer(let verdict): return verdict
            case .succeed:
                try await store.storeIntent(
                    deliveries: [delivery.id], step: "deal", attempt: delivery.attempts, at: clock.now)
                let number = state.withLock { state in
                    state.made.append(made)
                    return state.made.count
                }
                try await store.storeOutcome(
                    deliveries: [delivery.id], step: "deal", wire: "answered", httpStatus: 200, body: nil, at: clock.now
                )
                try await store.storeStep(
                    delivery: delivery.id, step: "deal", result: ["id": .integer(Int64(number))], at: clock.now)
                return Verdict(kind: .ok, remoteID: String(number))
            case .applyAndLose:
                try await store.storeIntent(
                    deliveries: [delivery.id], step: "deal", attempt: delivery.attempts, at: clock.now)
                state.withLock { $0.made.append(made) }
                return Verdict(kind: .retry, message: "lost")
            case .loseBeforeApplying:
                try await store.storeIntent(
                    deliveries: [delivery.id], step: "deal", attempt: delivery.attempts, at: clock.now)
                return Verdict(kind: .retry, message: "lost")
            }
        } catch {
            return Verdict(kind: .retry, message: "\(error)")
        }
    }

    func reconcile(_ claims: [ClaimedDelivery], on connection: Connection) async -> [Finding] {
        claims.map { claim in
            state.withLock { state in
                state.lookUps += 1
                let wanted = Made(scope: claim.delivery.scope, threshold: claim.delivery.threshold)
                let isThere = state.made.contains(wanted)
                return Finding(
                    answer: isThere ? .applied : .notApplied, step: "deal", remoteID: isThere ? "found" : nil)
            }
        }
    }
}

/// A clock that stands until somebody moves it; sleeping moves it.
final class VirtualClock: DaemonClock {
    private let time: Mutex<Timestamp>

    init(_ start: Timestamp) { time = Mutex(start) }

    var now: Timestamp { time.withLock { $0 } }
    func advance(by duration: Duration) { time.withLock { $0 = $0 + duration } }
    func sleep(for duration: Duration) async throws {
        try Task.checkCancellation()
        advance(by: duration)
    }
}

/// A replayable source (SplitMix64).
final class SeededRandom: RandomSource {
    private let state: Mutex<UInt64>

    init(seed: UInt64) { state = Mutex(seed) }

    func bytes(_ count: Int) -> [UInt8] {
        (0..<count).map { _ in
            state.withLock { state in
                state &+= 0x9e37_79b9_7f4a_7c15
                var mixed = state
                mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
                mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
                return UInt8(truncatingIfNeeded: mixed ^ (mixed >> 31))
            }
        }
    }
}
