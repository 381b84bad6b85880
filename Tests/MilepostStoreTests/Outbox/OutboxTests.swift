// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostStore
import Testing

@Suite("The outbox")
struct OutboxTests {
    let directory: TemporaryDirectory
    let store: SQLiteStore
    let later = Timestamp.start + .seconds(100)

    init() async throws {
        directory = try TemporaryDirectory()
        store = try directory.open(SQLiteConfiguration(retentionChunk: 40))
    }

    private func claim(_ owner: String, limit: Int = 10, now: Timestamp = .start) async throws -> [ClaimedDelivery] {
        try await store.claimDue(connection: "con_1", owner: owner, now: now, limit: limit)
    }

    @Test("two claimers that race never get the same delivery (DUP-03)")
    func claimersRace() async throws {
        try await store.prepareDeliveries(100)
        let store = store
        let claimed = try await withThrowingTaskGroup(of: [DeliveryID].self) { group in
            for number in 0..<16 {
                group.addTask {
                    try await store.claimDue(
                        connection: "con_1", owner: "o\(number % 2)", now: .start, limit: 10
                    ).map(\.delivery.id)
                }
            }
            return try await group.reduce(into: [DeliveryID]()) { $0 += $1 }
        }
        #expect(claimed.count == 100)
        #expect(Set(claimed).count == 100)
        await store.close()
    }

    @Test("what is due comes oldest first, with its journal and one attempt more")
    func claimAnswers() async throws {
        try await store.prepareDeliveries(3)
        let first = try await claim("o", limit: 1)
        #expect(first.map(\.delivery.id) == ["dlv_0"])
        #expect(first.map(\.cameFrom) == [.pending])
        #expect(first.map(\.delivery.attempts) == [1])
        try await store.storeIntent(deliveries: ["dlv_0"], step: "deal", attempt: 1, at: .start)
        try await store.storeOutcome(
            deliveries: ["dlv_0"], step: "deal", wire: "answered", httpStatus: 201, body: "{}", at: .start)
        try await store.storeStep(delivery: "dlv_0", step: "deal", result: ["id": 7], at: .start)
        try await store.storeIntent(deliveries: ["dlv_0"], step: "note", attempt: 1, at: .start)
        try await store.settle([
            DeliveryOutcome(
                delivery: "dlv_0", state: .retrying, nextAttemptAt: later, refundsAttempt: true,
                attempt: AttemptRecord(
                    delivery: "dlv_0", attempt: 1, startedAt: .start, finishedAt: .start, verb: "deliver",
                    verdict: "retry"),
                at: .start)
        ])
        #expect(try await claim("o").map(\.delivery.id) == ["dlv_1", "dlv_2"])
        let again = try await claim("o", now: later)
        #expect(again.map(\.delivery.attempts) == [1], "the refunded attempt does not count")
        #expect(again.first?.journal.map(\.step) == ["deal", "note"])
        #expect(again.first?.journal.map(\.state) == [.done, .intent])
        #expect(again.first?.journal.first?.result == ["id": 7])
        #expect(try await store.attempts(of: "dlv_0").map(\.verdict) == ["retry"])
        await store.close()
    }

