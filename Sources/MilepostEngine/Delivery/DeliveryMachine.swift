// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// Decides what follows a verdict or a finding. Pure: no clock, lock, I/O or randomness inside.
///
/// The one rule above all others (invariant 4, decisions 3): a verdict may only be made *more* careful. Whatever the
/// plugin says, while the journal holds a step whose outcome is open, nothing is sent again before reconcile answers.
public struct DeliveryMachine: Sendable {
    /// The numbers of requirement THR-14, THR-15 and Z-04.
    public struct Limits: Sendable, Equatable {
        public var maximumAttempts: Int
        public var maximumAge: Duration
        /// Further tries within one tick after the first (THR-14: two).
        public var triesWithinTick: Int
        /// A vendor's wait up to this long is sat out within the tick.
        public var longestWaitWithinTick: Duration
        /// How long a request may take to be applied after it left.
        public var requestTimeout: Duration

        public init(
            maximumAttempts: Int = 600, maximumAge: Duration = .seconds(86_400), triesWithinTick: Int = 2,
            longestWaitWithinTick: Duration = .seconds(10), requestTimeout: Duration = .seconds(30)
        ) {
            self.maximumAttempts = maximumAttempts
            self.maximumAge = maximumAge
            self.triesWithinTick = triesWithinTick
            self.longestWaitWithinTick = longestWaitWithinTick
            self.requestTimeout = requestTimeout
        }
    }

    /// What is known about the delivery when the question is asked.
    public struct Situation: Sendable, Equatable {
        public var attempts: Int
        /// Since it was made, less the time in states where the caps stand still (decisions 9).
        public var age: Duration
        /// Tries within this tick so far, the first included.
        public var triesThisTick: Int
        /// The step whose outcome is open, with the moment of its intent.
        public var openStep: OpenStep?
        /// Earlier attempts in which the worker died with this very record in flight.
        public var earlierCrashes: Int

        public init(
            attempts: Int, age: Duration, triesThisTick: Int, openStep: OpenStep? = nil, earlierCrashes: Int = 0
        ) {
            self.attempts = attempts
            self.age = age
            self.triesThisTick = triesThisTick
            self.openStep = openStep
            self.earlierCrashes = earlierCrashes
        }
    }

    public struct OpenStep: Sendable, Equatable {
        public var name: String
        public var intentAt: Timestamp

        public init(name: String, intentAt: Timestamp) {
            self.name = name
            self.intentAt = intentAt
        }
    }

    public enum Decision: Sendable, Equatable {
        case delivered
        /// Not applied for certain: once more within this tick.
        case tryAgainNow(atLeastAfter: Duration?)
        /// Not applied for certain: with a later tick, not before the moment given.
        case tryLater(notBefore: Timestamp?)
        /// Reconcile before anything else, not before the moment given.
        case reconcile(notBefore: Timestamp?)
        /// The plugin was not reached: with a later tick, and the attempt is given back.
        case waitForPlugin
        /// The connection moves to the state; the delivery waits and its attempt is given back.
        case waitForConnection(Connection.State)
        /// Nothing is to be done any more, and that is right so.
        case dropped(Reason)
        case dead(Reason)
    }

    public let limits: Limits
    /// How long after a request the vendor's look-ups may not show it (the action's `read_lag_ms`).
    public let readLag: Duration

    public init(limits: Limits, readLag: Duration) {
        self.limits = limits
        self.readLag = readLag
    }

    /// A record with which the plugin's worker died this often is given up (decisions 20).
    static let crashesOfPoison = 2

    /// Codes of rejections that are no failure: the record left the stage that the rule moves it from (RULE-06), or the
    /// connection's settings ask for other events (HOOK-09).
    static let decidedNotToHappen: Set = ["target_moved", "filtered"]

