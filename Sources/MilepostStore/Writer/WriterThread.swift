// SPDX-License-Identifier: Apache-2.0

import Dispatch
import Foundation
import GRDB
import MilepostModel
import Synchronization

/// The one thread that writes and checkpoints (SQLite, safely): it takes what has queued up, puts as much as fits into
/// one transaction, and answers the callers once that is on disk.
///
/// A thread of its own because a commit waits for the disk, which the cooperative pool must not.
final class WriterThread: Sendable {
    private struct Queue {
        var jobs: [any WriteJob] = []
        var weight = 0
        var isClosed = false
    }

    /// Writes are stopped: why, until the file is restored and the daemon started again.
    private struct Condition {
        var stopped: StoreError?
        var lastFailure: StoreError?
        /// Stays when a later write succeeds, until somebody has heard of it.
        var untold: StoreError?
    }

    private let pool: DatabasePool
    private let configuration: SQLiteConfiguration
    private let queue = Mutex(Queue())
    private let condition = Mutex(Condition())
    private let wake = DispatchSemaphore(value: 0)
    private let logBytes = Mutex<Int64>(0)
    /// Hears of every commit that touched a credential, before its caller is answered.
    let credentials = CredentialWatch()

    /// What a writer without work still does, one after the other.
    private enum Idleness {
        case logLarge, logFilled, logCut, resting

        /// How long nothing may have come before the next is done.
        var patience: DispatchTime {
            switch self {
            // Longer than between the steps of a tick or a delivery, whose commits would wait behind the copying.
            case .logLarge: .now() + .milliseconds(20)
            case .logFilled: .now() + .seconds(1)
            case .logCut: .now() + .seconds(10)
            case .resting: .distantFuture
            }
        }
    }

    init(pool: DatabasePool, configuration: SQLiteConfiguration) {
        self.pool = pool
        self.configuration = configuration
    }

    /// Starts the thread, which owns itself until `close` has been served.
    func start() {
        let thread = Thread { [self] in run() }
        thread.name = "milepost-writer"
        thread.start()
    }

    // MARK: Callers

