// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostRules
import Testing

@Suite("Campaigns, exclusions and plans")
struct CampaignRuleTests {
    @Test("the destination's own campaign wins over what most clicks carried")
    func destinationWins() {
        let frequent = UTM(source: "newsletter")
        let own = CampaignRule.campaign(
            destination: "https://example.test/?a=1&utm_source=ads&utm_campaign=spring+sale%21#utm_medium=no",
            mostFrequent: frequent)
        #expect(own == UTM(source: "ads", campaign: "spring sale!"))
        #expect(
            CampaignRule.campaign(destination: "https://example.test/?utm_source=", mostFrequent: frequent) == frequent)
        #expect(CampaignRule.campaign(destination: nil, mostFrequent: nil).hasNoTriple)
    }

    @Test("broken escapes and invalid UTF-8 leave a part out instead of breaking the rest")
    func brokenEscapes() {
        let utm = CampaignRule.campaign(
            inURL: "https://e.test/?utm_source=%zz&utm_medium=%ff&utm_campaign=ok&utm_campaign=late")
        #expect(utm == UTM(campaign: "ok"))
    }

    @Test("EXC-01, EXC-02, EXC-03: test links, internal links and links of members who opted out fire nothing")
    func exclusions() {
        var link = Link(workspace: "w", id: "l", owner: "ada")
        #expect(ExclusionRule.reason(for: link, optedOutMembers: []) == nil)
        #expect(ExclusionRule.reason(for: link, optedOutMembers: ["ada"])?.code == "excluded_opt_out")
        link.flags = [.internal]
        #expect(ExclusionRule.reason(for: link, optedOutMembers: [])?.code == "excluded_internal")
        link.flags = [.test]
        #expect(ExclusionRule.reason(for: link, optedOutMembers: [])?.code == "excluded_test")
    }

    @Test("PLAN-01 to PLAN-05: a matrix gates by plan, plugin and trial; no matrix gates nothing")
    func plans() {
        let created = Timestamp(rfc3339: "2026-01-01T00:00:00Z")!
        func obstacle(_ plan: String?, day: Int64, _ matrix: PlanMatrix) -> String? {
            matrix.obstacle(
                workspace: Workspace(id: "w", plan: plan, createdAt: created), plugin: "pipedrive",
                now: created + .seconds(day * 86_400 + 3600))?.code
        }
        let matrix = PlanMatrix(plans: [
            "free": .init(fires: false), "trial": .init(trialDays: 14), "team": .init(integrations: ["pipedrive"]),
            "starter": .init(integrations: ["custom-hook"]),
        ])
        #expect(obstacle(nil, day: 0, PlanMatrix()) == nil)
        #expect(obstacle("free", day: 0, matrix) == "plan_does_not_fire")
        #expect(obstacle("trial", day: 13, matrix) == nil)
        #expect(obstacle("trial", day: 15, matrix) == "trial_over")
        #expect(obstacle("team", day: 400, matrix) == nil)
        #expect(obstacle("starter", day: 0, matrix) == "plan_lacks_integration")
        #expect(obstacle("gold", day: 0, matrix) == "plan_unknown")
    }
}
