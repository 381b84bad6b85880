// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostRules
import Testing

@Suite("Advice on how to begin")
struct RolloutStepTests {
    static let start = Timestamp(rfc3339: "2026-11-01T00:00:00Z")!

    private func state(
        _ entry: JSONValue, days: Int64, rule: Int64? = nil
    ) throws -> (RolloutStep.State, Timestamp?) {
        let step = try #require(RolloutStep(entry))
        let progress = step.progress(
            .init(
                connectedAt: Self.start, firstRuleAt: rule.map { Self.start + .seconds($0 * 86_400) },
                now: Self.start + .seconds(days * 86_400)))
        return (progress.state, progress.dueAt)
    }

    @Test(
        "HCON-10: two weeks before the first rule are over after two weeks",
        arguments: [(0, false), (13, false), (14, true)])
    func waiting(days: Int64, isDone: Bool) throws {
        let step: JSONValue = ["id": "wait", "title": "Wait", "done_by": "connected", "days": 14]
        let (state, due) = try self.state(step, days: days)
        #expect(state == (isDone ? .done : .waiting))
        #expect(due == (isDone ? nil : Self.start + .seconds(14 * 86_400)))
    }

    @Test("HCON-10: a rule's week is counted from the oldest rule, and is open without one")
    func rule() throws {
        let step: JSONValue = ["id": "watch", "title": "Watch", "done_by": "rule", "days": 7]
        #expect(try state(step, days: 20).0 == .open)
        #expect(try state(step, days: 20, rule: 14).0 == .waiting)
        #expect(try state(step, days: 21, rule: 14).0 == .done)
    }

    @Test("what cannot be looked at is said to be done by hand; what is no step is none")
    func byHand() throws {
        #expect(try state(["id": "a", "title": "A", "done_by": "magic", "days": 3], days: 30).0 == .byHand)
        #expect(RolloutStep(["id": "a"]) == nil && RolloutStep("a") == nil)
        #expect(try state(["id": "a", "title": "A", "done_by": "connected", "days": -5], days: 0).0 == .done)
        let far: JSONValue = ["id": "a", "title": "A", "done_by": "connected", "days": .integer(.max)]
        #expect(try state(far, days: 3649).0 == .waiting)
    }
}