    @Test("a finished step is never opened again, and an outcome needs its intent (invariants 4 and 5)")
    func finishedStepStays() async throws {
        try await store.prepareDeliveries(1)
        let missing = await #expect(throws: StoreError.self) {
            try await store.storeOutcome(
                deliveries: ["dlv_0"], step: "deal", wire: "answered", httpStatus: 200, body: nil, at: .start)
        }
        #expect(missing?.code == .notFound)
        try await store.storeIntent(deliveries: ["dlv_0"], step: "deal", attempt: 1, at: .start)
        try await store.storeStep(delivery: "dlv_0", step: "deal", result: nil, at: .start)
        let repeated = await #expect(throws: StoreError.self) {
            try await store.storeIntent(deliveries: ["dlv_0"], step: "deal", attempt: 2, at: .start)
        }
        #expect(repeated?.code == .conflict)
        try await store.clearStep(delivery: "dlv_0", step: "deal")
        #expect(try await store.journal(of: "dlv_0").map(\.state) == [.done])
        await store.close()
    }

    @Test("after a crash an open step makes the delivery uncertain, none makes it retry (DUP-05)")
    func recovery() async throws {
        try await store.prepareDeliveries(4)
        _ = try await claim("dead", limit: 3)
        _ = try await claim("alive", limit: 1)
        try await store.storeIntent(deliveries: ["dlv_0", "dlv_1"], step: "deal", attempt: 1, at: .start)
        try await store.storeOutcome(
            deliveries: ["dlv_1"], step: "deal", wire: "answered", httpStatus: 429, body: nil, at: .start)
        let recovered = try await store.recoverClaims(exceptOwner: "alive", at: later)
        #expect(recovered.uncertain == 1)
        #expect(recovered.retrying == 2)
        #expect(try await store.deliveryCounts() == ["con_1": [.uncertain: 1, .retrying: 2, .inFlight: 1]])
        let claimed = try await claim("alive", now: later)
        #expect(claimed.map(\.cameFrom) == [.uncertain, .retrying, .retrying])
        let second = try await store.recoverClaims(exceptOwner: "third", at: later)
        #expect(second.uncertain == 1, "one that was being reconciled stays uncertain")
        await store.close()
    }

    @Test("invariant 4: a daemon that works takes back what it left claimed, and nothing of others or of other actions")
    func recoveryWhileWorking() async throws {
        try await store.prepareDeliveries(3)
        _ = try await claim("alive", limit: 2)
        _ = try await claim("other", limit: 1)
        try await store.storeIntent(deliveries: ["dlv_0"], step: "deal", attempt: 1, at: .start)
        func recover(_ owner: String, _ action: String) async throws -> Int {
            try await store.recoverClaims(of: "con_1", owner: owner, at: later) { $0 == action }
        }
        #expect(try await recover("alive", "click") == 0)
        #expect(try await recover("alive", "deal") == 2)
        #expect(try await recover("alive", "deal") == 0)
        #expect(try await store.deliveryCounts() == ["con_1": [.uncertain: 1, .retrying: 1, .inFlight: 1]])
        #expect(try await claim("alive", now: later).map(\.cameFrom) == [.uncertain, .retrying])
        await store.close()
    }

    @Test("replay starts dead ones afresh, each once, and keeps an open step uncertain")
    func replay() async throws {
        try await store.prepareDeliveries(3)
        _ = try await claim("o")
        try await store.storeIntent(deliveries: ["dlv_1"], step: "deal", attempt: 1, at: .start)
        let reason = Reason(code: "age", message: "Older than 24 hours.")
        try await store.settle(
            ["dlv_0", "dlv_1"].map { DeliveryOutcome(delivery: $0, state: .dead, reason: reason, at: .start) })
        let filter = DeliveryFilter(states: [.dead], search: "older than")
        #expect(try await store.replay(workspace: .acme, matching: filter, limit: 10, at: later) == 2)
        #expect(try await store.replay(workspace: .acme, matching: filter, limit: 10, at: later) == 0)
        let first = try #require(try await store.delivery("dlv_0", workspace: .acme))
        #expect(first.state == .pending)
        #expect(first.attempts == 0)
        #expect(later - first.createdAt - first.waited == .zero, "its age counts from now")
        #expect(try await store.delivery("dlv_1", workspace: .acme)?.state == .uncertain)
        #expect(try await store.delivery("dlv_1", workspace: "other") == nil)
        await store.close()
    }

    @Test("caps stand still while the connection waits and while a delivery is held (decisions 9)")
    func waiting() async throws {
        try await store.prepareDeliveries(2)
        try await store.settle([DeliveryOutcome(delivery: "dlv_1", state: .held, at: .start)])
        try await store.settle([DeliveryOutcome(delivery: "dlv_1", state: .delivered, at: later)])
        _ = try await store.setState(id: "con_1", .needsReauth, reason: nil, at: .start)
        _ = try await store.setState(id: "con_1", .active, reason: nil, at: later)
        #expect(try await store.delivery("dlv_0", workspace: .acme)?.waited == .seconds(100))
        #expect(try await store.delivery("dlv_1", workspace: .acme)?.waited == .seconds(100))
        #expect(try await store.oldestUnfinished() == ["con_1": .start])
        await store.close()
    }

    @Test("lists page through all deliveries, newest first, and filter")
    func lists() async throws {
        try await store.prepareDeliveries(5)
        var cursor: String?
        var ids: [DeliveryID] = []
        for _ in 0..<5 {
            let page = try await store.deliveries(
                workspace: .acme, matching: DeliveryFilter(), cursor: cursor, limit: 2)
            ids += page.items.map(\.id)
            cursor = page.next
            if cursor == nil { break }
        }
        #expect(ids == ["dlv_4", "dlv_3", "dlv_2", "dlv_1", "dlv_0"])
        let filter = DeliveryFilter(states: [.pending], connection: "con_1", link: LinkID("l3"), since: .start)
        let found = try await store.deliveries(workspace: .acme, matching: filter, cursor: nil, limit: 9)
        #expect(found.items.map(\.id) == ["dlv_3"])
        let error = await #expect(throws: StoreError.self) {
            try await store.deliveries(workspace: .acme, matching: filter, cursor: "x' OR 1", limit: 9)
        }
        #expect(error?.code == .notFound)
        await store.close()
    }

    @Test("delivered ones are compacted with their journal; crossings stay and nothing fires again (decisions 25)")
    func compaction() async throws {
        try await store.prepareDeliveries(7)
        _ = try await claim("o")
        try await store.storeIntent(deliveries: ["dlv_0"], step: "deal", attempt: 1, at: .start)
        try await store.settle(
            (0..<6).map { DeliveryOutcome(delivery: DeliveryID("dlv_\($0)"), state: .delivered, at: .start) })
        let result = try await store.enforceRetention(
            clicksBefore: .start, dedupeBefore: .start, deliveriesBefore: later)
        #expect(result.deliveriesDropped == 6)
        #expect(try await store.journal(of: "dlv_0") == [])
        let (again, delivery) = crossing("dlv_new", scope: Scope(kind: .link, id: "l0"))
        let made = try await store.commitEvaluation(
            connection: "con_1", crossings: [again], deliveries: [delivery!], cursor: 2)
        #expect(made == [])
        await store.close()
    }
}
