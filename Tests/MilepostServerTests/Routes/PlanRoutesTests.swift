// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostServer
import MilepostStore
import Testing

@Suite("plans and facts of many links")
struct PlanRoutesTests {
    private static let plans: JSONValue = [
        "plans": [
            "free": ["fires": false], "trial": ["trial_days": 14], "pro": ["integrations": ["pipedrive", "hubspot"]],
        ]
    ]

    private func put(_ world: World, _ path: String, _ body: JSONValue, _ token: String) async throws -> HTTPExchange {
        try await world.send("PUT", path, token: token, type: "application/json", body: body.bytes)
    }

    @Test("PLAN-05: a matrix handed in is the one that counts, is audited, and an empty one gives way")
    func matrix() async throws {
        try await World.run { world in
            let token = try await world.token(.admin)
            let none = try await world.send("GET", "/v1/admin/plans", token: token)
            #expect(none.json == ["plans": [:], "source": "configuration"])
            #expect(try await put(world, "/v1/admin/plans", Self.plans, token).status == 200)
            let answer = try await world.send("GET", "/v1/admin/plans", token: token).json
            #expect(answer["source"] == "api")
            #expect(answer["plans"]?["free"] == ["fires": false, "integrations": .null, "trial_days": .null])
            #expect(answer["plans"]?["pro"]?["integrations"] == ["hubspot", "pipedrive"])
            #expect(try await world.store.plans().first { $0.name == "trial" }?.trialDays == 14)
            let rows = try await world.store.auditEntries(cursor: nil, limit: 5).items
            #expect(rows.map(\.action) == ["plans.put"])
            #expect(rows.first?.detail["plans"] == ["free", "pro", "trial"])
            #expect(try await put(world, "/v1/admin/plans", ["plans": [:]], token).json["source"] == "configuration")
        }
    }

    @Test(
        "a wrong plan names its field and changes nothing",
        arguments: [
            (["free": ["fires": "no"]], "/plans/free/fires"), (["free": ["colour": 1]], "/plans/free/colour"),
            (["free": ["trial_days": -1]], "/plans/free/trial_days"),
            (["free": ["integrations": ["Pipe Drive"]]], "/plans/free/integrations"), (["free": 1], "/plans/free"),
        ] as [(JSONValue, String)])
    func wrongPlan(plans: JSONValue, pointer: String) async throws {
        try await World.run { world in
            let token = try await world.token(.admin)
            let answer = try await put(world, "/v1/admin/plans", ["plans": plans], token)
            #expect(answer.status == 422)
            #expect(answer.json["errors"]?.array?.first?["pointer"]?.string == pointer)
            #expect(try await world.store.plans().isEmpty)
        }
    }

    @Test("facts of many links come in at once; with only_missing what is known stays")
    func facts() async throws {
        try await World.run { world in
            let token = try await world.token(.admin)
            func describe(_ links: JSONValue, onlyMissing: Bool) async throws -> HTTPExchange {
                let body: JSONValue = ["links": links, "only_missing": .bool(onlyMissing)]
                return try await world.send(
                    "POST", "/v1/workspaces/acme/links", token: token, type: "application/json", body: body.bytes)
            }
            let first = try await describe(
                [["id": "a", "destination": "https://a.example", "tags": ["x"]], ["id": "b", "slug": "b"]],
                onlyMissing: true)
            #expect(first.json == ["changed": 2, "unchanged": 0])
            let sequence = try await world.store.currentSequence()
            let again = try await describe([["id": "a", "destination": "https://other.example"]], onlyMissing: true)
            #expect(again.json == ["changed": 0, "unchanged": 1])
            #expect(try await world.store.currentSequence() == sequence, "nothing for the next tick to look at")
            let link = try await world.store.link("a", workspace: "acme")
            #expect(link?.destination == "https://a.example")
            #expect(link?.tags == ["x"])
            _ = try await describe([["id": "a", "destination": "https://other.example"]], onlyMissing: false)
            #expect(try await world.store.link("a", workspace: "acme")?.destination == "https://other.example")
            let wrong = try await describe([["id": "a"], ["id": "b", "colour": "red"]], onlyMissing: false)
            #expect(wrong.status == 422)
            #expect(wrong.json["errors"]?.array?.first?["pointer"]?.string == "/links/1/colour")
        }
    }

    @Test("PRV-02: the audit row of an erasure does not keep whom it erased")
    func erasure() async throws {
        try await World.run { world in
            let token = try await world.token(.admin)
            _ = try await world.store.ensureWorkspace("acme", at: world.engine.clock.now)
            _ = try await world.send("GET", "/v1/workspaces/acme/contacts/ada%40example.org/export", token: token)
            #expect(
                try await world.send("DELETE", "/v1/workspaces/acme/contacts/ada%40example.org", token: token).status
                    == 200)
            let rows = try await world.store.auditEntries(cursor: nil, limit: 5).items
            #expect(rows.contains { $0.action == "contacts.erase" })
            #expect(!rows.contains { $0.target.contains("example.org") })
        }
    }
}
