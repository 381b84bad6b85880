// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
public import MilepostStore

/// Decides when a chain is refreshed and what follows an answer. Pure: no clock, lock, I/O or randomness inside.
public struct RefreshPolicy: Sendable {
    /// How long to wait after a lost answer before the old token is tried once more: a cut request may still be on its way.
    public var lostAnswerPause: Duration
    public var backoff: Backoff
    /// An app that is refused is tried again this seldom, and at once when its credentials change.
    public var operatorPause: Duration

    public init(
        lostAnswerPause: Duration = .seconds(5),
        backoff: Backoff = Backoff(base: .seconds(2), cap: .seconds(300)), operatorPause: Duration = .seconds(3600)
    ) {
        self.lostAnswerPause = lostAnswerPause
        self.backoff = backoff
        self.operatorPause = operatorPause
    }

    /// Sends of one refresh token after its answer was lost (decisions 10).
    static let resends = 1

    /// When the chain wants to be refreshed next; nil when only an installation can help.
    ///
    /// - Parameter margin: how long before its end a token is replaced; at most half of its life.
    public static func due(_ chain: TokenChain, margin: Duration) -> Timestamp? {
        switch chain.state {
        case .held, .edited, .revoked: return nil
        case .ok:
            let life = chain.expiresAt - chain.issuedAt
            return chain.expiresAt - min(margin, life / 2)
        case .failing, .uncertain, .operatorError: return chain.nextAttemptAt ?? chain.expiresAt - margin
        }
    }

    /// A chain after an answer that brought no tokens.
    ///
    /// - Parameter before: the chain as it was when the refresh began.
    func settled(_ before: TokenChain, _ answer: TokenAnswer, now: Timestamp, unit: Double) -> TokenChain {
        var chain = before
        chain.intent = nil
        chain.failures += 1
        switch answer {
        case .granted: break
        case .transient(let reason, let wait):
            let pause = max(backoff.delay(attempt: chain.failures, unit: unit), wait ?? .zero)
            // An outcome that is still unknown stays unknown; this try was not the one that counts.
            if chain.state != .uncertain {
                chain.state = .failing
                chain.reason = reason
            }
            chain.nextAttemptAt = now + pause
        case .operatorError(let reason):
            if chain.state != .uncertain {
                chain.state = .operatorError
                chain.reason = reason
            }
            chain.nextAttemptAt = now + operatorPause
        case .uncertain(let reason):
            if before.state == .uncertain {
                // This was the one more try, and its answer is lost as well.
                chain.resent += 1
                return ended(chain, .revoked, Self.outcomeUnknown(before))
            }
            chain.state = .uncertain
            chain.reason = reason
            chain.nextAttemptAt = now + lostAnswerPause
        case .revoked(let reason):
            return ended(chain, .revoked, Self.cause(of: reason, before))
        }
        return chain
    }

    func ended(_ chain: TokenChain, _ state: TokenChain.State, _ reason: Reason) -> TokenChain {
        var ended = chain
        ended.state = state
        ended.reason = reason
        ended.nextAttemptAt = nil
        ended.intent = nil
        return ended
    }

    static let cure = "Reinstall: milepost connect PLUGIN, or the integration's tile; the history stays."
    /// Set when somebody said that a restored or copied database is the one that counts.
    static let adopted = "adopted"

    private static func cause(of reason: Reason, _ before: TokenChain) -> Reason {
        if before.state == .uncertain {
            return Reason(
                code: "refresh_answer_lost",
                message: "The answer to a token refresh was lost after the vendor may have replaced the token, and the "
                    + "old one is refused now. \(cure)")
        }
        if before.reason?.code == adopted {
            return Reason(
                code: "credentials_restored",
                message: "\(reason.message) The database was restored or copied: these are restored or copied "
                    + "credentials, and the vendor has replaced them since. \(cure)")
        }
        return Reason(
            code: "refresh_refused",
            message: "\(reason.message) The app was uninstalled, the token lay unused for too long, or another daemon "
                + "uses restored or copied credentials. \(cure)")
    }

    static func outcomeUnknown(_ chain: TokenChain) -> Reason {
        Reason(
            code: "refresh_outcome_unknown",
            message: "A token refresh was sent twice and both answers were lost: nobody can tell which token counts. "
                + cure)
    }
}
