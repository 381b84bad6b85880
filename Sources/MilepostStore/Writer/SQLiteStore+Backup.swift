// SPDX-License-Identifier: Apache-2.0

import GRDB
import GRDBSQLite
import Synchronization

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

extension SQLiteStore {
    /// Copies the whole store to a new file while writes go on. The copy is one moment's state: what is written
    /// meanwhile goes into it too, because the copying connection is the writing one. No read transaction is held.
    ///
    /// - Parameter file: must not exist; it appears under this name only when it is complete and on disk.
    /// - Throws: `conflict` when the file exists; `backupUnwritable` when it cannot be written there; `failed`.
    public func backup(to file: String) async throws {
        guard unsafe access(file, F_OK) != 0 else {
            throw StoreError(code: .conflict, detail: "'\(file)' exists already; a backup never overwrites")
        }
        let partial = file + ".partial"
        unsafe unlink(partial)
        let copy = try await writer.outside { db, _ in try BackupCopy(db, to: partial, for: file) }
        do {
            while try await writer.outside({ _, _ in try copy.step() }) { try Task.checkCancellation() }
            try await writer.outside { _, _ in
                try copy.finish()
                try Self.publish(partial, as: file)
            }
        } catch {
            // The first error is the one to tell; the copy is thrown away whatever its closing says.
            try? await writer.outside { _, _ in try copy.finish() }
            unsafe unlink(partial)
            throw error
        }
    }

    /// Gives the backup its name and puts the directory on disk: on the writer's thread, because that may block.
    private static func publish(_ partial: String, as file: String) throws {
        guard unsafe rename(partial, file) == 0 else {
            let seen = unsafe String(cString: strerror(errno))
            throw StoreError.backupUnwritable(file, seen)
        }
        let folder = file.lastIndex(of: "/").map { String(file[...$0]) } ?? "."
        let descriptor = unsafe Glibc.open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        // The copy is there under its name; only when a power cut could still take the name is left to the kernel.
        guard descriptor >= 0 else { return }
        fsync(descriptor)
        Glibc.close(descriptor)
    }
}

extension StoreError {
    /// Whoever asked for the backup named the place, so the sentence may name it, too.
    static func backupUnwritable(_ file: String, _ reason: String) -> StoreError {
        StoreError(
            code: .backupUnwritable,
            detail:
                "The backup '\(file)' cannot be written: \(reason). The daemon's user writes it: name a file in a folder that "
                + "exists and is open to it; under the packaged systemd unit that is /var/backups/milepost.")
    }
}

/// A backup in progress. Unchecked: made, stepped and finished on the writer's thread only (`BackupTests` writes
/// meanwhile).
@safe final class BackupCopy: @unchecked Sendable {
    /// 4 MiB: some milliseconds, so that writes hardly wait.
    private static let pagesPerStep: Int32 = 1024

    private var destination: OpaquePointer?
    private var backup: OpaquePointer?
    /// What was asked for, for errors.
    private let file: String

    /// - Parameters:
    ///   - path: where the copy is made.
    ///   - file: its name when it is complete.
    init(_ db: Database, to path: String, for file: String) throws {
        self.file = file
        var opened: OpaquePointer?
        let flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_EXCLUSIVE
        let code = unsafe sqlite3_open_v2(path, &opened, flags, nil)
        guard code == SQLITE_OK else {
            let reason = unsafe sqlite3_system_errno(opened)
            unsafe sqlite3_close_v2(opened)
            throw StoreError.backupUnwritable(file, unsafe String(cString: strerror(reason)))
        }
        unsafe destination = opened
        unsafe backup = sqlite3_backup_init(opened, "main", db.sqliteConnection, "main")
        if unsafe backup == nil {
            let code = unsafe sqlite3_extended_errcode(opened)
            unsafe sqlite3_close_v2(opened)
            unsafe destination = nil
            throw DatabaseError(resultCode: ResultCode(rawValue: code), message: "cannot begin a backup to '\(path)'")
        }
    }

    /// Copies some pages; false when all are there.
    func step() throws -> Bool {
        let code = unsafe sqlite3_backup_step(backup, Self.pagesPerStep)
        switch code {
        case SQLITE_OK, SQLITE_BUSY, SQLITE_LOCKED: return true
        case SQLITE_DONE: return false
        case _ where Self.writingFailures.contains(code):
            throw StoreError.backupUnwritable(file, unsafe String(cString: sqlite3_errstr(code)))
        default: throw DatabaseError(resultCode: ResultCode(rawValue: code), message: "copying pages to the backup")
        }
    }

    /// What only the copy can be at fault for: the store is read meanwhile, never written.
    private static let writingFailures: Set<Int32> = [
        SQLITE_FULL, SQLITE_READONLY, SQLITE_CANTOPEN, SQLITE_PERM,
        // Extended codes, whose macros are too complex to be imported: IOERR_WRITE, _FSYNC, _DIR_FSYNC, _TRUNCATE.
        SQLITE_IOERR | 3 << 8, SQLITE_IOERR | 4 << 8, SQLITE_IOERR | 5 << 8, SQLITE_IOERR | 6 << 8,
    ]

    /// Closes both ends; SQLite has synced the file with its last step. Harmless when called again.
    func finish() throws {
        let code = unsafe sqlite3_backup_finish(backup)
        unsafe backup = nil
        unsafe sqlite3_close_v2(destination)
        unsafe destination = nil
        guard code == SQLITE_OK else {
            throw DatabaseError(resultCode: ResultCode(rawValue: code), message: "ending the backup")
        }
    }
}
