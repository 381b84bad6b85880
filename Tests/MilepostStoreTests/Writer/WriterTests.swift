// SPDX-License-Identifier: Apache-2.0

import Foundation
import MilepostModel
import MilepostStore
import Testing

@Suite("The writer")
struct WriterTests {
    let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    @Test("calls that arrive together share commits, and one that fails does not fail its neighbours")
    func groupCommit() async throws {
        let store = try directory.open()
        _ = try await store.ensureWorkspace(.acme, at: .start)
        let failed = await withTaskGroup(of: Bool.self) { group in
            for number in 0..<500 {
                group.addTask {
                    var clicks = [click("x", on: "a"), click("y", on: "new\(number)")]
                    clicks[0].identity = identity("x\(number)")
                    clicks[1].identity = number % 100 == 7 ? [] : identity("y\(number)")
                    do {
                        _ = try await store.append(clicks, workspace: .acme, receivedAt: .start)
                        return false
                    } catch { return true }
                }
            }
            return await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
        #expect(failed == 5)
        #expect(try await store.link(LinkID("a"), workspace: .acme)?.totals.all == 495)
        // The cache forgot the link of the failed call, or this click would count for a link that is not there.
        try await store.click("new7", times: 1, tag: "z")
        #expect(try await store.link(LinkID("new7"), workspace: .acme)?.totals.all == 1)
        #expect(try await store.auditTotals() == [])
        #expect(try await store.currentSequence() < 450, "500 calls shared transactions")
        await store.close()
    }

    @Test("a full disk refuses with nothing stored, and goes on when there is room")
    func fullDisk() async throws {
        var store = try directory.open(SQLiteConfiguration(maximumPages: 120))
        _ = try await store.ensureWorkspace(.acme, at: .start)
        var stored: Int64 = 0
        var refusal: StoreError?
        for round in 0..<200 where refusal == nil {
            do {
                try await store.click("a", times: 100, tag: "r\(round)")
                stored += 100
            } catch { refusal = error as? StoreError }
        }
        #expect(refusal?.code == .storageFull)
        #expect(await store.health().problem == .storageFull)
        #expect(try await store.link(LinkID("a"), workspace: .acme)?.totals.all == stored)
        // Room comes back: the oldest day goes.
        let nextDay = Timestamp.start + .seconds(86_400)
        _ = try await store.enforceRetention(clicksBefore: nextDay, dedupeBefore: nextDay, deliveriesBefore: .start)
        _ = try await store.append([click("later", on: "a")], workspace: .acme, receivedAt: nextDay)
        #expect(await store.health().isWritable)
        #expect(try await store.link(LinkID("a"), workspace: .acme)?.totals.all == stored + 1)
        #expect(try await store.auditTotals() == [])
        await store.close()
        store = try directory.open()
        #expect(try await store.link(LinkID("a"), workspace: .acme)?.totals.all == stored + 1)
        await store.close()
    }

    @Test("EXT-18: a backup that cannot be written says where and why, and the store counts as well")
    func backupUnwritable() async throws {
        let store = try directory.open()
        _ = try await store.ensureWorkspace(.acme, at: .start)
        let file = directory.path + "/absent/copy.db"
        let error = await #expect(throws: StoreError.self) { try await store.backup(to: file) }
        #expect(error?.code == .backupUnwritable)
        #expect(error?.detail.contains("'\(file)' cannot be written: No such file or directory") == true)
        #expect(error?.detail.contains("/var/backups/milepost") == true)
        #expect(await store.health().isWritable, "the store itself is well")
        #expect(store.takeFailure() == nil)
        await store.close()
    }

    @Test("a write that failed is told once, though a smaller one has succeeded since")
    func failureIsKept() async throws {
        let store = try directory.open(SQLiteConfiguration(maximumPages: 120))
        _ = try await store.ensureWorkspace(.acme, at: .start)
        #expect(store.takeFailure() == nil)
        let many = (0..<20_000).map { click("\($0)", on: "link\($0)") }
        await #expect(throws: StoreError.self) {
            _ = try await store.append(many, workspace: .acme, receivedAt: .start)
        }
        #expect(await !store.health().isWritable)
        _ = try await store.append([click("small", on: "a")], workspace: .acme, receivedAt: .start)
        #expect(await store.health().isWritable, "it had its place")
        #expect(store.takeFailure()?.code == .storageFull)
        #expect(store.takeFailure() == nil)
        await store.close()
    }

