// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import GRDB
public import MilepostModel
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

extension SQLiteStore {
    /// Opens `milepost.db` in `directory`, making it when there is none, and brings its schema up to date.
    ///
    /// Takes the directory's lock for the store's life unless this process holds it already. Blocks for as long as
    /// migrations take: call it before the daemon serves. They are made on a copy that takes the database's place when no
    /// figure differs (`StoreUpgrade`).
    ///
    /// - Parameter upgrade: is told what a change of the schema is at; from the calling thread.
    /// - Throws: `locked` when another daemon has the directory; `corrupt` for a file that is damaged or not ours;
    ///   `schemaTooNew`; `upgradeDiffers`; `storageFull` when there is no room for the copy; `failed` when the file cannot be
    ///   opened.
    public static func open(
        directory: String, clock: any DaemonClock, configuration: SQLiteConfiguration = SQLiteConfiguration(),
        arrivals: ArrivalSignal = ArrivalSignal(), upgrade: @escaping @Sendable (UpgradeProgress) -> Void = { _ in }
    ) throws -> SQLiteStore {
        let directory = try DataDirectoryLock.resolve(directory)
        let path = directory + "/milepost.db"
        let claim = try OpenFile(path: path)
        var lock: DataDirectoryLock?
        if !DataDirectoryLock.isHeldHere(directory) {
            lock = try DataDirectoryLock.tryAcquire(directory: directory)
            // A child between fork and exec still holds the descriptor of a lock that this process has given back.
            for _ in 0..<50 where lock == nil {
                usleep(10_000)
                lock = try DataDirectoryLock.tryAcquire(directory: directory)
            }
            guard lock != nil else {
                throw StoreError(
                    code: .locked,
                    detail: "another daemon uses '\(directory)'; stop it, or start this one as a standby")
            }
        }
        do {
            try DatabaseFile(path: path).examine()
            if let done = try StoreUpgrade(path: path, report: upgrade).forward() { upgrade(.done(done)) }
            let pool = try openPool(path: path, configuration: configuration)
            return SQLiteStore(
                path: path, pool: pool, clock: clock, configuration: configuration, arrivals: arrivals,
                claim: claim, lock: lock)
        } catch {
            throw StoreError(error, while: "opening '\(path)'")
        }
    }

    private static func openPool(path: String, configuration: SQLiteConfiguration) throws -> DatabasePool {
        var settings = Configuration()
        settings.label = "milepost"
        settings.maximumReaderCount = configuration.readers
        // Closing and opening readers costs, and a reader that closes last would want to checkpoint.
        settings.persistentReadOnlyConnections = true
        settings.foreignKeysEnabled = false
        settings.prepareDatabase { db in
            // On every connection: a checkpoint on a second one is what loses commits in SQLite 3.7.0 to 3.51.2.
            try db.execute(
                sql: """
                    PRAGMA wal_autocheckpoint = 0;
                    PRAGMA temp_store = MEMORY;
                    PRAGMA trusted_schema = OFF;
                    PRAGMA cell_size_check = ON;
                    PRAGMA cache_size = -8192;
                    """)
        }
        let pool = try DatabasePool(path: path, configuration: settings)
        try pool.writeWithoutTransaction { db in
            // GRDB sets NORMAL when it turns the write-ahead log on: that survives a crash, not a power cut.
            try db.execute(
                sql: "PRAGMA synchronous = FULL; PRAGMA cache_size = -32768; PRAGMA secure_delete = ON;")
            guard try Int.fetchOne(db, sql: "PRAGMA synchronous") == 2 else {
                throw StoreError(code: .failed, detail: "SQLite does not take synchronous = FULL")
            }
        }
        try Schema.migrator.migrate(pool)
        try pool.writeWithoutTransaction { db in
            try db.checkpoint(.passive)
            // After the migrations: a test's small disk must hold the schema.
            if let pages = configuration.maximumPages { try db.execute(sql: "PRAGMA max_page_count = \(pages)") }
        }
        return pool
    }
}

/// The database file before it is opened for work: whose it is and whether it is whole. SQLite keeps no checksums of
/// its pages (decisions 28), so the header, the application's id and the schema are what can be judged at start.
struct DatabaseFile {
    let path: String

