// SPDX-License-Identifier: Apache-2.0

import GRDB
import MilepostModel
import MilepostStore
import Testing

@Suite("What judges said, in the file")
struct InterceptionTests {
    let directory: TemporaryDirectory
    let store: SQLiteStore
    let later = Timestamp.start + .seconds(100)

    init() async throws {
        directory = try TemporaryDirectory()
        store = try directory.open(SQLiteConfiguration(retentionChunk: 40))
        try await store.prepareDeliveries(3)
    }

    private func decision(
        _ delivery: DeliveryID, _ verdict: InterceptDecision.Verdict, _ effect: InterceptDecision.Effect
    ) -> InterceptDecision {
        InterceptDecision(
            delivery: delivery, point: "deal.before", judge: "con_judge",
            integration: IntegrationName("custom-hook@gate")!, ask: 1, askedAt: .start, answeredAt: later,
            verdict: verdict, effect: effect, message: "because of ada@example.org",
            changes: ["title": "for ada@example.org"])
    }

    private func claim(_ isJudged: Bool, now: Timestamp = .start) async throws -> [DeliveryID] {
        let claims =
            isJudged
            ? try await store.claimJudged(connection: "con_1", owner: "o", now: now, limit: 9, excluding: ["click"])
            : try await store.claimUnjudged(connection: "con_1", owner: "o", now: now, limit: 9, excluding: ["click"])
        return claims.map(\.delivery.id)
    }

    private func delivery(_ id: DeliveryID) async throws -> Delivery {
        try #require(try await store.delivery(id, workspace: .acme))
    }

    @Test("HOOK-06: answers, changed payload and fate are one transaction; what passed is claimed for delivery only")
    func fates() async throws {
        #expect(try await claim(true).isEmpty)
        #expect(try await claim(false) == ["dlv_0", "dlv_1", "dlv_2"])
        let veto = Reason(code: "vetoed_by_hook", message: "Vetoed.")
        let wait = Reason(code: "held_by_hook", message: "Held.")
        try await store.storeJudgement(
            Judgement(
                delivery: "dlv_0", fate: .passed, payload: ["deal": ["title": "T"]],
                decisions: [decision("dlv_0", .change, .passed)]), at: later)
        try await store.storeJudgement(Judgement(delivery: "dlv_1", fate: .dropped(veto)), at: later)
        try await store.storeJudgement(
            Judgement(delivery: "dlv_2", fate: .held(until: later + .seconds(60), wait)), at: later)
        #expect(try await claim(false, now: later).isEmpty)
        #expect(try await claim(true, now: later) == ["dlv_0"])
        let passed = try await delivery("dlv_0")
        #expect(passed.attempts == 1 && passed.payload == ["deal": ["title": "T"]])
        #expect(try await store.decisions(of: "dlv_0") == [decision("dlv_0", .change, .passed)])
        #expect(try await delivery("dlv_1").reason == veto)
        let held = try await delivery("dlv_2")
        #expect(held.state == .held && held.nextAttemptAt == later + .seconds(60) && held.attempts == 0)
        await store.close()
    }

    @Test("a hold ends at its time and counts as waiting; a state of the connection does not touch it")
    func holds() async throws {
        _ = try await claim(false)
        let wait = Reason(code: "held_by_hook", message: "Held.")
        try await store.storeJudgement(Judgement(delivery: "dlv_0", fate: .held(until: later, wait)), at: .start)
        _ = try await store.setState(id: "con_1", .needsReauth, reason: wait, at: .start)
        _ = try await store.setState(id: "con_1", .active, reason: nil, at: .start)
        #expect(try await delivery("dlv_0").state == .held)
        #expect(try await store.releaseJudged(connection: "con_1", due: .start, at: .start) == 0)
        #expect(try await store.releaseJudged(connection: "con_1", due: later, at: later) == 1)
        let released = try await delivery("dlv_0")
        #expect(released.state == .pending && released.waited == .seconds(100))
        await store.close()
    }

