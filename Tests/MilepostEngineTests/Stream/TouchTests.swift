// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostStore
import Testing

@Suite("Queued clicks of one contact become one record")
struct TouchTests {
    /// What the vendor has on a contact after all records, as a plugin would write them.
    private func written(_ world: StreamWorld, _ contact: String) -> [String: String] {
        var values: [String: String] = [:]
        for record in world.vendor.records("touch") where record["contact"]?["id"]?.string == contact {
            for (name, value) in record["utm"]?.object ?? [:] {
                if let text = value.string { values[name] = text }
            }
        }
        return values
    }

    @Test("a hundred queued clicks are few records, and the last by click time is what stays (PROP-12, PROP-02)")
    func coalesced() async throws {
        let world = try await StreamWorld()
        for number in 0..<100 {
            try await world.click(
                contact: "1", utm: UTM(source: "s\(number)"), at: world.clock.now - .seconds(number == 40 ? 0 : 100))
        }
        try await world.settle()
        let records = world.vendor.records("touch")
        #expect(records.count == 1)
        #expect(records[0]["clicks"]?.integer == 100)
        #expect(records[0]["last_click"]?.string == "e41")
        #expect(records[0]["at"]?.string == world.clock.now.description)
        #expect(written(world, "1") == ["source": "s40"])
        #expect(world.vendor.records("timeline").count == 100)
        await world.end()
    }

    @Test("two clicks over two days give two events and the last values (PROP-03, ACC-04)")
    func workedExample() async throws {
        let world = try await StreamWorld()
        try await world.click(contact: "1", utm: UTM(source: "news", medium: "email", campaign: "q1"))
        try await world.settle(for: .seconds(86_400))
        try await world.click(contact: "1", utm: UTM(source: "webinar", medium: "email", campaign: "q2-pricing"))
        try await world.settle()
        #expect(world.vendor.records("timeline").count == 2)
        #expect(written(world, "1") == ["source": "webinar", "medium": "email", "campaign": "q2-pricing"])
        await world.end()
    }

    @Test("an older click that comes late overwrites nothing newer, not after a restart either (PROP-08)")
    func late() async throws {
        let world = try await StreamWorld()
        let now = world.clock.now
        try await world.click(contact: "1", utm: UTM(source: "new", campaign: "new"), at: now)
        try await world.settle()
        try await world.restart()
        try await world.click(contact: "1", utm: UTM(source: "old", medium: "old"), at: now - .seconds(60))
        try await world.click(contact: "1", utm: UTM(source: "older"), at: now - .seconds(120))
        try await world.settle()
        #expect(written(world, "1") == ["source": "new", "campaign": "new", "medium": "old"])
        #expect(world.vendor.records("touch").last?["utm"]?["source"] == .null)
        #expect(try await world.count("delivered", action: "touch") == 3)
        try await world.click(contact: "1", utm: UTM(source: "older"), at: now - .seconds(90))
        try await world.settle()
        #expect(try await world.count("unchanged", action: "touch") == 1, "nothing to write makes no record")
        await world.end()
    }

    @Test("empty values wipe nothing (PROP-13)")
    func empty() async throws {
        let world = try await StreamWorld()
        try await world.click(contact: "1", utm: UTM(source: "a", medium: "b", campaign: "c"))
        try await world.settle()
        world.clock.advance(by: .seconds(10))
        try await world.click(contact: "1")
        try await world.click(contact: "1", utm: UTM(source: "z"))
        try await world.settle()
        #expect(written(world, "1") == ["source": "z", "medium": "b", "campaign": "c"])
        await world.end()
    }

    @Test("a touch that failed and is tried again later does not undo what a newer click wrote meanwhile (PROP-08)")
    func retriedTouch() async throws {
        let world = try await StreamWorld()
        let now = world.clock.now
        world.vendor.answer {
            $0["kind"]?.string == "touch" ? .failing(.retry, "vendor_unavailable") : Verdict(kind: .ok)
        }
        try await world.click(contact: "1", utm: UTM(source: "first", medium: "first"), at: now)
        try await world.settle()
        #expect(try await world.deliveries([.retrying]).map(\.action) == ["touch"])
        world.vendor.answer { _ in Verdict(kind: .ok) }
        world.vendor.forget()
        try await world.click(contact: "1", utm: UTM(source: "second"), at: now + .seconds(1))
        try await world.settle()
        try await world.settle(for: .seconds(120))
        #expect(written(world, "1") == ["source": "second", "medium": "first"])
        let retried = try #require(world.vendor.records("touch").last)
        #expect(retried["utm"]?["source"] == .null)
        #expect(try await world.deliveries([.delivered]).count == 1)
        await world.end()
    }

    @Test("a touch of which nothing is left is dropped with its reason and never sent (PROP-08)")
    func superseded() async throws {
        let world = try await StreamWorld()
        let now = world.clock.now
        world.vendor.answer {
            $0["kind"]?.string == "touch" ? .failing(.rejected, "odd") : Verdict(kind: .ok)
        }
        try await world.click(contact: "1", utm: UTM(source: "first"), at: now)
        try await world.settle()
        world.vendor.answer { _ in Verdict(kind: .ok) }
        try await world.click(contact: "1", utm: UTM(source: "second"), at: now + .seconds(1))
        try await world.settle()
        world.vendor.forget()
        _ = try await world.store.replay(
            workspace: world.workspace, matching: DeliveryFilter(states: [.dead]), limit: 10, at: world.clock.now)
        try await world.settle()
        #expect(world.vendor.calls.isEmpty)
        #expect(try await world.deliveries().map(\.reason?.code) == ["superseded"])
        await world.end()
    }
}
