// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostStore
import Testing

@Suite("Tokens, audit, schedules, plugins' values and the vault's records")
struct AccessTests {
    let directory: TemporaryDirectory
    let store: SQLiteStore

    init() throws {
        directory = try TemporaryDirectory()
        store = try directory.open()
    }

    @Test("tokens are found by hash and can be taken away")
    func tokens() async throws {
        let token = AccessToken(
            id: "tok_1", name: "ci", hash: [1, 2, 3], scopes: [.ingest, .viewer], workspace: .acme, createdAt: .start,
            expiresAt: .start)
        try await store.saveToken(token)
        #expect(try await store.token(hash: [1, 2, 3]) == token)
        #expect(try await store.tokens() == [token])
        #expect(try await store.deleteToken(id: "tok_1"))
        #expect(try await store.deleteToken(id: "tok_1") == false)
        #expect(try await store.token(hash: [1, 2, 3]) == nil)
        await store.close()
    }

    @Test("the audit log pages newest first (EXT-09); the last run of a schedule is known (THR-18)")
    func auditAndRuns() async throws {
        for number in 1...3 {
            try await store.audit(
                AuditEntry(at: .start, actor: "cli:init", action: "token.create", target: "t\(number)"))
        }
        let first = try await store.auditEntries(cursor: nil, limit: 2)
        let second = try await store.auditEntries(cursor: first.next, limit: 2)
        #expect((first.items + second.items).map(\.target) == ["t3", "t2", "t1"])
        #expect(second.next == nil)
        for number in 0..<60 {
            let run = ScheduleRun(
                schedule: "s", startedAt: .start, finishedAt: .start, succeeded: true, summary: .integer(Int64(number)))
            try await store.recordRun(run)
        }
        #expect(try await store.lastRun(of: "s")?.summary == 59)
        #expect(try await store.lastRun(of: "other") == nil)
        await store.close()
        #expect(try sqliteValue(directory.database, "SELECT count(*) FROM schedule_runs") == "50")
    }

    @Test("plugins' values have versions that move on and an end")
    func pluginValues() async throws {
        func set(_ value: UInt8, expecting: UInt64, expiresAt: Timestamp? = nil) async throws -> UInt64 {
            try await store.setPluginValue(
                connection: "con_1", key: "cursor", value: [value], expecting: expecting, expiresAt: expiresAt,
                at: .start)
        }
        #expect(try await set(1, expecting: 0) == 1)
        #expect(try await set(2, expecting: 1) == 2)
        let error = await #expect(throws: StoreError.self) { try await set(3, expecting: 1) }
        #expect(error?.code == .conflict)
        #expect(try await store.pluginValue(connection: "con_1", key: "cursor", at: .start)?.value == [2])
        #expect(try await store.pluginKeys(connection: "con_1", prefix: "cur", at: .start) == ["cursor"])
        #expect(try await store.pluginKeys(connection: "con_1", prefix: "x", at: .start) == [])
        #expect(try await set(4, expecting: 0, expiresAt: .start) == 3)
        #expect(try await store.pluginValue(connection: "con_1", key: "cursor", at: .start) == nil)
        try await store.deletePluginValue(connection: "con_1", key: "cursor", expecting: 3)
        await store.close()
    }

    @Test("one data key a workspace; wrapping anew is compare and swap")
    func dataKeys() async throws {
        let key = WrappedDataKey(workspace: .acme, id: "d1", kekID: "k1", wrapped: [1])
        let other = WrappedDataKey(workspace: .acme, id: "d2", kekID: "k1", wrapped: [2])
        #expect(try await store.insertDataKey(key) == key)
        #expect(try await store.insertDataKey(other) == key)
        let rewrapped = WrappedDataKey(workspace: .acme, id: "d1", kekID: "k2", wrapped: [3])
        #expect(try await store.dataKeysNotWrapped(by: "k2", limit: 5) == [key])
        #expect(try await store.replaceDataKey(rewrapped, ifKekIs: "k1"))
        #expect(try await store.replaceDataKey(rewrapped, ifKekIs: "k1") == false)
        #expect(try await store.dataKey(.acme) == rewrapped)
        #expect(try await store.dataKeyCount(wrappedBy: "k1") == 0)
        await store.close()
    }

    @Test("plans, opt-outs and link facts are kept; a link change takes only what it names")
    func book() async throws {
        let made = try await store.ensureWorkspace(.acme, at: .start)
        #expect(try await store.ensureWorkspace(.acme, at: .start + .seconds(9)) == made)
        try await store.setPlan(.acme, plan: "pro", trialStartedAt: .start)
        #expect(try await store.workspaces().map(\.plan) == ["pro"])
        try await store.setOptOut("m", workspace: .acme, isOptedOut: true, at: .start)
        #expect(try await store.hasOptedOut("m", workspace: .acme))
        try await store.setOptOut("m", workspace: .acme, isOptedOut: false, at: .start)
        #expect(try await store.optedOutMembers(workspace: .acme) == [])
        var change = LinkChange()
        change.slug = "spring"
        change.tags = ["a b", "\"c\""]
        change.flags = [.test]
        change.folder = "F"
        _ = try await store.changeLink("a", workspace: .acme, change: change, at: .start)
        var second = LinkChange()
        second.slug = .some(nil)
        let link = try await store.changeLink("a", workspace: .acme, change: second, at: .start)
        #expect(link == (try await store.link("a", workspace: .acme)))
        #expect(link.slug == nil && link.tags == ["a b", "\"c\""] && link.flags == [.test] && link.folder == "F")
        _ = try await store.changeLink("b", workspace: .acme, change: LinkChange(), at: .start)
        let page = try await store.links(workspace: .acme, folder: nil, cursor: nil, limit: 1)
        #expect(page.items.map(\.id) == ["a"] && page.next == "a")
        #expect(try await store.links(workspace: .acme, folder: "F", cursor: nil, limit: 5).items == [link])
        await store.close()
    }
}
