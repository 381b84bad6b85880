// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostStore
import Testing

@Suite("Endpoints that fail (EXT-08)")
struct EndpointTests {
    private static let failing = Verdict(
        kind: .retry, code: "receiver_failed", message: "It answered 500.", httpStatus: 500)

    private static func hour(minimum: Int = 5, _ hours: Int64 = 1) -> ThresholdPolicy {
        ThresholdPolicy(
            thresholds: [100],
            endpoint: EndpointPolicy(disableAfterMilliseconds: hours * 3_600_000, minimumFailures: minimum))
    }

    private static func links(_ world: World, _ count: Int) async throws {
        for number in 0..<count { try await world.click(LinkID("l\(number / 10)\(number % 10)"), 100) }
    }

    private static func connection(_ world: World) async throws -> Connection {
        try #require(try await world.store.connection(id: world.connection))
    }

    @Test("EXT-08: an hour without one success disables and keeps the queue; enabling sends it oldest first, by and by")
    func wholeCourse() async throws {
        let world = try await World(batch: 10, limits: .init(maximumAge: .seconds(86_400)))
        try await world.connect(Self.hour())
        try await Self.links(world, 30)
        world.plugins.script(Array(repeating: .answer(Self.failing), count: 10_000))
        for tick in 1...12 {
            try await world.tick()
            let now = try await Self.connection(world)
            #expect(now.state == .active, "tick \(tick)")
            #expect(now.health.failures >= 5 && now.health.lastFailure?.code == "receiver_failed")
        }
        #expect(try await world.tick().deliveries.held == 30)
        let disabled = try await Self.connection(world)
        #expect(disabled.state == .disabled && disabled.isDisabledForEndpoint)
        #expect(disabled.stateReason?.code == "endpoint_failing")
        #expect(disabled.stateReason?.message.contains("milepost integrations enable pipedrive") == true)
        #expect(disabled.stateReason?.message.contains("It answered 500.") == true)
        let calls = world.plugins.calls
        world.clock.advance(by: .seconds(20 * 86_400))
        for _ in 0..<3 { try await world.tick() }
        #expect(world.plugins.calls == calls, "nothing leaves meanwhile")
        #expect(try await world.deliveries().allSatisfy { $0.state == .held && $0.reason?.code == "endpoint_failing" })

        world.plugins.script([])
        #expect(try await world.store.enable(connection: world.connection, at: world.clock.now))
        #expect(try await world.store.enable(connection: world.connection, at: world.clock.now) == false)
        let oldest = try await world.deliveries().reversed().map(\.scope)
        var sent: [Int] = []
        for _ in 0..<3 {
            try await world.tick()
            sent.append(world.plugins.made.count)
        }
        #expect(sent == [1, 9, 30], "a little at a time; the age of 20 days is none (decisions 9)")
        #expect(world.plugins.made.map(\.scope) == oldest)
        for _ in 0..<4 { try await world.tick() }
        #expect(try await Self.connection(world).health == EndpointHealth())
        await world.end()
    }

    @Test("EXT-08: one that fails again after it was enabled is asked with one delivery a tick")
    func failsAgain() async throws {
        let world = try await World(batch: 10)
        try await world.connect(Self.hour())
        try await Self.links(world, 30)
        world.plugins.script(Array(repeating: .answer(Self.failing), count: 10_000))
        for _ in 0..<13 { try await world.tick() }
        _ = try await world.store.enable(connection: world.connection, at: world.clock.now)
        let before = world.plugins.calls
        try await world.tick()
        try await world.tick()
        #expect(world.plugins.calls - before == 2 * 3, "one delivery, three tries (THR-14)")
        #expect(try await Self.connection(world).state == .active, "the hour begins anew")
        world.plugins.script([])
        try await world.tick()
        #expect(world.plugins.made.count == 1)
        for _ in 0..<12 { try await world.tick() }
        #expect(world.plugins.made.count == 30)
        await world.end()
    }