    /// What follows a verdict of `deliver`.
    public func decide(_ verdict: Verdict, in situation: Situation, now: Timestamp) -> Decision {
        if verdict.kind == .ok { return .delivered }
        if let state = Self.connectionState(for: verdict), situation.openStep == nil {
            return .waitForConnection(state)
        }
        if verdict.neverReachedPlugin { return .waitForPlugin }
        if let open = situation.openStep { return careful(open, verdict, situation, now) }

        switch verdict.kind {
        case .ok, .authExpired, .authRevoked, .config: return .tryLater(notBefore: nil)
        case .rejected where verdict.code.map(Self.decidedNotToHappen.contains) == true:
            return .dropped(verdict.reason)
        case .rejected, .unsupported: return .dead(verdict.reason)
        case .uncertain:
            // The plugin is unsure although nothing of ours is open: its own look-up decides.
            return capped(verdict, situation) ?? .reconcile(notBefore: now + readLag)
        case .crashed, .deadline, .pluginBug:
            guard situation.earlierCrashes < Self.crashesOfPoison - 1 || verdict.code == Verdict.closedCode else {
                return .dead(
                    Reason(code: "poison", message: "The plugin failed on this record twice: \(verdict.reason.message)")
                )
            }
            return capped(verdict, situation) ?? .tryLater(notBefore: nil)
        case .retry, .rateLimited, .cancelled:
            if let end = capped(verdict, situation) { return end }
            let wait = verdict.retryAfter
            if situation.triesThisTick <= limits.triesWithinTick, (wait ?? .zero) <= limits.longestWaitWithinTick {
                return .tryAgainNow(atLeastAfter: wait)
            }
            return .tryLater(notBefore: wait.map { now + $0 })
        }
    }

    /// What follows a finding about `open`.
    public func decide(_ finding: Finding, about open: OpenStep, in situation: Situation, now: Timestamp) -> Decision {
        switch finding.answer {
        case .applied: return .tryAgainNow(atLeastAfter: nil)
        case .notApplied:
            // A killed daemon's request may still commit after we look (decisions 4).
            let conclusive = conclusiveAt(open)
            if now >= conclusive, situation.earlierCrashes >= Self.crashesOfPoison {
                return .dead(
                    Reason(
                        code: "poison", message: "The plugin failed on this record twice; nothing of it was applied."))
            }
            if now >= conclusive { return .tryAgainNow(atLeastAfter: nil) }
            return capped(finding, open, situation) ?? .reconcile(notBefore: conclusive)
        case .unknown:
            if finding.failure != nil, situation.earlierCrashes >= Self.crashesOfPoison - 1 {
                return .dead(outcomeUnknown(finding, open, "because the plugin fails on it"))
            }
            return capped(finding, open, situation) ?? .reconcile(notBefore: finding.askAgain.map { now + $0 })
        }
    }

    /// From when on "not found" means "not applied".
    public func conclusiveAt(_ open: OpenStep) -> Timestamp { open.intentAt + limits.requestTimeout + readLag }

    private func careful(
        _ open: OpenStep, _ verdict: Verdict, _ situation: Situation, _ now: Timestamp
    ) -> Decision {
        let unknown = Finding(answer: .unknown, step: open.name, message: verdict.message)
        return capped(unknown, open, situation) ?? .reconcile(notBefore: open.intentAt + readLag)
    }

    /// The states in which work waits instead of failing (decisions 9, REA-01, REA-07, DEAL-11).
    static func connectionState(for verdict: Verdict) -> Connection.State? {
        switch verdict.kind {
        case .authRevoked, .authExpired: .needsReauth
        case .config:
            switch verdict.code {
            case "permission_missing", "account_closed": .permission
            case Connection.endpointGone: .disabled
            default: .needsTarget
            }
        case .rateLimited: verdict.code == "daily_budget_spent" ? .dailyBudget : nil
        default: nil
        }
    }

    private func capped(_ verdict: Verdict, _ situation: Situation) -> Decision? {
        guard let cap = exceededCap(situation) else { return nil }
        return .dead(Reason(code: "gave_up", message: "Gave up \(cap). Last answer: \(verdict.reason.message)"))
    }

    private func capped(_ finding: Finding, _ open: OpenStep, _ situation: Situation) -> Decision? {
        guard let cap = exceededCap(situation) else { return nil }
        return .dead(outcomeUnknown(finding, open, cap))
    }

    private func outcomeUnknown(_ finding: Finding, _ open: OpenStep, _ cap: String) -> Reason {
        Reason(
            code: "outcome_unknown",
            message:
                "Outcome unknown: the request of step \(open.name), sent at \(open.intentAt), may have been applied, and "
                + "looking it up gave no answer \(cap). Look for it at the vendor by hand before replaying. "
                + (finding.message ?? ""))
    }

    private func exceededCap(_ situation: Situation) -> String? {
        if situation.attempts >= limits.maximumAttempts { return "after \(situation.attempts) attempts" }
        if situation.age >= limits.maximumAge { return "after \(limits.maximumAge.components.seconds) seconds" }
        return nil
    }
}
