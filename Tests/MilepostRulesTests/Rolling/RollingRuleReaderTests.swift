// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostRules
import Testing

@Suite("Documents with rolling rules")
struct RollingRuleReaderTests {
    private static let example: JSONValue = [
        "name": "Collateral engagement moves the deal on",
        "trigger": ["link_tag": "sales-collateral", "contact_window": "30d rolling", "click_threshold": 50],
        "action": [
            "type": "hubspot.deal_stage", "pipeline": "default", "from_stage": "appointmentscheduled",
            "to_stage": "qualifiedtobuy",
        ],
        "guard": ["require_associated_contact": true, "deal_amount_min": 5000],
    ]

    @Test("RULE-01, RULE-02: the example is read as it is written, alone, in a list and under rules")
    func example() throws {
        for document in [Self.example, [Self.example], ["rules": [Self.example]]] as [JSONValue] {
            let result = RollingRuleReader.read(document)
            #expect(result.errors.isEmpty)
            let rule = try #require(result.rules.first)
            #expect(rule.id == "collateral-engagement-moves-the-deal-on")
            #expect(rule.trigger == .init(scope: .tag("sales-collateral"), window: 30 * day, threshold: 50))
            #expect(rule.integration == IntegrationName(plugin: "hubspot"))
            #expect(rule.action.type == "deal_stage")
            #expect(rule.guards.minimumAmount == DecimalAmount("5000.00"))
            #expect(rule.guards.requiresContact)
            #expect((rule.mode, rule.rearm, rule.deals) == (.act, .onRecross, .all))
            #expect(rule.audience == .people)
        }
    }

    @Test("A rule's own document reads back to the same rule")
    func roundTrip() throws {
        var document = try #require(Self.example.object)
        document["mode"] = "observe"
        document["deals"] = "largest"
        document["rearm"] = "once"
        document["count"] = "all"
        document["force"] = true
        document["trigger"] = ["link": "abc", "contact_window": "36h", "click_threshold": 3]
        let rule = try #require(RollingRuleReader.read(.object(document)).rules.first)
        #expect(RollingRuleReader.read(rule.json).rules == [rule])
    }

    @Test("RULE-10: a link is named by link or link_id, and the integration by a key of its own")
    func scopes() throws {
        var document = try #require(Self.example.object)
        document["integration"] = "hubspot@eu"
        document["action"] = ["type": "deal_stage", "pipeline": 7, "from_stage": 11, "to_stage": 12]
        document["trigger"] = ["link_id": "proposal-1", "contact_window": "72h", "click_threshold": 3]
        let rule = try #require(RollingRuleReader.read(.object(document)).rules.first)
        #expect(rule.trigger.scope == .link("proposal-1"))
        #expect(rule.integration.description == "hubspot@eu")
        #expect(rule.action == .init(type: "deal_stage", pipeline: "7", fromStage: "11", toStage: "12"))
        let outer: JSONValue = [
            "integration": "hubspot", "rules": [.object(document.merging(["integration": .null]) { $1 })],
        ]
        #expect(RollingRuleReader.read(outer).errors.isEmpty, "\(RollingRuleReader.read(outer).errors)")
        #expect(RollingRuleReader.read(outer).rules.first?.integration.description == "hubspot")
    }

