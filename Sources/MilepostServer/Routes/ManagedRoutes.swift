// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import Hummingbird
import MilepostEngine
import MilepostModel
import MilepostStore

extension MilepostServer {
    /// What `milepost apply` asks beside the routes that everybody uses (decisions 32).
    static var managedRoutes: [Route] {
        [
            .get(
                "/v1/admin/managed", "managed.list", .scope(.admin),
                "What comes from files, with what each file said. Such things answer 409 to changes without managed_by."
            ) { call in
                let objects = try await call.engine.store.managedObjects()
                return Answer(["managed": .array(objects.map(\.json))])
            },
            .change(
                .post, "/v1/workspaces/{ws}/integrations/{integration}/compare", "integrations.compare",
                .scope(.admin), audited: false,
                "Names the given credentials that are not the stored ones; changes nothing and asks no vendor."
            ) { call in
                let different = try await call.engine.connections.differingCredentials(
                    ConnectionRequest(await call.json()), call.integration(), workspace: call.workspace())
                return Answer(["different": .array(different.map(JSONValue.string))])
            },
        ]
    }

    /// Refuses a change of what comes from a file, unless a file asks.
    static func refuseManaged(
        _ what: String, _ kind: ManagedObject.Kind, workspace: WorkspaceID? = nil, name: String, _ call: Call
    ) async throws {
        guard try call.managedBy() == nil,
            let found = try await call.engine.store.managedObject(kind, workspace: workspace, name: name)
        else { return }
        throw EngineError.managed(what, by: found)
    }

    /// Remembers that a thing comes from the file that asks, or that it no longer does.
    ///
    /// - Parameter document: what the file says; nil when it no longer names the thing.
    static func remember(
        _ kind: ManagedObject.Kind, workspace: WorkspaceID? = nil, name: String, document: JSONValue?, _ call: Call
    ) async throws {
        guard let file = try call.managedBy() else { return }
        let store = call.engine.store
        guard let document else { return try await store.release(kind, workspace: workspace, name: name) }
        try await store.manage(
            ManagedObject(
                kind: kind, workspace: workspace, name: name, source: file, document: document,
                appliedAt: call.engine.clock.now))
    }
}

extension Call {
    /// The file that this change comes from, nil when a person asks.
    func managedBy() throws -> String? {
        guard let file = query("managed_by") else { return nil }
        guard (1...1024).contains(file.utf8.count), file.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7f }) else {
            throw Problem.badRequest("managed_by must be a file's name of 1 to 1024 bytes without control characters.")
        }
        return file
    }
}

extension ManagedObject {
    var json: JSONValue {
        [
            "kind": .string(kind.rawValue), "workspace": JSONValue(workspace?.rawValue), "name": .string(name),
            "source": .string(source), "document": document, "applied_at": appliedAt.json,
        ]
    }
}
