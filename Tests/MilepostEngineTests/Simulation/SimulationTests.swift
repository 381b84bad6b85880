// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostRules
import MilepostStore
import Testing

/// The engine under a deterministic simulator: one seed, one history. A failure names its seed.
@Suite("Simulated histories", .timeLimit(.minutes(10)))
struct SimulationTests {
    @Test(
        "invariants 2, 3, 4, 8, 9: whatever fails in whatever order, deals are the crossings that fired, once each",
        arguments: 0..<8)
    func histories(block: UInt64) async throws {
        var deaths = 0
        var deals = 0
        for seed in block * 25..<(block + 1) * 25 {
            var simulation = try await Simulation(seed: seed)
            try await simulation.run(steps: 40)
            let breaches = try await simulation.breaches()
            #expect(breaches.isEmpty, "seed \(seed)")
            deaths += simulation.deaths
            deals += simulation.vendor.deals.count
            await simulation.end()
        }
        // A simulator in which nothing happens proves nothing.
        #expect(deaths > 10 && deals > 80, "\(deaths) deaths, \(deals) deals")
    }

    @Test("the same seed tells the same history", arguments: [4, 14, 160] as [UInt64])
    func replayable(seed: UInt64) async throws {
        var told: [String] = []
        for _ in 0..<2 {
            var simulation = try await Simulation(seed: seed)
            try await simulation.run(steps: 40)
            told.append(try await simulation.digest())
            await simulation.end()
        }
        #expect(told[0] == told[1])
        #expect(told[0].split(separator: "\n").count > 5)
    }
}
