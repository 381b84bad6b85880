// SPDX-License-Identifier: Apache-2.0

import GRDB
import GRDBSQLite

/// A prepared statement, bound and stepped without GRDB's argument boxes: a click costs three of them.
///
/// The handle belongs to the connection's statement cache, which `statement` keeps alive. Use it inside the database
/// access that made it, on that access's thread.
@safe struct RawStatement {
    private let statement: Statement
    private let handle: OpaquePointer

    init(_ db: Database, _ sql: String) throws {
        statement = try db.cachedStatement(sql: sql)
        unsafe handle = statement.sqliteStatement
    }

    func bind(_ value: Int64, at index: Int32) {
        unsafe sqlite3_bind_int64(handle, index, value)
    }

    func bind(_ text: String?, at index: Int32) {
        guard var text else {
            unsafe sqlite3_bind_null(handle, index)
            return
        }
        text.withUTF8 { bytes in
            _ = unsafe bytes.withMemoryRebound(to: CChar.self) { characters in
                // SQLite reads a null pointer as NULL, and an empty buffer may have none.
                if let base = characters.baseAddress {
                    unsafe sqlite3_bind_text(handle, index, base, Int32(clamping: characters.count), Self.copied)
                } else {
                    unsafe sqlite3_bind_text(handle, index, "", 0, Self.copied)
                }
            }
        }
    }

    func bind(_ bytes: [UInt8], at index: Int32) {
        _ = unsafe bytes.withUnsafeBytes { buffer in
            unsafe sqlite3_bind_blob(handle, index, buffer.baseAddress, Int32(clamping: buffer.count), Self.copied)
        }
    }

    /// Not the same as no value, which is what an empty array's missing address would mean.
    func bindEmptyBlob(at index: Int32) {
        unsafe sqlite3_bind_zeroblob(handle, index, 0)
    }

    /// Steps to the end and resets, for a statement that returns no rows. The bindings stay until they are replaced.
    func run() throws {
        let code = unsafe sqlite3_step(handle)
        guard code == SQLITE_DONE else { throw failure() }
        unsafe sqlite3_reset(handle)
    }

    /// Steps to the first row, hands it to `read` and resets; nil when there is none.
    func first<Value>(_ read: (RawRow) throws -> Value) throws -> Value? {
        switch unsafe sqlite3_step(handle) {
        case SQLITE_ROW:
            defer { unsafe sqlite3_reset(handle) }
            return try read(unsafe RawRow(handle: handle))
        case SQLITE_DONE:
            unsafe sqlite3_reset(handle)
            return nil
        default: throw failure()
        }
    }

    /// What went wrong in the last step, which it resets.
    private func failure() -> DatabaseError {
        let connection = unsafe sqlite3_db_handle(handle)
        let extended = unsafe sqlite3_extended_errcode(connection)
        let message = unsafe String(cString: sqlite3_errmsg(connection))
        unsafe sqlite3_reset(handle)
        return DatabaseError(resultCode: ResultCode(rawValue: extended), message: message)
    }

    /// Rows that the last `run` touched.
    var changes: Int {
        Int(unsafe sqlite3_changes(sqlite3_db_handle(handle)))
    }

    /// `SQLITE_TRANSIENT`, a cast in C: the value is copied before the call returns.
    private static let copied = unsafe unsafeBitCast(-1, to: sqlite3_destructor_type.self)
}

/// The row that a statement stands on, by column from 0 on; not to be kept.
@safe struct RawRow {
    fileprivate let handle: OpaquePointer

    fileprivate init(handle: OpaquePointer) { unsafe self.handle = unsafe handle }

    func integer(_ column: Int32) -> Int64 { unsafe sqlite3_column_int64(handle, column) }

    func bytes(_ column: Int32) -> [UInt8] {
        // The address first: asking for it may convert the value and change its length.
        guard let start = unsafe sqlite3_column_blob(handle, column) else { return [] }
        return unsafe [UInt8](UnsafeRawBufferPointer(start: start, count: Int(sqlite3_column_bytes(handle, column))))
    }
}

extension Database {
    /// Calls `observe` with the pages in the write-ahead log after every commit of this connection.
    ///
    /// `gauge` must outlive the connection; the writer's thread owns both.
    func reportLogPages(to gauge: LogGauge) {
        unsafe sqlite3_wal_hook(
            sqliteConnection,
            { context, _, _, pages in
                guard let context = unsafe context else { return SQLITE_OK }
                unsafe Unmanaged<LogGauge>.fromOpaque(context).takeUnretainedValue().pages = Int64(pages)
                return SQLITE_OK
            }, Unmanaged.passUnretained(gauge).toOpaque())
    }
}

/// Pages in the write-ahead log. Touched on the writer's thread only, by SQLite's hook and by the checkpoints.
final class LogGauge {
    var pages: Int64 = 0
}
