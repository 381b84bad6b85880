// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// A point at which a plugin offers to judge what other connections are about to do (`hooks` of the manifest).
public struct HookDeclaration: Sendable, Hashable {
    /// `deal.before` or `rule.before`; others are for later daemons.
    public var point: String
    /// Milliseconds that one question may take unless the connection says otherwise.
    public var budgetMilliseconds: Int64
    public var onFailure: InterceptPolicy.OnFailure
}

extension PluginManifest {
    /// Budget while the manifest gives none.
    static let hookBudget: Int64 = 5000

    public var hooks: [HookDeclaration] {
        (raw["hooks"]?.array ?? []).compactMap { item in
            guard let point = item["point"]?.string else { return nil }
            return HookDeclaration(
                point: point, budgetMilliseconds: item["budget_ms"]?.integer ?? Self.hookBudget,
                onFailure: item["on_failure"]?.string.flatMap(InterceptPolicy.OnFailure.init) ?? .proceed)
        }
    }

    func hookProblem() -> String? {
        guard let declared = raw["hooks"], declared != .null else { return nil }
        guard let items = declared.array, items.count <= 8 else {
            return "has hooks that are no list of up to 8 points"
        }
        for item in items {
            guard let point = item["point"]?.string, !point.isEmpty else { return "has a hook without a point" }
            if let budget = item["budget_ms"] {
                guard let budget = budget.integer, InterceptPolicy.budgets.contains(budget) else {
                    return "gives the hook \(point) a budget_ms that is not from 100 to 30000"
                }
            }
            if let policy = item["on_failure"],
                policy.string.flatMap(InterceptPolicy.OnFailure.init) == nil
            {
                return "gives the hook \(point) an on_failure that is neither proceed nor hold"
            }
        }
        return nil
    }
}
