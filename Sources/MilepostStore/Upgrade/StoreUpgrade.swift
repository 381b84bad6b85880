// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import GRDB
import GRDBSQLite

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// Takes a store to another version of the schema, on a copy: the copy is changed, every figure is compared, and only then does
/// it take the database's place. What was there is kept beside it. Whatever goes wrong before that, a power cut included,
/// leaves the database as it was.
///
/// Blocks; for whoever holds the data directory's lock and has no store open.
package struct StoreUpgrade: Sendable {
    /// The database.
    let path: String
    let steps: [SchemaStep]
    let freeBytes: @Sendable (_ around: String) -> Int64
    let report: @Sendable (UpgradeProgress) -> Void

    /// - Parameters:
    ///   - steps: every version that is known, the oldest first.
    ///   - freeBytes: what may still be written in a folder's file system.
    ///   - report: is told what happens; often, from the calling thread.
    package init(
        path: String, steps: [SchemaStep] = Schema.steps,
        freeBytes: @escaping @Sendable (String) -> Int64 = SQLiteStore.freeBytes(around:),
        report: @escaping @Sendable (UpgradeProgress) -> Void = { _ in }
    ) {
        self.path = path
        self.steps = steps
        self.freeBytes = freeBytes
        self.report = report
    }

    // MARK: Four ways

    /// Brings the store up to the newest version; nil when it is there, or when there is no store yet.
    package func forward() throws -> UpgradeReport? {
        sweep()
        let version = try settle()
        guard version > 0, version < steps.count else { return nil }
        return try inRoom { room in
            let (report, copy) = try change(room, from: version, to: steps.count) { try migrate($0) }
            return try replace(with: copy, report)
        }
    }

    /// The same without its end: nothing stays of it.
    ///
    /// - Parameter backup: a closed copy to try it on, in place of the database, which is then neither read nor locked.
    package func rehearse(backup: String? = nil) throws -> UpgradeReport {
        let subject = StoreUpgrade(path: backup ?? path, steps: steps, freeBytes: freeBytes, report: report)
        let version = try backup == nil ? settle() : subject.versionOfClosedFile()
        guard version > 0, version < steps.count else { return UpgradeReport(from: version, to: version) }
        return try subject.inRoom { room in
            try subject.change(room, from: version, to: steps.count) { try subject.migrate($0) }.0
        }
    }

    /// Takes the store one version back, with everything that happened in it.
    ///
    /// - Parameter acceptsLoss: whether what the older version has no place for may go.
    /// - Throws: `downgradeLosesData` with what would go; `failed` where there is no way back.
    package func back(acceptsLoss: Bool = false) throws -> UpgradeReport {
        let version = try settle()
        guard (2...steps.count).contains(version), let reverse = steps[version - 1].reverse else {
            throw StoreError(
                code: .failed,
                detail: "there is no way back from schema \(version) but the backup made before it; nothing was changed"
            )
        }
        return try inRoom { room in
            let (report, copy) = try change(room, from: version, to: version - 1) { queue in
                let losses = try queue.read(reverse.losses)
                guard losses.isEmpty || acceptsLoss else {
                    throw StoreError(
                        code: .downgradeLosesData,
                        detail: "schema \(version - 1) has no place for \(losses.joined(separator: "; ")). Nothing was "
                            + "changed; --accept-loss gives that up, everything else stays")
                }
                try queue.write { db in
                    try reverse.revert(db)
                    try db.execute(
                        sql: "DELETE FROM grdb_migrations WHERE identifier = ?", arguments: [steps[version - 1].name])
                    try db.execute(sql: "PRAGMA user_version = \(version - 1)")
                }
                return losses
            }
            return try replace(with: copy, report)
        }
    }

    // MARK: The copy

    private func migrate(_ copy: DatabaseQueue) throws -> [String] {
        try Schema.migrator(of: steps) { [report] in report(.migrating($0)) }.migrate(copy)
        return []
    }

    /// - Returns: the copy's path beside what was found; it is whole and on disk.
    private func change(
        _ room: String, from: Int, to: Int, _ body: (DatabaseQueue) throws -> [String]
    ) throws -> (UpgradeReport, String) {
        let size = Self.size(of: path)
        try checkRoom(for: size, from: from, to: to)
        let copy = room + "/milepost.db"
        let (before, after, losses) = try untouched(from: from, to: to) {
            try DatabaseCopy(source: path, destination: copy).run { report(.copying(done: $0, of: $1)) }
            let found = try measured(copy, body)
            try Self.sync(copy)
            return found
        }
        let differences = after.differences(from: before, except: exceptions(from: from, to: to))
        guard differences.isEmpty else {
            throw StoreError(
                code: .upgradeDiffers,
                detail: "schema \(from) to \(to) was tried on a copy, and the totals are not what they were: "
                    + "\(differences.prefix(8).map(\.description).joined(separator: "; ")). '\(path)' was not touched: install "
                    + "the version that ran before and it works on; and report these figures")
        }
        return (UpgradeReport(from: from, to: to, figures: before, databaseBytes: size, losses: losses), copy)
    }

    /// What fails with the copy leaves the database as it is, and the error says so.
    private func untouched<Value>(from: Int, to: Int, _ body: () throws -> Value) throws -> Value {
        do {
            return try body()
        } catch {
            let seen = StoreError(error, while: "trying schema \(from) to \(to) on a copy")
            guard seen.code != .downgradeLosesData else { throw seen }
            throw StoreError(
                code: seen.code,
                detail: "\(seen.detail). '\(path)' was not touched: the version that ran before works on with it")
        }
    }

    /// Figures before and after `body`.
    private func measured(
        _ copy: String, _ body: (DatabaseQueue) throws -> [String]
    ) throws -> (before: StoreFigures, after: StoreFigures, losses: [String]) {
        var settings = Configuration()
        settings.foreignKeysEnabled = false
        let queue = try DatabaseQueue(path: copy, configuration: settings)
        let progress = LongWork(report)
        // SQLite knows it by its address only.
        defer { withExtendedLifetime(progress) {} }
        try queue.writeWithoutTransaction { db in
            // The copy is thrown away when anything fails, so nothing of it need survive before it is whole.
            try db.execute(
                sql: """
                    PRAGMA journal_mode = TRUNCATE; PRAGMA synchronous = OFF; PRAGMA trusted_schema = OFF;
                    PRAGMA temp_store = MEMORY
                    """)
            unsafe progress.watch(db)
        }
        let before = try figures(queue)
        let losses = try body(queue)
        let after = try figures(queue)
        queue.inDatabase { unsafe progress.unwatch($0) }
        try queue.close()
        return (before, after, losses)
    }

    private func figures(_ copy: DatabaseQueue) throws -> StoreFigures {
        try copy.read { db in try StoreFigures(db) { report(.counting($0)) } }
    }

    private func exceptions(from: Int, to: Int) -> [String] {
        from < to
            ? steps[from..<to].flatMap(\.alters)
            : steps[to..<from].flatMap { $0.reverse?.removes ?? [] }
    }

    /// A copy, a quarter more for what a migration adds, and something to work with.
    private func checkRoom(for size: Int64, from: Int, to: Int) throws {
        let needed = size + size / 4 + (16 << 20)
        let folder = Self.folder(of: path)
        let free = freeBytes(folder)
        guard free < needed else { return }
        throw StoreError(
            code: .storageFull,
            detail: "schema \(from) to \(to) is made on a copy in '\(folder)', which takes \(Self.words(needed)); "
                + "\(Self.words(free)) are free. Nothing was changed: make room and start again, or install the version "
                + "that ran before")
    }

    // MARK: Files

    /// Empties the log into the database, so that one file is the whole store.
    ///
    /// - Returns: the schema's version; 0 where there is no store yet.
    private func settle() throws -> Int {
        guard Self.size(of: path) > 0 else { return 0 }
        let queue = try DatabaseQueue(path: path)
        let version = try queue.writeWithoutTransaction { db in
            _ = try Row.fetchAll(db, sql: "PRAGMA wal_checkpoint(TRUNCATE)")
            // What the migrator goes by, not `user_version`, which is there for other tools.
            guard try db.tableExists("grdb_migrations") else { return 0 }
            let done = try Set(String.fetchAll(db, sql: "SELECT identifier FROM grdb_migrations"))
            return steps.last { done.contains($0.name) }?.version ?? 0
        }
        try queue.close()
        guard Self.size(of: path + "-wal") == 0 else {
            throw StoreError(
                code: .failed, detail: "'\(path)-wal' cannot be emptied: which other program has the database open?")
        }
        return version
    }

    /// From the header, because opening the file would put a log beside it.
    private func versionOfClosedFile() throws -> Int {
        guard Self.size(of: path + "-wal") == 0 else {
            throw StoreError(
                code: .failed,
                detail:
                    "'\(path)' has a log beside it, so a daemon works on it or did not end well: rehearse on a copy that "
                    + "'milepost backup' made")
        }
        let file = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw DatabaseCopy.failure("reading '\(path)'") }
        defer { close(file) }
        var header = [UInt8](repeating: 0, count: 100)
        let count = unsafe header.withUnsafeMutableBytes { unsafe read(file, $0.baseAddress, 100) }
        func number(at offset: Int) -> Int64 { header[offset..<offset + 4].reduce(0) { $0 << 8 | Int64($1) } }
        guard count == 100, header.starts(with: Array("SQLite format 3\0".utf8)),
            number(at: 68) == DatabaseFile.applicationID
        else { throw StoreError(code: .corrupt, detail: "'\(path)' is no copy of a store of Milepost") }
        let version = Int(number(at: 60))
        guard version <= steps.count else {
            throw StoreError(
                code: .schemaTooNew, detail: "'\(path)' has schema \(version), this program knows \(steps.count)")
        }
        return version
    }

    private func inRoom<Value>(_ body: (String) throws -> Value) throws -> Value {
        sweep()
        guard unsafe mkdir(room, 0o700) == 0 else { throw DatabaseCopy.failure("making '\(room)'") }
        defer { sweep() }
        return try body(room)
    }

    /// What is copied to and worked on; beside the database, so that a rename is enough.
    private var room: String { path + ".upgrading" }

    /// Takes away what an upgrade left that was cut short, be it after its copy took the database's place. Nobody else is at work
    /// here, and whether there was anything is all the same.
    private func sweep() { try? FileManager.default.removeItem(atPath: room) }

    private func replace(with copy: String, _ report: UpgradeReport) throws -> UpgradeReport {
        let kept = path + Self.keptSuffix + String(report.to)
        unsafe unlink(kept + ".new")
        guard unsafe link(path, kept + ".new") == 0, unsafe rename(kept + ".new", kept) == 0 else {
            throw DatabaseCopy.failure("keeping '\(path)' as '\(kept)'")
        }
        // Still there where an attempt that was cut short kept this very file: a rename to its other name does nothing.
        unsafe unlink(kept + ".new")
        // They belong to the file that goes: under the new one their pages would be taken for its own.
        for end in ["-wal", "-shm"] { unsafe unlink(path + end) }
        guard unsafe rename(copy, path) == 0 else { throw DatabaseCopy.failure("naming the new '\(path)'") }
        let folder = Self.folder(of: path)
        try Self.sync(folder)
        var report = report
        report.kept = kept
        report.removed = Self.keptCopies(beside: path).filter { $0 != kept }
        for old in report.removed { unsafe unlink(old) }
        return report
    }

    private static let keptSuffix = ".before-schema-"

    /// Copies from before a change of the schema, by name.
    package static func keptCopies(beside path: String) -> [String] {
        let folder = folder(of: path)
        let name = String(path.dropFirst(folder.count + 1)) + keptSuffix
        // A folder that cannot be read fails at what comes next.
        let entries = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
        return entries.filter { $0.hasPrefix(name) && Int($0.dropFirst(name.count)) != nil }.sorted()
            .map { folder + "/" + $0 }
    }

    private static func sync(_ path: String) throws {
        let file = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw DatabaseCopy.failure("opening '\(path)'") }
        defer { close(file) }
        guard fsync(file) == 0 else { throw DatabaseCopy.failure("writing '\(path)'") }
    }

    private static func folder(of path: String) -> String {
        path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
    }

    private static func size(of path: String) -> Int64 {
        var facts = stat()
        return unsafe stat(path, &facts) == 0 ? Int64(facts.st_size) : 0
    }

    static func words(_ bytes: Int64) -> String {
        bytes < 10 << 20 ? "\(bytes >> 10) KiB" : bytes < 10 << 30 ? "\(bytes >> 20) MiB" : "\(bytes >> 30) GiB"
    }
}

/// Tells now and then that SQLite is at work, in statements that take minutes. Unchecked: made and used within one call.
@safe private final class LongWork {
    private let report: @Sendable (UpgradeProgress) -> Void

    /// Some tenths of a second.
    private static let instructions: Int32 = 20_000_000

    init(_ report: @escaping @Sendable (UpgradeProgress) -> Void) { self.report = report }

    @unsafe func watch(_ db: Database) {
        unsafe sqlite3_progress_handler(
            db.sqliteConnection, Self.instructions,
            { context in
                unsafe Unmanaged<LongWork>.fromOpaque(context!).takeUnretainedValue().report(.working)
                return 0
            }, Unmanaged.passUnretained(self).toOpaque())
    }

    @unsafe func unwatch(_ db: Database) { unsafe sqlite3_progress_handler(db.sqliteConnection, 0, nil, nil) }
}
