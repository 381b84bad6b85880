// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostStore
import Testing

@Suite("Hooks that judge a crossing before it becomes a deal")
struct JudgesTests {
    @Test("HOOK-01, HOOK-05: a judge sees the crossing before the vendor does; what nobody vetoes is made")
    func continues() async throws {
        let world = try await JudgedWorld()
        try await world.judge("judge")
        let delivery = try await world.cross()
        #expect(delivery.state == .delivered)
        #expect(delivery.attempts == 1, "being judged is no attempt")
        let asked = try #require(world.plugins.asked.first)
        #expect(world.plugins.asked.count == 1 && asked.budget == .seconds(2))
        #expect(asked.question["point"] == "deal.before" && asked.question["integration"] == "pipedrive")
        #expect(asked.question["event"]?["threshold"] == 10)
        #expect(asked.question["idempotency_key"] == .string(delivery.id.rawValue))
        let decisions = try await world.decisions(delivery.id)
        #expect(decisions.map(\.verdict) == [.continue] && decisions.map(\.effect) == [.passed])
        try await world.tick()
        #expect(world.plugins.asked.count == 1 && world.base.plugins.made.count == 1)
        await world.base.end()
    }

    @Test("HOOK-02: a veto is final for the threshold, with its reason, and the clicks stay counted")
    func vetoes() async throws {
        let world = try await JudgedWorld()
        try await world.judge("judge")
        world.plugins.reply("judge", .says(["verdict": "drop", "reason": "organic traffic"]))
        let delivery = try await world.cross()
        #expect(delivery.state == .dropped && delivery.reason?.code == "vetoed_by_hook")
        #expect(delivery.reason?.message == "Vetoed by hook judge: organic traffic.")
        #expect(world.plugins.delivered.isEmpty)
        world.plugins.reply("judge", .says(["verdict": "continue"]))
        try await world.base.click("a", 30)
        try await world.tick()
        #expect(try await world.base.deliveries().count == 1, "the threshold does not fire again")
        #expect(try await world.base.store.link("a", workspace: "acme")?.totals.all == 40)
        // Somebody who thinks better of it asks again.
        _ = try await world.base.store.replay(
            workspace: "acme", matching: DeliveryFilter(id: delivery.id), limit: 1, at: world.base.clock.now)
        try await world.tick()
        #expect(try await world.delivery(delivery.id).state == .delivered)
        #expect(try await world.decisions(delivery.id).map(\.verdict) == [.drop, .continue])
        await world.base.end()
    }

    @Test("HOOK-04: judges change in a stated order, each sees what the one before changed")
    func changesInOrder() async throws {
        let world = try await JudgedWorld()
        world.plugins.choices(
            "pipelines", .choices([.init(value: 1, label: "Sales"), .init(value: 2, label: "Partners")]))
        world.plugins.choices(
            "stages of 2", .choices([.init(value: 21, label: "New"), .init(value: 22, label: "Won")]))
        try await world.judge("judge@a", InterceptPolicy(isOn: true, order: 5))
        try await world.judge("judge@b", InterceptPolicy(isOn: true, order: -5))
        world.plugins.reply(
            "judge@b",
            .says([
                "verdict": "modify",
                "deal": ["title": "First", "pipeline": "partners", "fields": ["Source": "x", "Kept": true]],
            ]))
        world.plugins.reply(
            "judge@a", .says(["verdict": "modify", "deal": ["stage": "Won", "fields": ["Source": "Paid"]]]))
        let delivery = try await world.cross()
        #expect(delivery.state == .delivered)
        #expect(world.plugins.asked.map(\.judge.description) == ["judge@b", "judge@a"])
        let second = world.plugins.asked[1].question["event"]
        #expect(second?["deal"] == ["title": "First", "pipeline": 2, "stage": 21], "a pipeline brings its first stage")
        #expect(world.plugins.delivered.first?["deal"] == ["title": "First", "pipeline": 2, "stage": 22])
        #expect(world.plugins.delivered.first?["fields"] == ["Source": "Paid", "Kept": true])
        await world.base.end()
    }

    @Test("HOOK-06: a hold lasts until its time, is asked again with the same key, and costs no age")
    func holds() async throws {
        let world = try await JudgedWorld()
        try await world.judge("judge")
        let until = world.base.clock.now + .seconds(3 * 86_400)
        world.plugins.reply(
            "judge", .says(["verdict": "hold", "until": .string(until.description), "reason": "weekend"]),
            .says(["verdict": "continue"]))
        let delivery = try await world.cross()
        #expect(delivery.state == .held && delivery.reason?.code == "held_by_hook")
        #expect(delivery.reason?.message.contains("weekend") == true && delivery.nextAttemptAt == until)
        try await world.tick()
        #expect(world.plugins.asked.count == 1 && world.plugins.delivered.isEmpty)
        try await world.tick(after: .seconds(3 * 86_400))
        #expect(try await world.delivery(delivery.id).state == .delivered)
        #expect(world.plugins.asked.map { $0.question["ask"] } == [1, 2])
        #expect(Set(world.plugins.asked.map { $0.question["idempotency_key"] }).count == 1)
        #expect(try await world.delivery(delivery.id).waited >= .seconds(2 * 86_400))
        await world.base.end()
    }

