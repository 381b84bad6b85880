// SPDX-License-Identifier: Apache-2.0

import Foundation
import MilepostEngine
import MilepostModel
import MilepostRules
import MilepostStore

/// An engine's inner half on a real store in a folder of its own, with virtual time.
struct World {
    let clock = VirtualClock(Timestamp(rfc3339: "2026-11-21T12:00:00Z")!)
    let store: SQLiteStore
    let plugins: ScriptedPlugins
    let ticker: Ticker
    var directory: String { folder.path }
    private let folder: TemporaryFolder
    let workspace: WorkspaceID = "acme"
    let connection: ConnectionID = "con_1"

    init(batch: Int = 1, limits: DeliveryMachine.Limits = .init(), plans: PlanMatrix = PlanMatrix()) async throws {
        folder = try TemporaryFolder()
        store = try SQLiteStore.open(directory: folder.path, clock: clock)
        plugins = ScriptedPlugins(store: store, clock: clock, batch: batch)
        ticker = Self.ticker(store, plugins, clock, owner: "run_1", seed: 1, limits: limits, plans: plans)
    }

    static func ticker(
        _ store: SQLiteStore, _ plugins: ScriptedPlugins, _ clock: VirtualClock, owner: String, seed: UInt64,
        limits: DeliveryMachine.Limits = .init(), plans: PlanMatrix = PlanMatrix()
    ) -> Ticker {
        let random = SeededRandom(seed: seed)
        return Ticker(
            store: store, plugins: plugins, clock: clock,
            evaluator: Evaluator(store: store, clock: clock, random: random, plans: plans, analyticsURLTemplate: nil),
            dispatcher: Dispatcher(
                store: store, plugins: plugins, clock: clock, random: random, owner: owner, limits: limits,
                backoff: Backoff(), reporter: SilentReporter()),
            owner: owner, reporter: SilentReporter())
    }

    func connect(_ policy: ThresholdPolicy = ThresholdPolicy()) async throws {
        _ = try await store.ensureWorkspace(workspace, at: clock.now)
        _ = try await store.saveConnection(
            Connection(
                id: connection, workspace: workspace, integration: IntegrationName(plugin: "pipedrive"),
                stateSince: clock.now, policy: policy, connectedAt: clock.now),
            credentials: [], baseline: Reason(code: "baseline", message: "baseline"), at: clock.now)
    }

    /// Adds `count` new clicks on a link.
    func click(_ link: LinkID, _ count: Int, isBot: Bool = false) async throws {
        let before = try await store.link(link, workspace: workspace)?.totals.all ?? 0
        var clicks: [IdentifiedClick] = []
        for index in 0..<count {
            let id = "\(link)-\(before + Int64(index))"
            var identity = Array(id.utf8.prefix(16))
            identity += Array(repeating: 0, count: 16 - identity.count)
            clicks.append(
                IdentifiedClick(
                    click: Click(id: EventID(id), link: link, time: clock.now, isBot: isBot), identity: identity))
        }
        _ = try await store.append(clicks, workspace: workspace, receivedAt: clock.now)
    }

    @discardableResult
    func tick() async throws -> TickReport {
        clock.advance(by: .seconds(300))
        return try await ticker.tick()
    }

    func deliveries() async throws -> [Delivery] {
        try await store.deliveries(workspace: workspace, matching: DeliveryFilter(), cursor: nil, limit: 500).items
    }

    func end() async {
        await store.close()
        folder.remove()
    }
}
