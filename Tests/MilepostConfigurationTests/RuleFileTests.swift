// SPDX-License-Identifier: Apache-2.0

import MilepostConfiguration
import MilepostModel
import Testing

@Suite("Files with rolling rules")
struct RuleFileTests {
    private static let text = """
        rules:
          - id: collateral-to-qualified        # id optional: derived from the name
            name: Collateral engagement moves the deal on
            trigger: { link_tag: sales-collateral, contact_window: 30d rolling, click_threshold: 50 }
            action: { type: hubspot.deal_stage, pipeline: default, from_stage: a, to_stage: b }
            guard:
              require_associated_contact: true
              deal_amount_min: 4999.50
        """

    @Test("RULE-01: the file becomes the JSON that REST takes; an amount keeps its digits, an odd id its zeros")
    func reading() throws {
        let file = try RuleFile(Array(Self.text.utf8), file: "rules.yaml")
        let rule = try #require(file.document["rules"]?.array?.first)
        #expect(rule["trigger"]?["click_threshold"] == 50)
        #expect(rule["trigger"]?["contact_window"] == "30d rolling")
        #expect(rule["guard"]?["require_associated_contact"] == true)
        #expect(rule["guard"]?["deal_amount_min"] == "4999.50")
        let odd = try RuleFile(Array("{ link: 007, tag: \"5\", none: ~, day: 12 }".utf8), file: "x")
        #expect(odd.document == ["link": "007", "tag": "5", "none": .null, "day": 12])
    }

    @Test("Every pointer has its line, one into a value that is not there that of what is around it")
    func places() throws {
        let file = try RuleFile(Array(Self.text.utf8), file: "rules.yaml")
        #expect(file.place(of: "/rules/0/trigger/click_threshold") == "rules.yaml:4")
        #expect(file.place(of: "/rules/0/action/to_stage") == "rules.yaml:5")
        #expect(file.place(of: "/rules/0/guard/deal_amount_min") == "rules.yaml:8")
        #expect(file.place(of: "/rules/0/guard/other") == "rules.yaml:6")
        #expect(file.place(of: "/rules/0/id") == "rules.yaml:2")
        #expect(file.place(of: "/nothing/here").hasPrefix("rules.yaml"))
    }

    @Test("What is no YAML is refused with file and line")
    func refusing() {
        let error = #expect(throws: ConfigurationError.self) {
            try RuleFile(Array("rules:\n  - name: [\n".utf8), file: "rules.yaml")
        }
        #expect(error?.description.contains("rules.yaml") == true)
    }
}
