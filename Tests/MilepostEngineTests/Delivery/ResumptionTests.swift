// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostStore
import Synchronization
import Testing

@Suite("Going on with a connection that works again")
struct ResumptionTests {
    /// Hears what could not be sent at once.
    private final class Listener: EngineReporter {
        let heard = Mutex<[String]>([])
        func attempted(_ record: AttemptRecord, on connection: Connection) {}
        func settled(_ outcome: DeliveryOutcome, on connection: Connection) {}
        func warned(_ warning: Reason, delivery: DeliveryID, on connection: Connection) {}
        func connectionMoved(_ connection: Connection, to state: Connection.State, reason: Reason?) {}
        func ticked(_ report: TickReport) {}
        func tickFailed(_ workspace: WorkspaceID, _ problem: String) {}
        func goingOnFailed(_ connection: Connection, _ problem: String) {
            heard.withLock { $0.append("\(connection.integration): \(problem)") }
        }
    }

    private func resumption(_ world: World, _ listener: Listener) -> Resumption {
        Resumption(store: world.store, ticker: world.ticker, clock: world.clock, reporter: listener)
    }

    @Test("EXT-08: a store that fails ends it, and the reporter hears so", arguments: [nil, EndpointHealth.firstQuota])
    func storeFails(quota: Int?) async throws {
        let world = try await World()
        try await world.connect()
        var connection = try #require(try await world.store.connection(id: world.connection))
        connection.health.resumeQuota = quota
        let listener = Listener()
        await world.store.close()
        await resumption(world, listener).run(connection)
        let heard = listener.heard.withLock { $0 }
        #expect(heard.count == 1 && heard[0].hasPrefix("pipedrive: closed"), "\(heard)")
        await world.end()
    }

    @Test("REA-06: what waits leaves at once, and nothing is told")
    func works() async throws {
        let world = try await World(batch: 10)
        try await world.connect(ThresholdPolicy(thresholds: [100]))
        for number in 0..<20 { try await world.click(LinkID("l\(number)"), 100) }
        world.plugins.script(
            Array(repeating: .answer(Verdict(kind: .authRevoked, code: "credential_refused")), count: 1))
        try await world.tick()
        #expect(world.plugins.made.count < 20)
        _ = try await world.store.setState(id: world.connection, .active, reason: nil, at: world.clock.now)
        let listener = Listener()
        await resumption(world, listener).run(try #require(try await world.store.connection(id: world.connection)))
        #expect(world.plugins.made.count == 20 && listener.heard.withLock { $0 }.isEmpty)
        await world.end()
    }
}