    @Test(
        "HOOK-06: failure, time-out and rubbish go on unjudged, or wait, as the setting says",
        arguments: [
            (JudgingPlugins.Reply.fails(Verdict(kind: .deadline)), "hook_timeout"),
            (.fails(Verdict(kind: .crashed)), "hook_crashed"),
            (.fails(Verdict(kind: .rejected, code: "no", message: "no")), "no"),
            (.says(nil), "hook_answer_invalid"), (.says(["verdict": "maybe"]), "hook_answer_invalid"),
            (.says(["verdict": "modify", "deal": ["stage": "Nowhere"]]), "hook_answer_invalid"),
            (.fails(Verdict(kind: .retry, code: "down", message: "down")), "down"),
        ] as [(JudgingPlugins.Reply, String)])
    func fails(reply: JudgingPlugins.Reply, code: String) async throws {
        for policy in InterceptPolicy.OnFailure.allCases {
            let world = try await JudgedWorld()
            world.plugins.choices("stages", .choices([.init(value: 11, label: "Lead")]))
            try await world.judge("judge", InterceptPolicy(isOn: true, onFailure: policy))
            world.plugins.reply("judge", reply)
            let delivery = try await world.cross()
            #expect(delivery.state == (policy == .proceed ? .delivered : .held))
            let decision = try #require(try await world.decisions(delivery.id).first)
            #expect(decision.verdict == .failed && decision.code == code)
            if policy == .hold {
                #expect(delivery.reason?.code == "hook_failed" && world.plugins.delivered.isEmpty)
                world.plugins.reply("judge", .says(["verdict": "continue"]))
                try await world.tick()
                #expect(try await world.delivery(delivery.id).state == .delivered)
            }
            #expect(world.base.plugins.made.count == 1, "never lost, never doubled")
            await world.base.end()
        }
    }

    @Test("a judge that cannot be reached is asked once more within its budget")
    func asksTwice() async throws {
        let world = try await JudgedWorld()
        try await world.judge("judge", InterceptPolicy(isOn: true, onFailure: .hold))
        world.plugins.reply(
            "judge", .fails(Verdict(kind: .retry, message: "reset")), .says(["verdict": "drop", "reason": "no"]))
        #expect(try await world.cross().state == .dropped)
        #expect(world.plugins.asked.count == 2)
        await world.base.end()
    }

    @Test("HOOK-06: a judge whose plugin is gone counts as failing; one that is switched off lets go what it held")
    func judgeIsGone() async throws {
        let world = try await JudgedWorld()
        try await world.judge("judge", InterceptPolicy(isOn: true, onFailure: .hold))
        world.plugins.take(away: "judge")
        let delivery = try await world.cross()
        #expect(delivery.state == .held && delivery.reason?.message.contains("judge") == true)
        try await world.judge("judge", InterceptPolicy(isOn: false))
        try await world.tick(after: .seconds(1))
        #expect(try await world.delivery(delivery.id).state == .delivered)
        await world.base.end()
    }

    @Test("a judge that never decides is given up after a bound, and replay asks it again")
    func neverDecides() async throws {
        let world = try await JudgedWorld()
        try await world.judge("judge")
        world.plugins.reply("judge", .says(["verdict": "hold"]))
        let delivery = try await world.cross()
        for _ in 0..<4 { try await world.tick(after: .seconds(8 * 86_400)) }
        let dead = try await world.delivery(delivery.id)
        #expect(dead.state == .dead && dead.reason?.code == "hook_undecided")
        world.plugins.reply("judge", .says(["verdict": "continue"]))
        _ = try await world.base.store.replay(
            workspace: "acme", matching: DeliveryFilter(id: delivery.id), limit: 1, at: world.base.clock.now)
        try await world.tick()
        #expect(try await world.delivery(delivery.id).state == .delivered)
        await world.base.end()
    }

    @Test("it judges the integrations that its setting names, never itself, and others do not wait for it")
    func judgesSome() async throws {
        let world = try await JudgedWorld()
        try await world.judge("judge", InterceptPolicy(isOn: true, only: ["hubspot", "pipedrive@second"]))
        #expect(try await world.cross().state == .delivered)
        #expect(world.plugins.asked.isEmpty)
        try await world.judge("judge", InterceptPolicy(isOn: true, only: ["pipedrive"]))
        try await world.cross("b")
        #expect(world.plugins.asked.count == 1)
        await world.base.end()
    }

