// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostRules
import MilepostStore
import Testing

@Suite("Ticks over a real store in virtual time")
struct TickTests {
    @Test("THR-09, THR-10, THR-12: 240 clicks make one deal, 1,200 two, and none twice")
    func milestones() async throws {
        let world = try await World()
        try await world.connect()
        try await world.click("a", 80)
        try await world.tick()
        #expect(world.plugins.made.isEmpty)
        try await world.click("a", 160)
        try await world.tick()
        #expect(world.plugins.made.map(\.threshold) == [100])
        try await world.click("b", 80)
        try await world.tick()
        try await world.click("b", 1120)
        try await world.tick()
        #expect(world.plugins.made.filter { $0.scope.id == "b" }.map(\.threshold) == [100, 1000])
        try await world.tick()
        #expect(world.plugins.made.count == 3)
        await world.end()
    }

    @Test("ACC-01, THR-17: clicks of a stopped hour are found by the first tick after it, each threshold once")
    func missedTicks() async throws {
        let world = try await World()
        try await world.connect()
        try await world.click("viral", 12_000)
        world.clock.advance(by: .seconds(3600))
        let report = try await world.tick()
        #expect(world.plugins.made.map(\.threshold) == [100, 1000, 10_000])
        #expect(report.deliveries.delivered == 3)
        await world.end()
    }

    @Test("THR-04, Z-03: what was looked at without a crossing is looked at once; a cursor set back meanwhile stays")
    func cursors() async throws {
        let world = try await World()
        try await world.connect()
        try await world.click("a", 10)
        #expect(try await world.tick().linksExamined == 1, "from the start, where the cursor moves at once")
        try await world.click("b", 10)
        let before = try #require(try await world.store.connection(id: world.connection)).cursor
        #expect(try await world.tick().linksExamined == 1)
        #expect(try await world.tick().linksExamined == 0)
        let after = try #require(try await world.store.connection(id: world.connection)).cursor
        #expect(after > before)
        let run = ScheduleRun(schedule: "s", startedAt: world.clock.now, finishedAt: world.clock.now, succeeded: true)
        try await world.store.recordRun(run, cursors: [world.connection: CursorMove(from: before, through: after + 9)])
        #expect(try await world.store.connection(id: world.connection)?.cursor == after)
        await world.end()
    }

    @Test(
        "THR-14, THR-16: always 503 means three calls in a tick and none until the next; the deal comes once it is over"
    )
    func outage() async throws {
        let world = try await World()
        try await world.connect()
        try await world.click("a", 100)
        let unavailable = ScriptedPlugins.Act.answer(Verdict(kind: .retry, code: "vendor_unavailable", httpStatus: 503))
        world.plugins.script(Array(repeating: unavailable, count: 6))
        try await world.tick()
        #expect(world.plugins.calls == 3)
        try await world.tick()
        #expect(world.plugins.calls == 6)
        #expect(world.plugins.made.isEmpty)
        try await world.tick()
        #expect(world.plugins.made == [.init(scope: Scope(kind: .link, id: "a"), threshold: 100)])
        try await world.tick()
        #expect(world.plugins.made.count == 1)
        await world.end()
    }

    @Test("DEAL-09, invariant 4: an applied request whose answer was lost is found, not repeated")
    func lostAnswer() async throws {
        let world = try await World()
        try await world.connect()
        try await world.click("a", 100)
        world.plugins.script([.applyAndLose])
        try await world.tick()
        #expect(try await world.deliveries().map(\.state) == [.uncertain])
        try await world.tick()
        #expect(try await world.deliveries().map(\.state) == [.delivered])
        #expect(world.plugins.made.count == 1)
        #expect(world.plugins.calls == 1)
        await world.end()
    }

    @Test("decisions 4: a request that was lost before it was applied is sent again, after the look-up and not before")
    func lostRequest() async throws {
        let world = try await World()
        try await world.connect()
        try await world.click("a", 100)
        world.plugins.script([.loseBeforeApplying])
        try await world.tick()
        #expect(world.plugins.calls == 1)
        try await world.tick()
        #expect(world.plugins.lookUps >= 1)
        #expect(world.plugins.made.count == 1)
        #expect(try await world.deliveries().map(\.state) == [.delivered])
        await world.end()
    }

    @Test("REA-01, REA-05: a dead token stops all calls of the connection until somebody hands in another")
    func reauthorisation() async throws {
        let world = try await World()
        try await world.connect()
        try await world.click("a", 100)
        world.plugins.script([.answer(Verdict(kind: .authRevoked, code: "credential_refused", message: "refused"))])
        try await world.tick()
        #expect(try await world.store.connection(id: world.connection)?.state == .needsReauth)
        try await world.click("b", 100)
        try await world.tick()
        try await world.tick()
        #expect(world.plugins.calls == 1)
        _ = try await world.store.setState(id: world.connection, .active, reason: nil, at: world.clock.now)
        try await world.tick()
        #expect(Set(world.plugins.made.map(\.scope.id)) == ["a", "b"])
        await world.end()
    }

