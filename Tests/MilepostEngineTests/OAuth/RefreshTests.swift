// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostStore
import Synchronization
import Testing

@Suite("Refreshing tokens in virtual time", .timeLimit(.minutes(10)))
struct RefreshTests {
    @Test(
        "OAU-01, OAU-02: a token is replaced 90 seconds before the end that its answer told; 30 minutes when it told none",
        arguments: [(600, 510), (nil, 1710)] as [(Int?, Int)])
    func dueByTheAnswer(expiresIn: Int?, seconds: Int) async throws {
        let world = try await OAuthWorld(expiresIn: expiresIn)
        await world.pass(.seconds(seconds - 1), step: .seconds(1))
        #expect(world.vendor.sent.isEmpty)
        await world.pass(.seconds(1), step: .seconds(1))
        #expect(world.vendor.sent == ["refresh-1"])
        let chain = try await world.chain()
        #expect(chain.expiresAt == world.clock.now + .seconds(expiresIn ?? 1800))
        await world.end()
    }

    @Test(
        "OAU-03, OAU-04, OAU-06: over a day versions rise by one, the pair is the vendor's newest, no token is sent twice",
        arguments: [true, false])
    func aDay(isRotating: Bool) async throws {
        let world = try await OAuthWorld(isRotating: isRotating)
        var last: Int64 = 1
        for _ in 0..<48 {
            await world.pass(.seconds(1710))
            let chain = try await world.chain()
            #expect(chain.version == last + 1)
            last = chain.version
            #expect(try await world.stored("oauth.refresh") == world.vendor.state.withLock { $0.refresh })
            #expect(try await world.stored("oauth") == "access-\(world.vendor.state.withLock { $0.number })")
            #expect(
                try await world.store.credential(CredentialReference(connection: "con_1", name: "oauth"))?.version
                    == last)
        }
        #expect(world.vendor.state.withLock { $0.reused } == [])
        if isRotating { #expect(Set(world.vendor.sent).count == world.vendor.sent.count) }
        await world.end()
    }

    @Test("OAU-05: many tasks that want a token at once cause one vendor call and one write")
    func singleFlight() async throws {
        let world = try await OAuthWorld()
        world.clock.advance(by: .seconds(2000))
        world.vendor.during.withLock { $0 = { for _ in 0..<50 { await Task.yield() } } }
        let keeper = world.keeper
        let answers = await withTaskGroup(of: TokenReadiness.self) { group in
            for _ in 0..<50 { group.addTask { await keeper.ready("con_1", credential: "oauth") } }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(answers == Array(repeating: .ready(version: 2), count: 50))
        #expect(world.vendor.sent.count == 1 && world.vendor.state.withLock { $0.overlaps } == 0)
        await world.end()
    }

    @Test("OAU-05: a writer with an old version loses, and so does a second intent")
    func optimistic() async throws {
        let world = try await OAuthWorld()
        try await world.store.beginRefresh("con_1", version: 1, owner: "run_1", resent: 0, at: world.clock.now)
        for version in [1, 2] as [Int64] {
            await #expect(throws: StoreError.self) {
                try await world.store.beginRefresh(
                    "con_1", version: version, owner: "run_9", resent: 0, at: world.clock.now)
            }
        }
        var chain = try await world.chain()
        chain.version = 3
        let skipped = chain
        await #expect(throws: StoreError.self) { try await world.store.storeRefresh(skipped, credentials: []) }
        chain.version = 2
        chain.lineage = "another installation"
        let foreign = chain
        await #expect(throws: StoreError.self) { try await world.store.storeRefresh(foreign, credentials: []) }
        await world.end()
    }

    @Test("OAU-03: a refresh whose end could not be stored is tried once more by the same daemon")
    func unsettled() async throws {
        let world = try await OAuthWorld()
        world.clock.advance(by: .seconds(1710))
        // As a refresh leaves it whose refusal a full disk did not take.
        try await world.store.beginRefresh("con_1", version: 1, owner: "run_1", resent: 0, at: world.clock.now)
        await world.pass(.seconds(30), step: .seconds(1))
        let chain = try await world.chain()
        #expect(chain.state == .ok && chain.version == 2 && chain.intent == nil)
        #expect(world.vendor.sent == ["refresh-1"])
        await world.end()
    }

