// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import MilepostEngine
import MilepostModel
import MilepostStore

/// How endpoints do, and what somebody does about it (EXT-08).
extension MilepostServer {
    static var endpointRoutes: [Route] {
        [
            .change(
                .post, "/v1/workspaces/{ws}/integrations/{integration}/enable", "integrations.enable",
                .scope(.operator),
                "Lets a connection deliver again that was disabled because its endpoint failed for too long or was gone."
            ) { call in
                let enabled = try await call.engine.connections.enable(call.integration(), workspace: call.workspace())
                let engine = call.engine
                // Owned by nobody and ends by itself: the queue is on disk, and ticks go on where this leaves off.
                Task { await engine.goOn(enabled) }
                return Answer(try await presentOne(enabled, call))
            }
        ]
    }

    static func refreshEndpointGauges(_ connections: [Connection], _ call: Call) {
        let now = call.engine.clock.now
        for connection in connections {
            let labels = [
                "integration": connection.integration.description, "workspace": connection.workspace.rawValue,
            ]
            let since = connection.state == .active && connection.isFailing ? connection.health.failingSince : nil
            call.server.metrics.set(
                "milepost_endpoint_failing_seconds",
                since.map { Double(max(0, (now - $0).wholeMilliseconds)) / 1000 } ?? 0, labels)
            call.server.metrics.set("milepost_endpoint_disabled", connection.isDisabledForEndpoint ? 1 : 0, labels)
        }
    }
}

extension Connection {
    var isFailing: Bool { (policy.endpoint ?? EndpointPolicy()).isFailing(health) }

    /// For the list of what is wrong.
    var failingProblem: (message: String, cure: String)? {
        guard state == .active, isFailing, let since = health.failingSince else { return nil }
        let due = (policy.endpoint ?? EndpointPolicy()).disablesAt(health)
        let last = health.lastFailure?.message ?? "no reason was given"
        return (
            "\(workspace)/\(integration) fails since \(since), \(health.failures) attempts without one success: \(last)",
            due.map {
                "Mend the other side; from \($0) on the next failure disables the connection, its queue is kept."
            }
                ?? "Mend the other side; what waits is tried again by itself."
        )
    }

    /// Null while deliveries succeed, or too few have failed to say.
    var failingJSON: JSONValue {
        guard isFailing, let since = health.failingSince else { return .null }
        return [
            "since": since.json, "failures": .integer(Int64(health.failures)),
            "last": health.lastFailure?.json ?? .null,
            "disables_at": state == .active
                ? (policy.endpoint ?? EndpointPolicy()).disablesAt(health).json : .null,
        ]
    }
}
