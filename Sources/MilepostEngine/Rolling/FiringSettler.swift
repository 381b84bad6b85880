// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostRules
import MilepostStore

/// Acts on crossings: asks for the contact's records, applies guards and policy, and makes one delivery a record.
///
/// A crossing waits on disk until its records are known; a look-up that fails is tried again, later and later, for as long
/// as the rule and its connection stand.
struct FiringSettler: Sendable {
    let store: any Store
    let port: any RulePort
    let clock: any DaemonClock
    let random: any RandomSource
    let plans: PlanMatrix
    let reporter: any EngineReporter

    static let pageSize = 50
    static let firstPause: Duration = .seconds(5)
    static let longestPause: Duration = .seconds(900)

    /// Settles what is due.
    ///
    /// - Returns: connections that got something to deliver.
    func settleDue(_ workspace: WorkspaceID) async throws -> [Connection] {
        var touched: [ConnectionID: Connection] = [:]
        while true {
            try Task.checkCancellation()
            let due = try await store.waitingFirings(workspace: workspace, now: clock.now, limit: Self.pageSize)
            if due.isEmpty { return touched.values.sorted { $0.id < $1.id } }
            for firing in due {
                if let connection = try await settle(firing) { touched[connection.id] = connection }
            }
        }
    }

    /// - Returns: the connection when deliveries were made on it.
    private func settle(_ firing: RuleFiring) async throws -> Connection? {
        guard let rule = RollingRuleReader.read(firing.document).rules.first else {
            return try await end(firing, nil, "rule_unreadable", "The rule as it was stored cannot be read any more.")
        }
        guard let connection = try await store.connection(firing.integration, workspace: firing.workspace) else {
            return try await end(
                firing, nil, "not_connected",
                "The workspace has no connection \(firing.integration), so nobody can act.")
        }
        if connection.state == .disconnected {
            return try await end(firing, connection, "crossed_while_disconnected", "Crossed while disconnected.")
        }
        if let workspace = try await store.workspace(firing.workspace),
            let gate = try await store.planMatrix(configured: plans).obstacle(
                workspace: workspace, plugin: firing.integration.plugin, now: clock.now)
        {
            return try await end(firing, connection, gate.code, gate.message)
        }
        if connection.state != .active {
            try await put(
                off: firing, for: .seconds(60),
                Reason(
                    code: connection.state.rawValue,
                    message: "Waits while the connection is \(connection.state.rawValue): "
                        + (connection.stateReason?.message ?? "no reason is known.")))
            return nil
        }
        guard let action = port.ruleAction(of: firing.integration.plugin, named: rule.action.type) else {
            if let obstacle = port.obstacle(for: firing.integration.plugin) {
                try await put(off: firing, for: .seconds(60), obstacle)
                return nil
            }
            return try await end(
                firing, connection, "action_unknown",
                "\(firing.integration.plugin) has no action \(rule.action.type) for rules.")
        }
        switch await port.targets(of: firing.person, pipeline: rule.action.pipeline, on: connection) {
        case .targets(let targets): return try await act(firing, rule, action, targets, connection)
        case .failed(let verdict): return try await retry(firing, connection, verdict)
        }
    }

    // MARK: Records are known

    private func act(
        _ firing: RuleFiring, _ rule: RollingRule, _ action: String, _ targets: [RuleTarget], _ connection: Connection
    ) async throws -> Connection? {
        let moved = try await store.movedTargets(connection: connection.id, position: firing.position)
        let decisions = TargetChoice.decide(rule, among: targets, moved: moved)
        let now = clock.now
        var settlement = FiringSettlement(firing: firing, connection: connection.id, reason: nil, at: now)
        var outcomes: [JSONValue] = []
        for decision in decisions {
            var outcome: [String: JSONValue] = [
                "id": .string(decision.target.id), "name": JSONValue(decision.target.name),
                "stage": .string(decision.target.stage), "amount": JSONValue(decision.target.amount?.text),
                "delivery": .null, "reason": .null, "code": .null,
            ]
            if let refusal = decision.refusal {
                outcome["reason"] = .string(refusal.message)
                outcome["code"] = .string(refusal.code)
            } else {
                let (crossing, delivery) = make(firing, rule, action, decision.target, connection, at: now)
                settlement.crossings.append(crossing)
                settlement.deliveries.append(delivery)
                outcome["delivery"] = .string(delivery.id.rawValue)
            }
            outcomes.append(.object(outcome))
        }
        settlement.targets = .array(outcomes)
        if settlement.deliveries.isEmpty {
            settlement.reason =
                decisions.isEmpty
                ? Reason(
                    code: "no_deal",
                    message: "The contact has no deal in pipeline \(rule.action.pipeline), so nothing moves.")
                : decisions.first?.refusal
        }
        CrashPoint.reach("before_rule_settle")
        let made = try await store.settleFiring(settlement)
        CrashPoint.reach("after_rule_settle")
        reporter.ruleCrossed(
            firing.ruleID, in: firing.workspace, outcome: made.isEmpty ? "refused" : "acted")
        return made.isEmpty ? nil : connection
    }

