// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostRules
import Testing

@Suite("Which thresholds a total reaches")
struct ThresholdRuleTests {
    struct Case: Sendable {
        var total: Int64
        var unreached: [Int64]
        var expected: [Int64]
    }

    static let cases = [
        Case(total: 99, unreached: [100, 1000], expected: []),
        Case(total: 100, unreached: [100, 1000], expected: [100]),
        Case(total: 101, unreached: [100, 1000], expected: [100]),
        Case(total: 240, unreached: [100, 1000], expected: [100]),
        Case(total: 1200, unreached: [1000, 100], expected: [100, 1000]),
        Case(total: 10_000, unreached: [100, 1000, 10_000], expected: [100, 1000, 10_000]),
        Case(total: 130, unreached: [1000], expected: []),
    ]

    @Test("THR-06, THR-09, THR-10, THR-11: inclusive, lowest first, only what was not reached before", arguments: cases)
    func reached(_ example: Case) {
        #expect(ThresholdRule.reached(total: example.total, unreached: example.unreached) == example.expected)
    }

    @Test("CFG-05: a good list is sorted on save")
    func sorted() throws {
        #expect(try ThresholdRule.validated([5000, 50, 500, 50_000]) == [50, 500, 5000, 50_000])
    }

    struct Refusal: Sendable {
        var list: JSONValue
        var pointer: String
        var code: String
    }

    static let refusals = [
        Refusal(list: "100", pointer: "/thresholds", code: "wrong_type"),
        Refusal(list: [], pointer: "/thresholds", code: "wrong_count"),
        Refusal(list: [100, 0], pointer: "/thresholds/1", code: "not_positive"),
        Refusal(list: [100, -5], pointer: "/thresholds/1", code: "not_positive"),
        Refusal(list: [.number(1.5)], pointer: "/thresholds/0", code: "not_positive"),
        Refusal(list: [100, 200, 100], pointer: "/thresholds/2", code: "repeated"),
        Refusal(list: .array(Array(repeating: 1, count: 33)), pointer: "/thresholds", code: "wrong_count"),
    ]

    @Test("CFG-05: a bad list is refused with the field and the reason", arguments: refusals)
    func refused(_ example: Refusal) {
        let error = #expect(throws: SettingError.self) { try ThresholdRule.validated(example.list) }
        #expect(error?.pointer == example.pointer)
        #expect(error?.code == example.code)
    }
}
