// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostRules
import MilepostStore
import Synchronization
import Testing

/// Two connections of one plugin share its worker, a real one here.
@Suite("Connections that share a worker", .serialized, .timeLimit(.minutes(10)))
struct SharedWorkerTests {
    private static let other: WorkspaceID = "other"

    /// A second workspace whose link crashes the plugin.
    private static func poison(_ world: World) async throws {
        _ = try await world.store.ensureWorkspace(other, at: world.clock.now)
        _ = try await world.store.saveConnection(
            Connection(
                id: "con_2", workspace: other, integration: IntegrationName(plugin: "pipedrive"),
                stateSince: world.clock.now, policy: ThresholdPolicy(thresholds: [1]), connectedAt: world.clock.now),
            credentials: [], baseline: Reason(code: "baseline", message: "baseline"), at: world.clock.now)
        let click = Click(id: "poison", link: "x-abort", time: world.clock.now, isBot: false)
        _ = try await world.store.append(
            [IdentifiedClick(click: click, identity: Array(repeating: 7, count: 16))], workspace: other,
            receivedAt: world.clock.now)
    }

    private static func deliveries(_ world: World, _ workspace: WorkspaceID) async throws -> [Delivery] {
        try await world.store.deliveries(workspace: workspace, matching: DeliveryFilter(), cursor: nil, limit: 9).items
    }

    @Test("decisions 20, invariant 7: a record that was in flight when another connection's crashed the worker arrives")
    func innocent() async throws {
        let world = try await World()
        let bench = try await WorkerBench(world, operationTimeout: .seconds(5))
        try await world.connect(ThresholdPolicy(thresholds: [1]))
        try await world.click("x-wait", 1)
        try await Self.poison(world)
        let ticker = world.ticker(with: bench.plugins)
        for round in 1...2 {
            world.clock.advance(by: .seconds(300))
            bench.egress.hold()
            let innocent = Task { try await ticker.tick(workspace: world.workspace) }
            for _ in 0..<1000 where bench.egress.waiting == 0 { try await Task.sleep(for: .milliseconds(5)) }
            #expect(bench.egress.waiting == 1)
            let guilty = Task { try await ticker.tick(workspace: Self.other) }
            if round == 1 {
                _ = try await innocent.value
                #expect(try await world.deliveries().map(\.state) == [.retrying])
            } else {
                for _ in 0..<1000 where bench.plugins.turns.waiting(for: "pipedrive") == 0 {
                    try await Task.sleep(for: .milliseconds(5))
                }
            }
            bench.egress.release()
            _ = try await (innocent.value, guilty.value)
        }
        #expect(try await world.deliveries().map(\.state) == [.delivered])
        let poison = try await Self.deliveries(world, Self.other)
        #expect(poison.map(\.state) == [.dead])
        #expect(poison.map(\.reason?.code) == ["poison"])
        #expect(bench.plugins.obstacle(for: "pipedrive") == nil, "one record does not quarantine its plugin")
        await bench.close()
        await world.end()
    }

    @Test("decisions 20: who must be alone waits for those before it, and those after wait for it")
    func turns() async throws {
        let turns = PluginTurns()
        let log = Log()
        let (gate, open) = AsyncStream.makeStream(of: Void.self)
        @Sendable func start(_ name: String, alone: Bool, waits: Bool = false) -> Task<Void, Never> {
            Task {
                await turns.take(of: "p", alone: alone) {
                    log.add("+" + name)
                    if waits { for await _ in gate { break } }
                    log.add("-" + name)
                }
            }
        }
        func until(_ isTrue: @Sendable () -> Bool) async { while !isTrue() { await Task.yield() } }
        var tasks = [start("a", alone: false, waits: true)]
        await until { log.lines == ["+a"] }
        tasks.append(start("b", alone: true))
        await until { turns.waiting(for: "p") == 1 }
        tasks.append(start("c", alone: false))
        await until { turns.waiting(for: "p") == 2 }
        await turns.take(of: "q", alone: true) { log.add("q") }
        open.yield()
        for task in tasks { await task.value }
        #expect(log.lines == ["+a", "q", "-a", "+b", "-b", "+c", "-c"])
        #expect(turns.waiting(for: "p") == 0)
    }
}

private final class Log: Sendable {
    private let state = Mutex<[String]>([])
    var lines: [String] { state.withLock { $0 } }
    func add(_ line: String) { state.withLock { $0.append(line) } }
}
