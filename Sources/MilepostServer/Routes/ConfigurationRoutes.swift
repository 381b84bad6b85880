// SPDX-License-Identifier: Apache-2.0

import MilepostModel

extension MilepostServer {
    static var configurationRoutes: [Route] {
        [
            .get(
                "/v1/admin/configuration/diff", "admin.configuration.diff", .scope(.admin),
                "What the configuration's files say differently from what is in force."
            ) { call in
                let found = await call.server.control.compareConfiguration()
                return Answer([
                    "changes": .array(
                        found.changes.map {
                            [
                                "key": .string($0.key), "running": JSONValue($0.running), "file": JSONValue($0.file),
                                "needs": $0.needsRestart ? "restart" : "reload",
                            ]
                        }), "files": .array(found.files.map(JSONValue.string)),
                    "errors": .array(found.errors.map(JSONValue.string)),
                ])
            }
        ]
    }
}
