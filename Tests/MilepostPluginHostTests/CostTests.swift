// SPDX-License-Identifier: Apache-2.0

import Glibc
import MilepostPluginHost
import Testing

/// What the boundary costs (decision 22): printed, not gated, because a shared machine's noise is larger than the figure.
@Suite(.serialized, .enabled(if: unsafe getenv("MILEPOST_BENCH") != nil))
struct CostTests {
    @Test("cost of a ping, at depth 64 and alone", arguments: PluginIsolation.allCases)
    func ping(isolation: PluginIsolation) async throws {
        let bench = try PluginBench([.zoo])
        let instance = try await bench.instance("zoo", isolation)
        for depth in [1, 64] {
            let total = 128_000 / (depth == 1 ? 8 : 1)
            let clock = ContinuousClock()
            let spent = await clock.measure {
                await withTaskGroup { group in
                    for _ in 0..<depth {
                        group.addTask { for _ in 0..<(total / depth) { _ = await instance.ask(.ping) } }
                    }
                }
            }
            let each =
                Double(spent.components.attoseconds) / 1e12 / Double(total)
                + Double(spent.components.seconds) * 1e6 / Double(total)
            print("\(isolation) depth \(depth): \(each) us an operation")
        }
        await bench.close()
    }
}
