// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostRules
import MilepostStore
import Testing

@Suite("A tick's cost grows with what changed")
struct ChangedLinksTests {
    @Test("THR-04, THR-05, invariant 10: among 50,000 links a tick examines the 40 that changed, and then none")
    func examinesWhatChanged() async throws {
        let world = try await World()
        try await world.connect(ThresholdPolicy(thresholds: [2]))
        let links = (0..<50_000).map { LinkID("l\($0)") }
        try await world.clickEach(links, round: 0)
        #expect(try await world.tick().linksExamined == 50_000)
        try await world.clickEach((0..<40).map { links[$0 * 1249] }, round: 1)
        let report = try await world.tick()
        #expect(report.linksExamined == 40)
        #expect(report.crossings == 40)
        try await world.clickEach((0..<40).map { links[$0 * 1249] }, round: 2)
        let again = try await world.tick()
        #expect(again.linksExamined == 40 && again.crossings == 0, "what was reached once is not looked at again")
        #expect(try await world.tick().linksExamined == 0)
        await world.end()
    }
}

extension World {
    /// One click on each of the links.
    fileprivate func clickEach(_ links: [LinkID], round: Int) async throws {
        for start in stride(from: 0, to: links.count, by: 5000) {
            let page = links[start..<min(start + 5000, links.count)]
            let clicks = page.map { link -> IdentifiedClick in
                var identity = Array("\(round)-\(link)".utf8)
                identity += Array(repeating: 0, count: 16 - identity.count)
                return IdentifiedClick(
                    click: Click(id: EventID("\(round)-\(link)"), link: link, time: clock.now), identity: identity)
            }
            _ = try await store.append(clicks, workspace: workspace, receivedAt: clock.now)
        }
    }
}
