// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import Synchronization

/// Which deliveries an operation's records are, so that a plugin's request leaves its intent on the right ones.
struct OperationContext: Sendable {
    /// By the record's index in the operation.
    var deliveries: [DeliveryID]
    var attempts: [Int]
}

/// The deliver operations under way, by the id that every host call of theirs carries.
final class OperationContexts: Sendable {
    private let running = Mutex<[UInt64: OperationContext]>([:])

    func begin(_ operation: UInt64, _ context: OperationContext) { running.withLock { $0[operation] = context } }
    func end(_ operation: UInt64) { running.withLock { _ = $0.removeValue(forKey: operation) } }
    func context(of operation: UInt64) -> OperationContext? { running.withLock { $0[operation] } }
}
