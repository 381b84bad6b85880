// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostRules
import MilepostStore
import Testing

@Suite("Rolling rules, history and restarts")
struct RuleHistoryTests {
    private func world() async throws -> RulesWorld {
        let world = try await RulesWorld()
        try await world.tag("brochure", ["sales-collateral"])
        world.crm.set([.init(id: "9001")], of: "c1")
        return world
    }

    @Test("Invariant 9, THR-19: a new rule counts what came before it and fires only for a crossing that comes after")
    func neverBackwards() async throws {
        let world = try await world()
        world.crm.set([.init(id: "9002")], of: "c2")
        try await world.click(times: 60)
        try await world.click(by: "c2", times: 49)
        try await world.make(RulesWorld.document("r"))
        try await world.catchUp()
        #expect(world.crm.moves.isEmpty)
        #expect(try await world.firings().map(\.state) == [.baseline])
        try await world.click(times: 10)
        try await world.click(by: "c2")
        try await world.catchUp()
        #expect(world.crm.moves == ["9002:qualifiedtobuy"])
        // Below and across once more: now it counts.
        world.clock.advance(by: .seconds(40 * 86_400))
        try await world.click(times: 50)
        try await world.catchUp()
        #expect(world.crm.moves == ["9002:qualifiedtobuy", "9001:qualifiedtobuy"])
        await world.end()
    }

    @Test("Invariant 9: clicks that a rule's engine has not come to yet when the rule is made fire nothing either")
    func behindTheLog() async throws {
        let world = try await world()
        try await world.make(RulesWorld.document("old", tag: "nothing"))
        try await world.catchUp()
        try await world.click(times: 3)
        try await world.make(RulesWorld.document("new", threshold: 3))
        try await world.catchUp()
        #expect(world.crm.moves.isEmpty)
        #expect(try await world.firings("new").map(\.state) == [.baseline])
        await world.end()
    }

    @Test(
        "Invariant 9: changing a trigger counts anew from history and fires for nothing behind; other changes keep counts"
    )
    func changing() async throws {
        let world = try await world()
        try await world.make(RulesWorld.document("r", threshold: 50))
        try await world.click(times: 20)
        try await world.catchUp()
        let before = try #require(try await world.store.rule("r", workspace: world.workspace))
        _ = try await world.rules.service.put(
            RulesWorld.document("r", threshold: 50, more: ["deals": "newest"]), id: "r", workspace: world.workspace)
        try await world.catchUp()
        #expect(try await world.store.rule("r", workspace: world.workspace)?.number == before.number)
        _ = try await world.rules.service.put(
            RulesWorld.document("r", threshold: 10), id: "r", workspace: world.workspace)
        try await world.catchUp()
        try await world.click()
        try await world.catchUp()
        #expect(world.crm.moves.isEmpty)
        _ = try await world.rules.service.put(
            RulesWorld.document("r", threshold: 22), id: "r", workspace: world.workspace)
        try await world.click()
        try await world.catchUp()
        #expect(world.crm.moves == ["9001:qualifiedtobuy"])
        await world.end()
    }

    @Test("A removed rule fires nothing any more, also what it had not acted on yet; made again it starts from history")
    func removing() async throws {
        let world = try await world()
        try await world.make(RulesWorld.document("r", threshold: 2))
        try await world.click(times: 2)
        world.crm.failLookUps([Verdict(kind: .retry, code: "vendor_unavailable")])
        try await world.catchUp()
        try await world.rules.service.remove("r", workspace: world.workspace)
        world.clock.advance(by: .seconds(3600))
        try await world.catchUp()
        #expect(world.crm.moves.isEmpty)
        #expect(try await world.firings().first?.reason?.code == "rule_removed")
        try await world.make(RulesWorld.document("r", threshold: 2))
        try await world.click()
        try await world.catchUp()
        #expect(world.crm.moves.isEmpty)
        await world.end()
    }

