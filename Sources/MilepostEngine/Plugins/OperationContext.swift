// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import Synchronization

/// Which deliveries an operation's records are, so that a plugin's request leaves its intent on the right ones.
struct OperationContext: Sendable {
    /// By the record's index in the operation.
    var deliveries: [DeliveryID]
    var attempts: [Int]
    /// Where the intents of a provisioning are kept; nil for deliveries.
    var provision: ProvisionJournal?
    /// Click actions leave no intent: whatever they send may be sent again.
    var leavesIntents = true
}

/// A budget that was closed when an operation wanted to send: nothing left, whatever the plugin makes of it.
struct ClosedBudget: Sendable {
    var opensAt: Timestamp
    /// A day's budget of the vendor account, not a burst window.
    var isDaily: Bool
    /// What to say instead, when it is no budget that was closed.
    var reason: Reason?
    /// What the delivery meets when nothing opens it again by itself.
    var ends: Verdict.Class?
}

/// The deliver operations under way, by the id that every host call of theirs carries.
final class OperationContexts: Sendable {
    private struct Running {
        var context: OperationContext
        var closed: ClosedBudget?
        /// Intents on their way to disk; `end` waits for them.
        var intents = 0
        var ending: CheckedContinuation<ClosedBudget?, Never>?
    }
    private let running = Mutex<[UInt64: Running]>([:])

    func begin(_ operation: UInt64, _ context: OperationContext) {
        running.withLock { $0[operation] = Running(context: context) }
    }

    /// No request of the operation leaves from here on, and the intents of those that did are on disk on return.
    ///
    /// - Returns: the budget that stopped one of its requests, if any did.
    func end(_ operation: UInt64) async -> ClosedBudget? {
        await withCheckedContinuation { continuation in
            let (isOver, closed) = running.withLock { running -> (Bool, ClosedBudget?) in
                guard let ended = running[operation], ended.intents > 0 else {
                    return (true, running.removeValue(forKey: operation)?.closed)
                }
                running[operation]?.ending = continuation
                return (false, nil)
            }
            if isOver { continuation.resume(returning: closed) }
        }
    }

    /// Asked before an intent is written: false when the operation has ended, and then its request must not leave. A
    /// worker may die while its request waits for a budget; a later attempt sends the delivery again, and the vendor must
    /// not see it twice (invariant 4).
    func mayWriteIntent(for operation: UInt64) -> Bool {
        running.withLock { running in
            guard let found = running[operation], found.ending == nil else { return false }
            running[operation]?.intents += 1
            return true
        }
    }

    /// After an intent was written, or could not be.
    func wroteIntent(for operation: UInt64) {
        let ended = running.withLock { running -> Running? in
            running[operation]?.intents -= 1
            guard let found = running[operation], found.ending != nil, found.intents == 0 else { return nil }
            return running.removeValue(forKey: operation)
        }
        ended?.ending?.resume(returning: ended?.closed)
    }

    func context(of operation: UInt64) -> OperationContext? { running.withLock { $0[operation]?.context } }

    func note(_ closed: ClosedBudget, on operation: UInt64) { running.withLock { $0[operation]?.closed = closed } }
}
