// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostRules
import Testing

@Suite("Which deals a rule moves")
struct TargetChoiceTests {
    private func deal(
        _ id: String, stage: String = "appointmentscheduled", amount: String? = "5000", created: String? = nil,
        isPrimary: Bool = false, isClosed: Bool = false, pipeline: String = "default"
    ) -> RuleTarget {
        RuleTarget(
            id: id, pipeline: pipeline, stage: stage, amount: amount.flatMap(DecimalAmount.init),
            createdAt: created.flatMap { Timestamp(rfc3339: $0) }, isPrimary: isPrimary, isClosed: isClosed)
    }

    private func moved(_ rule: RollingRule, _ targets: [RuleTarget], taken: Set<String> = []) -> [String] {
        TargetChoice.decide(rule, among: targets, moved: taken).filter { $0.refusal == nil }.map(\.target.id)
    }

    private func codes(_ rule: RollingRule, _ targets: [RuleTarget], taken: Set<String> = []) -> [String?] {
        TargetChoice.decide(rule, among: targets, moved: taken).map { $0.refusal?.code }
    }

    @Test("RULE-06: a deal that is not in from_stage, in another pipeline or closed is left alone, with the reason")
    func stage() {
        let targets = [
            deal("1"), deal("2", stage: "qualifiedtobuy"), deal("3", isClosed: true), deal("4", pipeline: "other"),
        ]
        #expect(codes(rollingRule(), targets) == [nil, "not_in_from_stage", "deal_closed", "other_pipeline"])
    }

    @Test("RULE-08: a deal of 400 is left alone, one of 5,000 moves, one without an amount does not")
    func amount() {
        let targets = [
            deal("1", amount: "400"), deal("2", amount: "5000"), deal("3", amount: nil), deal("4", amount: "4999.99"),
            deal("5", amount: "5000.00"),
        ]
        #expect(
            codes(rollingRule(minimum: "5000"), targets)
                == ["amount_too_small", nil, "amount_unknown", "amount_too_small", nil])
    }

    @Test("RULE-17: all moves every deal in from_stage")
    func all() { #expect(moved(rollingRule(), [deal("10"), deal("9"), deal("x")]) == ["9", "10", "x"]) }

    @Test("RULE-17: primary moves the primary deal, and none when the primary one may not move")
    func primary() {
        let rule = rollingRule(deals: .primary)
        #expect(moved(rule, [deal("1"), deal("2", isPrimary: true)]) == ["2"])
        #expect(moved(rule, [deal("1"), deal("2", stage: "other", isPrimary: true)]).isEmpty)
        #expect(codes(rule, [deal("1")]) == ["not_chosen"])
    }

    @Test("RULE-17: newest moves the deal made last; a tie goes to the first id")
    func newest() {
        let rule = rollingRule(deals: .newest)
        let old = deal("1", created: "2026-01-01T00:00:00Z")
        let new = deal("2", created: "2026-02-01T00:00:00Z")
        #expect(moved(rule, [old, new, deal("3")]) == ["2"])
        #expect(moved(rule, [deal("4", created: "2026-02-01T00:00:00Z"), new]) == ["2"])
    }

    @Test("RULE-17: largest moves the deal worth most, by exact amounts")
    func largest() {
        let rule = rollingRule(deals: .largest)
        #expect(
            moved(
                rule,
                [
                    deal("1", amount: "9007199254740993.01"), deal("2", amount: "9007199254740993.02"),
                    deal("3", amount: nil),
                ])
                == ["2"])
    }

    @Test("Z-12: a deal that an earlier rule moves for the same click is left to it")
    func oneMoveForAClick() {
        #expect(codes(rollingRule(), [deal("1"), deal("2")], taken: ["1"]) == ["moved_by_other_rule", nil])
    }

    @Test(
        "The answer of a plugin is read as far as it makes sense, and what lacks an id, a pipeline or a stage is none")
    func reading() {
        let target = RuleTarget([
            "id": 9001, "pipeline": "default", "stage": "a", "amount": "5000.00", "currency": "EUR",
            "created_at": "2026-01-01T00:00:00Z", "is_primary": true, "is_closed": false, "name": "Big one",
        ])
        #expect(target?.id == "9001")
        #expect(target?.amount == DecimalAmount("5000"))
        #expect(target?.isPrimary == true)
        #expect(RuleTarget(["id": "1", "pipeline": "default"]) == nil)
        #expect(RuleTarget(["id": "", "pipeline": "default", "stage": "a"]) == nil)
        #expect(RuleTarget("deal") == nil)
    }

    @Test("Amounts compare as decimals: by value, not by text, and never by binary fractions")
    func amounts() throws {
        let ascending = ["-10", "-0.5", "0", "0.1", "0.10000000000000000001", "1", "9.99", "10", "1.5e1", "1e20"]
        let parsed = try ascending.map { try #require(DecimalAmount($0)) }
        for (index, left) in parsed.enumerated() {
            for (other, right) in parsed.enumerated() { #expect((left < right) == (index < other)) }
        }
        #expect(DecimalAmount("5000") == DecimalAmount("05000.000"))
        #expect(DecimalAmount("5e3") == DecimalAmount("5000"))
        #expect(DecimalAmount("-0") == DecimalAmount("0.00"))
        for text in ["", ".", "1.", "a", "1,5", "1e", "1e999", "--1", "0x10", " 1"] {
            #expect(DecimalAmount(text) == nil)
        }
    }

    @Test("RULE-18: little history, cold outreach and a window beyond retention are warned about")
    func advice() {
        let now = Timestamp(rfc3339: "2026-11-21T12:00:00Z")!
        let young = RuleAdvice.warnings(rollingRule(), firstClick: now - .seconds(13 * 86_400), now: now)
        #expect(young.map(\.code) == ["little_history"])
        #expect(RuleAdvice.warnings(rollingRule(), firstClick: nil, now: now).map(\.code) == ["little_history"])
        let old = now - .seconds(15 * 86_400)
        #expect(RuleAdvice.warnings(rollingRule(), firstClick: old, now: now).isEmpty)
        let cold = rollingRule(scope: .tag("Cold-Outreach Q3"))
        #expect(RuleAdvice.warnings(cold, firstClick: old, now: now).map(\.code) == ["cold_outreach_tag"])
        #expect(RuleAdvice.warnings(rollingRule(scope: .tag("scolded")), firstClick: old, now: now).isEmpty)
        #expect(
            RuleAdvice.warnings(rollingRule(), firstClick: old, retentionDays: 20, now: now).map(\.code)
                == ["window_beyond_retention"])
    }

    @Test("RULE-12, RULE-13: a link's clicks find the rules of its tags and of itself, in the order of ids")
    func index() {
        let index = RuleIndex([
            rollingRule("b", scope: .tag("t1")), rollingRule("a", scope: .link("l1")),
            rollingRule("c", scope: .tag("t2")),
        ])
        #expect(index.matches(link: "l1", tags: ["t2", "t1", "t1"]).map { index.rules[$0].id } == ["a", "b", "c"])
        #expect(index.matches(link: "l2", tags: ["t1"]).map { index.rules[$0].id } == ["b"])
        #expect(index.matches(link: "l2", tags: ["T1"]).isEmpty)
    }
}
