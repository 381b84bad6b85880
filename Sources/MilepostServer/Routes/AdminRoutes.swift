// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import Hummingbird
import MilepostEngine
import MilepostModel
import MilepostStore
import MilepostVault

extension MilepostServer {
    static var adminRoutes: [Route] {
        [
            .change(
                .post, "/v1/admin/tick", "admin.tick", .scope(.operator), query: ["workspace"],
                "Runs a tick now and answers when it is done."
            ) { call in
                let report = try await call.engine.ticker.tick(workspace: tickedWorkspace(call))
                return Answer(report.json)
            },
            .get("/v1/admin/plugins", "admin.plugins", .scope(.viewer), "Plugins and their health.") { call in
                Answer(["plugins": .array(await call.server.control.plugins())])
            },
            .change(.post, "/v1/admin/reload", "admin.reload", .scope(.admin), "Applies a changed configuration.") {
                call in
                let report = await call.server.control.reload()
                func texts(_ list: [String]) -> JSONValue { .array(list.map(JSONValue.string)) }
                return Answer([
                    "applied": texts(report.applied), "restart_required": texts(report.restartRequired),
                    "errors": texts(report.errors),
                ])
            },
            .get("/v1/admin/schedule", "admin.schedule", .scope(.viewer), "The schedule with its last and next run.") {
                call in
                Answer(["schedules": [try await schedule(call)]])
            },
            .get("/v1/admin/status", "admin.status", .scope(.viewer), "The daemon at a glance.", status),
            .get("/v1/admin/tokens", "tokens.list", .scope(.admin), "Lists tokens; their texts are not stored.") {
                call in
                Answer(["tokens": .array(try await call.engine.store.tokens().map { .object($0.json) })])
            },
            .change(
                .post, "/v1/admin/tokens", "tokens.create", .scope(.admin), "Makes a token and shows it once.",
                createToken),
            .change(.delete, "/v1/admin/tokens/{id}", "tokens.revoke", .scope(.admin), "Revokes a token.") { call in
                let id = try call.parameter("id")
                guard try await call.engine.store.deleteToken(id: id) else {
                    throw Problem.notFound("There is no token \(id).")
                }
                call.server.authenticator.forgetAll()
                return Answer(["id": .string(id), "revoked": true])
            },
            .get(
                "/v1/admin/audit", "audit.list", .scope(.admin), query: ["limit", "cursor"],
                "The audit log, newest first."
            ) { call in
                let page = try await call.engine.store.auditEntries(cursor: call.cursor(), limit: call.limit())
                return Answer(["entries": .array(page.items.map(\.json)), "next": JSONValue(page.next)])
            },
            .get(
                "/v1/admin/keys", "keys.list", .scope(.admin), "Key-encryption keys and how many data keys each wraps."
            ) { call in
                Answer(try await keys(call))
            },
            .change(.post, "/v1/admin/keys", "keys.create", .scope(.admin), "Adds a key and makes it the current one.")
            { call in
                let id = try await call.server.control.newKey()
                return Answer(try await keys(call), status: .created, auditDetail: ["id": .string(id)])
            },
            .change(
                .delete, "/v1/admin/keys/{id}", "keys.drop", .scope(.admin),
                "Takes a key out of the ring that wraps no data key any more."
            ) { call in
                try await call.server.control.dropKey(call.parameter("id"))
                return Answer(try await keys(call))
            },
            .change(.post, "/v1/admin/keys/reload", "keys.reload", .scope(.admin), "Reads the key ring again.") {
                call in
                try await call.server.control.reloadKeys()
                return Answer(try await keys(call))
            },
            .change(
                .post, "/v1/admin/keys/rewrap", "keys.rewrap", .scope(.admin),
                "Wraps every data key with the current key."
            ) { call in
                let count = try await call.server.control.rewrapKeys()
                return Answer(["rewrapped": .integer(Int64(count))], auditDetail: ["rewrapped": .integer(Int64(count))])
            },
            .change(
                .post, "/v1/admin/backup", "admin.backup", .scope(.admin),
                "Copies the store to a new file on the daemon's machine, online."
            ) { call in
                guard let path = try await call.object(keys: ["path"])["path"]?.string, path.hasPrefix("/"),
                    path.utf8.count <= 4096
                else {
                    throw Problem.badRequest("path must be an absolute path on the daemon's machine.")
                }
                try await call.server.control.backUp(to: path)
                return Answer(["path": .string(path)], auditDetail: ["path": .string(path)])
            },
            .get("/v1/admin/audit-totals", "admin.audit_totals", .scope(.viewer), "Compares totals with a recount.") {
                call in
                let wrong = try await call.engine.store.auditTotals()
                return Answer([
                    "mismatches": .array(
                        wrong.map {
                            [
                                "workspace": .string($0.workspace.rawValue), "link": .string($0.link.rawValue),
                                "stored": $0.stored.json, "recounted": $0.recounted.json,
                            ]
                        })
                ])
            },
        ]
    }

