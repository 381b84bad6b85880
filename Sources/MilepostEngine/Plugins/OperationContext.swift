// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import Synchronization

/// Which deliveries an operation's records are, so that a plugin's request leaves its intent on the right ones.
struct OperationContext: Sendable {
    /// By the record's index in the operation.
    var deliveries: [DeliveryID]
    var attempts: [Int]
}

/// The deliver operations under way. At most one per connection: its batches leave in order.
final class OperationContexts: Sendable {
    private let running = Mutex<[ConnectionID: OperationContext]>([:])

    func begin(_ context: OperationContext, on connection: ConnectionID) {
        running.withLock { $0[connection] = context }
    }

    func end(on connection: ConnectionID) { running.withLock { _ = $0.removeValue(forKey: connection) } }

    func current(on connection: ConnectionID) -> OperationContext? { running.withLock { $0[connection] } }
}