    @Test("a slow judge is asked about eight records at once and not for ever; the rest waits for the next tick")
    func isBounded() async throws {
        let world = try await JudgedWorld()
        try await world.judge("judge")
        world.plugins.reply("judge", .takes(.seconds(4), ["verdict": "continue"]))
        for number in 0..<40 { try await world.base.click(LinkID("l\(number)"), 10) }
        try await world.tick()
        let first = try await world.base.deliveries().count { $0.state == .delivered }
        #expect(first > 0 && first < 40, "\(first)")
        #expect(world.plugins.most <= 8)
        #expect(try await world.base.deliveries().allSatisfy { $0.state == .delivered || $0.state == .pending })
        world.plugins.reply("judge", .says(["verdict": "continue"]))
        try await world.tick()
        #expect(world.base.plugins.made.count == 40)
        await world.base.end()
    }

    @Test("HOOK-06, invariant 4: a stored decision outlives the process; an answer that was not stored had no effect")
    func survives() async throws {
        let world = try await JudgedWorld()
        try await world.judge("judge")
        world.plugins.reply(
            "judge", .says(["verdict": "modify", "deal": ["title": "One"]]),
            .says(["verdict": "modify", "deal": ["title": "Two"]]))
        // The vendor fails, so that the deal is made by the next process.
        world.base.plugins.script(Array(repeating: .answer(Verdict(kind: .retry)), count: 3))
        let delivery = try await world.cross()
        #expect(delivery.state == .retrying)
        _ = try await world.base.store.recoverClaims(exceptOwner: "run_2", at: world.base.clock.now)
        world.base.clock.advance(by: .seconds(300))
        _ = try await JudgedWorld.ticker(world.base, world.plugins, owner: "run_2").tick()
        #expect(world.plugins.asked.count == 1)
        #expect(world.plugins.delivered.allSatisfy { $0["deal"] == ["title": "One"] })
        #expect(try await world.delivery(delivery.id).state == .delivered)
        // A claim that a process left behind is judged anew, with the same key.
        try await world.base.click("b", 10)
        let stale = try await world.base.store.storeJudgementFails()
        #expect(stale)
        await world.base.end()
    }

    @Test("what a judge changed and the vendor cannot confirm now waits without a decision")
    func vendorIsDown() async throws {
        let world = try await JudgedWorld()
        try await world.judge("judge")
        world.plugins.choices("stages", .failed(Verdict(kind: .retry, code: "down", message: "down")))
        world.plugins.reply("judge", .says(["verdict": "modify", "deal": ["stage": "Won"]]))
        let delivery = try await world.cross()
        #expect(delivery.state == .pending && delivery.reason?.code == "down")
        #expect(try await world.decisions(delivery.id).isEmpty)
        world.plugins.choices("stages", .choices([.init(value: 12, label: "Won")]))
        try await world.tick()
        #expect(world.plugins.delivered.first?["deal"] == ["stage": 12])
        world.plugins.choices("stages", .failed(Verdict(kind: .authRevoked, message: "refused")))
        #expect(try await world.cross("b").state == .held)
        #expect(try await world.base.store.connection(id: "con_1")?.state == .needsReauth)
        await world.base.end()
    }

    @Test("HOOK-05: a rule's action is judged by the same shape; it can be vetoed and not changed")
    func rules() async throws {
        let world = try await JudgedWorld()
        world.plugins.judgeRules()
        try await world.judge("judge")
        world.plugins.reply(
            "judge", .says(["verdict": "modify", "deal": ["title": "x"]]), .says(["verdict": "drop"]))
        let changed = try await world.cross("a")
        #expect(changed.state == .delivered)
        #expect(world.plugins.asked.first?.question["point"] == "rule.before")
        #expect(try await world.decisions(changed.id).map(\.code) == ["hook_answer_invalid"])
        #expect(world.plugins.delivered.first?["deal"] == nil)
        #expect(try await world.cross("b").state == .dropped)
        await world.base.end()
    }

    @Test("invariant 9: crossings of a connection whose crossings are switched off are marked and never fire")
    func switchedOff() async throws {
        let world = try await JudgedWorld()
        world.plugins.switchOff()
        try await world.base.click("a", 10)
        try await world.tick()
        #expect(try await world.base.deliveries().isEmpty)
        let crossing = try await world.base.store.crossings(
            connection: "con_1", scope: Scope(kind: .link, id: "a"))
        #expect(crossing.map(\.reason?.code) == ["switched_off"])
        await world.base.end()
    }
}

extension SQLiteStore {
    /// A judgement of a delivery that nobody has claimed is refused.
    fileprivate func storeJudgementFails() async throws -> Bool {
        do {
            try await storeJudgement(
                Judgement(delivery: "dlv_none", fate: .passed), at: Timestamp(milliseconds: 0))
            return false
        } catch let error as StoreError { return error.code == .conflict }
    }
}
