// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostRules
import MilepostStore
import Testing

@Suite("Work that waits for something outside")
struct WaitingTests {
    private static let refused = ScriptedPlugins.Act.answer(
        Verdict(kind: .authRevoked, code: "credential_refused", message: "refused"))

    @Test("REA-01, REA-05, REA-06: what waits for a token is held with the reason, and leaves at once with a new one")
    func reauthorisation() async throws {
        let world = try await World()
        try await world.connect()
        try await world.click("a", 100)
        try await world.click("b", 100)
        world.plugins.script([Self.refused])
        #expect(try await world.tick().deliveries.held == 2)
        try await world.click("c", 100)
        #expect(try await world.tick().deliveries.held == 3, "what crosses meanwhile waits as well")
        let held = try await world.deliveries()
        #expect(held.map(\.state) == [.held, .held, .held])
        #expect(held.allSatisfy { $0.reason?.code == "credential_refused" })
        #expect(world.plugins.calls == 1)
        _ = try await world.store.setState(id: world.connection, .active, reason: nil, at: world.clock.now)
        let connection = try #require(try await world.store.connection(id: world.connection))
        #expect(try await world.ticker.flush(connection).delivered == 3)
        await world.end()
    }

    @Test("Z-04, decisions 9: a wait of days is no age and no attempt")
    func capsStandStill() async throws {
        let world = try await World(limits: .init(maximumAttempts: 2, maximumAge: .seconds(3600)))
        try await world.connect()
        try await world.click("a", 100)
        world.plugins.script([Self.refused])
        try await world.tick()
        world.clock.advance(by: .seconds(3 * 86_400))
        try await world.tick()
        _ = try await world.store.setState(id: world.connection, .active, reason: nil, at: world.clock.now)
        world.plugins.script([.answer(Verdict(kind: .retry)), .answer(Verdict(kind: .retry))])
        try await world.tick()
        #expect(try await world.deliveries().map(\.state) == [.delivered])
        await world.end()
    }

    @Test("PLAN-03, PLAN-05, decisions 9: a plan that ends holds what had crossed, and a new one lets it go")
    func planEnds() async throws {
        let world = try await World(limits: .init(maximumAge: .seconds(3600)))
        try await world.connect(ThresholdPolicy(thresholds: [10, 20]))
        try await world.store.replacePlans([PlanRecord(name: "trial", trialDays: 14), PlanRecord(name: "team")])
        try await world.store.setPlan(world.workspace, plan: "trial", trialStartedAt: world.clock.now)
        world.clock.advance(by: .seconds(14 * 86_400 - 400))
        try await world.click("a", 10)
        world.plugins.script(Array(repeating: .answer(Verdict(kind: .retry)), count: 3))
        try await world.tick()
        #expect(try await world.deliveries().map(\.state) == [.retrying])
        try await world.click("a", 10)
        #expect(try await world.tick().deliveries.held == 1)
        let connection = try #require(try await world.store.connection(id: world.connection))
        #expect(connection.state == .plan)
        #expect(connection.stateReason?.code == "trial_over")
        #expect(try await world.deliveries().map(\.reason?.code) == ["trial_over"])
        world.clock.advance(by: .seconds(30 * 86_400))
        #expect(try await world.ticker.flush(connection).delivered == 0, "a flush obeys the plan too")
        try await world.store.setPlan(world.workspace, plan: "team", trialStartedAt: nil)
        try await world.tick()
        #expect(try await world.store.connection(id: world.connection)?.state == .active)
        #expect(world.plugins.made.map(\.threshold) == [10], "PLAN-06: 20 was passed while nothing fired")
        await world.end()
    }

    @Test("PLAN-05: another reason of the plan is the one that shows, and a dead token is said before the plan")
    func planReasons() async throws {
        let world = try await World()
        try await world.connect()
        try await world.store.replacePlans([
            PlanRecord(name: "free", fires: false), PlanRecord(name: "other", integrations: ["hubspot"]),
        ])
        try await world.store.setPlan(world.workspace, plan: "free", trialStartedAt: nil)
        try await world.tick()
        #expect(try await world.store.connection(id: world.connection)?.stateReason?.code == "plan_does_not_fire")
        try await world.store.setPlan(world.workspace, plan: "other", trialStartedAt: nil)
        try await world.tick()
        #expect(try await world.store.connection(id: world.connection)?.stateReason?.code == "plan_lacks_integration")
        _ = try await world.store.setState(id: world.connection, .needsReauth, reason: nil, at: world.clock.now)
        try await world.tick()
        #expect(try await world.store.connection(id: world.connection)?.state == .needsReauth)
        await world.end()
    }

    @Test("THR-17, Z-04: a daemon that was stopped for two days has not used up a delivery's age")
    func stoppedDaemon() async throws {
        let world = try await World(limits: .init(maximumAge: .seconds(86_400)))
        try await world.connect()
        try await world.click("a", 100)
        world.plugins.script(Array(repeating: .answer(Verdict(kind: .retry, message: "down")), count: 9))
        try await world.tick()
        world.clock.advance(by: .seconds(2 * 86_400))
        _ = try await world.store.recoverClaims(exceptOwner: "run_2", at: world.clock.now)
        _ = try await world.store.resume(at: world.clock.now)
        try await world.tick()
        #expect(try await world.deliveries().map(\.state) == [.retrying])
        world.plugins.script([])
        try await world.tick()
        #expect(world.plugins.made.count == 1)
        await world.end()
    }

    @Test("THR-17: a sign of life is left every minute")
    func heartbeat() async throws {
        let world = try await World()
        let start = world.clock.now
        let task = Task { try await Heartbeat(store: world.store, clock: world.clock).run() }
        while world.clock.now < start + .seconds(600) { await Task.yield() }
        task.cancel()
        _ = await task.result
        let gap = try await world.store.resume(at: world.clock.now + .seconds(30))
        #expect(gap >= .seconds(30) && gap <= .seconds(91))
        await world.end()
    }
}
