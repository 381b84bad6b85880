// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostRules

/// SplitMix64: the same stream for the same seed.
struct Seeded: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}

let day: Int64 = 86_400_000

func rollingRule(
    _ id: String = "r1", scope: RollingRule.Scope = .tag("sales-collateral"), window: Int64 = 30 * day,
    threshold: Int = 50, minimum: String? = nil, deals: RollingRule.DealPolicy = .all,
    rearm: RollingRule.Rearm = .onRecross, audience: Audience = .people
) -> RollingRule {
    RollingRule(
        id: id, name: id, trigger: .init(scope: scope, window: window, threshold: threshold),
        integration: IntegrationName(plugin: "hubspot"),
        action: .init(
            type: "deal_stage", pipeline: "default", fromStage: "appointmentscheduled", toStage: "qualifiedtobuy"),
        guards: .init(minimumAmount: minimum.flatMap(DecimalAmount.init)), rearm: rearm, deals: deals,
        audience: audience)
}
