// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import Hummingbird
import MilepostEngine
import MilepostModel
import MilepostPluginHost
import MilepostStore

extension MilepostServer {
    private static let base = "/v1/workspaces/{ws}/integrations"

    static var integrationRoutes: [Route] {
        [
            .get(base, "integrations.list", .scope(.viewer), "Lists the workspace's connections.") { call in
                let all = try await call.engine.store.connections(workspace: call.workspace())
                let counts = try await call.engine.store.deliveryCounts()
                return Answer(["integrations": .array(try await present(all, counts, call))])
            },
            .get("\(base)/{integration}", "integrations.get", .scope(.viewer), "A connection with its state and queue.")
            { call in
                Answer(try await presentOne(try await connection(call), call))
            },
            .change(
                .post, "\(base)/{integration}", "integrations.connect", .scope(.admin),
                query: ["dry_run", "managed_by"],
                "Proves a credential and connects; dry_run proves only.", connect),
            .change(
                .patch, "\(base)/{integration}", "integrations.change", .scope(.admin), query: ["managed_by"],
                "Changes settings or credentials; credentials are proved before they replace the old ones.", change),
            .change(
                .delete, "\(base)/{integration}", "integrations.disconnect", .scope(.admin), query: ["managed_by"],
                "Disconnects; history and totals stay."
            ) { call in
                try await call.engine.connections.disconnect(
                    call.integration(), workspace: call.workspace(), by: call.managedBy())
                return Answer(try await presentOne(try await connection(call), call))
            },
            .get(
                "\(base)/{integration}/options/{picker}", "integrations.options", .scope(.operator),
                query: ["search", "page", "pipeline_id", "pipeline"],
                "Live choices for a setting, read from the vendor now.",
                options),
            .change(
                .post, "\(base)/{integration}/options/{picker}", "integrations.options.trial", .scope(.admin),
                audited: false,
                "Live choices before a connection exists, with credentials in the body.", trialOptions),
        ]
    }

    static func connection(_ call: Call) async throws -> Connection {
        let integration = try call.integration()
        let workspace = try call.workspace()
        guard let found = try await call.engine.store.connection(integration, workspace: workspace) else {
            throw Problem.notFound(
                "Workspace \(workspace) has no connection \(integration); milepost connect \(integration) makes one.")
        }
        return found
    }

    static func present(
        _ connection: Connection, _ counts: [ConnectionID: [Delivery.State: Int]], _ call: Call
    ) -> JSONValue {
        connection.json(
            counts: counts[connection.id] ?? [:],
            maturity: call.engine.plugins.manifest(of: connection.integration.plugin)?.maturity)
    }

    private static func connect(_ call: Call) async throws -> Answer {
        let request = try ConnectionRequest(await call.json())
        let integration = try call.integration()
        let workspace = try call.workspace()
        if call.query("dry_run") == "true" {
            let proof = try await call.engine.connections.prove(request, integration, workspace: workspace)
            return Answer([
                "account": [
                    "id": .string(proof.account.id), "label": JSONValue(proof.account.label),
                    "domain": JSONValue(proof.account.domain),
                ],
                "warnings": .array(proof.warnings.map(\.json)), "settings": proof.settings,
            ])
        }
        try await requireRoom(for: workspace, call)
        try await requireRoom(for: integration, in: workspace, call)
        let (connection, isNew) = try await call.engine.connections.connect(
            request, integration, workspace: workspace, by: call.managedBy())
        let engine = call.engine
        // Owned by nobody and ends by itself: one drain of a queue that is on disk anyway.
        if !isNew { Task { await engine.goOn(connection) } }
        return Answer(
            try await presentOne(connection, call), status: isNew ? .created : .ok,
            auditDetail: ["account": JSONValue(connection.account?.id)])
    }

    /// Refuses a connection that would be one too many. One that stands may always be connected again.
    private static func requireRoom(for integration: IntegrationName, in workspace: WorkspaceID, _ call: Call)
        async throws
    {
        let standing = try await call.engine.store.connections(workspace: workspace)
            .filter { $0.state != .disconnected && $0.integration != integration }
        let limit = call.settings.maximumIntegrations
        guard standing.count < limit else {
            throw Problem(
                status: .conflict, code: "conflict",
                detail: "Workspace \(workspace) has \(standing.count) connections, as many as "
                    + "limits.integrations_per_workspace allows; disconnect one, or raise it and reload.")
        }
    }

    private static func change(_ call: Call) async throws -> Answer {
        let request = try ConnectionRequest(await call.json())
        let changed = try await call.engine.connections.change(
            request, call.integration(), workspace: call.workspace(), by: call.managedBy())
        let engine = call.engine
        // As above: whoever reauthorised should not wait for the next tick (REA-06).
        if changed.state == .active { Task { await engine.goOn(changed) } }
        return Answer(
            try await presentOne(changed, call),
            auditDetail: [
                "credentials": .array(request.credentials.keys.sorted().map(JSONValue.string)),
                "settings": .array(request.settings.keys.sorted().map(JSONValue.string)),
                "thresholds": .array(changed.policy.thresholds.map(JSONValue.integer)),
            ])
    }

    private static func options(_ call: Call) async throws -> Answer {
        var values: [String: JSONValue] = [:]
        for (name, value) in call.request.uri.queryParameters where name != "search" && name != "page" {
            values[String(name)] = Int64(value).map(JSONValue.integer) ?? .string(String(value))
        }
        return Answer(
            try await call.engine.connections.options(
                call.parameter("picker"), values: values, search: call.query("search"), page: call.query("page"),
                integration: call.integration(), workspace: call.workspace()))
    }

    private static func trialOptions(_ call: Call) async throws -> Answer {
        var body = try await call.object()
        let values = body.removeValue(forKey: "values")?.object ?? [:]
        let search = body.removeValue(forKey: "search")?.string
        let page = body.removeValue(forKey: "page")?.string
        return Answer(
            try await call.engine.connections.options(
                call.parameter("picker"), values: values, search: search, page: page, integration: call.integration(),
                workspace: call.workspace(), credentials: ConnectionRequest(.object(body))))
    }
}
