// SPDX-License-Identifier: Apache-2.0

import MilepostEgress
import MilepostEngine
import MilepostModel
import MilepostRules
import MilepostStore
import Synchronization
import Testing

/// Invariant 4 with a real worker: what leaves has its intent on disk, and nothing leaves for an operation that is over.
@Suite("Requests whose worker dies", .serialized, .timeLimit(.minutes(10)))
struct OrphanedRequestTests {
    @Test(
        "a request that waited for a budget while its worker was killed never leaves, and a later attempt sends it once"
    )
    func heldRequest() async throws {
        let world = try await World()
        let bench = try await WorkerBench(world, operationTimeout: .milliseconds(300))
        try await world.connect(ThresholdPolicy(thresholds: [1]))
        try await world.click("x-submit", 1)
        let ticker = world.ticker(with: bench.plugins)
        bench.egress.hold()
        world.clock.advance(by: .seconds(300))
        _ = try await ticker.tick()
        #expect(bench.egress.waiting == 1)
        let delivery = try #require(try await world.deliveries().first)
        #expect(delivery.state == .retrying)
        bench.egress.release()
        for _ in 0..<500 where bench.egress.kept + bench.egress.sent == 0 {
            try await Task.sleep(for: .milliseconds(5))
        }
        #expect(bench.egress.sent == 0 && bench.egress.kept == 1)
        #expect(try await world.store.journal(of: delivery.id).isEmpty)
        for _ in 0..<3 {
            world.clock.advance(by: .seconds(300))
            _ = try await ticker.tick()
        }
        #expect(bench.egress.sent == 1)
        await bench.close()
        await world.end()
    }

    @Test(
        "in the moment in which a request leaves, its intent is on disk; after a crash it is looked up and not repeated"
    )
    func intentFirst() async throws {
        let world = try await World()
        let bench = try await WorkerBench(world, operationTimeout: .seconds(5))
        try await world.connect(ThresholdPolicy(thresholds: [1]))
        try await world.click("x-submit", 1)
        let seen = Mutex<[JournalEntry.State]>([])
        let (store, workspace) = (world.store, world.workspace)
        bench.egress.onSend {
            // A store that cannot be read leaves `seen` empty, and the expectation fails.
            let page = try? await store.deliveries(
                workspace: workspace, matching: DeliveryFilter(), cursor: nil, limit: 1)
            guard let id = page?.items.first?.id, let journal = try? await store.journal(of: id) else { return }
            seen.withLock { $0 += journal.map(\.state) }
        }
        let ticker = world.ticker(with: bench.plugins)
        for _ in 0..<4 {
            world.clock.advance(by: .seconds(300))
            _ = try await ticker.tick()
        }
        #expect(seen.withLock { $0 } == [.intent])
        #expect(bench.egress.sent == 1)
        #expect(try await world.deliveries().map(\.state) == [.delivered])
        await bench.close()
        await world.end()
    }
}
