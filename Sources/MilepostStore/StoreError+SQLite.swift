// SPDX-License-Identifier: Apache-2.0

import GRDB
import MilepostModel

extension StoreError {
    static let closed = StoreError(code: .closed, detail: "the store was closed; the daemon is going down")

    static func noWorkspace(_ id: WorkspaceID) -> StoreError {
        StoreError(
            code: .notFound,
            detail: "there is no workspace '\(id)'; the first administrative write to it makes it")
    }

    static func noConnection(_ id: ConnectionID) -> StoreError {
        StoreError(code: .notFound, detail: "there is no connection '\(id)'")
    }

    static func noDelivery(_ id: DeliveryID) -> StoreError {
        StoreError(code: .notFound, detail: "there is no delivery '\(id)'; finished ones are removed after a while")
    }

    /// What an error from SQLite means to the callers; a `StoreError` stays what it is.
    init(_ error: any Error, while activity: String) {
        switch error {
        case let error as StoreError: self = error
        case let error as DatabaseError: self.init(error, while: activity)
        default: self.init(code: .failed, detail: "\(activity): \(error)")
        }
    }

    private init(_ error: DatabaseError, while activity: String) {
        let seen = "SQLite said \(error.extendedResultCode.rawValue): \(error.message ?? "no message")"
        switch error.resultCode {
        case .SQLITE_FULL:
            self.init(
                code: .storageFull,
                detail:
                    "\(activity): the disk is full (\(seen)). Nothing was stored; make room, and it goes on by itself")
        case .SQLITE_CORRUPT, .SQLITE_NOTADB:
            self.init(
                code: .corrupt,
                detail:
                    "\(activity): the database file is damaged (\(seen)). Writes are stopped; stop the daemon, keep "
                    + "the file for examination and restore the newest backup")
        case .SQLITE_CONSTRAINT:
            self.init(code: .conflict, detail: "\(activity): \(seen)")
        case .SQLITE_MISUSE where error.message == "Connection is closed":
            self = .closed
        default:
            self.init(code: .failed, detail: "\(activity): \(seen)")
        }
    }
}
