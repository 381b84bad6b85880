// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import MilepostEngine
import MilepostIntake
import MilepostModel
import MilepostServer
import MilepostStore
import Testing

@Suite("protocol")
struct ProtocolTests {
    @Test(
        "a standby lives, is not ready, and says so on every other route; so does a daemon that starts",
        arguments: [("standby", false), ("starting", true)])
    func standby(code: String, isStarting: Bool) async throws {
        try await World.run(isActive: false, isStarting: isStarting) { world in
            let token = try await world.token(.admin)
            let health = try await world.send("GET", "/healthz")
            #expect(health.status == 200 && health.json["role"]?.string == code)
            for route in MilepostServer.routes where route.operationID != "healthz" {
                let path = route.path.replacing("{", with: "").replacing("}", with: "")
                let answer = try await world.send(route.method.rawValue, path, token: token)
                #expect(answer.status == 503 && answer.code == code, "\(route.operationID)")
                #expect(answer.headers["retry-after"] == "1")
            }
            world.role.activate(world.engine)
            #expect(try await world.send("GET", "/readyz").status == 200)
        }
    }

    @Test("unknown paths are 404, unknown methods 405 with what is offered, HEAD answers like GET without a body")
    func methods() async throws {
        try await World.run { world in
            let missing = try await world.send("GET", "/v2/x")
            #expect(missing.status == 404 && missing.code == "not_found")
            for method in ["DELETE", "OPTIONS", "POST", "TRACE"] {
                let answer = try await world.send(method, "/healthz")
                #expect(answer.status == 405 && answer.headers["allow"] == "GET, HEAD", "\(method) \(answer.status)")
                #expect(answer.code == "method_not_allowed")
            }
            let put = try await world.send("POST", "/v1/workspaces/a/links/b")
            #expect(put.status == 405 && put.headers["allow"] == "GET, HEAD, PUT")
            let head = try await world.send("HEAD", "/healthz")
            #expect(head.status == 200 && head.body.isEmpty)
        }
    }

    @Test("every answer has a request id, and debug lines name it with method, path, status and time")
    func requestID() async throws {
        try await World.run { world in
            let answers = [
                try await world.send("GET", "/healthz"), try await world.send("GET", "/nowhere"),
                try await world.send("GET", "/v1/workspaces"),
            ]
            let ids = answers.compactMap { $0.headers["x-request-id"] }
            #expect(Set(ids).count == 3)
            #expect(answers.allSatisfy { $0.status == 200 || $0.headers["content-type"] == "application/problem+json" })
            let lines = world.log.lines
            for (id, words) in zip(ids, ["GET /healthz 200", "GET /nowhere 404", "GET /v1/workspaces 401"]) {
                let line = try #require(lines.first { $0.contains("request=\(id)") })
                #expect(line.hasPrefix("debug \(words) client=127.0.0.1 ms="), "\(line)")
            }
        }
    }

