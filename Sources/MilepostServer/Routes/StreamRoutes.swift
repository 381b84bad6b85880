// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import MilepostEngine
import MilepostIntake
import MilepostModel
import MilepostStore

/// What became of single clicks: those that are held, and each one explained.
extension MilepostServer {
    static var streamRoutes: [Route] {
        [
            .get(
                "/v1/workspaces/{ws}/held", "held.list", .scope(.viewer),
                query: ["state", "integration", "limit", "cursor"],
                "Clicks that wait for their identity, or did, newest first.", heldClicks),
            .get(
                "/v1/workspaces/{ws}/events/{id}/explain", "events.explain", .scope(.viewer),
                "What became of one click on each connection.", explainEvent),
        ]
    }

    private static func heldClicks(_ call: Call) async throws -> Answer {
        let workspace = try call.workspace()
        let store = call.engine.store
        var states: Set<HeldClick.State> = []
        for name in (call.query("state") ?? "").split(separator: ",") {
            guard let state = HeldClick.State(rawValue: String(name)) else {
                throw Problem.badRequest(
                    "state \(name) is none of \(HeldClick.State.allCases.map(\.rawValue).joined(separator: ", ")).")
            }
            states.insert(state)
        }
        let connections = try await store.connections(workspace: workspace)
        var only: Connection?
        if let text = call.query("integration") {
            only = connections.first { $0.integration.description == text }
            guard only != nil else { throw Problem.notFound("Workspace \(workspace) has no connection \(text).") }
        }
        let page = try await store.heldClicks(
            workspace: workspace, connection: only?.id, states: states, cursor: call.cursor(), limit: call.limit())
        let clicks = try await store.clicks(at: Array(Set(page.items.map(\.position))))
        let byPosition = Dictionary(clicks.map { ($0.position, $0) }, uniquingKeysWith: { first, _ in first })
        let names = Dictionary(connections.map { ($0.id, $0.integration) }, uniquingKeysWith: { first, _ in first })
        let now = call.engine.clock.now
        var counts: [StreamCount: Int64] = [:]
        for connection in only.map({ [$0] }) ?? connections {
            let found = try await store.streamCounts(connection: connection.id)[connection.id] ?? [:]
            counts.merge(found) { $0 + $1 }
        }
        return Answer([
            "held": .array(
                page.items.map { held in
                    let click = byPosition[held.position]
                    return [
                        "event": JSONValue(click?.click.id.rawValue), "link": JSONValue(click?.click.link.rawValue),
                        "ts": click?.click.time.json ?? .null,
                        "integration": JSONValue(names[held.connection]?.description),
                        "state": .string(held.state.rawValue), "reason": .string(held.reason.rawValue),
                        "held_at": held.heldAt.json, "until": held.until.json, "changed_at": held.changedAt.json,
                        "age_seconds": .integer(max(0, (now - held.heldAt).wholeMilliseconds / 1000)),
                    ]
                }),
            "counts": [
                "held": .integer(counts.heldNow), "released": .integer(counts[.released] ?? 0),
                "expired": .integer(counts[.expired] ?? 0),
            ],
            "next": JSONValue(page.next),
        ])
    }

    private static func explainEvent(_ call: Call) async throws -> Answer {
        let workspace = try call.workspace()
        let id = EventID(try call.parameter("id"))
        guard
            let click = try await call.engine.store.storedClick(
                id, workspace: workspace, identity: ClickIdentity.of(id, workspace: workspace))
        else {
            throw Problem.notFound(
                "Workspace \(workspace) has no click \(id); it never came, or retention has taken its day.")
        }
        let lines = try await call.engine.clickExplainer.explain(click)
        return Answer([
            "event": .string(id.rawValue), "link": .string(click.click.link.rawValue), "ts": click.click.time.json,
            "received_at": click.receivedAt.json, "bot": .bool(click.click.isBot),
            "explanations": .array(
                lines.map { line in
                    [
                        "integration": .string(line.integration.description), "action": JSONValue(line.action),
                        "outcome": .string(line.outcome), "reason_code": .string(line.reason.code),
                        "reason": .string(line.reason.message), "delivery": JSONValue(line.delivery?.rawValue),
                    ]
                }),
        ])
    }

    /// Held clicks of each connection, for `/metrics`.
    static func refreshHeldGauges(_ connections: [Connection], _ call: Call) async throws {
        let counts = try await call.engine.store.streamCounts(connection: nil)
        for connection in connections {
            guard let counted = counts[connection.id] else { continue }
            let labels = [
                "integration": connection.integration.description, "workspace": connection.workspace.rawValue,
            ]
            func set(_ state: HeldClick.State, _ value: Int64) {
                call.server.metrics.set(
                    "milepost_held_clicks", Double(value), labels.merging(["state": state.rawValue]) { _, new in new })
            }
            set(.held, counted.heldNow)
            set(.released, counted[.released] ?? 0)
            set(.expired, counted[.expired] ?? 0)
        }
    }
}

extension [StreamCount: Int64] {
    /// Clicks that wait now: what was held and has not ended in one of the three ways.
    var heldNow: Int64 {
        Swift.max(0, (self[.held] ?? 0) - (self[.released] ?? 0) - (self[.expired] ?? 0) - (self[.erased] ?? 0))
    }
}