    @Test(
        "OAU-13, Z-09: every form of a bad refresh token is final after one call, with a state and a cause",
        arguments: [
            (400, #"{"status":"BAD_REFRESH_TOKEN","message":"missing or invalid"}"#),
            (401, #"{"status":"BAD_REFRESH_TOKEN"}"#), (400, #"{"error":"invalid_grant","error_description":"x"}"#),
            (401, #"{"error":{"code":"invalid_grant"}}"#), (400, #"{"message":"nothing known"}"#),
        ])
    func revoked(status: Int, body: String) async throws {
        let world = try await OAuthWorld()
        world.vendor.script(.status(status, body))
        await world.pass(.seconds(2 * 86_400), step: .seconds(600))
        #expect(world.vendor.sent.count == 1)
        let chain = try await world.chain()
        #expect(chain.state == .revoked && chain.reason?.code == "refresh_refused")
        #expect(try await world.connectionState() == .needsReauth)
        #expect(world.moves.seen.withLock { $0.states } == [.needsReauth])
        let ready = await world.keeper.ready("con_1", credential: "oauth")
        if case .ended(let kind, _) = ready { #expect(kind == .authRevoked) } else { Issue.record("\(ready)") }
        await world.end()
    }

    @Test("a refused app is the operator's matter: the account is not dead, and goes on when the app is mended")
    func operatorError() async throws {
        let world = try await OAuthWorld()
        world.vendor.script(.status(401, #"{"status":"BAD_CLIENT_ID","error":"invalid_grant"}"#))
        await world.pass(.seconds(1715))
        #expect(try await world.chain().state == .operatorError)
        #expect(try await world.connectionState() == .active, "the access token still lives")
        await world.pass(.seconds(600), step: .seconds(60))
        #expect(world.vendor.sent.count == 1, "no storm")
        _ = await world.keeper.ready("con_1", credential: "oauth")
        #expect(try await world.connectionState() == .permission)
        await world.keeper.appChanged("fake")
        await world.keeper.refreshDue()
        #expect(try await world.chain().state == .ok)
        #expect(try await world.connectionState() == .active)
        await world.end()
    }

    @Test(
        "OAU-14: a vendor that is down for ten minutes ends nothing; the waits grow, and the old token lives on meanwhile"
    )
    func tenMinutesDown() async throws {
        let world = try await OAuthWorld()
        let down: [VendorDouble.Act] = (0..<400).map {
            $0 % 3 == 0 ? .neverSent : .status($0 % 3 == 1 ? 503 : 429, "{}")
        }
        world.vendor.state.withLock { $0.script = down }
        await world.pass(.seconds(1710))
        #expect(await world.keeper.ready("con_1", credential: "oauth") == .ready(version: 1))
        await world.pass(.seconds(600), step: .seconds(1))
        let tries = world.vendor.state.withLock { 400 - $0.script.count }
        #expect((4...20).contains(tries), "\(tries) tries in ten minutes")
        #expect(try await world.connectionState() == .active)
        let ready = await world.keeper.ready("con_1", credential: "oauth")
        if case .closed(let until, _) = ready { #expect(until > world.clock.now) } else { Issue.record("\(ready)") }
        world.vendor.script()
        await world.pass(.seconds(310), step: .seconds(1))
        #expect(try await world.chain().state == .ok)
        #expect(world.vendor.state.withLock { $0.reused } == [])
        await world.end()
    }

    @Test(
        "OAU-15: after a lost answer the old token is sent once more, then an installation is asked for, if the vendor rotated",
        arguments: [
            VendorDouble.Act.commitAndLose, .commitAndGarble("<html>"), .commitAndGarble("{\"access_token\":12}"),
            .commitAndGarble("{}"), .loseBeforeCommitting,
        ], [true, false])
    func lostAnswer(act: VendorDouble.Act, isRotating: Bool) async throws {
        let world = try await OAuthWorld(isRotating: isRotating)
        world.vendor.script(act)
        await world.pass(.seconds(1710))
        var chain = try await world.chain()
        #expect(chain.state == .uncertain && chain.resent == 0)
        #expect(try await world.connectionState() == .active)
        await world.pass(.seconds(4), step: .seconds(1))
        #expect(world.vendor.sent.count == 1, "a cut request may still be on its way")
        await world.pass(.seconds(3600), step: .seconds(1))
        chain = try await world.chain()
        let isCommitted = if case .loseBeforeCommitting = act { false } else { true }
        if isRotating && isCommitted {
            #expect(world.vendor.sent == ["refresh-1", "refresh-1"])
            #expect(chain.state == .revoked && chain.reason?.code == "refresh_answer_lost")
            #expect(try await world.connectionState() == .needsReauth)
        } else {
            #expect(chain.state == .ok && chain.resent == 0)
            #expect(try await world.connectionState() == .active)
        }
        #expect(world.vendor.state.withLock { $0.reused } == [])
        await world.end()
    }

    @Test(
        "OAU-14, OAU-15: a vendor that hangs for ten minutes costs no installation; every try is counted, and waits grow"
    )
    func hanging() async throws {
        let world = try await OAuthWorld()
        world.vendor.state.withLock { $0.script = Array(repeating: .loseBeforeCommitting, count: 400) }
        await world.pass(.seconds(1710 + 600), step: .seconds(1))
        let chain = try await world.chain()
        #expect(chain.state == .uncertain && chain.resent == world.vendor.sent.count - 1)
        #expect((3...20).contains(world.vendor.sent.count), "\(world.vendor.sent.count) tries in ten minutes")
        #expect(try await world.connectionState() == .active)
        world.vendor.script()
        await world.pass(.seconds(310), step: .seconds(1))
        #expect(try await world.chain().state == .ok)
        #expect(try await world.chain().resent == 0)
        await world.end()
    }

    @Test("a busy vendor does not use up the one more try")
    func busyInBetween() async throws {
        let world = try await OAuthWorld()
        world.vendor.script(.loseBeforeCommitting, .status(503, ""), .neverSent, .status(429, ""))
        await world.pass(.seconds(1800), step: .seconds(1))
        #expect(try await world.chain().state == .ok)
        await world.end()
    }

    @Test(
        "OAU-16: an early 401 forces one refresh for all who met it, and a vendor that always says 401 gets no storm"
    )
    func refusedEarly() async throws {
        let world = try await OAuthWorld()
        let keeper = world.keeper
        world.clock.advance(by: .seconds(100))
        let repeats = await withTaskGroup(of: Bool.self) { group in
            for _ in 0..<20 { group.addTask { await keeper.refused("con_1", credential: "oauth", version: 1) } }
            return await group.reduce(into: []) { $0.append($1) }
        }
        #expect(repeats == Array(repeating: true, count: 20) && world.vendor.sent.count == 1)
        for _ in 0..<10 { #expect(await keeper.refused("con_1", credential: "oauth", version: 2) == false) }
        #expect(world.vendor.sent.count == 1)
        await world.end()
    }

    @Test("OAU-10: 180 days without a delivery are no 180 days without a refresh; switched off it lies still")
    func keptWarm() async throws {
        let world = try await OAuthWorld(expiresIn: 86_400)
        await world.pass(.seconds(180 * 86_400), step: .seconds(6 * 3600))
        var chain = try await world.chain()
        #expect(world.clock.now - (chain.lastRefreshAt ?? chain.issuedAt) < .seconds(2 * 86_400))
        #expect(try await world.connectionState() == .active)
        world.plugins.isOff.withLock { $0 = true }
        let calls = world.vendor.sent.count
        await world.pass(.seconds(10 * 86_400), step: .seconds(6 * 3600))
        chain = try await world.chain()
        #expect(world.vendor.sent.count == calls && chain.state == .ok)
        await world.end()
    }

    @Test("a daemon that is asked to end waits for a refresh under way and begins none")
    func stopping() async throws {
        let world = try await OAuthWorld()
        let keeper = world.keeper
        world.clock.advance(by: .seconds(1710))
        let isStopping = Mutex<Task<Void, Never>?>(nil)
        world.vendor.during.withLock {
            $0 = {
                isStopping.withLock { $0 = Task { await keeper.stop() } }
                for _ in 0..<20 { await Task.yield() }
            }
        }
        await keeper.refreshDue()
        await isStopping.withLock { $0 }?.value
        #expect(try await world.chain().version == 2)
        world.clock.advance(by: .seconds(1710))
        await keeper.refreshDue()
        #expect(world.vendor.sent.count == 1)
        await world.end()
    }

    @Test("OBS-01: every attempt is counted, by result")
    func counted() async throws {
        let world = try await OAuthWorld()
        world.vendor.script(.status(503, ""))
        await world.pass(.seconds(1800), step: .seconds(1))
        #expect(world.moves.seen.withLock { $0.errors } == 1 && world.moves.seen.withLock { $0.ok } == 1)
        await world.end()
    }
}
