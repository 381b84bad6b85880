// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostRules
import MilepostStore
import Testing

@Suite("Making, checking and explaining rolling rules")
struct RuleServiceTests {
    /// The errors of a refused document.
    private func refusal(_ world: RulesWorld, _ document: JSONValue) async -> [SettingError] {
        do {
            _ = try await world.rules.service.create(document, workspace: world.workspace)
            return []
        } catch let error as EngineError {
            return error.errors
        } catch {
            return [SettingError(pointer: "", code: "other", message: "\(error)")]
        }
    }

    private static func stages(_ from: String, _ to: String, pipeline: String = "default") -> [String: JSONValue] {
        [
            "action": [
                "type": "hubspot.move_deal", "pipeline": .string(pipeline), "from_stage": .string(from),
                "to_stage": .string(to),
            ]
        ]
    }

    @Test("RULE-21: an unknown pipeline or stage is refused at save with its field and the nearest one")
    func unknownStage() async throws {
        let world = try await RulesWorld()
        let typo = await refusal(
            world, [RulesWorld.document("r", more: Self.stages("appointmentscheduled", "qualifiedtobui"))])
        #expect(typo.map(\.pointer) == ["/0/action/to_stage"])
        #expect(typo.first?.message.contains("did you mean qualifiedtobuy") == true)
        let pipeline = await refusal(world, RulesWorld.document("r", more: Self.stages("a", "b", pipeline: "defalt")))
        #expect(pipeline.map(\.pointer) == ["/action/pipeline"])
        #expect(try await world.store.rules(workspace: world.workspace).isEmpty)
        await world.end()
    }

    @Test("RULE-09: a rule that would move deals back is refused unless forced")
    func movesBack() async throws {
        let world = try await RulesWorld()
        let back = Self.stages("closedwon", "qualifiedtobuy")
        #expect(await refusal(world, ["rules": [RulesWorld.document("r", more: back)]]).map(\.code) == ["moves_back"])
        #expect(await refusal(world, RulesWorld.document("r", more: back.merging(["force": true]) { $1 })).isEmpty)
        await world.end()
    }

    @Test("RULE-21: a stage that is deleted later raises a warning on the rule, which goes when the stage is back")
    func deletedLater() async throws {
        let world = try await RulesWorld()
        try await world.make(RulesWorld.document("r"))
        world.crm.set(stages: ["appointmentscheduled", "closedwon"])
        await world.rules.service.recheck()
        func codes() async throws -> [String] {
            try await world.store.rule("r", workspace: world.workspace)?.warnings.map(\.code) ?? []
        }
        #expect(try await codes() == ["little_history"])
        world.clock.advance(by: .seconds(86_400))
        await world.rules.service.recheck()
        #expect(try await codes() == ["little_history", "rule_unknown_value"])
        world.crm.set(stages: ["appointmentscheduled", "qualifiedtobuy"])
        world.clock.advance(by: .seconds(86_400))
        await world.rules.service.recheck()
        #expect(try await codes() == ["little_history"])
        await world.end()
    }

    @Test("RULE-18: rules on little history and on cold outreach are saved with a warning")
    func warnings() async throws {
        let world = try await RulesWorld()
        let made = try await world.make(RulesWorld.document("r", tag: "cold-outreach"))
        #expect(made.first?.warnings.map(\.code) == ["little_history", "cold_outreach_tag"])
        try await world.click(at: world.clock.now - .seconds(20 * 86_400))
        let later = try await world.make(RulesWorld.document("s"))
        #expect(later.first?.warnings.isEmpty == true)
        await world.end()
    }