    @Test(
        "A look-up that fails is tried again later and later, over restarts, until the deals are known",
        arguments: [1, 4])
    func lookUpsAreRetried(failures: Int) async throws {
        let world = try await world()
        try await world.make(RulesWorld.document("r", threshold: 1))
        try await world.click()
        world.crm.failLookUps(
            Array(repeating: Verdict(kind: .retry, code: "vendor_unavailable", message: "503"), count: failures))
        for _ in 0..<failures {
            try await world.catchUp()
            let waiting = try #require(try await world.firings().first)
            #expect(waiting.state == .waiting)
            #expect(waiting.reason?.code == "vendor_unavailable")
            try await world.restart()
            try await world.catchUp()
            #expect(world.crm.moves.isEmpty)
            let due = try #require(waiting.nextAttemptAt)
            world.clock.advance(by: due - world.clock.now)
        }
        try await world.catchUp()
        #expect(world.crm.moves == ["9001:qualifiedtobuy"])
        #expect(world.crm.lookUps == failures + 1)
        await world.end()
    }

    @Test(
        "A contact that the vendor does not know ends the crossing with that reason; a revoked key stops the connection"
    )
    func lookUpsThatEnd() async throws {
        let world = try await world()
        try await world.make(RulesWorld.document("r", threshold: 1))
        world.crm.failLookUps([Verdict(kind: .rejected, code: "contact_unknown", message: "no such contact")])
        try await world.click()
        try await world.catchUp()
        #expect(try await world.firings().map { $0.reason?.code } == ["contact_unknown"])
        world.crm.set([.init(id: "9002")], of: "c2")
        world.crm.failLookUps([Verdict(kind: .authRevoked, code: "invalid_token", message: "revoked")])
        try await world.click(by: "c2")
        try await world.catchUp()
        #expect(try await world.store.connection(id: "con_1")?.state == .needsReauth)
        world.clock.advance(by: .seconds(120))
        try await world.catchUp()
        #expect(world.crm.moves.isEmpty)
        _ = try await world.store.setState(id: "con_1", .active, reason: nil, at: world.clock.now)
        try await world.catchUp()
        #expect(world.crm.moves == ["9002:qualifiedtobuy"], "at once, as everything that waited (OAU-12)")
        await world.end()
    }

    @Test("Decisions 11: what is crossed while disconnected does not fire")
    func disconnected() async throws {
        let world = try await world()
        try await world.make(RulesWorld.document("r", threshold: 1))
        _ = try await world.store.setState(id: "con_1", .disconnected, reason: nil, at: world.clock.now)
        try await world.click()
        try await world.catchUp()
        #expect(try await world.firings().map { $0.reason?.code } == ["crossed_while_disconnected"])
        _ = try await world.store.setState(id: "con_1", .active, reason: nil, at: world.clock.now)
        try await world.catchUp()
        #expect(world.crm.moves.isEmpty)
        await world.end()
    }

