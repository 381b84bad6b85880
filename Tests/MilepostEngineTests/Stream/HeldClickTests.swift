// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostStore
import Testing

@Suite("Clicks that wait for their identity")
struct HeldClickTests {
    private static let hour: Duration = .seconds(3600)

    @Test("a match at hour 71 releases the click at once, with its own time (RES-03, RES-04, TL-08)")
    func released() async throws {
        let world = try await StreamWorld()
        let clicked = world.clock.now
        let id = try await world.click(gclid: "G")
        try await world.settle()
        #expect(world.vendor.calls.isEmpty)
        #expect(try await world.held().map(\.state) == [.held])
        #expect(try await world.explain(id) == ["held unmatched"])
        try await world.settle(for: Self.hour * 71)
        try await world.form(gclid: "other", contact: "1")
        try await world.settle()
        #expect(world.vendor.calls.isEmpty)
        try await world.form(gclid: "G", email: "ada@example.org")
        let before = world.clock.now
        try await world.settle()
        #expect(world.clock.now == before, "the form wakes, no timer")
        let record = try #require(world.vendor.records("timeline").first)
        #expect(record["click"]?["at"]?.string == clicked.description)
        #expect(record["contact"]?["email"]?.string == "ada@example.org")
        #expect(record["contact"]?["via"]?.string == "form")
        #expect(try await world.held().map(\.state) == [.released])
        #expect(try await world.count("released") == 1)
        #expect(try await world.explain(id).first == "timeline: delivered delivered")
        await world.end()
    }

    @Test("after 72 hours it leaves the queue, counted and listed, and no later form brings it back (RES-05)")
    func expired() async throws {
        let world = try await StreamWorld()
        let id = try await world.click(gclid: "G")
        let anonymous = try await world.click()
        try await world.settle(for: Self.hour * 73)
        #expect(try await world.held().map(\.state) == [.expired, .expired])
        #expect(try await world.count("expired") == 2)
        #expect(try await world.explain(id) == ["expired unmatched"])
        #expect(try await world.explain(anonymous) == ["expired unmatched"])
        try await world.form(gclid: "G", contact: "1")
        try await world.settle()
        #expect(world.vendor.calls.isEmpty)
        await world.end()
    }

    @Test("an identity that turned up while nothing could be sent, or before a restart, is not lost (RES-04, REA-05)")
    func releasedWhileWaiting() async throws {
        let world = try await StreamWorld()
        try await world.click(gclid: "G")
        try await world.click(gclid: "H")
        try await world.settle()
        _ = try await world.store.setState(
            id: world.connection, .needsReauth, reason: Reason(code: "x", message: "x"), at: world.clock.now)
        try await world.settle(for: Self.hour * 71)
        try await world.form(gclid: "G", contact: "1")
        try await world.settle(for: Self.hour * 2)
        #expect(try await world.held([.due]).count == 1)
        #expect(try await world.held([.expired]).count == 1)
        // This form arrives and the daemon dies before anybody looked.
        try await world.click(gclid: "K")
        _ = try await world.store.setState(id: world.connection, .active, reason: nil, at: world.clock.now)
        try await world.settle()
        try await world.form(gclid: "K", contact: "2")
        try await world.restart()
        try await world.settle()
        #expect(Set(world.vendor.records("timeline").compactMap { $0["contact"]?["id"]?.string }) == ["1", "2"])
        await world.end()
    }