    @Test("bodies of the wrong kind are told apart: 400, 413, 415, too deep")
    func bodies() async throws {
        try await World.run { world in
            let token = try await world.token(.admin)
            let path = "/v1/workspaces/ws/links/l"
            func put(_ text: String, type: String? = "application/json") async throws -> HTTPExchange {
                try await world.send("PUT", path, token: token, type: type, body: Array(text.utf8))
            }
            #expect(try await put("{").code == "bad_request")
            #expect(try await put("[]").status == 400)
            #expect(
                try await put(String(repeating: "[", count: 30) + String(repeating: "]", count: 30)).code == "too_deep")
            #expect(try await put("{\"title\":\"\(String(repeating: "a", count: 5000))\"}").code == "body_too_large")
            #expect(try await put("<a/>", type: "application/xml").code == "unsupported_media_type")
            #expect(try await put("{\"tilte\":\"a\"}").code == "validation_failed")
            #expect(try await put("{\"title\":\"a\"}", type: nil).status == 200)
            let garbled =
                "PUT \(path) HTTP/1.1\r\nHost: t\r\nConnection: close\r\nAuthorization: Bearer \(token)\r\n"
                + "Transfer-Encoding: chunked\r\n\r\nzz\r\n"
            #expect(try await HTTPExchange.send(Array(garbled.utf8), port: world.port).status == 400)
            #expect(!world.log.lines.contains { $0.hasPrefix("error") })
        }
    }

    @Test("numbers and cursors from outside are bounded")
    func bounds() async throws {
        try await World.run { world in
            let token = try await world.token(.admin)
            _ = try await world.send("PUT", "/v1/workspaces/ws", token: token, json: [:])
            let base = "/v1/workspaces/ws/deliveries"
            for query in ["limit=0", "limit=501", "limit=-1", "limit=99999999999999999999", "limit=a", "limit="] {
                #expect(try await world.send("GET", "\(base)?\(query)", token: token).status == 400, "\(query)")
            }
            #expect(
                try await world.send("GET", "\(base)?cursor=\(String(repeating: "9", count: 5000))", token: token)
                    .status == 400)
            for cursor in ["x", "99999999999999999999"] {
                #expect(
                    [400, 404].contains(try await world.send("GET", "\(base)?cursor=\(cursor)", token: token).status))
            }
            #expect(try await world.send("GET", "\(base)?since=yesterday", token: token).status == 400)
            #expect(try await world.send("GET", "\(base)?state=gone", token: token).status == 400)
            for body: JSONValue in [
                ["limit": 0], ["limit": "5"], ["integration": 5], ["lnk": "a"], ["state": "pending"], ["since": 5],
            ] {
                let answer = try await world.send("POST", "\(base)/replay", token: token, json: body)
                #expect(answer.status == 400, "\(body): \(answer.text)")
            }
            let all = try await world.send("POST", "\(base)/replay", token: token, json: ["limit": .integer(.max)])
            #expect(all.status == 200 && all.json["replayed"]?.integer == 0)
        }
    }

    @Test("a plan of the wrong type is refused and changes nothing; null clears it")
    func plans() async throws {
        try await World.run { world in
            let token = try await world.token(.admin)
            let path = "/v1/workspaces/ws"
            #expect(
                try await world.send("PUT", path, token: token, json: ["plan": "free"]).json["plan"]?.string == "free")
            for body: JSONValue in [
                ["plan": 5], ["plan": ""], ["pln": "x"], ["trial_started_at": 5], ["trial_started_at": "x"],
            ] {
                #expect(try await world.send("PUT", path, token: token, json: body).status == 400, "\(body)")
            }
            #expect(try await world.store.workspace("ws")?.plan == "free")
            #expect(try await world.send("PUT", path, token: token, json: ["plan": nil]).json["plan"] == .null)
        }
    }

    @Test("limits.workspaces: one too many is refused with what to raise, those that stand go on")
    func workspaceLimit() async throws {
        try await World.run { world in
            let token = try await world.token(.admin)
            for index in 0..<4 {
                #expect(try await world.send("PUT", "/v1/workspaces/w\(index)", token: token, json: [:]).status == 200)
            }
            let fifth = try await world.send("PUT", "/v1/workspaces/w4", token: token, json: [:])
            #expect(fifth.status == 409 && fifth.json["detail"]?.string?.contains("limits.workspaces") == true)
            #expect(try await world.send("PUT", "/v1/workspaces/w3", token: token, json: [:]).status == 200)
            let connect = try await world.send("POST", "/v1/workspaces/w5/integrations/x", token: token, json: [:])
            #expect(connect.status == 409)
        }
    }

    @Test("limits.integrations_per_workspace: one too many is refused, one that stands may be connected again")
    func integrationLimit() async throws {
        try await World.run { world in
            let token = try await world.token(.admin)
            let now = world.engine.clock.now
            _ = try await world.store.ensureWorkspace("ws", at: now)
            for name: PluginName in ["a", "b"] {
                _ = try await world.store.saveConnection(
                    Connection(
                        id: ConnectionID("con_\(name)"), workspace: "ws", integration: IntegrationName(plugin: name),
                        stateSince: now, connectedAt: now),
                    credentials: [], baseline: nil, at: now)
            }
            func connect(_ name: String) async throws -> HTTPExchange {
                try await world.send(
                    "POST", "/v1/workspaces/ws/integrations/\(name)", token: token,
                    json: ["credentials": ["api_token": "x"]])
            }
            let third = try await connect("c")
            #expect(third.status == 409 && third.json["detail"]?.string?.contains("integrations_per_workspace") == true)
            #expect(try await connect("a").code == "plugin_unavailable")
            var settings = World.settings
            settings.maximumIntegrations = 3
            world.live.replace(settings, intake: .init())
            #expect(try await connect("c").code == "plugin_unavailable")
        }
    }

    @Test("limits.connections: one too many waits until another ends")
    func connectionLimit() async throws {
        try await World.run(connections: 1, idle: .milliseconds(300)) { world in
            // Holds the only place until the idle time is over.
            async let silent = try? HTTPExchange.send(Array("GET /healthz HTTP/1.1\r\n".utf8), port: world.port)
            let answers = try await withThrowingTaskGroup(of: Int.self) { group in
                for _ in 0..<4 { group.addTask { try await world.send("GET", "/healthz").status } }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            #expect(answers == [200, 200, 200, 200])
            _ = await silent
        }
    }

    @Test("EXT-09: every mutating call leaves an audit row with who and from where, and no other call does")
    func audit() async throws {
        let proxies = TrustedProxies(["127.0.0.1"])
        var settings = World.settings
        settings.trustedProxies = proxies
        try await World.run(settings: settings) { world in
            let token = try await world.token(.admin)
            let mutating = MilepostServer.routes.filter { $0.method != .get }.filter { !$0.isAudited }.map(
                \.operationID)
            #expect(
                Set(mutating) == [
                    "events.post", "forms.post", "integrations.options.trial", "integrations.compare", "rules.simulate",
                ])
            let calls: [(String, String, String, JSONValue)] = [
                ("PUT", "/v1/workspaces/ws", "workspaces.put", [:]),
                ("PUT", "/v1/workspaces/ws/links/l", "links.put", ["title": "t"]),
                ("PUT", "/v1/workspaces/ws/members/m", "members.put", ["crm_opt_out": true]),
                ("POST", "/v1/workspaces/ws/deliveries/replay", "deliveries.replay.bulk", [:]),
                ("DELETE", "/v1/workspaces/ws/contacts/c", "contacts.erase", [:]),
                ("POST", "/v1/admin/tick", "admin.tick", [:]), ("POST", "/v1/admin/reload", "admin.reload", [:]),
                ("POST", "/v1/admin/tokens", "tokens.create", ["name": "n", "scopes": ["viewer"]]),
                ("POST", "/v1/admin/keys", "keys.create", [:]), ("DELETE", "/v1/admin/keys/k", "keys.drop", [:]),
                ("POST", "/v1/admin/keys/reload", "keys.reload", [:]),
                ("POST", "/v1/admin/keys/rewrap", "keys.rewrap", [:]),
                ("POST", "/v1/admin/backup", "admin.backup", ["path": "/tmp/x"]),
            ]
            for (method, path, action, body) in calls {
                let answer = try await world.send(
                    method, path, token: token, type: "application/json", headers: ["X-Forwarded-For": "203.0.113.9"],
                    body: body.bytes)
                #expect(answer.status < 300, "\(action) \(answer.text)")
                let newest = try #require(try await world.store.auditEntries(cursor: nil, limit: 1).items.first)
                // An erasure's row must not name the contact again (PRV-02).
                let target = action == "contacts.erase" ? "/v1/workspaces/ws/contacts/[erased]" : path
                #expect(newest.action == action && newest.target == target && newest.actor.hasPrefix("t (tok_"))
                #expect(newest.detail["client"]?.string == "203.0.113.9")
                #expect(!newest.detail.description.contains("mpt_"))
            }
            let count = try await world.store.auditEntries(cursor: nil, limit: 500).items.count
            for path in ["/v1/workspaces", "/v1/admin/status", "/v1/admin/audit", "/v1/workspaces/ws/links"] {
                #expect(try await world.send("GET", path, token: token).status == 200)
            }
            #expect(try await world.store.auditEntries(cursor: nil, limit: 500).items.count == count)
        }
    }

    @Test("EXT-09: a change that names no file it could come from is refused before it happens")
    func unreadableFile() async throws {
        try await World.run { world in
            let token = try await world.token(.admin)
            #expect(try await world.send("PUT", "/v1/workspaces/ws", token: token, json: [:]).status < 300)
            let link = "/v1/workspaces/ws/links/l"
            let refused = try await world.send("PUT", link + "?managed_by=%01", token: token, json: ["title": "t"])
            #expect(refused.status == 400)
            #expect(try await world.send("GET", link, token: token).status == 404)
        }
    }

    @Test("PRV-02: an erasure's row does not name the contact, however many slashes follow it")
    func erasureWithSlashes() async throws {
        try await World.run { world in
            let token = try await world.token(.admin)
            #expect(try await world.send("PUT", "/v1/workspaces/ws", token: token, json: [:]).status < 300)
            for slashes in ["", "/", "//"] {
                let path = "/v1/workspaces/ws/contacts/c" + slashes
                #expect(try await world.send("DELETE", path, token: token).status == 200)
                let newest = try #require(try await world.store.auditEntries(cursor: nil, limit: 1).items.first)
                #expect(newest.action == "contacts.erase" && newest.target == "/v1/workspaces/ws/contacts/[erased]")
            }
        }
    }

    @Test("markup in a page's texts is escaped, also where it is one character with the sign before it")
    func markup() {
        let scalars = Array(MilepostServer.escaped("a\u{600}<b>\u{301}&'\"").unicodeScalars)
        #expect(scalars == Array("a\u{600}&lt;b&gt;\u{301}&amp;&#39;&quot;".unicodeScalars))
    }

    @Test("limits.idle_timeout: a connection that stays silent is closed")
    func idle() async throws {
        try await World.run(idle: .milliseconds(200)) { world in
            let began = ContinuousClock.now
            // A request that never ends: the client itself would wait 20 s.
            _ = try? await HTTPExchange.send(Array("GET /healthz HTTP/1.1\r\nHost: t\r\n".utf8), port: world.port)
            #expect(ContinuousClock.now - began < .seconds(15))
        }
    }
}
