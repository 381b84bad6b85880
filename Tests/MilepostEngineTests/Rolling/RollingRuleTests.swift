// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostRules
import MilepostStore
import Testing

@Suite("Rolling rules over a real store in virtual time")
struct RollingRuleTests {
    private func world(_ deals: [ScriptedCRM.Deal] = [.init(id: "9001")]) async throws -> RulesWorld {
        let world = try await RulesWorld()
        try await world.tag("brochure", ["sales-collateral"])
        world.crm.set(deals, of: "c1")
        return world
    }

    @Test("RULE-02, RULE-05: 49 clicks move nothing, the 50th moves the deal once, with all that the plugin must know")
    func fiftiethClick() async throws {
        let world = try await world()
        try await world.make(RulesWorld.document("collateral", minimum: 5000))
        try await world.click(times: 49)
        try await world.catchUp()
        #expect(world.crm.moves.isEmpty)
        #expect(world.crm.lookUps == 0)
        let last = try await world.click()
        try await world.catchUp()
        #expect(world.crm.moves == ["9001:qualifiedtobuy"])
        let delivery = try #require(try await world.deliveries().first)
        #expect(delivery.state == .delivered)
        #expect(delivery.action == "deal_stage")
        #expect(delivery.payload["kind"] == "rule")
        #expect(delivery.payload["target"] == ["id": "9001"])
        #expect(delivery.payload["scope"] == ["kind": "tag", "id": "sales-collateral"])
        #expect(delivery.payload["count"] == 50)
        #expect(delivery.payload["window_ms"] == 2_592_000_000)
        #expect(delivery.payload["contact"]?["id"] == "c1")
        #expect(delivery.payload["click"]?["id"]?.string == last.rawValue)
        await world.end()
    }

    @Test("RULE-06, RULE-08: deals in another stage or worth too little are left alone, each with its reason")
    func guards() async throws {
        let world = try await world([
            .init(id: "1", stage: "closedwon"), .init(id: "2", amount: "400"), .init(id: "3", amount: "5000"),
        ])
        try await world.make(RulesWorld.document("r", threshold: 2, minimum: 5000))
        try await world.click(times: 2)
        try await world.catchUp()
        #expect(world.crm.moves == ["3:qualifiedtobuy"])
        let targets = try await world.firings().first?.targets.array ?? []
        #expect(targets.map { $0["code"]?.string } == ["not_in_from_stage", "amount_too_small", nil])
        await world.end()
    }

    @Test("RULE-06: a deal that somebody moved between the look and the move is dropped with that reason, not dead")
    func movedMeanwhile() async throws {
        let world = try await world()
        try await world.make(RulesWorld.document("r", threshold: 1))
        _ = try await world.store.setState(
            id: "con_1", .active, reason: nil, at: world.clock.now)
        try await world.click()
        // Evaluated and looked up, then the connection waits, and meanwhile a person moves the deal.
        world.crm.failLookUps([Verdict(kind: .retry, code: "vendor_unavailable")])
        try await world.catchUp()
        world.clock.advance(by: .seconds(10))
        world.crm.move("9001", to: "appointmentscheduled")
        try await world.catchUp()
        #expect(world.crm.moves == ["9001:qualifiedtobuy"])
        world.crm.set([.init(id: "9002")], of: "c2")
        try await world.click(by: "c2")
        let machine = DeliveryMachine(limits: .init(), readLag: .zero)
        let decision = machine.decide(
            Verdict(kind: .rejected, code: "target_moved", message: "gone"),
            in: .init(attempts: 1, age: .zero, triesThisTick: 1), now: world.clock.now)
        #expect(decision == .dropped(Reason(code: "target_moved", message: "gone")))
        await world.end()
    }