    @Test("invariant 4: what a drain claimed and could not settle is delivered by the next tick, not the next start")
    func leftClaims() async throws {
        let world = try await World()
        try await world.connect()
        try await world.click("a", 100)
        let unavailable = ScriptedPlugins.Act.answer(Verdict(kind: .retry, message: "vendor is down"))
        world.plugins.script(Array(repeating: unavailable, count: 3))
        try await world.tick()
        // As a drain leaves it whose store failed when it was to settle.
        let claimed = try await world.store.claimDue(
            connection: world.connection, owner: "run_1", now: world.clock.now + .seconds(60), limit: 10)
        #expect(claimed.count == 1)
        try await world.tick()
        #expect(try await world.deliveries().map(\.state) == [.delivered])
        #expect(world.plugins.made.count == 1)
        await world.end()
    }

    @Test("PRV-01, PRV-02: a contact whose id is a short number takes no thresholds and counts with it")
    func shortID() async throws {
        let world = try await World()
        try await world.connect()
        try await world.click("a", 100)
        let unavailable = ScriptedPlugins.Act.answer(Verdict(kind: .retry, message: "vendor is down"))
        world.plugins.script(Array(repeating: unavailable, count: 3))
        try await world.tick()
        let before = try await world.deliveries().map(\.payload)
        #expect(try await world.store.streamExport(workspace: world.workspace, contact: "100").isEmpty)
        _ = try await world.store.eraseContact(workspace: world.workspace, contact: "100")
        #expect(before.count == 1)
        #expect(try await world.deliveries().map(\.payload) == before)
        await world.end()
    }

    @Test("decisions 11: who waited for a turn works with the connection as it is then, not as it was")
    func staleLook() async throws {
        let world = try await World()
        try await world.connect()
        let spent = Reason(code: "daily_budget_spent", message: "Spent.")
        _ = try await world.store.setState(id: world.connection, .dailyBudget, reason: spent, at: world.clock.now)
        let seen = try #require(try await world.store.connection(id: world.connection))
        world.clock.advance(by: .seconds(86_400))
        _ = try await world.store.setState(id: world.connection, .disconnected, reason: nil, at: world.clock.now)
        _ = try await world.ticker.flush(seen)
        #expect(try await world.store.connection(id: world.connection)?.state == .disconnected)
        await world.end()
    }