    @Test(
        "RULE-03: rules are made, read, replaced and removed; an id that is taken and an unknown integration are refused"
    )
    func crud() async throws {
        let world = try await RulesWorld()
        try await world.make(RulesWorld.document("r"))
        await #expect(throws: EngineError.self) { try await world.make(RulesWorld.document("r")) }
        let (changed, isNew) = try await world.rules.service.put(
            RulesWorld.document("r", threshold: 7), id: "r", workspace: world.workspace)
        #expect(!isNew)
        #expect(changed.document["trigger"]?["click_threshold"] == 7)
        await #expect(throws: EngineError.self) {
            try await world.rules.service.put(RulesWorld.document("r"), id: "other", workspace: world.workspace)
        }
        let unknown = await refusal(
            world,
            RulesWorld.document(
                "x", more: ["action": ["type": "pipedrive.deal_stage", "from_stage": "a", "to_stage": "b"]]))
        #expect(unknown.map(\.code) == ["not_connected"])
        let action = await refusal(
            world,
            RulesWorld.document("x", more: ["action": ["type": "hubspot.email", "from_stage": "a", "to_stage": "b"]]))
        #expect(action.map(\.pointer) == ["/action/type"])
        try await world.rules.service.remove("r", workspace: world.workspace)
        await #expect(throws: EngineError.self) {
            try await world.rules.service.remove("r", workspace: world.workspace)
        }
        await world.end()
    }

    @Test("Decisions 32: rules from a file are managed: REST changes are refused, and what leaves the file is removed")
    func managed() async throws {
        let world = try await RulesWorld()
        let document: JSONValue = ["rules": [RulesWorld.document("a"), RulesWorld.document("b")]]
        _ = try await world.rules.service.applyManaged(document, workspace: world.workspace)
        for attempt in 0..<2 {
            do {
                if attempt == 0 {
                    try await world.rules.service.remove("a", workspace: world.workspace)
                } else {
                    _ = try await world.rules.service.put(
                        RulesWorld.document("a"), id: "a", workspace: world.workspace)
                }
                Issue.record("a managed rule was changed")
            } catch let error as EngineError {
                #expect(error.code == .managed)
            }
        }
        let number = try await world.store.rule("b", workspace: world.workspace)?.number
        _ = try await world.rules.service.applyManaged(
            ["rules": [RulesWorld.document("b")]], workspace: world.workspace)
        let left = try await world.store.rules(workspace: world.workspace)
        #expect(left.map(\.id) == ["b"])
        #expect(left.first?.number == number)
        _ = try await world.rules.service.applyManaged(["rules": []], workspace: world.workspace)
        #expect(try await world.store.rules(workspace: world.workspace).isEmpty)
        await world.end()
    }

    @Test("RULE-20, EXT-16: a click says for every rule what it did, or why it did not count")
    func explainClick() async throws {
        let world = try await RulesWorld()
        try await world.tag("brochure", ["sales-collateral"])
        try await world.tag("test", ["sales-collateral"], flags: [.test])
        world.crm.set([.init(id: "9001"), .init(id: "9002", amount: "1")], of: "c1")
        try await world.make(
            RulesWorld.document("a", threshold: 1, minimum: 100), RulesWorld.document("b", threshold: 3),
            RulesWorld.document("c", tag: "other", threshold: 1))
        let click = try await world.click()
        let anonymous = try await world.click(by: nil)
        let machine = try await world.click(isBot: true)
        let excluded = try await world.click("test")
        try await world.catchUp()
        func lines(_ event: EventID) async throws -> [String] {
            try await world.rules.explainer.explain(event: event, workspace: world.workspace).map {
                "\($0.rule) \($0.outcome) \($0.reason.code)"
            }
        }
        #expect(try await lines(click) == ["a fired fired", "b not_reached not_reached", "c not_counted other_link"])
        #expect(try await lines(anonymous)[1] == "b not_counted anonymous")
        #expect(try await lines(machine)[1] == "b not_counted bot")
        #expect(try await lines(excluded)[1] == "b not_counted excluded_test")
        let fired = try await world.rules.explainer.explain(event: click, workspace: world.workspace)[0]
        #expect(fired.reason.message.contains("9001") && fired.reason.message.contains("is worth 1"))
        await #expect(throws: EngineError.self) {
            try await world.rules.explainer.explain(event: "never", workspace: world.workspace)
        }
        await world.end()
    }

    @Test("EXT-16: a contact and a rule say counts, missing clicks and what fired")
    func explainContact() async throws {
        let world = try await RulesWorld()
        try await world.tag("brochure", ["sales-collateral"])
        try await world.make(RulesWorld.document("a", threshold: 5), RulesWorld.document("b", threshold: 2))
        try await world.click(times: 3)
        try await world.click(by: "c2")
        try await world.catchUp()
        let lines = try await world.rules.explainer.explain(contact: "c1", workspace: world.workspace)
        #expect(lines.map(\.missing) == [2, 0])
        #expect(lines.map(\.outcome) == ["not_reached", "not_fired"])
        #expect(lines[1].reason.code == "no_deal")
        let rule = try await world.rules.service.get("a", workspace: world.workspace)
        let about = try await world.rules.explainer.explain(rule)
        #expect(about.lines.map(\.contact) == ["c1", "c2"])
        #expect(about.lines.map(\.count) == [3, 1])
        await world.end()
    }
}