    private func make(
        _ firing: RuleFiring, _ rule: RollingRule, _ action: String, _ target: RuleTarget, _ connection: Connection,
        at now: Timestamp
    ) -> (Crossing, Delivery) {
        let scope = Scope(kind: .rule, id: "\(firing.ruleID)/\(firing.number)")
        let delivery = Delivery(
            id: DeliveryID(random.identifier(prefix: "dlv", at: now)), workspace: firing.workspace,
            connection: connection.id, integration: connection.integration, action: action, scope: scope,
            threshold: firing.threshold, payload: payload(firing, rule, action, target), createdAt: now, updatedAt: now)
        let crossing = Crossing(
            key: CrossingKey(
                connection: connection.id, scope: scope, threshold: firing.threshold, arming: firing.arming,
                target: target.id), workspace: firing.workspace, at: firing.at,
            totals: ClickTotals(all: firing.counted, people: firing.counted), delivery: delivery.id)
        return (crossing, delivery)
    }

    /// The body a plugin translates: `include/milepost/schemas/payload.rule.json`.
    private func payload(
        _ firing: RuleFiring, _ rule: RollingRule, _ action: String, _ target: RuleTarget
    ) -> JSONValue {
        [
            "kind": "rule", "workspace": .string(firing.workspace.rawValue),
            "rule": ["id": .string(rule.id), "name": .string(rule.name)],
            "action": [
                "type": .string(action), "pipeline": .string(rule.action.pipeline),
                "from_stage": .string(rule.action.fromStage), "to_stage": .string(rule.action.toStage),
            ],
            "contact": firing.person, "target": ["id": .string(target.id)],
            "scope": ["kind": .string(rule.trigger.scope.kind), "id": .string(rule.trigger.scope.id)],
            "count": .integer(firing.counted), "threshold": .integer(firing.threshold),
            "window_ms": .integer(rule.trigger.window), "arming": .integer(firing.arming),
            "click": ["id": .string(firing.click.rawValue), "at": .string(firing.clickTime.description)],
        ]
    }

    // MARK: Records are not known

    private func retry(_ firing: RuleFiring, _ connection: Connection, _ verdict: Verdict) async throws -> Connection? {
        if let state = DeliveryMachine.connectionState(for: verdict) {
            if try await store.setState(id: connection.id, state, reason: verdict.reason, at: clock.now) {
                reporter.connectionMoved(connection, to: state, reason: verdict.reason)
            }
        } else if verdict.kind == .rejected || verdict.kind == .unsupported {
            return try await end(firing, connection, verdict.reason.code, verdict.reason.message)
        }
        let doubled = Self.firstPause * (1 << min(firing.attempts, 10))
        try await put(
            off: firing, for: min(Self.longestPause, verdict.retryAfter ?? doubled),
            Reason(
                code: verdict.reason.code,
                message: "The contact's deals could not be read yet; it is tried again. \(verdict.reason.message)"))
        return nil
    }

    private func put(off firing: RuleFiring, for pause: Duration, _ reason: Reason) async throws {
        let now = clock.now
        try await store.deferFiring(
            firing.number, until: now + max(pause, .milliseconds(1)), reason: reason, at: now)
    }

    private func end(
        _ firing: RuleFiring, _ connection: Connection?, _ code: String, _ message: String
    ) async throws -> Connection? {
        _ = try await store.settleFiring(
            FiringSettlement(
                firing: firing, connection: connection?.id, reason: Reason(code: code, message: message), at: clock.now)
        )
        reporter.ruleCrossed(firing.ruleID, in: firing.workspace, outcome: "refused")
        return nil
    }
}
