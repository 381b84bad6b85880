// SPDX-License-Identifier: Apache-2.0

import MilepostModel
public import MilepostRules
public import MilepostStore

extension LinkBook {
    /// The plans that count now: those handed in by REST when there are any, else the configuration's. Read anew for
    /// each evaluation, so that a matrix takes effect with the next tick (PLAN-05).
    public func planMatrix(configured: PlanMatrix) async throws -> PlanMatrix {
        let stored = try await plans()
        guard !stored.isEmpty else { return configured }
        return PlanMatrix(
            plans: Dictionary(
                stored.map { plan in
                    let integrations = plan.integrations.map { Set($0.map { PluginName($0) }) }
                    return (
                        plan.name, .init(integrations: integrations, fires: plan.fires, trialDays: plan.trialDays)
                    )
                }, uniquingKeysWith: { first, _ in first }))
    }
}