    @Test("THR-15, EXT-07: past its caps a delivery is a dead letter with the reason, and a replay sends it once")
    func deadLetter() async throws {
        let world = try await World(limits: .init(maximumAttempts: 2))
        try await world.connect()
        try await world.click("a", 100)
        let unavailable = ScriptedPlugins.Act.answer(Verdict(kind: .retry, message: "vendor is down"))
        world.plugins.script(Array(repeating: unavailable, count: 20))
        try await world.tick()
        try await world.tick()
        let dead = try await world.deliveries()
        #expect(dead.map(\.state) == [.dead])
        #expect(dead.first?.reason?.message.contains("vendor is down") == true)
        world.plugins.script([])
        let filter = DeliveryFilter(states: [.dead])
        #expect(
            try await world.store.replay(workspace: world.workspace, matching: filter, limit: 10, at: world.clock.now)
                == 1)
        #expect(
            try await world.store.replay(workspace: world.workspace, matching: filter, limit: 10, at: world.clock.now)
                == 0)
        try await world.tick()
        try await world.tick()
        #expect(world.plugins.made.count == 1)
        await world.end()
    }

    @Test("EXC-01, EXC-05, EXC-03: an excluded link fires nothing, says why, and does not fire when it is let in later")
    func exclusions() async throws {
        let world = try await World()
        try await world.connect()
        var change = LinkChange()
        change.flags = [.test]
        _ = try await world.store.changeLink("a", workspace: world.workspace, change: change, at: world.clock.now)
        try await world.click("a", 150)
        try await world.tick()
        let crossings = try await world.store.crossings(
            connection: world.connection, scope: Scope(kind: .link, id: "a"))
        #expect(crossings.map(\.reason?.code) == ["excluded_test"])
        change.flags = []
        _ = try await world.store.changeLink("a", workspace: world.workspace, change: change, at: world.clock.now)
        try await world.click("a", 10)
        try await world.tick()
        #expect(world.plugins.made.isEmpty)
        try await world.click("a", 840)
        try await world.tick()
        #expect(world.plugins.made.map(\.threshold) == [1000])
        await world.end()
    }

    @Test("CFG-06, CFG-08: three links at 40 in one folder make one deal at 100, and none of a link")
    func folders() async throws {
        let world = try await World()
        try await world.connect(ThresholdPolicy(aggregation: .folder))
        var change = LinkChange()
        change.folder = "spring"
        for link in ["a", "b", "c"] as [LinkID] {
            _ = try await world.store.changeLink(link, workspace: world.workspace, change: change, at: world.clock.now)
            try await world.click(link, 40)
        }
        try await world.click("loose", 500)
        try await world.tick()
        #expect(world.plugins.made == [.init(scope: Scope(kind: .folder, id: "spring"), threshold: 100)])
        await world.end()
    }

    @Test("EXC-04: excluded links do not lift their folder, and letting one in again does not fire backwards")
    func excludedInFolders() async throws {
        let world = try await World()
        try await world.connect(ThresholdPolicy(thresholds: [100, 150], aggregation: .folder))
        var change = LinkChange()
        change.folder = "spring"
        _ = try await world.store.changeLink("b", workspace: world.workspace, change: change, at: world.clock.now)
        change.flags = [.test]
        _ = try await world.store.changeLink("a", workspace: world.workspace, change: change, at: world.clock.now)
        try await world.click("a", 95)
        try await world.click("b", 20)
        try await world.tick()
        #expect(world.plugins.made.isEmpty)
        change.flags = []
        _ = try await world.store.changeLink("a", workspace: world.workspace, change: change, at: world.clock.now)
        try await world.tick()
        #expect(world.plugins.made.isEmpty)
        try await world.click("b", 40)
        try await world.tick()
        #expect(world.plugins.made.map(\.threshold) == [150])
        await world.end()
    }

    @Test("PLAN-03, PLAN-06: a plan that does not fire marks crossings as passed, and an upgrade does not fire them")
    func plans() async throws {
        let world = try await World(plans: PlanMatrix(plans: ["free": .init(fires: false), "team": .init()]))
        try await world.connect()
        try await world.store.setPlan(world.workspace, plan: "free", trialStartedAt: nil)
        try await world.click("a", 150)
        try await world.tick()
        try await world.store.setPlan(world.workspace, plan: "team", trialStartedAt: nil)
        try await world.click("a", 10)
        try await world.tick()
        #expect(world.plugins.made.isEmpty)
        await world.end()
    }

    @Test("PLAN-05: a matrix handed in counts from the next tick on, and gives way when it is emptied")
    func plansByREST() async throws {
        let world = try await World()
        try await world.connect(ThresholdPolicy(thresholds: [10, 20, 30]))
        try await world.store.setPlan(world.workspace, plan: "free", trialStartedAt: nil)
        try await world.store.replacePlans([PlanRecord(name: "free", fires: false)])
        try await world.click("a", 10)
        try await world.tick()
        #expect(world.plugins.made.isEmpty)
        try await world.store.replacePlans([PlanRecord(name: "free", integrations: ["pipedrive"])])
        try await world.click("a", 10)
        try await world.tick()
        #expect(world.plugins.made.map(\.threshold) == [20])
        try await world.store.replacePlans([PlanRecord(name: "free", integrations: ["hubspot"])])
        try await world.click("a", 1)
        try await world.tick()
        try await world.store.replacePlans([])
        try await world.click("a", 9)
        try await world.tick()
        #expect(world.plugins.made.map(\.threshold) == [20, 30])
        await world.end()
    }

    @Test(
        "DUP-01 to DUP-04, invariant 3: two dispatchers on one store make one deal for each crossing", arguments: 1...5)
    func twoDispatchers(seed: UInt64) async throws {
        let world = try await World(batch: 3)
        try await world.connect(ThresholdPolicy(thresholds: [1, 2, 3, 5, 8]))
        let other = World.ticker(world.store, world.plugins, world.clock, owner: "run_2", seed: seed)
        for round in 0..<4 {
            for link in 0..<10 { try await world.click(LinkID("l\(link)"), 1 + (round + link) % 3) }
            world.clock.advance(by: .seconds(300))
            async let first = world.ticker.tick()
            async let second = other.tick()
            _ = try await (first, second)
        }
        _ = try await world.tick()
        let made = world.plugins.made
        #expect(Set(made.map { "\($0.scope.id)/\($0.threshold)" }).count == made.count, "a deal was made twice")
        let crossings = try await world.deliveries()
        #expect(made.count == crossings.count)
        #expect(crossings.allSatisfy { $0.state == .delivered })
        await world.end()
    }
}
