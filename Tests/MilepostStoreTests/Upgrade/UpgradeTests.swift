// SPDX-License-Identifier: Apache-2.0

import Foundation
import GRDB
import MilepostModel
import MilepostStore
import Synchronization
import Testing

@Suite("Changing a store's schema")
struct UpgradeTests {
    let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    private func upgrade(
        _ steps: [SchemaStep] = Schema.steps, free: Int64 = 1 << 40,
        report: @escaping @Sendable (UpgradeProgress) -> Void = { _ in }
    ) -> StoreUpgrade {
        StoreUpgrade(path: directory.database, steps: steps, freeBytes: { _ in free }, report: report)
    }

    /// A store in which something of every kind has happened, and closed.
    private func fill(_ seed: UInt64, rounds: Int = 60) async throws {
        var random = Seeded(state: seed)
        let store = try directory.open()
        _ = try await store.ensureWorkspace(.acme, at: .start)
        try await store.prepareDeliveries(8)
        for round in 0..<rounds {
            switch Int.random(in: 0..<5, using: &random) {
            case 0, 1:
                try await store.click("l\(Int.random(in: 0..<5, using: &random))", times: 3, tag: "\(seed)-\(round)")
            case 2:
                let form = FormSubmission(
                    id: EventID("f\(seed)-\(round)"), time: .start, contactID: "c\(round % 3)",
                    googleClickID: round % 2 == 0 ? "g\(round)" : nil)
                _ = try await store.appendForms([form], workspace: .acme, receivedAt: .start)
            case 3:
                try await store.audit(AuditEntry(at: .start, actor: "t", action: "a", target: "\(round)"))
            default:
                let claimed = try await store.claimDue(connection: "con_1", owner: "o", now: .start, limit: 1)
                for one in claimed {
                    let id = one.delivery.id
                    try await store.storeIntent(deliveries: [id], step: "deal", attempt: 1, at: .start)
                    guard round % 2 == 0 else { continue }  // in flight when the daemon ends
                    try await store.settle([
                        DeliveryOutcome(delivery: id, state: .delivered, remoteID: "r\(round)", at: .start)
                    ])
                }
            }
        }
        await store.close()
    }

    private var bytes: Data { get throws { try Data(contentsOf: URL(fileURLWithPath: directory.database)) } }
    private var entries: [String] {
        get throws { try FileManager.default.contentsOfDirectory(atPath: directory.path).sorted() }
    }

