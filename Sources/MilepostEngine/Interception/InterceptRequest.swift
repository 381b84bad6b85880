// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostRules

/// The settings by which a connection judges others, as a request gives them. Null goes back to the default.
public struct InterceptRequest: Sendable {
    private enum Given<Value: Sendable>: Sendable {
        case absent, reset
        case value(Value)

        func over(_ base: Value?) -> Value? {
            switch self {
            case .absent: base
            case .reset: nil
            case .value(let value): value
            }
        }
    }

    private var isOn = Given<Bool>.absent
    private var onFailure = Given<InterceptPolicy.OnFailure>.absent
    private var budget = Given<Int64>.absent
    private var only = Given<[String]>.absent
    private var order = Given<Int64>.absent
    /// Whether the request says anything about judging.
    public private(set) var isGiven = false

    static let keys = [
        "intercept", "intercept_on_failure", "intercept_budget_ms", "intercept_for", "intercept_order",
    ]
    static let maximumNames = 100

    init(taking members: inout [String: JSONValue], _ errors: inout [SettingError]) {
        var problems: [SettingError] = []
        func take<Value>(_ key: String, _ expected: String, _ read: (JSONValue) -> Value?) -> Given<Value> {
            guard let given = members.removeValue(forKey: key) else { return .absent }
            isGiven = true
            if given == .null { return .reset }
            if let value = read(given) { return .value(value) }
            problems.append(
                SettingError(pointer: "/\(key)", code: "unknown_value", message: "\(key) must be \(expected)"))
            return .absent
        }
        isOn = take("intercept", "true or false") { $0.bool }
        onFailure = take("intercept_on_failure", "proceed or hold") {
            $0.string.flatMap(InterceptPolicy.OnFailure.init)
        }
        let budgets = InterceptPolicy.budgets
        budget = take(
            "intercept_budget_ms",
            "a whole number from \(budgets.lowerBound) to \(budgets.upperBound)"
        ) { $0.integer.flatMap { budgets.contains($0) ? $0 : nil } }
        only = take(
            "intercept_for",
            "a list of up to \(Self.maximumNames) integrations, PLUGIN or PLUGIN@NAME; "
                + "null for all of the workspace"
        ) { value in
            let names = (value.array ?? []).compactMap(\.string).filter { IntegrationName($0) != nil }
            guard names.count == value.array?.count, (1...Self.maximumNames).contains(names.count) else { return nil }
            return names
        }
        let orders = InterceptPolicy.orders
        order = take(
            "intercept_order", "a whole number from \(orders.lowerBound) to \(orders.upperBound)"
        ) { $0.integer.flatMap { orders.contains($0) ? $0 : nil } }
        errors += problems
    }

    func policy(over base: InterceptPolicy?) -> InterceptPolicy? {
        guard isGiven else { return base }
        return InterceptPolicy(
            isOn: isOn.over(base?.isOn) ?? false, onFailure: onFailure.over(base?.onFailure),
            budgetMilliseconds: budget.over(base?.budgetMilliseconds), only: only.over(base?.only),
            order: order.over(base?.order) ?? 0)
    }
}

extension ConnectionService {
    /// A judge that its plugin cannot be would never be asked, in silence.
    func refuseJudging(_ policy: ThresholdPolicy, _ request: ConnectionRequest, _ plugin: PluginName) throws {
        guard request.intercept.isGiven, policy.intercept?.isOn == true, plugins.hookPoints(of: plugin) == [] else {
            return
        }
        let error = SettingError(
            pointer: "/intercept", code: "unknown_value",
            message: "\(plugin) judges nothing: its manifest declares no hooks")
        throw EngineError(code: .validationFailed, detail: error.message, errors: [error])
    }
}
