// SPDX-License-Identifier: Apache-2.0

internal import MilepostModel

/// What goes wrong at the vendor, or on the way to it.
enum Fault: Sendable {
    /// Answered, not applied.
    case status(Int32, retryAfter: Int? = nil)
    /// Not one byte left.
    case neverSent
    /// The connection was cut; applied or not.
    case cut(applied: Bool)
    /// No answer within the request's time; applied or not.
    case timeout(applied: Bool)
    /// Applied, and answered 200 with these bytes.
    case bytes([UInt8], type: String, truncated: Bool = false, headers: [(name: String, value: String)] = [])
    /// Applied, and answered 200 with as much of an endless text as the host keeps for the request: what egress, which
    /// unpacks by itself and stops at the cap, leaves of a gzip bomb.
    case bomb
    /// No answer until the request is given up; applied.
    case hang
    /// A redirect to a host that the manifest does not name; not applied.
    case redirect(String)
    /// The host itself refuses the request.
    case refused
    /// Applied, then a call back before the answer is told.
    case then(@Sendable () async -> Void)
}

/// Which requests a fault meets.
struct FaultPlan: Sendable {
    enum Target: Sendable { case changes, lookups, all }
    var target = Target.changes
    /// Requests of the kind that pass before it.
    var after = 0
    /// How many it meets.
    var times = Int.max
    var fault: Fault

    func meets(isChange: Bool) -> Bool {
        switch target {
        case .changes: isChange
        case .lookups: !isChange
        case .all: true
        }
    }
}

/// A step of a delivery, as the host's journal holds it (schemas/deliver.request.json).
struct JournalEntry: Sendable, Equatable {
    enum State: String, Sendable { case intent, answered, done }
    var step: String
    var state: State
    var attempt: Int
    var intentAt: Timestamp
    var wire: String?
    var httpStatus: Int32?
    var body: String?
    var result: JSONValue?

    var json: JSONValue {
        [
            "step": .string(step), "state": .string(state.rawValue), "attempt": .integer(Int64(attempt)),
            "intent_at": .string(intentAt.description), "wire": JSONValue(wire),
            "http_status": httpStatus.map { .integer(Int64($0)) } ?? .null, "body": JSONValue(body),
            "result": result ?? .null,
        ]
    }

    /// Whether nobody can say that the step was not applied (decisions 3).
    var leavesOutcomeOpen: Bool {
        switch state {
        case .done: return false
        case .intent: return true
        case .answered:
            guard wire != "never_sent" else { return false }
            guard wire == "answered", let status = httpStatus else { return true }
            return (200..<300).contains(status) || (status >= 500 && status != 503)
        }
    }
}