    @Test(
        "HOOK-06: one that a judge holds is released by hand: it is asked about no more, and the decision says by whom")
    func release() async throws {
        _ = try await claim(false)
        let wait = Reason(code: "held_by_hook", message: "Held.")
        for id in ["dlv_0", "dlv_1"] as [DeliveryID] {
            try await store.storeJudgement(
                Judgement(
                    delivery: id, fate: .held(until: later + .seconds(3600), wait),
                    decisions: [decision(id, .hold, .held)]), at: .start)
        }
        #expect(try await store.release("dlv_0", message: "by t (tok_1)", at: later))
        let released = try await delivery("dlv_0")
        #expect(released.state == .pending && released.waited == .seconds(100) && released.reason == nil)
        #expect(try await delivery("dlv_1").state == .held, "one, and no other")
        #expect(try await claim(false, now: later).isEmpty)
        #expect(try await claim(true, now: later) == ["dlv_0"])
        let said = try #require(try await store.decisions(of: "dlv_0").last)
        #expect(said.code == InterceptDecision.releasedByHand && said.effect == .passed)
        #expect(said.sentence == "released by hand, custom-hook@gate was not asked again: by t (tok_1)")
        #expect(try await store.release("dlv_0", message: "by t", at: later) == false, "it is in flight")
        #expect(try await store.release("none", message: "by t", at: later) == false)
        #expect(try await store.decisions(of: "dlv_0").count == 2)
        await store.close()
    }

    @Test("what waits with its connection cannot be released; what is released while it waits waits with it")
    func releaseWithConnection() async throws {
        let wait = Reason(code: "held_by_hook", message: "Held.")
        _ = try await store.claimUnjudged(connection: "con_1", owner: "o", now: .start, limit: 1, excluding: [])
        try await store.storeJudgement(Judgement(delivery: "dlv_0", fate: .held(until: later, wait)), at: .start)
        _ = try await store.setState(id: "con_1", .needsReauth, reason: wait, at: .start)
        #expect(try await store.release("dlv_1", message: "by t", at: later) == false)
        #expect(try await store.release("dlv_0", message: "by t", at: later))
        #expect(try await delivery("dlv_0").state == .held, "now for the connection")
        _ = try await store.setState(id: "con_1", .active, reason: nil, at: later)
        #expect(try await delivery("dlv_0").state == .pending)
        #expect(try await claim(true, now: later) == ["dlv_0"])
        await store.close()
    }

    @Test("a judgement of what is not in flight is refused, and nothing of it is stored")
    func isRefused() async throws {
        do {
            try await store.storeJudgement(
                Judgement(delivery: "dlv_0", fate: .passed, decisions: [decision("dlv_0", .continue, .passed)]),
                at: later)
            Issue.record("it was stored")
        } catch let error as StoreError { #expect(error.code == .conflict) }
        #expect(try await store.decisions(of: "dlv_0").isEmpty)
        await store.close()
    }

    @Test("PRV-02: erasing a contact takes it out of reasons and changes; retention takes the decisions along")
    func goes() async throws {
        _ = try await claim(false)
        let veto = Reason(code: "vetoed_by_hook", message: "Vetoed.")
        try await store.storeJudgement(
            Judgement(delivery: "dlv_0", fate: .dropped(veto), decisions: [decision("dlv_0", .drop, .dropped)]),
            at: .start)
        _ = try await store.eraseContact(workspace: .acme, contact: "ada@example.org")
        let left = try #require(try await store.decisions(of: "dlv_0").first)
        #expect(left.message == "[erased]" && left.changes == nil && left.verdict == .drop)
        _ = try await store.enforceRetention(
            clicksBefore: .start, dedupeBefore: .start, deliveriesBefore: later)
        #expect(try await store.decisions(of: "dlv_0").isEmpty)
        await store.close()
    }
}
