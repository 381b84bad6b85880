// SPDX-License-Identifier: Apache-2.0

import MilepostModel

/// What a verdict means for a record of the click stream. Click actions may be repeated, so nothing is uncertain here:
/// what may have been applied is sent again.
enum StreamFate: Equatable {
    case delivered
    /// The vendor refuses it for good.
    case dead(Reason)
    /// The vendor knows no such contact (RES-07).
    case contactUnknown(Reason)
    /// To be sent again, not before the wait is over.
    case again(Reason, after: Duration?)
    /// A limit or a plugin that is down held it back: nobody's attempt was spent.
    case heldBack(Reason, after: Duration?)
    /// The plugin failed with it in flight: it is charged to the record (decisions 20).
    case failed(Reason)
    /// The connection moves, the record waits (decisions 9).
    case connection(Connection.State, Reason)

    init(_ verdict: Verdict) {
        if verdict.wasHeldBack, verdict.code != "daily_budget_spent" {
            self = .heldBack(verdict.reason, after: verdict.retryAfter)
        } else if let state = DeliveryMachine.connectionState(for: verdict) {
            self = .connection(state, verdict.reason)
        } else if verdict.neverReachedPlugin {
            self = .heldBack(verdict.reason, after: verdict.retryAfter)
        } else {
            switch verdict.kind {
            case .ok: self = .delivered
            case .rejected:
                self = verdict.code == "contact_unknown" ? .contactUnknown(verdict.reason) : .dead(verdict.reason)
            case .unsupported: self = .dead(verdict.reason)
            case .crashed, .deadline, .pluginBug: self = .failed(verdict.reason)
            case .rateLimited: self = .heldBack(verdict.reason, after: verdict.retryAfter)
            case .retry, .cancelled, .uncertain, .authExpired, .authRevoked, .config:
                self = .again(verdict.reason, after: verdict.retryAfter)
            }
        }
    }

    /// Whether something came of the record, so that the batch it was in need not be sent once more as a whole.
    var isProgress: Bool {
        switch self {
        case .delivered, .dead, .contactUnknown, .failed: true
        case .again, .heldBack, .connection: false
        }
    }
}