    /// What is changed in the example, and the pointer and words of the error that follows.
    private static let mistakes:
        [(change: @Sendable (inout [String: JSONValue]) -> Void, pointer: String, words: String)] = [
            ({ $0["triger"] = 1 }, "/triger", "did you mean trigger?"),
            (
                { $0["trigger"] = ["link_tagg": "a", "contact_window": "1d", "click_threshold": 1] },
                "/trigger/link_tagg", "link_tag?"
            ),
            ({ $0["trigger"] = ["contact_window": "1d", "click_threshold": 1] }, "/trigger", "neither"),
            (
                { $0["trigger"] = ["link": "a", "link_tag": "b", "contact_window": "1d", "click_threshold": 1] },
                "/trigger", "not both"
            ),
            (
                { $0["trigger"] = ["link": "a", "contact_window": "30", "click_threshold": 1] },
                "/trigger/contact_window", "30d rolling"
            ),
            (
                { $0["trigger"] = ["link": "a", "contact_window": "500d", "click_threshold": 1] },
                "/trigger/contact_window", "400d"
            ),
            (
                { $0["trigger"] = ["link": "a", "contact_window": "1d", "click_threshold": 0] },
                "/trigger/click_threshold", "from 1 to"
            ),
            (
                { $0["trigger"] = ["link": "a", "contact_window": "1d", "click_threshold": .number(1.5)] },
                "/trigger/click_threshold", "whole"
            ),
            ({ $0["trigger"] = nil }, "/trigger", "missing"),
            (
                { $0["action"] = ["type": "deal_stage", "from_stage": "a", "to_stage": "b"] }, "/action/type",
                "no integration"
            ),
            (
                { $0["action"] = ["type": "hubspot.deal_stage", "from_stage": "a", "to_stage": "a"] },
                "/action/to_stage", "nothing"
            ),
            ({ $0["action"] = ["type": "hubspot.deal_stage", "to_stage": "a"] }, "/action/from_stage", "missing"),
            ({ $0["guard"] = ["deal_amount_min": "much"] }, "/guard/deal_amount_min", "no amount"),
            ({ $0["guard"] = ["deal_amount_min": -1] }, "/guard/deal_amount_min", "no amount"),
            ({ $0["guard"] = ["deal_amount_minimum": 1] }, "/guard/deal_amount_minimum", "deal_amount_min?"),
            ({ $0["mode"] = "obsrve" }, "/mode", "did you mean observe?"),
            ({ $0["deals"] = "oldest" }, "/deals", "newest"),
            ({ $0["id"] = "No Id" }, "/id", "lower-case"),
            ({ $0["id"] = "simulate" }, "/id", "paths"),
            ({ $0["name"] = "★" }, "/id", "write one"),
            ({ $0["force"] = "yes" }, "/force", "true or false"),
        ]

    @Test(
        "What is wrong is named by field and reason, an unknown key with the nearest known one",
        arguments: 0..<21)
    func mistake(index: Int) throws {
        let mistake = Self.mistakes[index]
        var document = try #require(Self.example.object)
        mistake.change(&document)
        let result = RollingRuleReader.read(["rules": [.object(document)]])
        let error = try #require(result.errors.first { $0.pointer == "/rules/0" + mistake.pointer })
        #expect(error.message.contains(mistake.words), "\(error.message)")
        #expect(result.rules.isEmpty)
    }

    @Test("Two rules with one id are refused, and so is a document without any")
    func repeated() {
        let twice = RollingRuleReader.read([Self.example, Self.example])
        #expect(twice.errors.map(\.pointer) == ["/1/id"])
        #expect(RollingRuleReader.read(["rules": []]).errors.map(\.code) == ["missing"])
        #expect(RollingRuleReader.read("rule").errors.map(\.code) == ["wrong_type"])
    }

    @Test("Any JSON is either a rule or refused, and never more", arguments: 0..<40)
    func hostileDocuments(seed: Int) {
        var random = Seeded(state: UInt64(seed))
        for _ in 0..<50 {
            let value = Self.anything(3, &random)
            let result = RollingRuleReader.read(value)
            #expect(result.rules.isEmpty || result.errors.isEmpty || result.rules.count < RollingRule.maximumCount)
            for rule in result.rules { #expect(RollingRuleReader.read(rule.json).rules == [rule]) }
        }
    }

    private static let words = [
        "rules", "trigger", "link", "link_tag", "contact_window", "click_threshold", "action", "type", "from_stage",
        "to_stage", "guard", "deal_amount_min", "id", "name", "30d", "hubspot.deal_stage", "", "\u{0}", "🙂",
    ]

    private static func anything(_ depth: Int, _ random: inout Seeded) -> JSONValue {
        switch Int.random(in: 0..<(depth > 0 ? 9 : 6), using: &random) {
        case 0: .null
        case 1: .bool(true)
        case 2: .integer(Int64.random(in: -3...9_000_000_000, using: &random))
        case 3: .number(Double.random(in: -1e18...1e18, using: &random))
        case 4, 5: .string(words.randomElement(using: &random) ?? "")
        case 6: .array((0..<3).map { _ in anything(depth - 1, &random) })
        default:
            .object(
                Dictionary(
                    (0..<5).map { _ in (words.randomElement(using: &random) ?? "", anything(depth - 1, &random)) },
                    uniquingKeysWith: { $1 }))
        }
    }
}
