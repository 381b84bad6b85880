// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import Synchronization

/// Which deliveries an operation's records are, so that a plugin's request leaves its intent on the right ones.
struct OperationContext: Sendable {
    /// By the record's index in the operation.
    var deliveries: [DeliveryID]
    var attempts: [Int]
}

/// A budget that was closed when an operation wanted to send: nothing left, whatever the plugin makes of it.
struct ClosedBudget: Sendable {
    var opensAt: Timestamp
    /// A day's budget of the vendor account, not a burst window.
    var isDaily: Bool
}

/// The deliver operations under way, by the id that every host call of theirs carries.
final class OperationContexts: Sendable {
    private struct Running {
        var context: OperationContext
        var closed: ClosedBudget?
    }
    private let running = Mutex<[UInt64: Running]>([:])

    func begin(_ operation: UInt64, _ context: OperationContext) {
        running.withLock { $0[operation] = Running(context: context) }
    }

    /// - Returns: the budget that stopped one of its requests, if any did.
    @discardableResult
    func end(_ operation: UInt64) -> ClosedBudget? {
        running.withLock { $0.removeValue(forKey: operation)?.closed }
    }

    func context(of operation: UInt64) -> OperationContext? { running.withLock { $0[operation]?.context } }

    func note(_ closed: ClosedBudget, on operation: UInt64) { running.withLock { $0[operation]?.closed = closed } }
}
