// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostRules
import MilepostStore
import Synchronization
import Testing

/// A plugin that dies over certain links, as the engine meets it.
private final class FragilePlugin: PluginPort {
    enum Way: String, Sendable, CaseIterable { case crashesAtOnce, crashesAfterIntent, crashesInLookUp }

    private struct State {
        var delivered: [String] = []
        var batches: [[String]] = []
        var deaths = 0
    }
    private let state = Mutex(State())
    private let store: any Store
    private let clock: any DaemonClock
    private let poison: Set<String>
    private let way: Way

    init(store: any Store, clock: any DaemonClock, poison: Set<String>, way: Way) {
        self.store = store
        self.clock = clock
        self.poison = poison
        self.way = way
    }

    var delivered: [String] { state.withLock { $0.delivered } }
    var deaths: Int { state.withLock { $0.deaths } }
    var batches: [[String]] { state.withLock { $0.batches } }

    func traits(of plugin: PluginName, action: String) -> ActionTraits? {
        ActionTraits(maximumBatch: 10, readLag: .seconds(3), canReconcile: true)
    }
    func thresholdAction(of plugin: PluginName) -> String? { "deal" }
    func obstacle(for plugin: PluginName) -> Reason? { nil }

    /// With the codes that the plugin host really gives.
    func deliver(_ claims: [ClaimedDelivery], on connection: Connection) async -> [Verdict] {
        let links = claims.map(\.delivery.scope.id)
        state.withLock { $0.batches.append(links) }
        if links.contains(where: poison.contains) {
            state.withLock { $0.deaths += 1 }
            if way != .crashesAtOnce {
                // A store that fails would show as a delivery that is not uncertain.
                try? await store.storeIntent(
                    deliveries: claims.map(\.delivery.id), step: "deal", attempt: 1, at: clock.now)
            }
            return claims.map { _ in
                Verdict(kind: .crashed, code: "plugin_crashed", message: "the worker was ended by signal 6")
            }
        }
        state.withLock { $0.delivered += links }
        return claims.map { _ in Verdict(kind: .ok, remoteID: "1") }
    }

    func reconcile(_ claims: [ClaimedDelivery], on connection: Connection) async -> [Finding] {
        let dies = way == .crashesInLookUp && claims.contains { poison.contains($0.delivery.scope.id) }
        return claims.map { _ in
            var finding = Finding(answer: dies ? .unknown : .notApplied, step: "deal", message: dies ? "it died" : nil)
            if dies { finding.failure = .crashed }
            return finding
        }
    }
}

@Suite("Records that crash their plugin")
struct PoisonTests {
    @Test(
        "decisions 20, invariant 7: in a batch of eight, the one that crashes twice is a dead letter, its neighbours arrive",
        arguments: FragilePlugin.Way.allCases)
    private func onePoisonRecord(way: FragilePlugin.Way) async throws {
        let world = try await World()
        try await world.connect(ThresholdPolicy(thresholds: [1]))
        for link in 0..<8 { try await world.click(LinkID("l\(link)"), 1) }
        let plugin = FragilePlugin(store: world.store, clock: world.clock, poison: ["l3"], way: way)
        let ticker = world.ticker(with: plugin)
        for _ in 0..<5 {
            world.clock.advance(by: .seconds(300))
            _ = try await ticker.tick()
        }
        #expect(plugin.delivered.sorted() == (0..<8).filter { $0 != 3 }.map { "l\($0)" })
        #expect(plugin.deaths <= 2)
        let dead = try await world.deliveries().filter { $0.state != .delivered }
        #expect(dead.map(\.scope.id) == ["l3"])
        #expect(dead.map(\.state) == [.dead])
        #expect(dead.first?.reason?.code == (way == .crashesInLookUp ? "outcome_unknown" : "poison"))
        await world.end()
    }

    @Test(
        "EXT-07, decisions 20: once the plugin is mended, the replay of a record that crashed it is sent",
        arguments: FragilePlugin.Way.allCases)
    private func replayed(way: FragilePlugin.Way) async throws {
        let world = try await World()
        try await world.connect(ThresholdPolicy(thresholds: [1]))
        try await world.click("l3", 1)
        let broken = world.ticker(with: FragilePlugin(store: world.store, clock: world.clock, poison: ["l3"], way: way))
        for _ in 0..<5 {
            world.clock.advance(by: .seconds(300))
            _ = try await broken.tick()
        }
        let filter = DeliveryFilter(states: [.dead])
        #expect(
            try await world.store.replay(workspace: world.workspace, matching: filter, limit: 9, at: world.clock.now)
                == 1)
        let mended = FragilePlugin(store: world.store, clock: world.clock, poison: [], way: way)
        world.clock.advance(by: .seconds(300))
        _ = try await world.ticker(with: mended).tick()
        #expect(mended.delivered == ["l3"])
        #expect(try await world.deliveries().map(\.state) == [.delivered])
        await world.end()
    }
}

extension World {
    /// A daemon with another plugin.
    func ticker(with plugins: any PluginPort, owner: String = "run_other") -> Ticker {
        let random = SeededRandom(seed: 7)
        return Ticker(
            store: store, plugins: plugins, clock: clock,
            evaluator: Evaluator(
                store: store, clock: clock, random: random, plans: PlanMatrix(), analyticsURLTemplate: nil),
            dispatcher: Dispatcher(
                store: store, plugins: plugins, clock: clock, random: random, owner: owner, limits: .init(),
                backoff: Backoff(), reporter: SilentReporter()),
            owner: owner, reporter: SilentReporter())
    }
}
