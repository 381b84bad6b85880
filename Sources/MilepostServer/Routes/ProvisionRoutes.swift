// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import Hummingbird
import MilepostEngine
import MilepostModel
import MilepostStore

extension MilepostServer {
    private static let integration = "/v1/workspaces/{ws}/integrations/{integration}"
    private static let app = "/v1/admin/apps/{plugin}"

    /// What plugins need at the vendor: made once, found again after (HCON-04 to HCON-06).
    static var provisionRoutes: [Route] {
        [
            .change(
                .post, integration + "/provision", "integrations.provision", .scope(.admin),
                "Makes what the connection needs in the account, and keeps what is there; may take a minute."
            ) { try await account($0, removing: false) },
            .change(
                .post, integration + "/deprovision", "integrations.deprovision", .scope(.admin),
                "Takes away the named objects, with what they hold."
            ) { try await account($0, removing: true) },
            .change(
                .post, integration + "/check", "integrations.check", .scope(.admin),
                "Asks the vendor whether the settings still fit; what is wrong becomes a warning of the connection."
            ) { call in
                let found = try await call.engine.connections.check(call.integration(), workspace: call.workspace())
                let problems = JSONValue.array(
                    found.map { ["code": .string($0.code), "message": .string($0.message)] })
                return Answer(["problems": problems], auditDetail: ["problems": problems])
            },
            .change(
                .post, app + "/provision", "apps.provision", .scope(.admin),
                "Makes what the plugin needs in the vendor's app, with the app's own key; may take a minute."
            ) { try await ofApp($0, removing: false) },
            .change(
                .post, app + "/deprovision", "apps.deprovision", .scope(.admin),
                "Takes away the app's objects."
            ) { try await ofApp($0, removing: true) },
        ]
    }

    private static func account(_ call: Call, removing: Bool) async throws -> Answer {
        let (integration, workspace) = (try call.integration(), try call.workspace())
        let objects = try await call.engine.provision.provision(
            integration, workspace: workspace, objects: keys(call), removing: removing)
        if let connection = try await call.engine.store.connection(integration, workspace: workspace) {
            let engine = call.engine
            // Owned by nobody and ends by itself: what waited for an object is delivered without waiting for a tick.
            if connection.state == .active, !removing { Task { await engine.goOn(connection) } }
        }
        return present(objects)
    }

    private static func ofApp(_ call: Call, removing: Bool) async throws -> Answer {
        let plugin = PluginName(try call.parameter("plugin"))
        return present(try await call.engine.provision.provisionApp(plugin, objects: keys(call), removing: removing))
    }

    private static func keys(_ call: Call) async throws -> [String] {
        guard let given = try await call.object(keys: ["objects"])["objects"], given != .null else { return [] }
        let keys = (given.array ?? []).compactMap(\.string)
        guard let list = given.array, keys.count == list.count else {
            throw Problem.badRequest("objects must be a list of keys, as an earlier answer told them.")
        }
        return keys
    }

    private static func present(_ objects: [ProvisionedObject]) -> Answer {
        let list = JSONValue.array(
            objects.map {
                ["key": .string($0.key), "state": .string($0.state.rawValue), "remote_id": JSONValue($0.remoteID)]
            })
        return Answer(["objects": list], auditDetail: ["objects": list])
    }
}