    @Test("EXT-08: the count and the time are on disk, and the time of a daemon that is stopped is none of failing")
    func restart() async throws {
        let world = try await World()
        try await world.connect(Self.hour())
        try await Self.links(world, 1)
        let forever = Array(repeating: ScriptedPlugins.Act.answer(Self.failing), count: 1000)
        world.plugins.script(forever)
        for _ in 0..<7 { try await world.tick() }
        let before = try await Self.connection(world).health
        await world.store.close()
        world.clock.advance(by: .seconds(5 * 3600))
        let store = try SQLiteStore.open(directory: world.directory, clock: world.clock)
        _ = try await store.resume(at: world.clock.now)
        let plugins = ScriptedPlugins(store: store, clock: world.clock)
        plugins.script(forever)
        let ticker = World.ticker(store, plugins, world.clock, owner: "run_2", seed: 2)
        let after = try #require(try await store.connection(id: world.connection)).health
        #expect(after.failures == before.failures)
        #expect(after.failingSince == before.failingSince.map { $0 + .seconds(5 * 3600) })
        var ticks = 0
        while try await store.connection(id: world.connection)?.state == .active, ticks < 100 {
            world.clock.advance(by: .seconds(300))
            _ = try await ticker.tick()
            ticks += 1
        }
        #expect(ticks == 6, "12 ticks from the first to the last failure, 6 of them before the stop")
        #expect(try await store.connection(id: world.connection)?.stateReason?.code == "endpoint_failing")
        await store.close()
        await world.end()
    }

    @Test("EXT-08: few failures, a success among many, time that waits for a token, and 0 disable nothing")
    func exceptions() async throws {
        let forever = Array(repeating: ScriptedPlugins.Act.answer(Self.failing), count: 1000)
        let patient = try await World()
        try await patient.connect(Self.hour(minimum: 200))
        try await Self.links(patient, 1)
        patient.plugins.script(forever)
        for _ in 0..<40 { try await patient.tick() }
        #expect(try await Self.connection(patient).state == .active, "120 failures are fewer than 200")
        await patient.end()

        let never = try await World()
        try await never.connect(Self.hour(0))
        try await Self.links(never, 1)
        never.plugins.script(forever)
        for _ in 0..<40 { try await never.tick() }
        #expect(try await Self.connection(never).state == .active)
        await never.end()

        let lucky = try await World()
        try await lucky.connect(Self.hour())
        try await Self.links(lucky, 1)
        lucky.plugins.script(Array(repeating: .answer(Self.failing), count: 30))
        for _ in 0..<11 { try await lucky.tick() }
        #expect(try await Self.connection(lucky).health == EndpointHealth(), "the eleventh tick's try succeeded")
        await lucky.end()

        let waiting = try await World()
        try await waiting.connect(Self.hour())
        try await Self.links(waiting, 1)
        waiting.plugins.script(forever)
        for _ in 0..<6 { try await waiting.tick() }
        _ = try await waiting.store.setState(id: waiting.connection, .needsReauth, reason: nil, at: waiting.clock.now)
        waiting.clock.advance(by: .seconds(86_400))
        _ = try await waiting.store.setState(id: waiting.connection, .active, reason: nil, at: waiting.clock.now)
        for _ in 0..<6 { try await waiting.tick() }
        #expect(try await Self.connection(waiting).state == .active)
        try await waiting.tick()
        #expect(try await Self.connection(waiting).state == .disabled)
        await waiting.end()
    }

    @Test(
        "EXT-08: one that asks for patience for ever is not disabled, its deliveries end by the caps, and no failure is hidden"
    )
    func patience() async throws {
        let limited = Verdict(kind: .rateLimited, code: "rate_limited", httpStatus: 429, retryAfter: .seconds(600))
        let world = try await World(limits: .init(maximumAge: .seconds(3 * 3600)))
        try await world.connect(Self.hour())
        try await Self.links(world, 1)
        world.plugins.script(Array(repeating: .answer(limited), count: 1000))
        for _ in 0..<48 { try await world.tick() }
        #expect(try await Self.connection(world).state == .active)
        #expect(try await Self.connection(world).health == EndpointHealth())
        #expect(try await world.deliveries().map(\.state) == [.dead])
        #expect(try await world.deliveries().first?.reason?.code == "gave_up")
        await world.end()

        let mixed = try await World(limits: .init(maximumAge: .seconds(86_400)))
        try await mixed.connect(Self.hour())
        try await Self.links(mixed, 1)
        mixed.plugins.script((0..<1000).map { .answer($0 % 2 == 0 ? limited : Self.failing) })
        for _ in 0..<48 { try await mixed.tick() }
        #expect(try await Self.connection(mixed).state == .disabled, "a 429 between failures is no success")
        await mixed.end()
    }