    @Test(
        "RULE-04: crossings over a real store equal a recount in memory, whatever the pages, lateness and restarts",
        arguments: 0..<6)
    func equalsRecount(seed: Int) async throws {
        let world = try await RulesWorld()
        var random = Splitmix(state: UInt64(seed))
        for number in 0..<4 { try await world.tag("l\(number)".link, number % 2 == 0 ? ["even", "all"] : ["all"]) }
        let early = [
            RulesWorld.document("all", tag: "all", window: "2h", threshold: 6, more: ["mode": "observe"]),
            RulesWorld.document(
                "even", tag: "even", window: "30m", threshold: 3, more: ["mode": "observe", "rearm": "once"]),
            RulesWorld.document(
                "one", link: "l1", window: "1h", threshold: 2, more: ["mode": "observe", "count": "all"]),
        ]
        _ = try await world.rules.service.create(.array(early), workspace: world.workspace)
        for _ in 0..<120 {
            world.clock.advance(by: .seconds(Int64.random(in: 0...600, using: &random)))
            let late = Bool.random(using: &random) ? 0 : Int64.random(in: -200...9000, using: &random)
            try await world.click(
                "l\(Int.random(in: 0..<4, using: &random))".link, by: "c\(Int.random(in: 0..<3, using: &random))",
                times: Int.random(in: 1...3, using: &random), isBot: Int.random(in: 0..<5, using: &random) == 0,
                at: world.clock.now - .seconds(late))
            if Int.random(in: 0..<8, using: &random) == 0 { try await world.catchUp() }
            if Int.random(in: 0..<20, using: &random) == 0 { try await world.restart() }
        }
        try await world.catchUp()
        let rules = try await world.store.rules(workspace: world.workspace).compactMap {
            RollingRuleReader.read($0.document).rules.first
        }
        let recount = try await world.rules.simulator.run(
            .init(rules: rules, basis: .received), workspace: world.workspace)
        let expected = (recount["firings"]?.array ?? []).map {
            "\($0["rule"]?.string ?? "") \($0["contact"]?.string ?? "") \($0["click"]?.string ?? "") \($0["arming"]?.integer ?? -1)"
        }
        #expect(!expected.isEmpty)
        #expect(try await world.firings().map { "\($0.ruleID) \($0.contact) \($0.click) \($0.arming)" } == expected)
        // Windows that are filled from the log are those that were counted live.
        var live: [String: [RuleContact: RuleProgress]] = [:]
        for rule in early { live[rule["id"]?.string ?? ""] = try await windows(world, rule["id"]?.string ?? "") }
        for document in early {
            let id = document["id"]?.string ?? ""
            try await world.rules.service.remove(id, workspace: world.workspace)
            try await world.make(document)
        }
        try await world.catchUp()
        for (id, before) in live {
            let after = try await windows(world, id)
            #expect(
                after.values.map(\.window).sorted { $0.lexicographicallyPrecedes($1) }
                    == before.values.map(\.window).sorted { $0.lexicographicallyPrecedes($1) })
        }
        await world.end()
    }

    private func windows(_ world: RulesWorld, _ id: String) async throws -> [RuleContact: RuleProgress] {
        let number = try #require(try await world.store.rule(id, workspace: world.workspace)).number
        return Dictionary(
            try await world.store.ruleProgress(rule: number, after: nil, limit: 1000).map {
                (RuleContact(rule: number, contact: $0.contact), $0.progress)
            }, uniquingKeysWith: { $1 })
    }

    @Test("A damaged window is noticed with the next click, and the rule's windows are counted anew from the log")
    func damagedWindow() async throws {
        let world = try await world()
        let rule = try #require(try await world.make(RulesWorld.document("r", threshold: 5)).first)
        try await world.click(times: 3)
        try await world.catchUp()
        let key = RuleContact(rule: rule.number, contact: "c1")
        let cursor = try await world.store.ruleCursor(workspace: world.workspace)
        var damage = RuleEvaluation(workspace: world.workspace, filling: nil, from: cursor, to: cursor)
        damage.progress = [(key, RuleProgress(window: [0x80], arming: 0, isArmed: true, botClicks: 0))]
        try await world.store.commitRules(damage)
        try await world.click()
        try await world.catchUp()
        let contact = try await world.rules.explainer.explain(contact: "c1", workspace: world.workspace)
        #expect(contact.map(\.count) == [4])
        try await world.click()
        try await world.catchUp()
        #expect(world.crm.moves == ["9001:qualifiedtobuy"])
        await world.end()
    }

    @Test("RES-01, RES-02: a contact is known by a form that came in with the click's advertisement id")
    func contactByForm() async throws {
        let world = try await world()
        try await world.make(RulesWorld.document("r", threshold: 1))
        let form = FormSubmission(id: "f1", time: world.clock.now, contactID: "c1", googleClickID: "g1")
        _ = try await world.store.appendForms([form], workspace: world.workspace, receivedAt: world.clock.now)
        let click = Click(id: "x", link: "brochure", time: world.clock.now, googleClickID: "g1")
        _ = try await world.store.append(
            [IdentifiedClick(click: click, identity: Array(repeating: 9, count: 16))], workspace: world.workspace,
            receivedAt: world.clock.now)
        try await world.catchUp()
        #expect(try await world.firings().map { $0.person["via"]?.string } == ["form"])
        #expect(world.crm.moves == ["9001:qualifiedtobuy"])
        await world.end()
    }

    @Test("EXT-17: a simulation asks no vendor and gives the same bytes each time, by either clock")
    func simulation() async throws {
        let world = try await world()
        try await world.click(times: 30, at: world.clock.now - .seconds(20 * 86_400))
        try await world.click(times: 30)
        let rule = try #require(RollingRuleReader.read(RulesWorld.document("r", threshold: 40)).rules.first)
        let short = try #require(
            RollingRuleReader.read(RulesWorld.document("s", window: "7d", threshold: 40)).rules.first)
        for basis in RuleSimulator.Basis.allCases {
            let request = RuleSimulator.Request(rules: [rule, short], basis: basis)
            let first = try await world.rules.simulator.run(request, workspace: world.workspace)
            world.clock.advance(by: .seconds(60))
            let second = try await world.rules.simulator.run(request, workspace: world.workspace)
            #expect(first.bytes == second.bytes)
            #expect(first["rules"]?.array?.map { $0["firings"]?.integer } == [1, 0])
        }
        #expect(world.crm.lookUps == 0)
        await world.end()
    }

    @Test("PRV-02: an erased contact is in no window and no firing any more")
    func erasure() async throws {
        let world = try await world()
        world.crm.set([.init(id: "9001")], of: "ada@example.org")
        try await world.make(RulesWorld.document("r", threshold: 1))
        try await world.click(by: "ada@example.org")
        try await world.catchUp()
        #expect(try await world.firings().map(\.contact) == ["ada@example.org"])
        _ = try await world.store.eraseContact(workspace: world.workspace, contact: "ada@example.org")
        let firing = try #require(try await world.firings().first)
        #expect(!"\(firing)".contains("ada@example.org"))
        #expect(try await windows(world, "r").isEmpty)
        await world.end()
    }

    @Test("PRV-02: erasing one contact leaves those alone whose ids only hold the same digits")
    func erasureOfOne() async throws {
        let world = try await world()
        try await world.make(RulesWorld.document("r", threshold: 1))
        for contact in ["101", "51012", "123456", "1234567"] {
            world.crm.set([.init(id: "9\(contact)")], of: contact)
            try await world.click(by: contact)
        }
        try await world.catchUp()
        for erased in ["101", "123456"] {
            _ = try await world.store.eraseContact(workspace: world.workspace, contact: erased)
        }
        let left = Set(try await world.firings().map(\.contact)).filter { !$0.hasPrefix("erased-") }
        #expect(left == ["51012", "1234567"])
        let people = try await world.deliveries().compactMap { $0.payload["contact"]?["id"]?.string }
        #expect(Set(people) == ["51012", "1234567", "[erased]"])
        await world.end()
    }

    @Test("Retention drops what says nothing any more and keeps what must not fire again")
    func retention() async throws {
        let world = try await world()
        try await world.make(RulesWorld.document("r", threshold: 2))
        try await world.click(times: 2)
        try await world.click(by: "c2")
        try await world.catchUp()
        world.clock.advance(by: .seconds(500 * 86_400))
        let before = world.clock.now - .seconds(401 * 86_400)
        #expect(try await world.store.enforceRuleRetention(windowsBefore: before, firingsBefore: before) == 3)
        #expect(try await windows(world, "r").keys.map(\.contact) == ["c1"])
        #expect(try await world.firings().isEmpty)
        await world.end()
    }
}
