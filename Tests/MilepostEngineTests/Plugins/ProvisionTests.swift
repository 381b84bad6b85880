// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostStore
import Synchronization
import Testing

/// Provisioning with a real worker: intents outside of deliveries, and what a lost answer costs.
@Suite("Provisioning", .serialized, .timeLimit(.minutes(10)))
struct ProvisionTests {
    static let shelf: ConnectionID = "provision_con_1"

    func intents(_ world: World) async throws -> [String] {
        try await world.store.pluginKeys(connection: Self.shelf, prefix: "intent/", at: world.clock.now)
    }

    func bench() async throws -> (World, WorkerBench, ProvisionService) {
        let world = try await World()
        let bench = try await WorkerBench(world, operationTimeout: .seconds(5))
        try await world.connect()
        let service = ProvisionService(
            store: world.store, plugins: bench.plugins, clock: world.clock, requestTimeout: .seconds(30))
        return (world, bench, service)
    }

    @Test("HCON-04: in the moment in which a creation leaves, its intent is on disk; after the answer it is gone")
    func intentFirst() async throws {
        let (world, bench, service) = try await bench()
        let seen = Mutex<[String]>([])
        let (store, clock) = (world.store, world.clock)
        bench.egress.onSend {
            // A store that cannot be read leaves `seen` empty, and the expectation fails.
            let keys = try? await store.pluginKeys(connection: Self.shelf, prefix: "intent/", at: clock.now)
            seen.withLock { $0 = keys ?? [] }
        }
        let made = try await service.provision(
            IntegrationName(plugin: "pipedrive"), workspace: world.workspace, objects: [], removing: false)
        #expect(made == [ProvisionedObject(key: "template", state: .created, remoteID: "7")])
        #expect(seen.withLock { $0 } == ["intent/template"])
        #expect(try await intents(world).isEmpty)
        #expect(bench.egress.sent == 1)
        await bench.close()
        await world.end()
    }

    @Test("HCON-05: after a lost answer the next provisioning waits until the vendor has had time to show what it made")
    func lostAnswer() async throws {
        let (world, bench, service) = try await bench()
        bench.egress.answer(nil)
        await #expect(throws: EngineError.self) {
            try await service.provision(
                IntegrationName(plugin: "pipedrive"), workspace: world.workspace, objects: [], removing: false)
        }
        #expect(try await intents(world) == ["intent/template"])
        let before = world.clock.now
        world.clock.advance(by: .seconds(10))
        bench.egress.answer(201)
        _ = try await service.provision(
            IntegrationName(plugin: "pipedrive"), workspace: world.workspace, objects: [], removing: false)
        #expect(world.clock.now == before + .seconds(90))
        #expect(try await intents(world).isEmpty)
        await bench.close()
        await world.end()
    }

    @Test(
        "a 500 leaves the outcome open, a 503 and a refusal do not",
        arguments: [(500, true), (503, false), (400, false)])
    func openOutcomes(status: Int, isOpen: Bool) async throws {
        let (world, bench, service) = try await bench()
        bench.egress.answer(status)
        await #expect(throws: EngineError.self) {
            try await service.provision(
                IntegrationName(plugin: "pipedrive"), workspace: world.workspace, objects: [], removing: false)
        }
        #expect(try await intents(world).isEmpty == !isOpen)
        await bench.close()
        await world.end()
    }

    @Test("a plugin without the verb provisions nothing; an unknown connection and too many keys are refused")
    func refusals() async throws {
        let (world, bench, service) = try await bench()
        #expect(
            try await service.provision(
                IntegrationName(plugin: "pipedrive"), workspace: world.workspace, objects: [], removing: true
            ).isEmpty)
        await #expect(throws: EngineError.self) {
            try await service.provision(
                IntegrationName(plugin: "pipedrive", name: "other"), workspace: world.workspace, objects: [],
                removing: false)
        }
        let keys = (0..<101).map { "k\($0)" }
        await #expect(throws: EngineError.self) {
            try await service.provision(
                IntegrationName(plugin: "pipedrive"), workspace: world.workspace, objects: keys, removing: false)
        }
        await #expect(throws: EngineError.self) {
            try await service.provisionApp("pipedrive", objects: [], removing: false)
        }
        #expect(bench.egress.sent == 0)
        await bench.close()
        await world.end()
    }
}