    /// Tables with their columns, indices, what the migrator knows, and the version.
    private func shape(_ path: String) throws -> [String] {
        let queue = try DatabaseQueue(path: path)
        defer { try? queue.close() }  // it was only looked at
        return try queue.read { db in
            let tables = try String.fetchAll(
                db, sql: "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
            var shape = try tables.filter { !$0.hasPrefix("clicks_") }.map { table in
                let columns = try Row.fetchAll(db, sql: "PRAGMA table_xinfo(\(table))").map(\.description)
                return "\(table): \(columns.joined(separator: " "))"
            }
            shape += try String.fetchAll(
                db,
                sql:
                    "SELECT name || tbl_name || coalesce(sql, '') FROM sqlite_schema WHERE type IN ('index', 'view') ORDER BY name"
            ).filter { !$0.contains("clicks_") }
            shape += try String.fetchAll(db, sql: "SELECT identifier FROM grdb_migrations ORDER BY 1")
            shape.append("version \(try Int.fetchOne(db, sql: "PRAGMA user_version") ?? -1)")
            return shape
        }
    }

    @Test("steps are numbered without a gap, and every one after the ninth has a way back")
    func numbering() {
        #expect(Schema.steps.map(\.version) == Array(1...Schema.version))
        #expect(Schema.steps.dropFirst(9).allSatisfy { $0.hasWayBack })
    }

    @Test(
        "EXT-18: up, work, down, up again: the totals are the same, and the schema in between is the older version's own",
        arguments: [1, 2, 3, 4, 5, 6] as [UInt64])
    func thereAndBack(seed: UInt64) async throws {
        try await fill(seed)
        let start = try upgrade().back()
        #expect((start.from, start.to) == (Schema.version, Schema.version - 1))
        #expect(start.losses == [])
        let older = Array(Schema.steps.dropLast())
        // The older daemon's own migrator makes this of nothing, and finds nothing to do here.
        let fresh = try TemporaryDirectory()
        let queue = try DatabaseQueue(path: fresh.database)
        try Schema.migrator(of: older).migrate(queue)
        try queue.close()
        #expect(try shape(directory.database) == shape(fresh.database))
        let reopened = try DatabaseQueue(path: directory.database)
        let knows = try await reopened.read { db in
            (
                try Schema.migrator(of: older).hasBeenSuperseded(db),
                try Schema.migrator(of: older).hasCompletedMigrations(db)
            )
        }
        #expect(knows == (false, true))
        try reopened.close()

        let again = try #require(try upgrade().forward())
        let before = try #require(start.figures).values
        let after = try #require(again.figures).values
        for (name, value) in before where !["rule_waiting", "counters:forms"].contains(name) {
            #expect(after[name] == value, "\(name)")
        }
        #expect(before["deliveries"] == 8 && before["clicks"]! > 0 && before["audit"]! > 0)
        let store = try directory.open()
        #expect(try await store.auditTotals() == [])
        await store.close()
    }

    @Test("EXT-18: a migration after which a total differs does not touch the database, and the error names the figure")
    func differing() async throws {
        try await fill(7)
        let before = try bytes
        let bad = SchemaStep(
            Schema.version + 1, "9999-bad",
            { db in
                try db.execute(sql: "DELETE FROM deliveries WHERE id = 'dlv_3'; PRAGMA user_version = 11")
            })
        let error = #expect(throws: StoreError.self) { try upgrade(Schema.steps + [bad]).forward() }
        #expect(error?.code == .upgradeDiffers)
        #expect(error?.detail.contains("deliveries 8 before, 7 after") == true, "\(error?.detail ?? "")")
        #expect(try bytes == before)
        #expect(try entries == ["milepost.db", "milepost.lock"])
        // What a step changes by design is no difference.
        let meant = SchemaStep(
            Schema.version + 1, "9999-meant",
            { db in
                try db.execute(
                    sql: "UPDATE deliveries SET state = 'held' WHERE state = 'pending'; PRAGMA user_version = 11")
            }, alters: ["deliveries."])
        #expect(try upgrade(Schema.steps + [meant]).forward()?.to == Schema.version + 1)
    }

    @Test("EXT-18: a migration that fails leaves the database as it was")
    func failing() async throws {
        try await fill(8)
        let before = try bytes
        let bad = SchemaStep(
            Schema.version + 1, "9999-bad", { db in try db.execute(sql: "DROP TABLE deliveries; nonsense") })
        let error = #expect(throws: StoreError.self) { try upgrade(Schema.steps + [bad]).forward() }
        #expect(error?.detail.contains("was not touched: the version that ran before works on") == true)
        #expect(try bytes == before)
        #expect(try entries == ["milepost.db", "milepost.lock"])
    }

    @Test("EXT-18: with too little room nothing begins, and the error says how much is needed")
    func noRoom() async throws {
        try await fill(9)
        let before = try bytes
        let error = #expect(throws: StoreError.self) { try upgrade(free: 1 << 20).back() }
        #expect(error?.code == .storageFull)
        #expect(error?.detail.contains("1024 KiB are free") == true && error?.detail.contains("make room") == true)
        #expect(try bytes == before)
        #expect(try entries == ["milepost.db", "milepost.lock"])
    }

    @Test("EXT-18: the copy from before is whole, opens with the older version, and only the newest stays")
    func kept() async throws {
        try await fill(10)
        let down = try upgrade().back()
        let first = try #require(down.kept)
        #expect(first == directory.database + ".before-schema-\(Schema.version - 1)")
        let olderShape = try shape(directory.database)
        let up = try #require(try upgrade().forward())
        let second = try #require(up.kept)
        #expect(up.removed == [first])
        #expect(SchemaChange.keptCopies(directory: directory.path) == [second])
        #expect(try shape(second) == olderShape)
        #expect(try sqliteValue(second, "PRAGMA integrity_check") == "ok")
        let attributes = try FileManager.default.attributesOfItem(atPath: directory.database)
        #expect((attributes[.posixPermissions] as? NSNumber)?.intValue == 0o600)
    }

    @Test("EXT-18: what an attempt that was cut short left is no hindrance")
    func leftovers() async throws {
        try await fill(11)
        try FileManager.default.createDirectory(
            atPath: directory.database + ".upgrading", withIntermediateDirectories: false)
        for name in [".upgrading/milepost.db", ".before-schema-9.new", ".before-schema-9"] {
            try Data("half".utf8).write(to: URL(fileURLWithPath: directory.database + name))
        }
        #expect(try upgrade().back().to == Schema.version - 1)
        #expect(try entries == ["milepost.db", "milepost.db.before-schema-9", "milepost.lock"])
        #expect(try sqliteValue(directory.database + ".before-schema-9", "PRAGMA user_version") == "10")
        // Cut right after the copy took the database's place: there is nothing to upgrade any more, and something to remove.
        _ = try upgrade().forward()
        try FileManager.default.createDirectory(
            atPath: directory.database + ".upgrading", withIntermediateDirectories: false)
        #expect(try upgrade().forward()?.to == nil)
        #expect(try entries == ["milepost.db", "milepost.db.before-schema-10", "milepost.lock"])
    }

    @Test("EXT-18: an attempt cut short after it kept the store leaves no third name of it")
    func keptAlready() async throws {
        try await fill(15)
        try FileManager.default.linkItem(
            atPath: directory.database, toPath: directory.database + ".before-schema-9")
        #expect(try upgrade().back().to == 9)
        #expect(try entries == ["milepost.db", "milepost.db.before-schema-9", "milepost.lock"])
    }

    @Test("EXT-18: a rehearsal tells the totals and leaves no trace, on the store as on a backup of it")
    func rehearsal() async throws {
        try await fill(12)
        _ = try upgrade().back()
        let before = try (bytes, entries)
        let report = try upgrade().rehearse()
        #expect((report.from, report.to) == (Schema.version - 1, Schema.version))
        #expect(report.figures?.values["deliveries"] == 8 && report.kept == nil)
        #expect(try bytes == before.0 && entries == before.1)
        let backup = directory.path + "/copy.db"
        try before.0.write(to: URL(fileURLWithPath: backup))
        let lock = try #require(try DataDirectoryLock.tryAcquire(directory: directory.path))
        let tried = try SchemaChange.rehearse(directory: directory.path, backup: backup, report: { _ in })
        #expect(tried.figures == report.figures)
        let locked = #expect(throws: StoreError.self) {
            try SchemaChange.rehearse(directory: directory.path, backup: nil, report: { _ in })
        }
        #expect(locked?.code == .locked)
        lock.release()
        #expect(try Data(contentsOf: URL(fileURLWithPath: backup)) == before.0)
        #expect(try entries == (before.1 + ["copy.db"]).sorted())
        // A file that somebody works on is not copied half-way.
        try Data("log".utf8).write(to: URL(fileURLWithPath: backup + "-wal"))
        let busy = #expect(throws: StoreError.self) { try upgrade().rehearse(backup: backup) }
        #expect(busy?.detail.contains("milepost backup") == true)
        try Data("no database".utf8).write(to: URL(fileURLWithPath: directory.path + "/text"))
        let foreign = #expect(throws: StoreError.self) { try upgrade().rehearse(backup: directory.path + "/text") }
        #expect(foreign?.code == .corrupt)
    }

