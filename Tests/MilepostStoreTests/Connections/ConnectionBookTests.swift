// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostStore
import Testing

@Suite("Connections, baselines and crossings")
struct ConnectionBookTests {
    let directory: TemporaryDirectory
    let store: SQLiteStore
    let linkA = Scope(kind: .link, id: "a")
    let folderF = Scope(kind: .folder, id: "F")

    init() async throws {
        directory = try TemporaryDirectory()
        store = try directory.open()
        _ = try await store.ensureWorkspace(.acme, at: .start)
    }

    private func file(_ link: String, in folder: String?) async throws {
        var change = LinkChange()
        change.folder = .some(folder)
        _ = try await store.changeLink(LinkID(link), workspace: .acme, change: change, at: .start)
    }

    private func unreached(_ scope: Scope, _ thresholds: [Int64] = [100, 1000]) async throws -> [Int64] {
        try await store.unreached(connection: "con_1", scopes: [scope], thresholds: thresholds)[scope] ?? []
    }

    @Test("connecting takes the totals of that moment as its baseline (THR-19)")
    func connectTakesBaseline() async throws {
        try await store.click("a", times: 500, tag: "x")
        let saved = try await store.saveConnection(connection(), credentials: [], baseline: baseline, at: .start)
        #expect(try await unreached(linkA) == [1000])
        #expect(try await store.crossings(connection: "con_1", scope: linkA).map(\.reason) == [baseline])
        #expect(try await store.highestReached(workspace: .acme, scope: linkA) == ["con_1": 100])
        let sequence = try await store.currentSequence()
        #expect(saved.cursor == sequence)
        #expect(try await store.connection(id: "con_1") == saved)
        await store.close()
        #expect(
            try sqliteValue(directory.database, "SELECT highest_threshold FROM link_threshold_state") == "100", "Z-02")
    }

    @Test("without a baseline the current state fires and the cursor is the caller's (THR-19)")
    func connectFires() async throws {
        try await store.click("a", times: 500, tag: "x")
        let saved = try await store.saveConnection(connection(), credentials: [], baseline: nil, at: .start)
        #expect(saved.cursor == 0)
        #expect(try await unreached(linkA) == [100, 1000])
        await store.close()
    }

    @Test("clicks that share the commit of a connect are seen by its first tick", arguments: 1...5)
    func cursorIsSealed(round: Int) async throws {
        let store = store
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<40 {
                group.addTask { try await store.click("n\(number)", times: 3, tag: "r\(round)") }
                if number == 20 {
                    group.addTask {
                        _ = try await store.saveConnection(
                            connection(thresholds: [3]), credentials: [], baseline: baseline, at: .start)
                    }
                }
            }
            try await group.waitForAll()
        }
        let cursor = try #require(try await store.connection(id: "con_1")?.cursor)
        let changed = try await store.changedLinks(workspace: .acme, after: cursor, limit: 1000)
        let later = Set(changed.links.map(\.id.rawValue))
        for number in 0..<40 {
            let scope = Scope(kind: .link, id: "n\(number)")
            let isBaseline = try await unreached(scope, [3]).isEmpty
            #expect(isBaseline != later.contains(scope.id), "either before the connect or after it, never lost")
        }
        await store.close()
    }

    @Test("a threshold that is added does not fire for what is behind, and history outlives changes (CFG-03, CFG-04)")
    func changedThresholds() async throws {
        _ = try await store.saveConnection(
            connection(thresholds: [100]), credentials: [], baseline: baseline, at: .start)
        try await store.click("a", times: 600, tag: "x")
        let (fired, delivery) = crossing("dlv_a")
        _ = try await store.commitEvaluation(
            connection: "con_1", crossings: [fired], deliveries: [delivery!], cursor: 1)
        func change(_ thresholds: [Int64]) async throws {
            _ = try await store.changeConnection(
                id: "con_1", policy: ThresholdPolicy(thresholds: thresholds), settings: nil, warnings: nil,
                account: nil, credentials: [], baseline: baseline, at: .start)
        }
        try await change([500, 700])
        #expect(try await unreached(linkA, [500, 700]) == [700])
        try await change([100, 700])
        #expect(try await unreached(linkA, [100, 700]) == [700])
        #expect(try await store.crossings(connection: "con_1", scope: linkA).first?.delivery == "dlv_a")
        await store.close()
    }

    @Test("folders add up the links in them now; switching the aggregation keeps both histories (CFG-06, CFG-11)")
    func folders() async throws {
        for link in ["a", "b", "c", "d"] {
            try await file(link, in: "F")
            try await store.click(link, times: link == "d" ? 10 : 40, tag: "x")
        }
        let folder = try await store.folder("F", workspace: .acme, audience: .all)
        #expect(folder.totals.all == 130)
        #expect(folder.top.map(\.id.rawValue) == ["a", "b", "c"], "CFG-08: ties by id")
        _ = try await store.saveConnection(connection(), credentials: [], baseline: baseline, at: .start)
        for aggregation in [ThresholdPolicy.Aggregation.folder, .link, .folder] {
            _ = try await store.changeConnection(
                id: "con_1", policy: ThresholdPolicy(thresholds: [100, 1000], aggregation: aggregation), settings: nil,
                warnings: nil, account: nil, credentials: [], baseline: baseline, at: .start)
        }
        #expect(try await unreached(folderF) == [1000])
        #expect(try await unreached(linkA) == [100, 1000])
        await store.close()
    }

    @Test("a move lifts a folder over a threshold without firing; first filing may fire (CFG-09)")
    func folderMove() async throws {
        try await file("a", in: "E")
        try await file("b", in: "F")
        _ = try await store.saveConnection(
            connection(thresholds: [50, 100], aggregation: .folder), credentials: [], baseline: baseline, at: .start)
        try await store.click("a", times: 60, tag: "x")
        try await store.click("b", times: 60, tag: "x")
        try await store.click("c", times: 900, tag: "x")
        try await file("a", in: "F")
        let marked = try await store.crossings(connection: "con_1", scope: folderF)
        #expect(marked.map(\.key.threshold) == [100], "50 was reached before the move and is left to the tick")
        #expect(marked.map(\.reason?.code) == ["folder_move"])
        try await file("c", in: "G")
        #expect(try await unreached(Scope(kind: .folder, id: "G"), [50, 100]) == [50, 100])
        await store.close()
    }

    @Test("reconnecting keeps the id and the history, and stores credentials with it (PCON-12, PCON-13)")
    func reconnect() async throws {
        _ = try await store.saveConnection(connection(), credentials: [], baseline: baseline, at: .start)
        let sealed = SealedCredential(
            connection: "con_1", workspace: .acme, name: "api_token", version: 1, keyID: "k", nonce: [1],
            ciphertext: [2], tag: [3])
        let again = try await store.saveConnection(
            connection("con_2"), credentials: [sealed], baseline: baseline, at: .start)
        #expect(again.id == "con_1")
        #expect(try await store.credential(sealed.reference) == sealed)
        var foreign = sealed
        foreign.connection = "con_9"
        let error = await #expect(throws: StoreError.self) {
            try await store.saveConnection(
                connection(thresholds: [7]), credentials: [foreign], baseline: nil, at: .start)
        }
        #expect(error?.code == .conflict)
        #expect(try await store.connection(id: "con_1")?.policy.thresholds == [100, 1000], "both or neither")
        #expect(try await store.setState(id: "con_1", .needsReauth, reason: baseline, at: .start))
        #expect(try await store.setState(id: "con_1", .needsReauth, reason: baseline, at: .start) == false, "REA-01")
        await store.close()
    }

    @Test(
        "decisions 11: what a call that was under way brings home does not undo a disconnection",
        arguments: [Connection.State.needsReauth, .permission, .disabled, .dailyBudget])
    func staysDisconnected(state: Connection.State) async throws {
        try await store.prepareDeliveries(1)
        _ = try await store.setState(id: "con_1", .disconnected, reason: baseline, at: .start)
        #expect(try await store.setState(id: "con_1", state, reason: baseline, at: .start) == false)
        #expect(try await store.connection(id: "con_1")?.state == .disconnected)
        await store.close()
    }

    @Test(
        "racing workers make one delivery of a crossing with no lock at all (DUP-02, DUP-03, DUP-04, DUP-07)",
        arguments: [Scope.Kind.link, .folder])
    func oneDelivery(kind: Scope.Kind) async throws {
        let store = store
        _ = try await store.saveConnection(connection(), credentials: [], baseline: baseline, at: .start)
        let made = try await withThrowingTaskGroup(of: [Delivery].self) { group in
            for number in 0..<20 {
                group.addTask {
                    let (crossing, delivery) = crossing("dlv_\(number)", scope: Scope(kind: kind, id: "a"))
                    return try await store.commitEvaluation(
                        connection: "con_1", crossings: [crossing], deliveries: [delivery!], cursor: 5)
                }
            }
            return try await group.reduce(into: [Delivery]()) { $0 += $1 }
        }
        #expect(made.count == 1)
        #expect(try await store.deliveryCounts() == ["con_1": [.pending: 1]])
        await store.close()
        #expect(throws: (any Error).self, "the file itself refuses a second one") {
            try sqlite(
                directory.database,
                """
                INSERT INTO crossings (connection_id, scope_kind, scope_id, threshold, arming, target, workspace, at,
                    clicks, people)
                SELECT connection_id, scope_kind, scope_id, threshold, arming, target, workspace, at, clicks, people
                FROM crossings
                """)
        }
    }

    @Test("a workspace's lock has one owner until it expires (DUP-01)")
    func workspaceLock() async throws {
        let later = Timestamp.start + .seconds(60)
        func lock(_ owner: String, _ now: Timestamp) async throws -> Bool {
            try await store.lockWorkspace(.acme, owner: owner, now: now, until: now + .seconds(60))
        }
        #expect(try await lock("one", .start))
        #expect(try await lock("one", .start))
        #expect(try await lock("two", .start) == false)
        #expect(try await lock("two", later))
        try await store.unlockWorkspace(.acme, owner: "one")
        #expect(try await lock("one", later) == false)
        await store.close()
    }
}