    /// Runs `body` in a transaction, with whatever else is waiting; returns when it is on disk.
    func write<Value: Sendable>(
        _ kind: WriteKind = .change, weight: Int = 1, _ body: @escaping @Sendable (WriteContext) throws -> Value
    ) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            enqueue(PendingWrite(kind: kind, weight: max(1, weight), continuation: continuation, body: body))
        }
    }

    /// Runs `body` between two transactions.
    func outside<Value: Sendable>(
        _ body: @escaping @Sendable (Database, WriterState) throws -> Value
    ) async throws -> Value {
        try await withCheckedThrowingContinuation { continuation in
            enqueue(PendingWrite(kind: .outside, weight: 1, continuation: continuation, outside: body))
        }
    }

    /// Serves what is queued, empties the log into the file and ends the thread. Later writes throw `closed`.
    func close() async {
        await withCheckedContinuation { (continuation: CheckedContinuation<Void, Never>) in
            let isFirst = queue.withLock { queue -> Bool in
                guard !queue.isClosed else { return false }
                // Before the thread can see that it is to end: it may be awake, and answers whom it finds then.
                closing.withLock { $0 = continuation }
                queue.isClosed = true
                return true
            }
            if isFirst { wake.signal() } else { continuation.resume() }
        }
    }

    private let closing = Mutex<CheckedContinuation<Void, Never>?>(nil)

    var problem: StoreError? { condition.withLock { $0.stopped ?? $0.lastFailure } }
    /// The newest failure since the last call, also when writing works again.
    func takeFailure() -> StoreError? {
        condition.withLock { condition in
            defer { condition.untold = nil }
            return condition.untold
        }
    }
    var isStopped: Bool { condition.withLock { $0.stopped != nil } }
    var writeAheadLogBytes: Int64 { logBytes.withLock { $0 } }

    private func enqueue(_ job: some WriteJob) {
        let refusal: StoreError? = queue.withLock { queue in
            if queue.isClosed { return .closed }
            if queue.weight >= configuration.queueLimit {
                return StoreError(
                    code: .failed,
                    detail: "\(queue.weight) writes wait for the disk, more are refused; try again in a moment")
            }
            queue.jobs.append(job)
            queue.weight += job.weight
            // A signal for each job would wake the thread once for each after it has taken them all.
            if queue.jobs.count == 1 { wake.signal() }
            return nil
        }
        if let refusal {
            job.fail(refusal)
            job.answer()
        }
    }

    // MARK: The thread

    private func run() {
        let gauge = LogGauge()
        let state: WriterState
        do {
            state = try pool.writeWithoutTransaction { db in
                db.reportLogPages(to: gauge)
                db.add(transactionObserver: credentials, extent: .databaseLifetime)
                return try WriterState(
                    sequence: Int64.fetchOne(db, sql: "SELECT value FROM counters WHERE name = 'sequence'") ?? 0,
                    clickPosition: ClickNumbers.newest(db), days: DayTable.all(db),
                    cachedLinks: configuration.cachedLinks)
            }
        } catch {
            stop(StoreError(error, while: "reading the sequence and the days of clicks"))
            state = WriterState(sequence: 0, clickPosition: 0, days: [], cachedLinks: 0)
        }
        let totals = PendingTotals(campaignsPerLink: configuration.campaignsPerLink)
        var idleness = Idleness.logFilled
        while true {
            let batch = takeBatch()
            guard !batch.isEmpty else {
                if queue.withLock({ $0.isClosed && $0.jobs.isEmpty }) { break }
                if wake.wait(timeout: idleness.patience) == .timedOut { idleness = tidy(after: idleness, gauge) }
                continue
            }
            serve(batch, state: state, totals: totals)
            // First the answers: what they promise is on disk, and copying takes longer than a commit.
            for job in batch { job.answer() }
            idleness = copyLogIfFull(gauge)
        }
        finish(gauge)
        withExtendedLifetime(gauge) {}
    }

    private func takeBatch() -> [any WriteJob] {
        queue.withLock { queue in
            var weight = 0
            var count = 0
            for job in queue.jobs.prefix(configuration.callsPerTransaction) {
                let isFirst = count == 0
                if job.kind == .outside {
                    if isFirst { count = 1 }
                    break
                }
                if !isFirst && weight + job.weight > configuration.clicksPerTransaction { break }
                weight += job.weight
                count += 1
            }
            let batch = Array(queue.jobs.prefix(count))
            queue.jobs.removeFirst(count)
            for job in batch { queue.weight -= job.weight }
            return batch
        }
    }

    private func serve(_ batch: [any WriteJob], state: WriterState, totals: PendingTotals) {
        if let stopped = condition.withLock({ $0.stopped }) {
            for job in batch { job.fail(stopped) }
            return
        }
        pool.writeWithoutTransaction { db in
            if batch[0].kind == .outside {
                do { try batch[0].attemptAlone(db, state) } catch { batch[0].fail(noticed(error)) }
                return
            }
            let context = WriteContext(db: db, state: state, totals: totals)
            runOrSplit(batch[...], context)
        }
    }

    /// When a transaction fails, one call in it is at fault, or there is room for some of them: each half gets its own
    /// chance, so that a call that cannot succeed costs its neighbours a few commits and not one each.
    private func runOrSplit(_ batch: ArraySlice<any WriteJob>, _ context: WriteContext) {
        do {
            try runTogether(batch, context)
            condition.withLock { $0.lastFailure = nil }
        } catch {
            let failure = noticed(error)
            guard batch.count > 1, failure.code != .corrupt else {
                for job in batch { job.fail(failure) }
                return
            }
            let middle = batch.startIndex + batch.count / 2
            runOrSplit(batch[..<middle], context)
            runOrSplit(batch[middle...], context)
        }
    }

    /// One transaction. Throws with nothing stored; a change that refuses fails alone.
    private func runTogether(_ batch: ArraySlice<any WriteJob>, _ context: WriteContext) throws {
        let db = context.db
        try db.execute(sql: "BEGIN IMMEDIATE")
        let start = context.state.begin()
        defer { context.state.clickStatements = nil }
        do {
            for job in batch {
                if job.kind == .append {
                    try job.attempt(context)
                } else {
                    try context.flush()
                    try runChange(job, context)
                }
            }
            try context.flush()
            try context.storeSequence()
            try db.execute(sql: "COMMIT")
        } catch {
            context.totals.discard()
            context.state.rollBack(to: start)
            // SQLite may have rolled back by itself, as it does when the disk is full.
            if db.isInsideTransaction { try db.execute(sql: "ROLLBACK") }
            throw error
        }
    }

    private func runChange(_ job: any WriteJob, _ context: WriteContext) throws {
        let mark = context.state.mark()
        try context.db.execute(sql: "SAVEPOINT change")
        do {
            try job.attempt(context)
            try context.db.execute(sql: "RELEASE change")
        } catch {
            // Only a refusal is the job's own affair. What the disk or the file did is everybody's.
            guard error is StoreError, context.db.isInsideTransaction else { throw error }
            try context.db.execute(sql: "ROLLBACK TO change; RELEASE change")
            context.state.rollBack(to: mark)
            job.fail(error)
        }
    }

    // MARK: Trouble

    private func noticed(_ error: any Error) -> StoreError {
        let failure = StoreError(error, while: "writing")
        switch failure.code {
        case .corrupt: stop(failure)
        case .storageFull, .failed:
            condition.withLock {
                $0.lastFailure = failure
                $0.untold = failure
            }
        case .schemaTooNew, .upgradeDiffers, .downgradeLosesData, .locked, .notFound, .conflict, .closed,
            .backupUnwritable:
            break
        }
        return failure
    }

    /// A check found what no write has met yet.
    func stopForDamage(_ finding: String) { stop(StoreError(code: .corrupt, detail: finding)) }

    private func stop(_ error: StoreError) {
        condition.withLock { $0.stopped = $0.stopped ?? error }
    }

    // MARK: Checkpoints: only here, never during a transaction

    private func tidy(after idleness: Idleness, _ gauge: LogGauge) -> Idleness {
        switch idleness {
        case .logLarge:
            copyLog(gauge)
            return .logFilled
        case .logFilled: return truncateLog(gauge) ? .logCut : .logFilled
        case .logCut:
            // Pages cached by a burst of work are read again from the kernel's cache when they are wanted.
            pool.releaseMemoryEventually()
            return .resting
        case .resting: return .resting
        }
    }

    /// What waits for the disk does not wait for the copying as well, unless the log is at its limit.
    private func copyLogIfFull(_ gauge: LogGauge) -> Idleness {
        let bytes = gauge.pages * SQLiteStore.pageBytes
        logBytes.withLock { $0 = bytes }
        guard bytes > configuration.checkpointLimitBytes else {
            return bytes > configuration.checkpointBytes ? .logLarge : .logFilled
        }
        copyLog(gauge)
        return .logFilled
    }

    private func copyLog(_ gauge: LogGauge) {
        guard !isStopped else { return }
        let remaining = checkpoint(.passive, gauge)
        logBytes.withLock { $0 = remaining * SQLiteStore.pageBytes }
    }

    /// True when the log is empty, so that there is nothing to wake for.
    private func truncateLog(_ gauge: LogGauge) -> Bool {
        guard !isStopped else { return true }
        let isEmpty = checkpoint(.truncate, gauge) == 0
        if isEmpty { logBytes.withLock { $0 = 0 } }
        return isEmpty
    }

    /// Pages that are still only in the log. A reader may hold some back; the next checkpoint takes them.
    private func checkpoint(_ mode: Database.CheckpointMode, _ gauge: LogGauge) -> Int64 {
        do {
            return try pool.writeWithoutTransaction { db in
                let (frames, copied) = try db.checkpoint(mode)
                let remaining = Int64(max(0, frames - copied))
                // With everything copied, the next commit starts the log anew, unless a reader is still in it.
                if remaining == 0 { gauge.pages = 0 }
                return remaining
            }
        } catch {
            let failure = StoreError(error, while: "copying the write-ahead log into the file")
            if failure.code == .corrupt { stop(failure) }
            return gauge.pages
        }
    }

    private func finish(_ gauge: LogGauge) {
        _ = truncateLog(gauge)
        // Nothing can be done about a close that fails: all is on disk, and the process is about to end.
        try? pool.close()
        closing.withLock { waiting in
            waiting?.resume()
            waiting = nil
        }
    }
}
