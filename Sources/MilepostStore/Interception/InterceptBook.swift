// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// What judges said, kept with the delivery that it is about: one transaction holds the answers, what they changed and
/// where the delivery goes, so that a crash after it finds a decision and one before it finds a question (HOOK-06).
public protocol InterceptBook: Sendable {
    /// As `claimDue`, but only deliveries that no set of judges has let through yet.
    func claimUnjudged(
        connection: ConnectionID, owner: String, now: Timestamp, limit: Int, excluding actions: [String]
    ) async throws -> [ClaimedDelivery]
    /// As `claimDue`, but only deliveries that were let through.
    func claimJudged(
        connection: ConnectionID, owner: String, now: Timestamp, limit: Int, excluding actions: [String]
    ) async throws -> [ClaimedDelivery]
    /// Ends the claim of a judgement and gives its attempt back. Durable on return.
    ///
    /// - Throws: `conflict` when the delivery is not in flight any more: nothing was stored.
    func storeJudgement(_ judgement: Judgement, at: Timestamp) async throws
    /// Lets go what judges hold until `due` or sooner; the time on hold counts as waiting (decisions 9). Returns how many.
    func releaseJudged(connection: ConnectionID, due: Timestamp, at: Timestamp) async throws -> Int
    /// Lets one delivery go that is held for a reason of its own: by a judge, which is not asked again, or because the
    /// vendor did not know its contact. A decision says who let it go. The time on hold counts as waiting.
    ///
    /// - Parameter message: who, for a person.
    /// - Returns: false when it is not held, or waits with its connection: nothing was changed.
    func release(_ delivery: DeliveryID, message: String, at: Timestamp) async throws -> Bool
    /// Every answer about the delivery, oldest first.
    func decisions(of delivery: DeliveryID) async throws -> [InterceptDecision]
}

/// Where a delivery goes after its judges were asked.
public struct Judgement: Sendable, Equatable {
    public enum Fate: Sendable, Equatable {
        /// All let it through, or nobody may judge it any more.
        case passed
        case held(until: Timestamp, Reason)
        case dropped(Reason)
        /// Nobody decides: given up, and can be replayed.
        case dead(Reason)
        /// It could not be decided now: back in line, not before that moment.
        case later(Timestamp, Reason)
    }

    /// Codes of the reasons of deliveries that judges hold.
    public static let holdCodes = ["held_by_hook", "hook_failed"]

    public var delivery: DeliveryID
    public var fate: Fate
    /// The payload with what the judges changed; nil when they changed nothing.
    public var payload: JSONValue?
    /// The answers of this round.
    public var decisions: [InterceptDecision]

    public init(delivery: DeliveryID, fate: Fate, payload: JSONValue? = nil, decisions: [InterceptDecision] = []) {
        self.delivery = delivery
        self.fate = fate
        self.payload = payload
        self.decisions = decisions
    }
}