    private static func tickedWorkspace(_ call: Call) async throws -> WorkspaceID? {
        guard let name = call.query("workspace") else { return nil }
        let workspace = WorkspaceID(name)
        guard try await call.engine.store.workspace(workspace) != nil else {
            throw Problem.notFound("There is no workspace \(name.prefix(256)).")
        }
        return workspace
    }

    private static func keys(_ call: Call) async throws -> JSONValue {
        let status = try await call.engine.vault.status()
        return [
            "current_key": .string(status.currentKeyID),
            "keys": .array(
                status.dataKeyCounts.sorted { $0.key < $1.key }.map {
                    ["id": .string($0.key), "wraps": .integer(Int64($0.value))]
                }),
            "missing": .array(status.missingKeyIDs.map(JSONValue.string)),
        ]
    }

    private static func schedule(_ call: Call) async throws -> JSONValue {
        let scheduler = call.engine.scheduler
        let last = try await call.engine.store.lastRun(of: Ticker.scheduleName)
        return [
            "name": .string(Ticker.scheduleName), "interval_seconds": .integer(scheduler.interval.components.seconds),
            "last_run_at": (last?.startedAt).json,
            "duration_ms": last.map { .integer(($0.finishedAt - $0.startedAt).wholeMilliseconds) } ?? .null,
            "result": last.map { .string($0.succeeded ? "ok" : "failed") } ?? .null, "summary": last?.summary ?? .null,
            "next_run_at": scheduler.next(after: call.engine.clock.now).json,
            "overdue": .bool(try await scheduler.isOverdue()),
        ]
    }

    private static func status(_ call: Call) async throws -> Answer {
        let store = call.engine.store
        let health = await store.health()
        let counts = try await store.deliveryCounts()
        let connections = try await store.connections(workspace: nil)
        var queue: [String: JSONValue] = [:]
        for state in Delivery.State.allCases {
            queue[state.rawValue] = .integer(Int64(counts.values.reduce(0) { $0 + ($1[state] ?? 0) }))
        }
        let plugins = await call.server.control.plugins()
        var body: [String: JSONValue] = [
            "version": .string(call.settings.version), "role": "active",
            "schema_version": .integer(Int64(health.schemaVersion)), "workspaces": .integer(Int64(health.workspaces)),
            "links": .integer(Int64(health.links)), "queue": .object(queue), "plugins": .array(plugins),
            "connections": .array(try await present(connections, counts, call)),
            "schedules": [try await schedule(call)], "kms": try await keys(call),
            "store": [
                "writable": .bool(health.isWritable), "bytes": .integer(health.databaseBytes),
                "wal_bytes": .integer(health.walBytes), "free_disk_bytes": .integer(health.freeDiskBytes),
            ],
        ]
        body["problems"] = .array(try await problems(health, connections, plugins, call))
        body.merge(await call.server.control.facts()) { _, fact in fact }
        return Answer(.object(body))
    }

    private static func bound<Value>(
        _ key: String, of body: [String: JSONValue], as what: String, _ read: (String) -> Value?
    ) throws -> Value? {
        switch body[key] {
        case nil, .null: return nil
        case .some(let value):
            guard let found = value.string.flatMap(read) else {
                throw Problem.badRequest("\(key) must be \(what), or null.")
            }
            return found
        }
    }

    private static func createToken(_ call: Call) async throws -> Answer {
        let body = try await call.object(keys: ["name", "scopes", "workspace", "expires_at"])
        guard let name = body["name"]?.string, (1...100).contains(name.utf8.count) else {
            throw Problem.badRequest("name must be 1 to 100 bytes of text.")
        }
        let names = body["scopes"]?.array ?? []
        let scopes = names.compactMap { $0.string.flatMap(AccessScope.init(rawValue:)) }
        guard !scopes.isEmpty, scopes.count == names.count else {
            throw Problem.badRequest(
                "scopes must list some of \(AccessScope.allCases.map(\.rawValue).joined(separator: ", ")).")
        }
        // A bound that cannot be read must not become none.
        let expiry = try bound("expires_at", of: body, as: "an RFC 3339 time") { Timestamp(rfc3339: $0) }
        let workspace = try bound("workspace", of: body, as: "a workspace's name of 1 to 256 bytes") {
            (1...256).contains($0.utf8.count) ? WorkspaceID($0) : nil
        }
        let text = try MilepostVault.AccessToken.generate(random: OpenSSLRandomSource())
        let now = call.engine.clock.now
        let token = MilepostModel.AccessToken(
            id: "tok_" + Digest.hex(Array(text.hash.bytes.prefix(6))), name: name, hash: text.hash.bytes,
            scopes: scopes,
            workspace: workspace, createdAt: now, expiresAt: expiry)
        try await call.engine.store.saveToken(token)
        var answer = token.json
        answer["token"] = .string(text.text)
        return Answer(
            .object(answer), status: .created,
            auditDetail: [
                "id": .string(token.id), "name": .string(name), "scopes": .array(scopes.map { .string($0.rawValue) }),
                "workspace": JSONValue(workspace?.rawValue),
            ])
    }
}