    @Test("RULE-07, EXC-06: anonymous clicks and machines fire nothing and are counted apart")
    func anonymous() async throws {
        let world = try await world()
        try await world.make(RulesWorld.document("r", threshold: 2))
        try await world.click(by: nil, times: 60)
        try await world.click(times: 60, isBot: true)
        try await world.catchUp()
        #expect(world.crm.lookUps == 0)
        let counts = try #require(try await world.store.rule("r", workspace: world.workspace)?.counts)
        #expect((counts.anonymous, counts.bots, counts.counted) == (60, 60, 0))
        let line = try #require(
            try await world.rules.explainer.explain(contact: "c1", workspace: world.workspace).first)
        #expect(line.botClicks == 60)
        #expect(line.reason.message.contains("60 clicks of machines"))
        await world.end()
    }

    @Test("RULE-09, RULE-14: a window that empties makes no call, and 49 old clicks do not help a new one")
    func windowEmpties() async throws {
        let world = try await world()
        try await world.make(RulesWorld.document("r"))
        try await world.click(times: 49)
        try await world.catchUp()
        world.clock.advance(by: .seconds(31 * 86_400))
        try await world.click()
        try await world.catchUp()
        #expect(world.crm.lookUps == 0)
        #expect(try await world.firings().isEmpty)
        await world.end()
    }

    @Test("RULE-10, RULE-11: the third click on one proposal link fires, clicks on others do not count")
    func linkRule() async throws {
        let world = try await world()
        try await world.make(RulesWorld.document("proposal", link: "proposal-1", window: "72h", threshold: 3))
        try await world.click("other", times: 5)
        try await world.click("proposal-1", times: 2)
        try await world.catchUp()
        #expect(world.crm.moves.isEmpty)
        try await world.click("proposal-1")
        try await world.catchUp()
        #expect(world.crm.moves == ["9001:qualifiedtobuy"])
        await world.end()
    }

    @Test("RULE-13: clicks on twelve links with the tag count together, for each contact alone")
    func twelveLinks() async throws {
        let world = try await world()
        world.crm.set([.init(id: "9002")], of: "c2")
        try await world.make(RulesWorld.document("r"))
        for number in 0..<12 { try await world.tag("l\(number)".link, ["sales-collateral", "other"]) }
        for number in 0..<49 {
            try await world.click("l\(number % 12)".link)
            if number % 2 == 0 { try await world.click("l\(number % 12)".link, by: "c2") }
        }
        try await world.catchUp()
        #expect(world.crm.moves.isEmpty)
        try await world.click("l7")
        try await world.catchUp()
        #expect(world.crm.moves == ["9001:qualifiedtobuy"])
        await world.end()
    }

    @Test(
        "RULE-15: clicks 51 to 100 do nothing; after the count fell the next crossing fires again, with rearm once never"
    )
    func rearm() async throws {
        let world = try await world()
        try await world.make(
            RulesWorld.document("again", window: "1d", threshold: 5),
            RulesWorld.document("once", window: "1d", threshold: 5, more: ["rearm": "once", "mode": "observe"]))
        try await world.click(times: 100)
        try await world.catchUp()
        #expect(try await world.firings().map(\.ruleID) == ["again", "once"])
        world.clock.advance(by: .seconds(2 * 86_400))
        world.crm.set([.init(id: "9001")], of: "c1")
        try await world.click(times: 5)
        try await world.catchUp()
        #expect(try await world.firings().map(\.ruleID) == ["again", "once", "again"])
        #expect(try await world.firings("again").map(\.arming) == [0, 1])
        #expect(world.crm.moves == ["9001:qualifiedtobuy", "9001:qualifiedtobuy"])
        await world.end()
    }

    @Test("RULE-16: a tag that a link gets or loses changes what counts from then on; what counted stays")
    func retagging() async throws {
        let world = try await world()
        try await world.make(RulesWorld.document("r", threshold: 10))
        try await world.click("new", times: 4)
        try await world.click("brochure", times: 5)
        try await world.catchUp()
        try await world.tag("new", ["sales-collateral"])
        try await world.tag("brochure", [])
        try await world.click("brochure", times: 20)
        try await world.click("new", times: 4)
        try await world.catchUp()
        #expect(world.crm.moves.isEmpty)
        try await world.click("new")
        try await world.catchUp()
        #expect(world.crm.moves == ["9001:qualifiedtobuy"])
        await world.end()
    }

    @Test(
        "RULE-17: a contact's deals move all, or the primary, the newest or the largest one",
        arguments: [
            ("all", ["1", "2", "3"]), ("primary", ["2"]), ("newest", ["3"]), ("largest", ["1"]),
        ])
    func policies(policy: String, moved: [String]) async throws {
        let world = try await world([
            .init(id: "1", amount: "900"), .init(id: "2", amount: "100", isPrimary: true),
            .init(id: "3", amount: "200", created: "2026-05-01T00:00:00Z"),
        ])
        try await world.make(RulesWorld.document("r", threshold: 1, more: ["deals": .string(policy)]))
        try await world.click()
        try await world.catchUp()
        #expect(world.crm.moves == moved.map { "\($0):qualifiedtobuy" })
        await world.end()
    }

    @Test("RULE-19: a rule that observes writes down what it would have done and asks nobody")
    func observing() async throws {
        let world = try await world()
        try await world.make(RulesWorld.document("r", threshold: 2, more: ["mode": "observe"]))
        try await world.click(times: 3)
        try await world.catchUp()
        #expect(world.crm.lookUps == 0)
        #expect(try await world.firings().map(\.state) == [.observed])
        #expect(try await world.deliveries().isEmpty)
        await world.end()
    }

    @Test("EXC-04: links that are flagged or whose owner opted out count for no rule")
    func exclusions() async throws {
        let world = try await world()
        try await world.make(RulesWorld.document("r", threshold: 2))
        try await world.tag("test", ["sales-collateral"], flags: [.test])
        try await world.tag("internal", ["sales-collateral"], flags: [.internal])
        var change = LinkChange()
        change.tags = ["sales-collateral"]
        change.owner = .some("ada")
        _ = try await world.store.changeLink("private", workspace: world.workspace, change: change, at: world.clock.now)
        try await world.store.setOptOut("ada", workspace: world.workspace, isOptedOut: true, at: world.clock.now)
        for link in ["test", "internal", "private"] as [LinkID] { try await world.click(link, times: 5) }
        try await world.catchUp()
        #expect(try await world.firings().isEmpty)
        #expect(try await world.store.rule("r", workspace: world.workspace)?.counts.excluded == 15)
        await world.end()
    }

    @Test("Z-12: two rules that meet on one deal with one click take turns by id; the second leaves it alone")
    func oneMoveForAClick() async throws {
        let world = try await world()
        try await world.make(
            RulesWorld.document("b-second", threshold: 3),
            RulesWorld.document("a-first", link: "brochure", threshold: 3))
        try await world.click(times: 3)
        // The first rule's look-up fails; the second must not overtake it.
        world.crm.failLookUps([Verdict(kind: .retry, code: "vendor_unavailable", message: "busy")])
        try await world.catchUp()
        #expect(world.crm.moves.isEmpty)
        world.clock.advance(by: .seconds(6))
        try await world.catchUp()
        #expect(world.crm.moves == ["9001:qualifiedtobuy"])
        let firings = try await world.firings()
        #expect(firings.map(\.ruleID) == ["a-first", "b-second"])
        let second = try #require(firings.last?.targets.array?.first)
        #expect(["not_in_from_stage", "moved_by_other_rule"].contains(second["code"]?.string))
        #expect(try await world.deliveries().count == 1)
        await world.end()
    }

    @Test("RULE-12: eight tag rules and fourteen link rules side by side each fire as if alone")
    func sideBySide() async throws {
        let world = try await RulesWorld()
        let tags = (0..<8).map { RulesWorld.document("tag-\($0)", tag: "t\($0)", window: "7d", threshold: 3 + $0) }
        let links = (0..<14).map {
            RulesWorld.document("link-\($0)", link: "l\($0)", window: "72h", threshold: 2 + $0 % 5)
        }
        _ = try await world.rules.service.create(["rules": .array(tags + links)], workspace: world.workspace)
        for number in 0..<14 {
            try await world.tag("l\(number)".link, ["t\(number % 8)", "t\((number + 3) % 8)"])
        }
        for contact in 0..<5 { world.crm.set([.init(id: "d\(contact)")], of: "c\(contact)") }
        var random = Splitmix(state: 7)
        var stream: [(LinkID, String)] = []
        for _ in 0..<600 {
            let (link, contact) = (Int.random(in: 0..<14, using: &random), Int.random(in: 0..<5, using: &random))
            stream.append(("l\(link)".link, "c\(contact)"))
        }
        for (link, contact) in stream {
            world.clock.advance(by: .seconds(600))
            try await world.click(link, by: contact)
        }
        try await world.catchUp()
        for stored in try await world.store.rules(workspace: world.workspace) {
            let rule = try #require(RollingRuleReader.read(stored.document).rules.first)
            let alone = try await world.rules.simulator.run(.init(rules: [rule]), workspace: world.workspace)
            let together = try await world.firings(stored.id).map { "\($0.contact) \($0.click)" }
            let expected = (alone["firings"]?.array ?? []).map {
                "\($0["contact"]?.string ?? "") \($0["click"]?.string ?? "")"
            }
            #expect(!expected.isEmpty)
            #expect(together == expected, "\(stored.id)")
        }
        await world.end()
    }
}

extension String {
    var link: LinkID { LinkID(self) }
}

/// SplitMix64: the same stream for the same seed.
struct Splitmix: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var value = state
        value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
        value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
        return value ^ (value >> 31)
    }
}
