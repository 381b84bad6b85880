// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import MilepostEngine
import MilepostIntake
import MilepostModel
import MilepostServer
import MilepostStore
import Testing

@Suite("access")
struct AccessTests {
    private static func path(_ route: Route, workspace: String = "ws") -> String {
        "/"
            + route.path.split(separator: "/").map { $0 == "{ws}" ? workspace : $0.hasPrefix("{") ? "x" : String($0) }
            .joined(separator: "/")
    }

    /// Written out here, so that a route whose scope changes by accident is noticed.
    private static let needs: [String: AccessScope] = [
        "events.post": .ingest, "forms.post": .ingest, "metrics": .viewer, "workspaces.list": .viewer,
        "workspaces.put": .admin, "links.list": .viewer, "links.get": .viewer, "links.put": .operator,
        "links.explain": .viewer, "events.explain": .viewer, "held.list": .viewer, "members.get": .viewer,
        "members.put": .operator, "integrations.list": .viewer,
        "integrations.get": .viewer, "integrations.rollout": .viewer, "integrations.connect": .admin,
        "integrations.change": .admin,
        "integrations.disconnect": .admin, "integrations.options": .operator, "integrations.options.trial": .admin,
        "deliveries.list": .viewer, "deliveries.export": .viewer, "deliveries.replay.bulk": .operator,
        "deliveries.get": .viewer, "deliveries.replay": .operator, "deliveries.release": .operator,
        "contacts.export": .admin, "contacts.erase": .admin,
        "admin.tick": .operator, "admin.plugins": .viewer, "admin.reload": .admin, "admin.configuration.diff": .admin,
        "admin.schedule": .viewer,
        "admin.status": .viewer, "tokens.list": .admin, "tokens.create": .admin, "tokens.revoke": .admin,
        "audit.list": .admin, "keys.list": .admin, "keys.create": .admin, "keys.drop": .admin, "keys.reload": .admin,
        "keys.rewrap": .admin, "admin.backup": .admin, "admin.audit_totals": .viewer,
        "plans.get": .admin, "plans.put": .admin, "links.describe": .operator,
        "managed.list": .admin, "integrations.compare": .admin,
        "apps.list": .admin, "apps.get": .admin, "apps.put": .admin, "apps.delete": .admin,
        "integrations.check": .admin,
        "integrations.provision": .admin, "integrations.deprovision": .admin, "apps.provision": .admin,
        "apps.deprovision": .admin, "oauth.adopt": .admin,
        "integrations.authorize": .admin, "integrations.authorize.status": .admin,
        "integrations.authorize.complete": .admin,
        "rules.list": .viewer, "rules.create": .admin, "rules.apply": .admin, "rules.simulate": .operator,
        "rules.explain": .viewer, "rules.get": .viewer, "rules.put": .admin, "rules.remove": .admin,
        "integrations.enable": .operator, "integrations.events.post": .ingest, "integrations.events.list": .viewer,
        "rules.explain.one": .viewer, "rules.firings": .viewer,
    ]

    private static func mayPass(_ scope: AccessScope, _ needed: AccessScope) -> Bool {
        let order: [AccessScope] = [.viewer, .operator, .admin]
        if needed == .ingest { return scope == .ingest || scope == .admin }
        guard let have = order.firstIndex(of: scope), let need = order.firstIndex(of: needed) else { return false }
        return have >= need
    }

