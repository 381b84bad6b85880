// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// What each plan allows. Data, not code (PLAN-05): a self-hosted install has no matrix and allows everything.
public struct PlanMatrix: Sendable, Hashable {
    public struct Plan: Sendable, Hashable {
        /// Plugins whose connections fire; nil means all.
        public var integrations: Set<PluginName>?
        /// Whether scheduled evaluation fires at all; a free plan may connect for testing (PLAN-03).
        public var fires: Bool
        /// For how long from the trial's start it fires; nil means without end (PLAN-02).
        public var trialDays: Int?

        public init(integrations: Set<PluginName>? = nil, fires: Bool = true, trialDays: Int? = nil) {
            self.integrations = integrations
            self.fires = fires
            self.trialDays = trialDays
        }
    }

    public var plans: [String: Plan]

    public init(plans: [String: Plan] = [:]) { self.plans = plans }

    /// - Returns: nil when the workspace's plan lets the plugin fire now, else why not.
    public func obstacle(workspace: Workspace, plugin: PluginName, now: Timestamp) -> Reason? {
        guard !plans.isEmpty else { return nil }
        guard let name = workspace.plan, let plan = plans[name] else {
            return Reason(
                code: "plan_unknown",
                message:
                    "Workspace \(workspace.id) has no plan of the matrix; set one of \(plans.keys.sorted().joined(separator: ", "))."
            )
        }
        guard plan.fires else {
            return Reason(
                code: "plan_does_not_fire", message: "The plan \(name) allows connecting for testing but fires nothing."
            )
        }
        if let allowed = plan.integrations, !allowed.contains(plugin) {
            return Reason(code: "plan_lacks_integration", message: "The plan \(name) does not include \(plugin).")
        }
        if let days = plan.trialDays {
            let start = workspace.trialStartedAt ?? workspace.createdAt
            guard now < start + .seconds(days * 86_400) else {
                return Reason(code: "trial_over", message: "The trial of \(days) days began on \(start) and is over.")
            }
        }
        return nil
    }
}
