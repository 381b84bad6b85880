// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import Hummingbird
import MilepostEngine
import MilepostModel
import MilepostPluginHost
import MilepostStore

extension MilepostServer {
    static var healthRoutes: [Route] {
        [
            .get("/healthz", "healthz", .open, "Whether the process lives.") { _ in
                Answer(["status": "ok", "role": "active"])
            },
            .get("/readyz", "readyz", .open, "Whether it takes work: not a standby, and the store can be written.") {
                call in
                let health = await call.engine.store.health()
                guard health.isWritable else {
                    throw Problem(
                        status: .serviceUnavailable, code: health.problem?.rawValue ?? "storage_unavailable",
                        detail: "The store cannot be written; see milepost doctor.")
                }
                return Answer(["status": "ready"])
            },
            .get("/openapi.json", "openapi", .open, "This API as an OpenAPI 3.1 document.") { call in
                Answer(OpenAPIDocument.make(routes: routes, version: call.settings.version))
            },
            .get("/metrics", "metrics", .scope(.viewer), "Prometheus text.") { call in
                try await refreshGauges(call)
                return Answer(
                    text: call.server.metrics.rendered(), contentType: "text/plain; version=0.0.4; charset=utf-8")
            },
        ]
    }

    /// As `/v1/admin/plugins` names them: the host's own, and one that is installed and not switched on.
    private static let pluginStates = PluginHealth.State.allCases.map(\.rawValue) + ["disabled"]

    /// Gauges whose truth lies in the store are read when somebody looks.
    private static func refreshGauges(_ call: Call) async throws {
        let metrics = call.server.metrics
        let store = call.engine.store
        let connections = try await store.connections(workspace: nil)
        let counts = try await store.deliveryCounts()
        let oldest = try await store.oldestUnfinished()
        let now = call.engine.clock.now
        for connection in connections {
            let labels = [
                "integration": connection.integration.description, "workspace": connection.workspace.rawValue,
            ]
            for state in Delivery.State.allCases where state != .delivered && state != .dropped {
                metrics.set(
                    "milepost_queue_depth", Double(counts[connection.id]?[state] ?? 0),
                    labels.merging(["state": state.rawValue]) { _, new in new })
            }
            metrics.set("milepost_dead_letters", Double(counts[connection.id]?[.dead] ?? 0), labels)
            let age = oldest[connection.id].map { Double((now - $0).wholeMilliseconds) / 1000 } ?? 0
            metrics.set("milepost_queue_oldest_age_seconds", age, labels)
            for state in Connection.State.allCases {
                metrics.set(
                    "milepost_connection_state", connection.state == state ? 1 : 0,
                    labels.merging(["state": state.rawValue]) { _, new in new })
            }
        }
        refreshEndpointGauges(connections, call)
        try await refreshHeldGauges(connections, call)
        try await RuleGauges.refresh(metrics, store)
        for plugin in await call.server.control.plugins() {
            guard let name = plugin["name"]?.string else { continue }
            for state in pluginStates {
                metrics.set(
                    "milepost_plugin_state", plugin["state"]?.string == state ? 1 : 0,
                    ["plugin": name, "state": state])
            }
            metrics.set("milepost_plugin_up", plugin["state"]?.string == "loaded" ? 1 : 0, ["plugin": name])
            metrics.set("milepost_plugin_restarts_total", Double(plugin["restarts"]?.integer ?? 0), ["plugin": name])
        }
        metrics.set("milepost_schedule_overdue", try await call.engine.scheduler.isOverdue() ? 1 : 0, [:])
        let health = await store.health()
        metrics.set("milepost_store_writable", health.isWritable ? 1 : 0, [:])
        metrics.set("milepost_store_bytes", Double(health.databaseBytes), [:])
        metrics.set("milepost_store_free_disk_bytes", Double(health.freeDiskBytes), [:])
    }
}
