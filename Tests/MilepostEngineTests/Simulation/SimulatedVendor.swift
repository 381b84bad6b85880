// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostStore
import Synchronization

/// A vendor, its plugin and the network between, all of them bad, driven by one seed.
///
/// Its faults follow the vendor's and the network's real ways: a request may be refused, lost before or after it was
/// applied, or applied late; a worker may die with a batch; the daemon may die in the middle of all of it.
final class SimulatedVendor: PluginPort {
    struct Deal: Hashable, Sendable {
        var scope: Scope
        var threshold: Int64
    }

    private struct State {
        var deals: [Deal] = []
        /// Applied by the vendor, and not shown before the moment given.
        var late: [(deal: Deal, at: Timestamp)] = []
        var isFaulty = true
        var mayDie = false
        var parked: [CheckedContinuation<Void, Never>] = []
        var onDeath: (@Sendable () -> Void)?
        var breaches: [String] = []
    }

    private let store: any Store
    private let clock: any DaemonClock
    private let random: SeededRandom
    private let state = Mutex(State())
    /// The vendor's look-ups lag this much, and the plugin says so.
    static let readLag: Duration = .seconds(3)

    init(store: any Store, clock: any DaemonClock, seed: UInt64) {
        self.store = store
        self.clock = clock
        random = SeededRandom(seed: seed)
    }

    var deals: [Deal] { state.withLock { $0.deals + $0.late.map(\.deal) } }
    /// What no vendor should ever see.
    var breaches: [String] { state.withLock { $0.breaches } }

    func recover() { state.withLock { $0.isFaulty = false } }

    /// From now on a request may be the last thing the daemon does; `onDeath` is called when it was.
    func mayDie(_ onDeath: @escaping @Sendable () -> Void) {
        state.withLock {
            $0.mayDie = true
            $0.onDeath = onDeath
        }
    }

    func mustLive() {
        state.withLock {
            $0.mayDie = false
            $0.onDeath = nil
        }
    }

    /// Lets the tasks of dead daemons end; call it when their store no longer matters.
    func bury() {
        let parked = state.withLock { state in
            defer { state.parked = [] }
            return state.parked
        }
        for continuation in parked { continuation.resume() }
    }

    // MARK: PluginPort

    func traits(of plugin: PluginName, action: String) -> ActionTraits? {
        ActionTraits(maximumBatch: 4, readLag: Self.readLag, canReconcile: true)
    }
    func thresholdAction(of plugin: PluginName) -> String? { "deal" }
    func obstacle(for plugin: PluginName) -> Reason? { nil }

    func deliver(_ claims: [ClaimedDelivery], on connection: Connection) async -> [Verdict] {
        var verdicts: [Verdict] = []
        for claim in claims {
            let verdict = await deliver(claim.delivery, journal: claim.journal)
            if verdict.kind == .crashed {
                // The worker takes the whole batch with it.
                return claims.map { _ in verdict }
            }
            verdicts.append(verdict)
        }
        return verdicts
    }

    private func deliver(_ delivery: Delivery, journal: [JournalEntry]) async -> Verdict {
        if let done = journal.first(where: { $0.step == "deal" && $0.state == .done }) {
            return Verdict(kind: .ok, remoteID: done.result?["remote_id"]?.string ?? "known")
        }
        if journal.contains(where: \.leavesOutcomeOpen) {
            state.withLock { $0.breaches.append("\(delivery.id) was sent while its outcome was open") }
        }
        let deal = Deal(scope: delivery.scope, threshold: delivery.threshold)
        let fate = state.withLock { $0.isFaulty } ? random.below(100) : 99
        do {
            switch fate {
            case 0..<6: return Verdict(kind: .retry, code: "vendor_unavailable", message: "503", httpStatus: 503)
            case 6..<9:
                return Verdict(kind: .rateLimited, message: "429", retryAfter: .seconds(Int64(random.below(40))))
            case 9..<11: return Verdict(kind: .rejected, code: "vendor_rejected", message: "the vendor said no")
            case 11..<13:
                return Verdict(kind: .crashed, code: "plugin_crashed", message: "the worker was ended by signal 6")
            case 13..<15: await die()
            default: break
            }
            try await intend(delivery)
            switch fate {
            case 15..<17: await die()
            case 17..<21: return Verdict(kind: .retry, message: "the connection was cut")
            case 21..<23:
                return Verdict(kind: .crashed, code: "plugin_crashed", message: "the worker was ended by signal 9")
            default: break
            }
            if (23..<28).contains(fate) {
                state.withLock { $0.late.append((deal, clock.now + .milliseconds(Int64(random.below(30_000))))) }
                return Verdict(kind: .deadline, message: "no answer in time")
            }
            state.withLock { $0.deals.append(deal) }
            switch fate {
            case 28..<32: await die()
            case 32..<38: return Verdict(kind: .retry, message: "the answer was lost")
            case 38..<40:
                return Verdict(kind: .crashed, code: "plugin_crashed", message: "the worker was ended by signal 11")
            default: break
            }
            try await store.storeOutcome(
                deliveries: [delivery.id], step: "deal", wire: "answered", httpStatus: 201, body: nil, at: clock.now)
            if (40..<43).contains(fate) { await die() }
            try await store.storeStep(delivery: delivery.id, step: "deal", result: ["remote_id": "1"], at: clock.now)
            if (43..<46).contains(fate) { await die() }
            if (46..<48).contains(fate) {
                return Verdict(kind: .crashed, code: "plugin_crashed", message: "after the work")
            }
            return Verdict(kind: .ok, remoteID: "1")
        } catch {
            return Verdict(kind: .retry, message: "\(error)")
        }
    }

    private func intend(_ delivery: Delivery) async throws {
        try await store.storeIntent(deliveries: [delivery.id], step: "deal", attempt: delivery.attempts, at: clock.now)
    }

    /// The daemon's last act: whoever waits for this task never hears of it again.
    private func die() async {
        let onDeath = state.withLock { $0.mayDie ? $0.onDeath : nil }
        guard let onDeath else { return }
        await withCheckedContinuation { continuation in
            state.withLock { $0.parked.append(continuation) }
            onDeath()
        }
    }

    func reconcile(_ claims: [ClaimedDelivery], on connection: Connection) async -> [Finding] {
        claims.map { claim in
            let wanted = Deal(scope: claim.delivery.scope, threshold: claim.delivery.threshold)
            let fate = state.withLock { $0.isFaulty } ? random.below(100) : 99
            if fate < 8 { return Finding(answer: .unknown, step: "deal", message: "the search is down") }
            let isThere = state.withLock { state -> Bool in
                let now = clock.now
                state.deals += state.late.filter { $0.at <= now }.map(\.deal)
                state.late.removeAll { $0.at <= now }
                return state.deals.contains(wanted)
            }
            return Finding(answer: isThere ? .applied : .notApplied, step: "deal", remoteID: isThere ? "found" : nil)
        }
    }
}

extension SeededRandom {
    /// Uniform enough in `0..<bound` for a test.
    func below(_ bound: Int) -> Int {
        let raw = bytes(4).reduce(0) { $0 << 8 | Int($1) }
        return raw % bound
    }
}
