// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import Hummingbird
import MilepostEngine
import MilepostModel
import MilepostPluginHost
import MilepostRules
import MilepostStore

extension MilepostServer {
    /// How a plugin's maker advises to begin with it, and how far this connection has come (HCON-10).
    static var rolloutRoutes: [Route] {
        [
            .get(
                "/v1/workspaces/{ws}/integrations/{integration}/rollout", "integrations.rollout", .scope(.viewer),
                "The steps by which the plugin's maker advises to begin, and how far this connection has come."
            ) { call in
                let connection = try await connection(call)
                let rules = try await call.engine.store.rules(workspace: connection.workspace)
                    .filter { $0.document["integration"]?.string == connection.integration.description }
                let advised =
                    call.engine.plugins.manifest(of: connection.integration.plugin)?.raw["rollout"]?.array ?? []
                let facts = RolloutStep.Facts(
                    connectedAt: connection.connectedAt, firstRuleAt: rules.map(\.createdAt).min(),
                    now: call.engine.clock.now)
                return Answer([
                    "steps": .array(
                        advised.compactMap(RolloutStep.init).map { step in
                            let progress = step.progress(facts)
                            return [
                                "id": .string(step.id), "title": .string(step.title), "text": JSONValue(step.text),
                                "state": .string(progress.state.rawValue), "due_at": progress.dueAt.json,
                            ]
                        })
                ])
            }
        ]
    }
}