    @Test("PRV-05: viewer, operator, admin and ingest over every route", arguments: AccessScope.allCases)
    func matrix(scope: AccessScope) async throws {
        try await World.run { world in
            let token = try await world.token(scope)
            for route in MilepostServer.routes where route.access != .open {
                let needed = try #require(
                    Self.needs[route.operationID], "\(route.operationID) is new: say its scope here")
                let answer = try await world.send(
                    route.method.rawValue, Self.path(route), token: token, json: .object([:]))
                if Self.mayPass(scope, needed) {
                    #expect(
                        answer.status != 401 && answer.status != 403, "\(scope) \(route.operationID) \(answer.text)")
                } else {
                    #expect(answer.status == 403 && answer.code == "forbidden", "\(scope) \(route.operationID)")
                }
                #expect(answer.status != 500, "\(scope) \(route.operationID) \(answer.text)")
            }
        }
    }

    @Test(
        "a workspace's token reaches its own workspace and nothing of another or of the daemon",
        arguments: AccessScope.allCases)
    func bound(scope: AccessScope) async throws {
        try await World.run { world in
            for name in ["mine", "theirs"] {
                _ = try await world.store.ensureWorkspace(WorkspaceID(name), at: world.engine.clock.now)
            }
            let token = try await world.token(scope, workspace: "mine")
            for route in MilepostServer.routes where route.access != .open {
                let answer = try await world.send(
                    route.method.rawValue, Self.path(route, workspace: "theirs"), token: token, json: .object([:]))
                if route.operationID == "workspaces.list" {
                    let seen = answer.json["workspaces"]?.array?.compactMap { $0["id"]?.string }
                    #expect(answer.status == 403 || seen == ["mine"])
                } else {
                    #expect(answer.status == 403, "\(scope) \(route.operationID): \(answer.text)")
                }
            }
            let tick = try await world.send("POST", "/v1/admin/tick?workspace=theirs", token: token)
            let plan = try await world.send("PUT", "/v1/workspaces/mine", token: token, json: ["plan": "pro"])
            #expect(tick.status == 403 && plan.status == 403)
            #expect(try await world.store.workspace("mine")?.plan == nil)
        }
    }

    @Test("a header that is no bearer token of ours opens nothing")
    func bearer() async throws {
        try await World.run { world in
            let token = try await world.token(.admin)
            let wrong = [
                "Basic \(token)", "Bearer", "Bearer ", "Bearer  \(token)", "Bearer \(token) x", "Bearer \(token)x",
                token,
                "Bearer mpt_", "Bearer \(String(repeating: "a", count: 20_000))", "Bearer \(token.dropLast())é",
            ]
            for header in wrong {
                let answer = try await world.send("GET", "/v1/workspaces", headers: ["Authorization": header])
                #expect(answer.status == 401 || answer.status == 400, "\(header.prefix(40)) \(answer.status)")
            }
            let right = try await world.send("GET", "/v1/workspaces", headers: ["Authorization": "bearer \(token)"])
            #expect(right.status == 200)
        }
    }

    @Test("an expired and a revoked token open nothing, at once")
    func ended() async throws {
        try await World.run { world in
            let admin = try await world.token(.admin)
            let expired = try await world.token(.admin, expiresAt: world.engine.clock.now)
            #expect(try await world.send("GET", "/v1/workspaces", token: expired).status == 401)
            let made = try await world.send(
                "POST", "/v1/admin/tokens", token: admin, json: ["name": "n", "scopes": ["viewer"]])
            let text = try #require(made.json["token"]?.string)
            #expect(made.status == 201)
            #expect(try await world.send("GET", "/v1/workspaces", token: text).status == 200)
            let id = try #require(made.json["id"]?.string)
            #expect(try await world.send("DELETE", "/v1/admin/tokens/\(id)", token: admin).status == 200)
            #expect(try await world.send("GET", "/v1/workspaces", token: text).status == 401)
        }
    }

    @Test("a bound of a new token that cannot be read is refused, never taken for none")
    func tokenBounds() async throws {
        try await World.run { world in
            let admin = try await world.token(.admin)
            let wrong: [JSONValue] = [
                ["name": "n", "scopes": ["viewer"], "workspace": 5],
                ["name": "n", "scopes": ["viewer"], "workspace": ""],
                ["name": "n", "scopes": ["viewer"], "expires_at": 1_700_000_000], ["name": "n", "scopes": []],
                ["name": "n", "scopes": ["viewer"], "expires_at": "soon"], ["name": "n", "scopes": ["root"]],
                ["name": "n", "scopes": ["viewer"], "workspaces": "a"], ["name": "", "scopes": ["viewer"]],
                ["name": "n", "scopes": ["viewer", 5]], ["scopes": ["viewer"]], [],
            ]
            for body in wrong {
                let answer = try await world.send("POST", "/v1/admin/tokens", token: admin, json: body)
                #expect(answer.status == 400 && answer.code == "bad_request", "\(body)")
            }
            #expect(try await world.store.tokens().count == 1)
        }
    }

    @Test("metrics are open only where the configuration says so")
    func publicMetrics() async throws {
        try await World.run { world in
            #expect(try await world.send("GET", "/metrics").status == 401)
            var settings = World.settings
            settings.hasPublicMetrics = true
            world.live.replace(settings, intake: .init())
            let answer = try await world.send("GET", "/metrics")
            #expect(answer.status == 200 && answer.text.contains("milepost_store_writable 1"))
        }
    }
}
