// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import Testing

@Suite("What follows a verdict")
struct DeliveryMachineTests {
    static let now = Timestamp(rfc3339: "2026-11-21T12:00:00Z")!
    static let machine = DeliveryMachine(
        limits: .init(maximumAttempts: 5, maximumAge: .seconds(3600), requestTimeout: .seconds(30)),
        readLag: .seconds(3))

    static func situation(
        attempts: Int = 1, age: Duration = .zero, tries: Int = 1, openSince: Duration? = nil, crashes: Int = 0
    ) -> DeliveryMachine.Situation {
        .init(
            attempts: attempts, age: age, triesThisTick: tries,
            openStep: openSince.map { .init(name: "deal", intentAt: now - $0) }, earlierCrashes: crashes)
    }

    @Test("THR-14: not applied is tried twice more within the tick, then waits for the next")
    func triesWithinTick() {
        let verdict = Verdict(kind: .retry)
        #expect(Self.decide(verdict, tries: 1) == .tryAgainNow(atLeastAfter: nil))
        #expect(Self.decide(verdict, tries: 2) == .tryAgainNow(atLeastAfter: nil))
        #expect(Self.decide(verdict, tries: 3) == .tryLater(notBefore: nil))
    }

    @Test("EXT-06: the vendor's own wait wins; a long one is not sat out within the tick")
    func retryAfter() {
        let short = Verdict(kind: .rateLimited, retryAfter: .seconds(2))
        #expect(Self.decide(short, tries: 1) == .tryAgainNow(atLeastAfter: .seconds(2)))
        let long = Verdict(kind: .rateLimited, retryAfter: .seconds(600))
        #expect(Self.decide(long, tries: 1) == .tryLater(notBefore: Self.now + .seconds(600)))
    }

    @Test(
        "invariant 4: while a step's outcome is open no verdict but ok lets anything be sent again",
        arguments: Verdict.Class.allCases)
    func openStepMeansReconcile(kind: Verdict.Class) {
        let situation = Self.situation(openSince: .seconds(1))
        let decision = Self.machine.decide(Verdict(kind: kind), in: situation, now: Self.now)
        if kind == .ok {
            #expect(decision == .delivered)
        } else {
            #expect(decision == .reconcile(notBefore: Self.now + .seconds(2)))
        }
    }

    @Test("decisions 4: not found counts only after the time-out and the vendor's lag, measured from the intent")
    func lateCommits() {
        let finding = Finding(answer: .notApplied, step: "deal")
        func decide(_ sinceIntent: Duration) -> DeliveryMachine.Decision {
            let open = DeliveryMachine.OpenStep(name: "deal", intentAt: Self.now - sinceIntent)
            return Self.machine.decide(finding, about: open, in: Self.situation(openSince: sinceIntent), now: Self.now)
        }
        #expect(decide(.milliseconds(32_999)) == .reconcile(notBefore: Self.now + .milliseconds(1)))
        #expect(decide(.seconds(33)) == .tryAgainNow(atLeastAfter: nil))
    }

    @Test("an answer that was found ends the uncertainty at once; unknown keeps it")
    func appliedAndUnknown() {
        let open = DeliveryMachine.OpenStep(name: "deal", intentAt: Self.now)
        let situation = Self.situation(openSince: .zero)
        let applied = Finding(answer: .applied, step: "deal")
        #expect(
            Self.machine.decide(applied, about: open, in: situation, now: Self.now) == .tryAgainNow(atLeastAfter: nil))
        let unknown = Finding(answer: .unknown, step: "deal", askAgain: .seconds(9))
        #expect(
            Self.machine.decide(unknown, about: open, in: situation, now: Self.now)
                == .reconcile(notBefore: Self.now + .seconds(9)))
    }

    @Test("THR-15, Z-04: attempts and age are capped; an unknown outcome says what to check by hand")
    func caps() {
        for situation in [Self.situation(attempts: 5), Self.situation(age: .seconds(3600))] {
            guard case .dead(let reason) = Self.machine.decide(Verdict(kind: .retry), in: situation, now: Self.now)
            else {
                Issue.record("\(situation) is past a cap")
                continue
            }
            #expect(reason.code == "gave_up")
        }
        let open = DeliveryMachine.OpenStep(name: "deal", intentAt: Self.now)
        let decision = Self.machine.decide(
            Finding(answer: .unknown, step: "deal"), about: open,
            in: Self.situation(attempts: 5, openSince: .zero), now: Self.now)
        guard case .dead(let reason) = decision else {
            Issue.record("\(decision) is past a cap")
            return
        }
        #expect(reason.code == "outcome_unknown")
        #expect(reason.message.contains("by hand"))
    }

    struct Move: Sendable {
        var verdict: Verdict
        var state: Connection.State
    }

    static let moves = [
        Move(verdict: Verdict(kind: .authRevoked), state: .needsReauth),
        Move(verdict: Verdict(kind: .config, code: "permission_missing"), state: .permission),
        Move(verdict: Verdict(kind: .config, code: "target_missing"), state: .needsTarget),
        Move(verdict: Verdict(kind: .rateLimited, code: "daily_budget_spent"), state: .dailyBudget),
    ]

    @Test(
        "REA-01, REA-05, REA-07, DEAL-11, decisions 9: what a person must mend lets work wait, even past the caps",
        arguments: moves)
    func connectionStates(_ move: Move) {
        let decision = Self.machine.decide(
            move.verdict, in: Self.situation(attempts: 99, age: .seconds(99_999)), now: Self.now)
        #expect(decision == .waitForConnection(move.state))
    }

    @Test("decisions 20: a record that crashes the plugin twice is a dead letter, once is not")
    func poison() {
        #expect(
            Self.machine.decide(Verdict(kind: .crashed), in: Self.situation(crashes: 0), now: Self.now)
                == .tryLater(notBefore: nil))
        guard
            case .dead(let reason) = Self.machine.decide(
                Verdict(kind: .crashed), in: Self.situation(crashes: 1), now: Self.now)
        else {
            Issue.record("the second crash must end it")
            return
        }
        #expect(reason.code == "poison")
    }

    @Test("decisions 20: an operation that we closed ourselves is no crash of its record")
    func closedIsNoCrash() {
        let closed = Verdict(kind: .crashed, code: "plugin_closed")
        #expect(
            Self.machine.decide(closed, in: Self.situation(crashes: 1), now: Self.now) == .tryLater(notBefore: nil))
    }

    private static func decide(_ verdict: Verdict, tries: Int) -> DeliveryMachine.Decision {
        machine.decide(verdict, in: situation(tries: tries), now: now)
    }
}

@Suite("Waits between tries")
struct BackoffTests {
    @Test("THR-14, EXT-06: gaps grow with each attempt whatever the jitter, up to the cap")
    func grows() {
        let backoff = Backoff(base: .milliseconds(500), cap: .seconds(4))
        for unit in [0.0, 0.3, 0.999] {
            let delays = (1...8).map { backoff.delay(attempt: $0, unit: unit) }
            #expect(zip(delays, delays.dropFirst()).allSatisfy { $0 <= $1 })
            #expect(delays[0] >= .milliseconds(250))
            #expect(delays.allSatisfy { $0 <= .seconds(4) })
        }
        #expect(backoff.delay(attempt: 2, unit: 0) >= backoff.delay(attempt: 1, unit: 0.999))
    }
}
