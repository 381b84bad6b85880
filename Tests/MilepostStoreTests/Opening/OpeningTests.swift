// SPDX-License-Identifier: Apache-2.0

import Foundation
import MilepostModel
import MilepostStore
import Testing

@Suite("Opening a data directory")
struct OpeningTests {
    let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    private func refusal() -> StoreError.Code? {
        do {
            _ = try directory.open()
            return nil
        } catch {
            return (error as? StoreError)?.code
        }
    }

    @Test("a file that is no database, or another program's, is refused and left as it was (decisions 28)")
    func foreignFiles() async throws {
        let file = URL(fileURLWithPath: directory.database)
        let text = Data(String(repeating: "not a database ", count: 500).utf8)
        try text.write(to: file)
        #expect(refusal() == .corrupt)
        #expect(try Data(contentsOf: file) == text)
        try FileManager.default.removeItem(at: file)
        try sqlite(directory.database, "CREATE TABLE theirs (a); PRAGMA application_id = 77")
        #expect(refusal() == .corrupt)
        #expect(try sqliteValue(directory.database, "PRAGMA journal_mode") == "delete")
    }

    @Test("a file that was cut short or damaged is refused, with the way out")
    func damagedFiles() async throws {
        await (try directory.open()).close()
        let file = URL(fileURLWithPath: directory.database)
        let whole = try Data(contentsOf: file)
        try whole.prefix(whole.count / 2).write(to: file)
        let error = #expect(throws: StoreError.self) { try directory.open() }
        #expect(error?.code == .corrupt)
        #expect(error?.detail.contains("restore the newest backup") == true)
        var scribbled = whole
        for offset in 100..<4096 { scribbled[offset] = 0xAA }
        try scribbled.write(to: file)
        #expect(refusal() == .corrupt)
    }

    @Test("damage that shows while writing stops all writes, and health says so (decisions 28)")
    func damageWhileRunning() async throws {
        var store = try directory.open()
        _ = try await store.ensureWorkspace(.acme, at: .start)
        try await store.click("a", times: 3000, tag: "x")
        await store.close()
        let file = URL(fileURLWithPath: directory.database)
        var bytes = try Data(contentsOf: file)
        let root = Int(
            try sqliteValue(directory.database, "SELECT rootpage FROM sqlite_schema WHERE name = 'event_ids'")!)!
        for offset in (root - 1) * 4096..<root * 4096 { bytes[offset] = 0xAA }
        try bytes.write(to: file)
        store = try directory.open()
        for _ in 0..<2 {
            let error = await #expect(throws: StoreError.self) { try await store.click("a", times: 1, tag: "y") }
            #expect(error?.code == .corrupt)
        }
        let health = await store.health()
        #expect(!health.isWritable)
        #expect(health.problem == .corrupt)
        await store.close()
    }

    @Test("a check in idle time finds damage that no read or write has met, and stops writes (decisions 28)")
    func damageIsLookedFor() async throws {
        for table in ["clicks_20261101", "crossings", "event_ids"] {
            let directory = try TemporaryDirectory()
            var store = try directory.open()
            try await store.prepareDeliveries(200)
            try await store.click("a", times: 3000, tag: "x")
            #expect(try await store.quickCheck() == [])
            #expect(await store.health().isWritable)
            await store.close()
            let file = URL(fileURLWithPath: directory.database)
            var bytes = try Data(contentsOf: file)
            // Not the root: a page that nobody opens the file with. One byte in a hundred keeps it a page in form.
            let page = Int(
                try sqliteValue(
                    directory.database,
                    "SELECT max(pageno) FROM dbstat WHERE name = '\(table)' AND pagetype = 'leaf'")!)!
            for offset in (page - 1) * 4096..<(page - 1) * 4096 + 64 { bytes[offset] = 0x7F }
            try bytes.write(to: file)
            store = try directory.open()
            #expect(try await store.quickCheck().isEmpty == false, "\(table)")
            #expect(await store.health().problem == .corrupt)
            let error = await #expect(throws: StoreError.self) { try await store.click("b", times: 1, tag: "y") }
            #expect(error?.code == .corrupt)
            await store.close()
        }
    }

    @Test("a schema from the future is refused")
    func newerSchema() async throws {
        await (try directory.open()).close()
        try sqlite(directory.database, "PRAGMA user_version = 9999")
        #expect(refusal() == .schemaTooNew)
        try sqlite(directory.database, "PRAGMA user_version = 2; INSERT INTO grdb_migrations VALUES ('9999-later')")
        #expect(refusal() == .schemaTooNew)
    }

    @Test("a directory has one store, and a standby takes over when the lock is free")
    func oneStore() async throws {
        let lock = try #require(try DataDirectoryLock.tryAcquire(directory: directory.path))
        #expect(try DataDirectoryLock.tryAcquire(directory: directory.path + "/.") == nil)
        let store = try directory.open()
        #expect(refusal() == .locked)
        let path = directory.path
        let standby = Task { try await DataDirectoryLock.acquire(directory: path, clock: FixedClock()) }
        await store.close()
        lock.release()
        let taken = try await standby.value
        await (try directory.open()).close()
        taken.release()
        await (try directory.open()).close()
    }

    @Test("another process's lock keeps a store from opening")
    func anotherProcess() async throws {
        let holder = Process()
        holder.executableURL = URL(fileURLWithPath: "/usr/bin/flock")
        holder.arguments = ["--no-fork", directory.path + "/milepost.lock", "sh", "-c", "echo held; exec sleep 60"]
        let output = Pipe()
        holder.standardOutput = output
        try holder.run()
        _ = output.fileHandleForReading.availableData
        #expect(refusal() == .locked)
        // The lock ends with its holder, however that ends.
        kill(holder.processIdentifier, SIGKILL)
        holder.waitUntilExit()
        #expect(refusal() == nil)
    }

    @Test("what was acknowledged is in the files at that moment: a copy taken then opens with all of it (invariant 1)")
    func acknowledgedIsInTheFiles() async throws {
        let store = try directory.open()
        _ = try await store.ensureWorkspace(.acme, at: .start)
        for round in 1...5 {
            try await store.click("a", times: 10, tag: "r\(round)")
            let crashed = try TemporaryDirectory()
            for suffix in ["", "-wal"] {
                try FileManager.default.copyItem(
                    atPath: directory.database + suffix, toPath: crashed.database + suffix)
            }
            let recovered = try crashed.open()
            #expect(try await recovered.link(LinkID("a"), workspace: .acme)?.totals.all == Int64(round * 10))
            #expect(try await recovered.auditTotals() == [])
            await recovered.close()
        }
        await store.close()
    }

    @Test("a closed store says so")
    func closedStore() async throws {
        let store = try directory.open()
        _ = try await store.ensureWorkspace(.acme, at: .start)
        await store.close()
        await store.close()
        let write = await #expect(throws: StoreError.self) { try await store.click("a", times: 1, tag: "x") }
        #expect(write?.code == .closed)
        let read = await #expect(throws: StoreError.self) { try await store.currentSequence() }
        #expect(read?.code == .closed)
    }
}
