// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostStore

/// The states that nobody has to end: they follow the clock, the plugin and the workspace's plan.
extension Ticker {
    /// The connection as it is now: open again after midnight, with its plugin's state and its workspace's plan. Nil when it
    /// is disconnected or gone.
    func upToDate(_ id: ConnectionID, of workspace: Workspace) async throws -> Connection? {
        // Read here: between the caller's look and its turn may lie the vendors of another tick, and with them a
        // disconnection or other thresholds, which the cursor must not pass unseen.
        guard let stored = try await store.connection(id: id), stored.state != .disconnected else { return nil }
        return try await followPlan(try await followPlugin(try await reopenAfterMidnight(stored)), of: workspace)
    }

    /// A spent daily budget comes back by itself: the vendor resets it at midnight (crm-apis.md 2.4).
    private func reopenAfterMidnight(_ connection: Connection) async throws -> Connection {
        guard connection.state == .dailyBudget, connection.stateSince.day < clock.now.day else { return connection }
        return try await move(connection, to: .active, reason: nil)
    }

    /// A plugin that is switched off, refused or quarantined takes its connections along, so that the caps of what waits
    /// stand still (decisions 9) and status shows it; when it is back, so are they.
    private func followPlugin(_ connection: Connection) async throws -> Connection {
        let obstacle = plugins.obstacle(for: connection.integration.plugin)
        let wanted: Connection.State
        switch (obstacle, connection.state) {
        case (let obstacle?, .active), (let obstacle?, .plan):
            wanted = obstacle.code == "plugin_quarantined" ? .quarantined : .disabled
        case (nil, .disabled), (nil, .quarantined):
            guard connection.stateReason?.code == Self.pluginGone else { return connection }
            wanted = .active
        default: return connection
        }
        return try await move(
            connection, to: wanted, reason: obstacle.map { Reason(code: Self.pluginGone, message: $0.message) })
    }

    /// The reason's code while a connection waits for its plugin, and for nothing else.
    private static let pluginGone = "plugin_unavailable"

    /// What crossed while the plan fired stands still while it does not, and leaves once it fires again (decisions 9).
    private func followPlan(_ connection: Connection, of workspace: Workspace) async throws -> Connection {
        guard connection.state == .active || connection.state == .plan else { return connection }
        let gate = try await evaluator.gate(connection, workspace: workspace)
        switch (gate, connection.state) {
        case (let gate?, .active): return try await move(connection, to: .plan, reason: gate)
        case (let gate?, _) where gate.code != connection.stateReason?.code:
            // Through active, because a state that is there already keeps its reason.
            _ = try await store.setState(id: connection.id, .active, reason: nil, at: clock.now)
            return try await move(connection, to: .plan, reason: gate)
        case (nil, .plan): return try await move(connection, to: .active, reason: nil)
        default: return connection
        }
    }

    private func move(
        _ connection: Connection, to state: Connection.State, reason: Reason?
    ) async throws -> Connection {
        if try await store.setState(id: connection.id, state, reason: reason, at: clock.now) {
            reporter.connectionMoved(connection, to: state, reason: reason)
        }
        return try await store.connection(id: connection.id) ?? connection
    }
}
