// SPDX-License-Identifier: Apache-2.0

import GRDB
import Synchronization

/// Counts the transactions that wrote or deleted a sealed credential, by whatever statement, so that nobody goes on with
/// one that was replaced.
///
/// Called on the writer's connection only; `commits` may be read from anywhere.
final class CredentialWatch: TransactionObserver, Sendable {
    private let count = Atomic<UInt64>(0)
    private let isTouched = Atomic<Bool>(false)

    var commits: UInt64 { count.load(ordering: .sequentiallyConsistent) }

    func observes(eventsOfKind kind: DatabaseEventKind) -> Bool {
        switch kind {
        case .insert(let table), .delete(let table), .update(let table, _): table == "integration_credentials"
        }
    }

    func databaseDidChange(with event: DatabaseEvent) { isTouched.store(true, ordering: .relaxed) }

    func databaseDidCommit(_ db: Database) {
        if isTouched.exchange(false, ordering: .relaxed) { count.wrappingAdd(1, ordering: .sequentiallyConsistent) }
    }

    func databaseDidRollback(_ db: Database) { isTouched.store(false, ordering: .relaxed) }
}
