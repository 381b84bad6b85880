// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostRules
import Testing

/// How much of an answer a plugin is given.
@Suite("The size of answers", .serialized, .timeLimit(.minutes(10)))
struct ResponseCapTests {
    @Test("a plugin is given as much of an answer as it asks for, also where that is more than the default")
    func asked() async throws {
        let world = try await World()
        let bench = try await WorkerBench(world, operationTimeout: .seconds(5))
        try await world.connect(ThresholdPolicy(thresholds: [1]))
        try await world.click("x-submit", 1)
        let ticker = world.ticker(with: bench.plugins)
        for _ in 0..<4 {
            world.clock.advance(by: .seconds(300))
            _ = try await ticker.tick()
        }
        #expect(bench.egress.sent == 1 && bench.egress.responseCap == 8 << 20)
        await bench.close()
        await world.end()
    }
}
