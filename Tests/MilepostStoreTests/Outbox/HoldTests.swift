// SPDX-License-Identifier: Apache-2.0

import GRDB
import MilepostModel
import MilepostStore
import Testing

@Suite("Deliveries that wait on their connection")
struct HoldTests {
    let directory: TemporaryDirectory
    let store: SQLiteStore
    let later = Timestamp.start + .seconds(100)
    let gone = Reason(code: "credential_refused", message: "The vendor refused the token.")

    init() async throws {
        directory = try TemporaryDirectory()
        store = try directory.open(SQLiteConfiguration(retentionChunk: 40))
    }

    private func claim(now: Timestamp = .start) async throws -> [DeliveryID] {
        try await store.claimDue(connection: "con_1", owner: "o", now: now, limit: 10).map(\.delivery.id)
    }

    private func delivery(_ id: DeliveryID) async throws -> Delivery {
        try #require(try await store.delivery(id, workspace: .acme))
    }

    @Test("REA-05: all that waits is held with the connection's reason, and is let go as it was")
    func heldAndLetGo() async throws {
        try await store.prepareDeliveries(4)
        _ = try await store.claimDue(connection: "con_1", owner: "o", now: .start, limit: 3)
        try await store.settle([
            DeliveryOutcome(delivery: "dlv_0", state: .retrying, at: .start),
            DeliveryOutcome(delivery: "dlv_1", state: .uncertain, nextAttemptAt: later, at: .start),
            DeliveryOutcome(delivery: "dlv_2", state: .dead, reason: gone, at: .start),
        ])
        _ = try await store.setState(id: "con_1", .needsReauth, reason: gone, at: .start)
        #expect(try await store.deliveryCounts() == ["con_1": [.held: 3, .dead: 1]])
        #expect(try await store.heldDeliveries(of: "con_1") == 3)
        for id in ["dlv_0", "dlv_1", "dlv_3"] as [DeliveryID] { #expect(try await delivery(id).reason == gone) }
        #expect(try await claim(now: later).isEmpty)
        let other = Reason(code: "permission_missing", message: "A right is missing.")
        _ = try await store.setState(id: "con_1", .permission, reason: other, at: .start)
        #expect(try await delivery("dlv_1").reason == other)
        _ = try await store.setState(id: "con_1", .active, reason: nil, at: later)
        #expect(try await delivery("dlv_0").state == .retrying)
        let uncertain = try await delivery("dlv_1")
        #expect(uncertain.state == .uncertain && uncertain.nextAttemptAt == later && uncertain.reason == nil)
        #expect(uncertain.waited == .seconds(100))
        #expect(try await delivery("dlv_3").state == .pending)
        await store.close()
    }

    @Test("REA-05: what is made, given back, recovered or replayed while the connection waits is held too")
    func everyDoor() async throws {
        try await store.prepareDeliveries(4)
        _ = try await store.claimDue(connection: "con_1", owner: "o", now: .start, limit: 4)
        try await store.storeIntent(deliveries: ["dlv_1"], step: "deal", attempt: 1, at: .start)
        try await store.settle([DeliveryOutcome(delivery: "dlv_3", state: .dead, reason: gone, at: .start)])
        _ = try await store.setState(id: "con_1", .needsReauth, reason: gone, at: .start)
        try await store.settle([DeliveryOutcome(delivery: "dlv_2", state: .retrying, at: .start)])
        #expect(try await delivery("dlv_2").state == .held, "given back")
        let recovered = try await store.recoverClaims(exceptOwner: "p", at: .start)
        #expect(recovered.uncertain == 1 && recovered.retrying == 1)
        #expect(try await delivery("dlv_0").state == .held, "recovered")
        #expect(try await delivery("dlv_1").state == .held, "recovered with an open step")
        _ = try await store.replay(
            workspace: .acme, matching: DeliveryFilter(states: [.dead]), limit: 9, at: .start)
        #expect(try await delivery("dlv_3").state == .held, "replayed")
        let (fresh, made) = crossing("dlv_new", scope: Scope(kind: .link, id: "new"))
        _ = try await store.commitEvaluation(
            connection: "con_1", crossings: [fresh], deliveries: [made!], cursor: 2)
        #expect(try await delivery("dlv_new").state == .held, "made")
        _ = try await store.saveConnection(connection(), credentials: [], baseline: nil, at: later)
        #expect(try await delivery("dlv_1").state == .uncertain)
        #expect(try await claim(now: later) == ["dlv_0", "dlv_1", "dlv_2", "dlv_3", "dlv_new"])
        await store.close()
    }

    @Test("a hold of the delivery's own outlasts its connection's, and is counted once (decisions 9)")
    func ownHold() async throws {
        try await store.prepareDeliveries(1)
        _ = try await claim()
        try await store.settle([DeliveryOutcome(delivery: "dlv_0", state: .held, reason: gone, at: .start)])
        _ = try await store.setState(id: "con_1", .disabled, reason: nil, at: .start)
        _ = try await store.setState(id: "con_1", .active, reason: nil, at: later)
        let held = try await delivery("dlv_0")
        #expect(held.state == .held && held.reason == gone)
        try await store.settle([DeliveryOutcome(delivery: "dlv_0", state: .retrying, at: later)])
        #expect(try await delivery("dlv_0").waited == .seconds(100))
        await store.close()
    }

    @Test("THR-17, Z-04: the time in which no daemon ran is taken for waiting, once, whatever the state")
    func daemonDown() async throws {
        try await store.prepareDeliveries(3)
        _ = try await store.claimDue(connection: "con_1", owner: "o", now: .start, limit: 2)
        try await store.settle([DeliveryOutcome(delivery: "dlv_1", state: .delivered, at: .start)])
        try await store.heartbeat(at: .start + .seconds(40))
        #expect(try await store.resume(at: later) == .seconds(60))
        #expect(try await store.resume(at: later) == .zero, "a start that is repeated adds nothing")
        #expect(try await delivery("dlv_0").waited == .seconds(60))
        #expect(try await delivery("dlv_1").waited == .zero)
        #expect(try await delivery("dlv_2").waited == .seconds(60))
        try await store.heartbeat(at: later + .seconds(50))
        #expect(try await store.resume(at: later) == .zero, "a clock that stepped back adds nothing")
        await store.close()
    }

    @Test("THR-17, Z-04: a stop within a wait of the connection is counted once")
    func daemonDownWhileHeld() async throws {
        try await store.prepareDeliveries(1)
        try await store.heartbeat(at: .start)
        _ = try await store.setState(id: "con_1", .needsReauth, reason: gone, at: .start)
        _ = try await store.resume(at: later)
        _ = try await store.setState(id: "con_1", .active, reason: nil, at: later)
        #expect(try await delivery("dlv_0").waited == .seconds(100))
        await store.close()
    }

    @Test("THR-17, Z-04: a new store knows no gap, and a tick's record is a sign of life")
    func signsOfLife() async throws {
        try await store.prepareDeliveries(1)
        #expect(try await store.resume(at: later) == .zero)
        let run = ScheduleRun(
            schedule: "s", startedAt: later, finishedAt: later + .seconds(5), succeeded: true)
        try await store.recordRun(run)
        #expect(try await store.resume(at: later + .seconds(9)) == .seconds(4))
        await store.close()
    }

    @Test("a database of the schema before gets its waiting deliveries held")
    func migration() async throws {
        try await store.prepareDeliveries(2)
        await store.close()
        let queue = try DatabaseQueue(path: directory.database)
        try await queue.write { db in
            try db.execute(
                sql: """
                    UPDATE connections SET state = 'permission', reason_code = 'permission_missing',
                        reason_message = 'A right is missing.';
                    UPDATE deliveries SET state = 'delivered' WHERE id = 'dlv_1';
                    DELETE FROM counters WHERE name = 'alive_at';
                    DELETE FROM grdb_migrations WHERE identifier = '0003-holds';
                    PRAGMA user_version = 2;
                    """)
        }
        try queue.close()
        let opened = try directory.open()
        let waiting = try #require(try await opened.delivery("dlv_0", workspace: .acme))
        #expect(waiting.state == .held && waiting.reason?.code == "permission_missing")
        #expect(try await opened.delivery("dlv_1", workspace: .acme)?.state == .delivered)
        _ = try await opened.setState(id: "con_1", .active, reason: nil, at: later)
        #expect(try await opened.delivery("dlv_0", workspace: .acme)?.state == .pending)
        await opened.close()
    }
}