    @Test(
        "readers that run beside writes and checkpoints never see a loss (SQLite's WAL-reset bug)",
        .timeLimit(.minutes(10)))
    func readersAndCheckpoints() async throws {
        // Every commit is followed by a checkpoint.
        let store = try directory.open(SQLiteConfiguration(checkpointBytes: 0, checkpointLimitBytes: 0))
        _ = try await store.ensureWorkspace(.acme, at: .start)
        let link = LinkID("a")
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                for round in 1...400 {
                    try await store.click("a", times: 5, tag: "r\(round)")
                    let total = try await store.link(link, workspace: .acme)?.totals.all
                    #expect(total == Int64(round * 5), "what was acknowledged is read back")
                }
            }
            for _ in 0..<3 {
                group.addTask {
                    var last: Int64 = 0
                    for round in 0..<400 {
                        let total = try await store.link(link, workspace: .acme)?.totals.all ?? 0
                        #expect(total >= last)
                        last = total
                        if round % 100 == 0 { #expect(try await store.auditTotals() == []) }
                    }
                }
            }
            try await group.waitForAll()
        }
        await store.close()
        #expect(try sqliteValue(directory.database, "PRAGMA integrity_check") == "ok")
        let again = try directory.open()
        #expect(try await again.link(link, workspace: .acme)?.totals.all == 2000)
        #expect(try await again.auditTotals() == [])
        await again.close()
    }

    @Test("decisions 24: the log does not grow past its limit, however busy the writer is")
    func logLimit() async throws {
        let store = try directory.open(
            SQLiteConfiguration(checkpointBytes: 1 << 16, checkpointLimitBytes: 1 << 20))
        _ = try await store.ensureWorkspace(.acme, at: .start)
        let longest = try await withThrowingTaskGroup(of: Int64.self) { group in
            for caller in 0..<4 {
                group.addTask {
                    var longest: Int64 = 0
                    for round in 0..<20 {
                        try await store.click("a", times: 400, tag: "\(caller)-\(round)")
                        longest = max(longest, await store.health().walBytes)
                    }
                    return longest
                }
            }
            return try await group.reduce(0, max)
        }
        let health = await store.health()
        #expect(longest > 1 << 20 && longest < 4 << 20, "\(longest) bytes")
        #expect(health.databaseBytes > 1 << 20)
        #expect(try await store.auditTotals() == [])
        await store.close()
    }

    @Test("a backup taken while writes go on is whole")
    func backup() async throws {
        let store = try directory.open()
        _ = try await store.ensureWorkspace(.acme, at: .start)
        for round in 0..<20 { try await store.click("a", times: 4000, tag: "b\(round)") }
        let target = try TemporaryDirectory()
        async let done: Void = store.backup(to: target.database)
        for round in 0..<50 { try await store.click("a", times: 5, tag: "d\(round)") }
        try await done
        let error = await #expect(throws: StoreError.self) { try await store.backup(to: target.database) }
        #expect(error?.code == .conflict)
        await store.close()
        #expect(try sqliteValue(target.database, "PRAGMA integrity_check") == "ok")
        let copy = try target.open()
        #expect(try await copy.auditTotals() == [])
        #expect(try await copy.link(LinkID("a"), workspace: .acme)?.totals.all ?? 0 >= 80_000)
        await copy.close()
    }

    @Test("the database is readable by its owner only")
    func permissions() async throws {
        let store = try directory.open()
        _ = try await store.ensureWorkspace(.acme, at: .start)
        for suffix in ["", "-wal", "-shm"] {
            let attributes = try FileManager.default.attributesOfItem(atPath: directory.database + suffix)
            #expect((attributes[.posixPermissions] as? Int).map { $0 & 0o077 } == 0, "\(suffix)")
        }
        let health = await store.health()
        #expect(health.workspaces == 1 && health.databaseBytes > 0 && health.freeDiskBytes > 0)
        await store.close()
    }
}
