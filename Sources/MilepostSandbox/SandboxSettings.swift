// SPDX-License-Identifier: Apache-2.0

/// What a sandbox starts with. `reset` over the control API comes back to it.
public struct SandboxSettings: Hashable, Sendable {
    /// The API token of the first account's administrator.
    public var token: String
    /// How long a commit stays invisible to search. The vendor's delay is not published; 5 s is on the careful side.
    public var searchLagMilliseconds: Int64
    /// Decides the keys of custom fields. The same seed gives the same keys.
    public var seed: UInt64
    /// Limits of Pipedrive's plan. `off` switches HubSpot's limits off too; otherwise those are the published ones.
    public var plan: PipedrivePlan
    /// Cost tokens per company and day; nil takes the plan's.
    public var dailyBudget: Int?

    /// With which keys what comes to `/hooks/...` is checked (`setHookKeys`).
    private(set) var hookGuard = HookGuard()

    public init(
        token: String = "sandbox-token", searchLagMilliseconds: Int64 = 5000, seed: UInt64 = 1,
        plan: PipedrivePlan = .premium, dailyBudget: Int? = nil
    ) {
        self.token = token
        self.searchLagMilliseconds = searchLagMilliseconds
        self.seed = seed
        self.plan = plan
        self.dailyBudget = dailyBudget
    }

    /// - Parameters:
    ///   - keys: `whsec_…`, `whpk_…` or `whsk_…`; none: nothing is checked.
    ///   - refuses: whether what is not validly signed is answered with 401.
    /// - Returns: what is wrong with a key; nil when they are taken.
    public mutating func setHookKeys(_ keys: [String], refuses: Bool) -> String? {
        do throws(ControlError) {
            hookGuard = try HookGuard(keys: keys, refuses: refuses)
            return nil
        } catch { return error.detail }
    }
}