    /// "Mile" in ASCII: bytes 68 to 71 of the file.
    static let applicationID: Int64 = 0x4D69_6C65

    func examine() throws {
        if try isMissingOrEmpty() { try create() } else { try checkHeader() }
        let queue = try DatabaseQueue(path: path)
        defer {
            // The connection only looked; whatever its closing says will be said again by the pool's opening.
            try? queue.close()
        }
        try queue.writeWithoutTransaction { db in
            try db.execute(sql: "PRAGMA wal_autocheckpoint = 0")
            let id = try Int64.fetchOne(db, sql: "PRAGMA application_id") ?? 0
            let tables = try Int.fetchOne(db, sql: "SELECT count(*) FROM sqlite_schema") ?? 0
            if id == 0 && tables == 0 {
                try db.execute(sql: "PRAGMA application_id = \(Self.applicationID)")
                return
            }
            guard id == Self.applicationID else {
                throw StoreError(
                    code: .corrupt,
                    detail:
                        "'\(path)' is a database of another program (application id \(id), \(tables) tables). Point "
                        + "data_dir elsewhere, or restore the newest backup of Milepost there")
            }
            let version = try Int.fetchOne(db, sql: "PRAGMA user_version") ?? 0
            let hasUnknown =
                try Schema.migrator.hasBeenSuperseded(db)
            guard version <= Schema.version, !hasUnknown else {
                throw StoreError(
                    code: .schemaTooNew,
                    detail: "'\(path)' has schema \(version), this daemon knows \(Schema.version). Install the newer "
                        + "daemon again and take the store one version back with its 'milepostd --downgrade-store'")
            }
        }
    }

    private func isMissingOrEmpty() throws -> Bool {
        var status = stat()
        guard unsafe stat(path, &status) == 0 else {
            guard errno == ENOENT else { throw cannotRead() }
            return true
        }
        return status.st_size == 0
    }

    /// Made by hand so that nobody else can read it; SQLite gives its companions the same permissions.
    private func create() throws {
        let descriptor = unsafe Glibc.open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0o600)
        guard descriptor >= 0 else { throw cannotRead() }
        close(descriptor)
    }

    private func checkHeader() throws {
        let descriptor = unsafe Glibc.open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw cannotRead() }
        defer { close(descriptor) }
        var header = [UInt8](repeating: 0, count: 100)
        let count = unsafe header.withUnsafeMutableBytes { unsafe read(descriptor, $0.baseAddress, 100) }
        guard count == 100, header.starts(with: Array("SQLite format 3\0".utf8)) else {
            throw StoreError(
                code: .corrupt,
                detail:
                    "'\(path)' is no SQLite database, or its header is damaged. Keep it for examination and restore "
                    + "the newest backup, or point data_dir elsewhere")
        }
        let pageBytes = Int64(header[16]) << 8 | Int64(header[17])
        let pages = header[28..<32].reduce(Int64(0)) { $0 << 8 | Int64($1) }
        let needed = (pageBytes == 1 ? 65_536 : pageBytes) * pages
        var status = stat()
        var log = stat()
        guard unsafe fstat(descriptor, &status) == 0 else { throw cannotRead() }
        // While a log waits to be copied, the header may be ahead of the file's length.
        let hasLog = unsafe stat(path + "-wal", &log) == 0 && log.st_size > 0
        guard hasLog || Int64(status.st_size) >= needed else {
            throw StoreError(
                code: .corrupt,
                detail: "'\(path)' was cut short: \(status.st_size) bytes, its header says \(needed). Keep it for "
                    + "examination and restore the newest backup")
        }
    }

    private func cannotRead() -> StoreError {
        StoreError(
            code: .failed,
            detail: "cannot open '\(path)': \(unsafe String(cString: strerror(errno))). The daemon's user must own it")
    }
}

/// That this process has the file open: a second store on it would be a second connection that checkpoints.
final class OpenFile: Sendable {
    private let path: String
    private static let open = Mutex<Set<String>>([])

    init(path: String) throws {
        self.path = path
        guard Self.open.withLock({ $0.insert(path).inserted }) else {
            throw StoreError(code: .locked, detail: "'\(path)' is open already in this process; close that store first")
        }
    }

    deinit { release() }

    func release() { _ = Self.open.withLock { $0.remove(path) } }
}