    @Test("EXT-18: what the older version has no place for is named and stays, unless it is given up by word")
    func losses() async throws {
        try await fill(13)
        try sqlite(
            directory.database,
            "INSERT INTO rule_waiting VALUES (1, 5, 1, 99, 'g', NULL), (1, 6, 1, 99, NULL, 'f'); PRAGMA wal_checkpoint(TRUNCATE)"
        )
        let before = try sqliteValue(directory.database, "SELECT count(*) FROM rule_waiting")
        let error = #expect(throws: StoreError.self) { try upgrade().back() }
        #expect(error?.code == .downgradeLosesData)
        #expect(error?.detail.contains("2 clicks that count under rolling rules") == true, "\(error?.detail ?? "")")
        #expect(try sqliteValue(directory.database, "SELECT count(*) FROM rule_waiting") == before)
        let report = try upgrade().back(acceptsLoss: true)
        #expect(report.losses.count == 1 && report.to == 9)
        let gone = #expect(throws: StoreError.self) { try upgrade().back() }
        #expect(gone?.detail.contains("no way back from schema 9") == true)
    }

    @Test("EXT-18: opening an older store upgrades it, tells how far it is, and opens the new one")
    func opening() async throws {
        try await fill(14)
        _ = try upgrade().back()
        let told = Mutex<[String]>([])
        let store = try SQLiteStore.open(directory: directory.path, clock: FixedClock()) { progress in
            told.withLock { $0.append("\(progress)".prefix { $0 != "(" }.description) }
        }
        #expect(await store.health().schemaVersion == Schema.version)
        #expect(Set(told.withLock { $0 }) == ["copying", "counting", "migrating", "done"])
        await store.close()
        told.withLock { $0 = [] }
        await (try directory.open()).close()
        #expect(told.withLock { $0 } == [])
    }

    @Test("EXT-18: the same upgrade from every older version that ever was, with what it had in it")
    func fromEveryVersion() throws {
        for version in 1..<Schema.version {
            let directory = try TemporaryDirectory()
            let queue = try DatabaseQueue(path: directory.database)
            try Schema.migrator(of: Array(Schema.steps.prefix(version))).migrate(queue)
            try queue.writeWithoutTransaction { db in
                try db.execute(
                    sql: "PRAGMA application_id = 1298754661; INSERT INTO workspaces VALUES (1, 'acme', NULL, NULL, 5)")
            }
            try queue.close()
            let upgrade = StoreUpgrade(path: directory.database, freeBytes: { _ in 1 << 40 })
            let report = try #require(try upgrade.forward())
            #expect((report.from, report.to) == (version, Schema.version))
            #expect(report.figures?.values["workspaces"] == 1)
        }
    }
}
