// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostStore
import Testing

@Suite("Who clicked (section N)")
struct ContactResolverTests {
    private static let day: Int64 = 86_400

    private func form(
        _ id: String, at: Timestamp, contact: String? = nil, email: String? = nil, gclid: String? = nil,
        fbclid: String? = nil
    ) -> FormSubmission {
        FormSubmission(
            id: EventID(id), time: at, contactID: contact, email: email, googleClickID: gclid, facebookClickID: fbclid)
    }

    private func click(contact: String? = nil, gclid: String? = nil, fbclid: String? = nil, at: Timestamp) -> Click {
        Click(
            id: "c", link: "l", time: at, contactID: contact, googleClickID: gclid, facebookClickID: fbclid)
    }

    private func with(
        window: Duration = .seconds(14 * 86_400), _ body: (World, ContactResolver) async throws -> Void
    ) async throws {
        let world = try await World()
        _ = try await world.store.ensureWorkspace(world.workspace, at: world.clock.now)
        try await body(world, ContactResolver(store: world.store, arrivals: world.store.arrivals, window: window))
        await world.end()
    }

    private func store(_ forms: [FormSubmission], in world: World) async throws {
        _ = try await world.store.appendForms(forms, workspace: world.workspace, receivedAt: world.clock.now)
    }

    @Test("the contact id on the click wins over any form (RES-01)")
    func contactID() async throws {
        try await with { world, resolver in
            let now = world.clock.now
            try await store([form("f", at: now, contact: "2", gclid: "G")], in: world)
            let match = try await resolver.resolve(
                click(contact: "1", gclid: "G", at: now), workspace: world.workspace)
            #expect(match == ContactMatch(id: "1", email: nil, via: .click))
        }
    }

    @Test("a form matches at day 13.9 and not at day 14.1; the latest of several wins (RES-02)")
    func window() async throws {
        try await with { world, resolver in
            let now = world.clock.now
            try await store(
                [
                    form("old", at: now - .seconds(Self.day * 139 / 10), email: "old@example.org", gclid: "G1"),
                    form("older", at: now - .seconds(Self.day * 141 / 10), email: "x@example.org", gclid: "G2"),
                    form("one", at: now - .seconds(500), email: "one@example.org", fbclid: "F"),
                    form("two", at: now - .seconds(100), contact: "9", email: "two@example.org", fbclid: "F"),
                    form("nobody", at: now - .seconds(50), fbclid: "F"),
                    form("other", at: now - .seconds(300), email: "three@example.org", gclid: "G3"),
                ], in: world)
            func email(_ click: Click) async throws -> String? {
                try await resolver.resolve(click, workspace: world.workspace)?.email
            }
            #expect(try await email(click(gclid: "G1", at: now)) == "old@example.org")
            #expect(try await email(click(gclid: "G2", at: now)) == nil)
            let latest = try await resolver.resolve(click(fbclid: "F", at: now), workspace: world.workspace)
            #expect(latest == ContactMatch(id: "9", email: "two@example.org", via: .form))
            #expect(try await email(click(gclid: "G3", fbclid: "F", at: now)) == "two@example.org")
            #expect(try await resolver.resolve(click(gclid: "G3", at: now), workspace: "elsewhere") == nil)
            #expect(try await resolver.resolve(click(at: now), workspace: world.workspace) == nil)
        }
    }

    @Test("the window is a setting (RES-06)")
    func windowSetting() async throws {
        try await with(window: .seconds(60)) { world, resolver in
            let now = world.clock.now
            try await store([form("f", at: now - .seconds(61), email: "a@example.org", gclid: "G")], in: world)
            #expect(try await resolver.resolve(click(gclid: "G", at: now), workspace: world.workspace) == nil)
            let earlier = click(gclid: "G", at: now - .seconds(1))
            #expect(try await resolver.resolve(earlier, workspace: world.workspace)?.email == "a@example.org")
        }
    }

    @Test("a form that arrives later is seen by the next click, whether one was known or none (RES-09)")
    func invalidation() async throws {
        try await with { world, resolver in
            let now = world.clock.now
            func id() async throws -> String? {
                try await resolver.resolve(click(gclid: "G", at: now), workspace: world.workspace)?.id
            }
            #expect(try await id() == nil)
            try await store([form("f1", at: now - .seconds(9), contact: "1", gclid: "G")], in: world)
            #expect(try await id() == "1")
            try await store([form("f2", at: now - .seconds(5), contact: "2", gclid: "G")], in: world)
            #expect(try await id() == "2")
            _ = try await world.store.eraseContact(workspace: world.workspace, contact: "2")
            #expect(try await id() == "1", "an erased contact is not remembered")
        }
    }
}
