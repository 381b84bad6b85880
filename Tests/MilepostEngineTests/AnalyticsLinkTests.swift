// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostRules
import MilepostStore
import Testing

@Suite("The link in a note")
struct AnalyticsLinkTests {
    /// What the payload of a crossing in folder `Q2 / spring` names.
    private static func link(_ template: String?, _ aggregation: ThresholdPolicy.Aggregation) async throws -> JSONValue?
    {
        let world = try await World()
        try await world.connect(ThresholdPolicy(thresholds: [1], aggregation: aggregation))
        var change = LinkChange()
        change.folder = "Q2 / spring"
        _ = try await world.store.changeLink("lnk&1", workspace: world.workspace, change: change, at: world.clock.now)
        try await world.click("lnk&1", 1)
        let connection = try #require(try await world.store.connection(id: world.connection))
        let workspace = try #require(try await world.store.workspace(world.workspace))
        let evaluator = Evaluator(
            store: world.store, clock: world.clock, random: SeededRandom(seed: 1), plans: PlanMatrix(),
            analyticsURLTemplate: template)
        _ = try await evaluator.evaluate(connection, workspace: workspace, action: "deal")
        let link = try await world.deliveries().first?.payload["analytics_url"]
        await world.end()
        return link
    }

    @Test("DEAL-04: the template's parts are filled in and encoded; without a template there is no link")
    func filled() async throws {
        let template = "https://a.example/{workspace}/{scope}?link={link}&folder={folder}"
        #expect(
            try await Self.link(template, .link)
                == "https://a.example/acme/lnk%261?link=lnk%261&folder=Q2%20%2F%20spring")
        #expect(try await Self.link("https://a.example/{folder}", .folder) == "https://a.example/Q2%20%2F%20spring")
        #expect(try await Self.link(nil, .link) == .null)
    }

    @Test("DEAL-04: a template that names a link gives a folder's note none, because it would lead nowhere")
    func missingPart() async throws {
        #expect(try await Self.link("https://a.example/{link}", .folder) == .null)
        #expect(try await Self.link("https://a.example/{scope}", .folder) == "https://a.example/Q2%20%2F%20spring")
    }
}