    @Test("a contact that the vendor does not know is held and tried again, or a dead letter, by setting (RES-07)")
    func unknownContact() async throws {
        for policy in [StreamPolicy.UnknownContact.hold, .dead] {
            let world = try await StreamWorld(policy: StreamPolicy(unknownContact: policy))
            world.vendor.answer { _ in .failing(.rejected, "contact_unknown") }
            let id = try await world.click(contact: "404", utm: UTM(source: "a"))
            try await world.settle()
            if policy == .dead {
                #expect(try await world.deliveries([.dead]).count == 2)
                #expect(try await world.held().isEmpty)
            } else {
                #expect(try await world.deliveries().isEmpty)
                #expect(try await world.held().map(\.reason) == [.contactUnknown])
                #expect(try await world.explain(id) == ["held contact_unknown"])
                try await world.settle(for: Self.hour * 5)
                world.vendor.answer { _ in Verdict(kind: .ok) }
                world.vendor.forget()
                try await world.settle(for: Self.hour * 6)
                #expect(world.vendor.records("timeline").map { $0["contact"]?["id"]?.string } == ["404"])
                #expect(world.vendor.records("touch").count == 1)
                #expect(try await world.held().map(\.state) == [.released])
            }
            #expect(
                try await world.count("held") - world.count("released") - world.count("expired") == 0,
                "the gauge is right")
            await world.end()
        }
    }

    @Test("a click that met an outage first and an unknown contact then is held all the same (RES-07)")
    func unknownAfterRetry() async throws {
        let world = try await StreamWorld()
        world.vendor.answer {
            $0["kind"]?.string == "touch" ? .failing(.retry, "vendor_unavailable") : Verdict(kind: .ok)
        }
        let id = try await world.click(contact: "404", utm: UTM(source: "a"))
        try await world.settle()
        #expect(try await world.deliveries([.retrying]).count == 1)
        world.vendor.answer { _ in .failing(.rejected, "contact_unknown") }
        try await world.settle(for: .seconds(60))
        #expect(try await world.deliveries().isEmpty)
        #expect(try await world.held().map(\.reason) == [.contactUnknown])
        #expect(try await world.explain(id) == ["held contact_unknown"])
        world.vendor.answer { _ in Verdict(kind: .ok) }
        try await world.settle(for: Self.hour * 2)
        #expect(world.vendor.records("touch").last?["utm"]?["source"]?.string == "a")
        #expect(try await world.held().map(\.state) == [.released])
        await world.end()
    }

    @Test("a contact that stays unknown is tried a few times and then expires")
    func staysUnknown() async throws {
        let world = try await StreamWorld(actions: [ClickAction(name: "timeline", maximumBatch: 10)])
        world.vendor.answer { _ in .failing(.rejected, "contact_unknown") }
        try await world.click(contact: "404")
        try await world.settle(for: Self.hour * 80)
        #expect(try await world.held().map(\.state) == [.expired])
        #expect((4...9).contains(world.vendor.calls.count), "\(world.vendor.calls.count) calls")
        await world.end()
    }

    @Test("what is held of a contact is exported and erased with it (PRV-01, PRV-02)")
    func erasure() async throws {
        let world = try await StreamWorld()
        world.vendor.answer { _ in .failing(.rejected, "contact_unknown") }
        try await world.click(contact: "ada@example.org", utm: UTM(source: "a"))
        try await world.click(gclid: "GCLID-OF-ADA")
        try await world.click(gclid: "GCLID-OF-BOB")
        try await world.settle()
        #expect(try await world.held([.held]).count == 3)
        world.vendor.answer { $0["kind"]?.string == "click" ? .failing(.rejected, "broken") : Verdict(kind: .ok) }
        try await world.form(gclid: "GCLID-OF-ADA", contact: "ada@example.org")
        try await world.click(contact: "ada@example.org", utm: UTM(source: "b"))
        try await world.settle()
        #expect(try await world.deliveries([.dead]).count == 2)
        let touched = try await world.store.touches(connection: world.connection, contacts: ["ada@example.org"])
        #expect(touched.count == 1)
        let export = try await world.store.streamExport(workspace: world.workspace, contact: "ada@example.org")
        #expect(export.held.count == 2)
        #expect(export.deliveries.count == 2)
        #expect(export.touches.count == 1)

        let result = try await world.store.eraseContact(workspace: world.workspace, contact: "ada@example.org")
        #expect(result.held == 2)
        #expect(try await world.held().count == 1, "somebody else's stays")
        #expect(
            try await world.store.touches(connection: world.connection, contacts: ["ada@example.org"]).isEmpty)
        let clicks = try await world.store.clicks(after: .start, workspace: world.workspace, limit: 10)
        #expect(clicks.count == 4)
        #expect(clicks.compactMap(\.click.googleClickID) == ["GCLID-OF-BOB"])
        let text = try await world.deliveries().map(\.payload.description).joined()
        #expect(!text.contains("ada@example.org"))
        #expect(
            try await world.store.streamExport(workspace: world.workspace, contact: "ada@example.org").isEmpty)
        #expect(try await world.count("held") - world.count("released") - world.count("erased") == 1)
        await world.end()
    }

    @Test("retention takes ended holds and old touches, and keeps what still waits")
    func retention() async throws {
        let world = try await StreamWorld()
        try await world.click(gclid: "G")
        try await world.click(contact: "1", utm: UTM(source: "a"))
        try await world.settle(for: Self.hour * 73)
        try await world.click(gclid: "H")
        try await world.settle()
        let now = world.clock.now
        _ = try await world.store.enforceRetention(
            clicksBefore: now, dedupeBefore: now - Self.hour * 720, deliveriesBefore: now)
        #expect(try await world.held().map(\.state) == [.held])
        #expect(try await world.store.touches(connection: world.connection, contacts: ["1"]).isEmpty)
        #expect(try await world.count("expired") == 1, "counts stay")
        await world.end()
    }
}
