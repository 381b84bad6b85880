// SPDX-License-Identifier: Apache-2.0

import GRDB
import MilepostModel
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

/// The store on one SQLite file: one thread writes and checkpoints, many connections read.
///
/// Calls that write suspend until their transaction is on disk; those that arrive together share one (group commit).
/// Cancelling the caller does not take a queued write back.
public final class SQLiteStore: Store {
    /// Milepost's pages are SQLite's usual size.
    static let pageBytes: Int64 = 4096

    /// Where the database is.
    public let path: String
    let pool: DatabasePool
    let writer: WriterThread
    let clock: any DaemonClock
    let configuration: SQLiteConfiguration
    /// Raised after what it tells of is on disk.
    public let arrivals: ArrivalSignal
    /// One recount or retention at a time: a day that goes during a recount would look like a mismatch.
    let longWork = ExclusiveWork()
    let workspaceLocks = WorkspaceLocks()
    private let claim: OpenFile
    private let lock: DataDirectoryLock?

    init(
        path: String, pool: DatabasePool, clock: any DaemonClock, configuration: SQLiteConfiguration,
        arrivals: ArrivalSignal, claim: OpenFile, lock: DataDirectoryLock?
    ) {
        self.path = path
        self.pool = pool
        self.clock = clock
        self.configuration = configuration
        self.arrivals = arrivals
        self.claim = claim
        self.lock = lock
        writer = WriterThread(pool: pool, configuration: configuration)
        writer.start()
    }

    /// A store that was only dropped ends like one whose process died: nothing acknowledged is lost.
    public func close() async {
        await writer.close()
        claim.release()
        lock?.release()
    }

    // MARK: Doors to the connections

    /// Runs `body` on a connection that cannot write, in a transaction of its own that sees everything acknowledged.
    /// Keep it far below a second: the log cannot be cut while it lasts.
    func read<Value: Sendable>(
        _ activity: String, _ body: @escaping @Sendable (Database) throws -> Value
    ) async throws -> Value {
        do {
            return try await pool.read(body)
        } catch let error as CancellationError {
            throw error
        } catch {
            throw StoreError(error, while: activity)
        }
    }

    func write<Value: Sendable>(
        _ body: @escaping @Sendable (WriteContext) throws -> Value
    ) async throws -> Value {
        try await writer.write(.change, body)
    }

    // MARK: Health

    public func health() async -> StoreHealth {
        struct Counts { var schema = 0, workspaces = 0, links = 0 }
        var counts = Counts()
        var problem = writer.problem
        do {
            counts = try await read("counting") { db in
                // Rows of both are never deleted, so the greatest number is the count: no table is read.
                Counts(
                    schema: try Int.fetchOne(db, sql: "PRAGMA user_version") ?? 0,
                    workspaces: try Int.fetchOne(db, sql: "SELECT max(id) FROM workspaces") ?? 0,
                    links: try Int.fetchOne(db, sql: "SELECT max(id) FROM links") ?? 0)
            }
        } catch {
            problem = problem ?? StoreError(error, while: "counting")
        }
        return StoreHealth(
            isWritable: problem == nil, problem: problem?.code, detail: problem?.detail, schemaVersion: counts.schema,
            databaseBytes: Self.size(of: path), walBytes: Self.size(of: path + "-wal"),
            freeDiskBytes: Self.freeBytes(around: path), workspaces: counts.workspaces, links: counts.links)
    }

    /// Why a write failed since the last call, though later ones may have succeeded; nil when all did. `health` says how it
    /// is now.
    package func takeFailure() -> StoreError? { writer.takeFailure() }

    private static func size(of path: String) -> Int64 {
        var status = stat()
        return unsafe stat(path, &status) == 0 ? Int64(status.st_size) : 0
    }

    package static func freeBytes(around path: String) -> Int64 {
        var status = statvfs()
        // What an unprivileged user may still use; the rest is root's reserve.
        return unsafe statvfs(path, &status) == 0 ? Int64(status.f_bavail) * Int64(status.f_frsize) : 0
    }
}

/// Lets one task at a time through a long piece of work; the others wait without a thread.
actor ExclusiveWork {
    private var isBusy = false
    private var waiting: [CheckedContinuation<Void, Never>] = []

    func enter() async {
        if isBusy {
            await withCheckedContinuation { waiting.append($0) }
        }
        isBusy = true
    }

    func leave() {
        if waiting.isEmpty { isBusy = false } else { waiting.removeFirst().resume() }
    }
}