    @Test(
        "EXT-08: what counts against an endpoint is its silence and its refusals, not our limits, tokens or plugins",
        arguments: [
            (failing, 3), (Verdict(kind: .rejected, code: "refused_by_receiver", httpStatus: 400), 1),
            (Verdict(kind: .rejected, code: "payload_unreadable"), 0),
            (Verdict(kind: .rejected, code: "filtered", httpStatus: 200), 0),
            (Verdict(kind: .rejected, code: "contact_unknown", httpStatus: 404), 0),
            (Verdict(kind: .rateLimited, code: "rate_limited", httpStatus: 429, retryAfter: .seconds(3600)), 0),
            (Verdict(kind: .crashed, message: "It died."), 0), (Verdict(kind: .retry, code: "plugin_restarting"), 0),
            (Verdict(kind: .authRevoked, code: "credential_refused", httpStatus: 401), 0),
        ])
    func signs(verdict: Verdict, failures: Int) async throws {
        let world = try await World()
        try await world.connect(Self.hour())
        try await Self.links(world, 1)
        world.plugins.script(Array(repeating: .answer(verdict), count: 3))
        try await world.tick()
        #expect(try await Self.connection(world).health.failures == failures)
        await world.end()
    }

    @Test(
        "EXT-08: an endpoint that says it is gone is asked no more, until somebody enables it or gives another address")
    func gone() async throws {
        let world = try await World(batch: 10)
        try await world.connect(Self.hour())
        try await Self.links(world, 2)
        world.plugins.script([
            .answer(Verdict(kind: .config, code: "endpoint_gone", message: "It answered 410.", httpStatus: 410))
        ])
        try await world.tick()
        let gone = try await Self.connection(world)
        #expect(gone.state == .disabled && gone.stateReason?.code == "endpoint_gone" && gone.isDisabledForEndpoint)
        let made = world.plugins.made.count
        try await world.tick()
        #expect(try await Self.connection(world).state == .disabled, "the plugin being there is no reason to go on")
        #expect(world.plugins.made.count == made)
        _ = try await world.store.changeConnection(
            id: world.connection, policy: nil, settings: ["url": "https://other.example"], warnings: nil, account: nil,
            credentials: [], baseline: Reason(code: "b", message: "b"), at: world.clock.now)
        #expect(try await world.store.enable(connection: world.connection, at: world.clock.now))
        for _ in 0..<3 { try await world.tick() }
        #expect(try await world.deliveries().allSatisfy { $0.state == .delivered })
        await world.end()
    }

    @Test("EXT-08: a stream of clicks that nobody takes is disabled too; enabled, it begins with one click")
    func stream() async throws {
        let policy = ThresholdPolicy(
            stream: nil, endpoint: EndpointPolicy(disableAfterMilliseconds: 3_600_000, minimumFailures: 5))
        let world = try await StreamWorld(actions: [ClickAction(name: "hook", maximumBatch: 100)])
        _ = try await world.store.changeConnection(
            id: world.connection, policy: policy, settings: nil, warnings: nil, account: nil, credentials: [],
            baseline: Reason(code: "b", message: "b"), at: world.clock.now)
        for number in 0..<200 { try await world.click(contact: "c\(number)") }
        world.vendor.answer { _ in .failing(.retry, "receiver_failed") }
        try await world.settle(for: .seconds(3500))
        #expect(try await world.store.connection(id: world.connection)?.state == .active)
        try await world.settle(for: .seconds(400))
        let disabled = try #require(try await world.store.connection(id: world.connection))
        #expect(disabled.stateReason?.code == "endpoint_failing")
        world.vendor.forget()
        try await world.settle(for: .seconds(86_400))
        #expect(world.vendor.calls.isEmpty)
        world.vendor.answer { _ in Verdict(kind: .ok) }
        // A restart between: the smaller batches must not be a matter of memory.
        try await world.restart()
        _ = try await world.store.enable(connection: world.connection, at: world.clock.now)
        try await world.settle(for: .seconds(120))
        let sizes = world.vendor.calls.map(\.payloads.count)
        #expect(sizes.first == 1 && sizes.dropFirst().first.map { $0 <= 8 } == true, "\(sizes)")
        let contacts = Set(world.vendor.records("hook").compactMap { $0["contact"]?["id"]?.string })
        #expect(contacts.count == 200)
        await world.end()
    }
}
