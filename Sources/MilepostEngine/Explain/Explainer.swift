// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
public import MilepostRules
public import MilepostStore

/// Answers "why did this link (not) make a deal?" (EXC-05, EXT-16, invariant 8).
public struct Explainer: Sendable {
    let store: any Store
    let plans: PlanMatrix
    let plugins: any PluginPort
    let clock: any DaemonClock

    public init(store: any Store, plans: PlanMatrix, plugins: any PluginPort, clock: any DaemonClock) {
        self.store = store
        self.plans = plans
        self.plugins = plugins
        self.clock = clock
    }

    public struct Line: Sendable, Equatable {
        public var integration: IntegrationName
        public var scope: Scope
        public var threshold: Int64
        /// A delivery's state, `not_fired`, `not_reached`, `waiting_for_tick` or `none`.
        public var outcome: String
        public var reason: Reason
        public var delivery: DeliveryID?
        public var at: Timestamp?
        /// What hooks said before it left.
        public var decisions: [InterceptDecision] = []
    }

    /// One line for every connection and threshold, and notes that hold for the link as a whole.
    public func explain(_ link: Link) async throws -> (lines: [Line], notes: [Reason]) {
        var lines: [Line] = []
        var notes: [Reason] = []
        let optedOut = try await store.optedOutMembers(workspace: link.workspace)
        if let exclusion = ExclusionRule.reason(for: link, optedOutMembers: optedOut) { notes.append(exclusion) }
        let connections = try await store.connections(workspace: link.workspace)
        if connections.isEmpty {
            notes.append(
                Reason(
                    code: "not_connected",
                    message: "The workspace has no connection; clicks are counted and fire nothing."))
        }
        for connection in connections {
            if let workspace = try await store.workspace(link.workspace),
                let gate = try await store.planMatrix(configured: plans).obstacle(
                    workspace: workspace, plugin: connection.integration.plugin, now: clock.now)
            {
                notes.append(gate)
            }
            if let obstacle = plugins.obstacle(for: connection.integration.plugin) { notes.append(obstacle) }
            if connection.state != .active, let reason = connection.stateReason {
                notes.append(
                    Reason(code: connection.state.rawValue, message: "\(connection.integration): \(reason.message)"))
            }
            lines += try await explain(link, on: connection)
        }
        return (lines, notes)
    }

    private func explain(_ link: Link, on connection: Connection) async throws -> [Line] {
        guard let (scope, total) = try await scope(of: link, on: connection) else {
            return [
                Line(
                    integration: connection.integration, scope: Scope(kind: .link, id: link.id.rawValue), threshold: 0,
                    outcome: "none",
                    reason: Reason(
                        code: "no_folder",
                        message:
                            "\(connection.integration) counts by folder and the link is in none, so it fires nothing."))
            ]
        }
        let crossings = try await store.crossings(connection: connection.id, scope: scope)
        let thresholds = Set(connection.policy.thresholds).union(crossings.map(\.key.threshold)).sorted()
        var lines: [Line] = []
        for threshold in thresholds {
            lines.append(
                try await line(threshold, scope, total, crossings.first { $0.key.threshold == threshold }, connection))
        }
        return lines
    }

    private func line(
        _ threshold: Int64, _ scope: Scope, _ total: Int64, _ crossing: Crossing?, _ connection: Connection
    ) async throws -> Line {
        var line = Line(
            integration: connection.integration, scope: scope, threshold: threshold, outcome: "not_reached",
            reason: Reason(
                code: "not_reached",
                message: "\(total) of \(threshold) clicks (\(connection.policy.audience.rawValue)) are counted; "
                    + "\(threshold - total) are missing."))
        guard let crossing else {
            if total >= threshold { Self.describeReached(&line, total, threshold, connection) }
            return line
        }
        line.at = crossing.at
        guard let id = crossing.delivery else {
            line.outcome = "not_fired"
            line.reason = crossing.reason ?? Reason(code: "not_fired", message: "Reached without firing.")
            return line
        }
        line.delivery = id
        guard let delivery = try await store.delivery(id, workspace: connection.workspace) else {
            line.outcome = Delivery.State.delivered.rawValue
            line.reason = Reason(code: "delivered", message: "Delivered; the delivery's record is past its retention.")
            return line
        }
        line.outcome = delivery.state.rawValue
        line.decisions = try await store.decisions(of: id)
        line.reason = Self.reason(of: delivery, crossing, connection)
        return line
    }

    /// Reached and not evaluated yet: what comes of it depends on how the connection is.
    private static func describeReached(
        _ line: inout Line, _ total: Int64, _ threshold: Int64, _ connection: Connection
    ) {
        let reached = "\(total) clicks reach \(threshold)"
        switch connection.state {
        case .active:
            line.outcome = "waiting_for_tick"
            line.reason = Reason(code: "waiting_for_tick", message: "\(reached); the next tick acts on it.")
        case .disconnected:
            line.outcome = "not_fired"
            line.reason = Reason(
                code: "crossed_while_disconnected",
                message: "\(reached) while the connection is disconnected; it does not fire when it is connected again."
            )
        case .plan:
            line.outcome = "not_fired"
            line.reason = Reason(
                code: connection.stateReason?.code ?? connection.state.rawValue,
                message: "\(reached) while the plan fires nothing, and it does not fire later: "
                    + (connection.stateReason?.message ?? "no reason is known."))
        default:
            line.outcome = "waiting_for_connection"
            line.reason = Reason(
                code: connection.state.rawValue,
                message: "\(reached) and wait while the connection is \(connection.state.rawValue): "
                    + (connection.stateReason?.message ?? "no reason is known."))
        }
    }

    /// A delivered one says as what; a warning that came with it follows.
    private static func reason(of delivery: Delivery, _ crossing: Crossing, _ connection: Connection) -> Reason {
        guard delivery.state == .delivered else {
            return delivery.reason
                ?? Reason(
                    code: delivery.state.rawValue, message: "Reached; the delivery is \(delivery.state.rawValue).")
        }
        let clicks = crossing.totals.counted(connection.policy.audience)
        let warning = delivery.reason.map { " \($0.message)" } ?? ""
        return Reason(
            code: delivery.state.rawValue,
            message:
                "Reached at \(clicks) clicks; delivered as \(delivery.remoteID ?? "an object without an id").\(warning)"
        )
    }

    private func scope(of link: Link, on connection: Connection) async throws -> (Scope, Int64)? {
        switch connection.policy.aggregation {
        case .link:
            return (Scope(kind: .link, id: link.id.rawValue), link.totals.counted(connection.policy.audience))
        case .folder:
            guard let name = link.folder else { return nil }
            let folder = try await store.folder(name, workspace: link.workspace, audience: connection.policy.audience)
            return (Scope(kind: .folder, id: name), folder.totals.counted(connection.policy.audience))
        }
    }
}
