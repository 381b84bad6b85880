// SPDX-License-Identifier: Apache-2.0

import Foundation
import MilepostEngine
import MilepostModel
import MilepostRules
import MilepostStore
import Testing

/// A plugin that takes events where its connection's settings say so.
private struct Listener: PluginPort {
    func traits(of plugin: PluginName, action: String) -> ActionTraits? { ActionTraits(maximumBatch: 10) }
    func thresholdAction(of plugin: PluginName) -> String? { nil }
    func obstacle(for plugin: PluginName) -> Reason? { nil }
    func eventActions(of plugin: PluginName) -> [EventAction] {
        plugin == "hook"
            ? [EventAction(name: "event", topics: ["deal.stage_changed"], enabledBy: "listens", isOnByDefault: false)]
            : []
    }
    func deliver(_ claims: [ClaimedDelivery], on connection: Connection) async -> [Verdict] {
        claims.map { _ in Verdict(kind: .ok) }
    }
    func reconcile(_ claims: [ClaimedDelivery], on connection: Connection) async -> [Finding] { [] }
}

@Suite("Events of vendors that are handed in (HOOK-08)")
struct VendorEventTests {
    private let world: World
    private let service: VendorEventService

    init() async throws {
        world = try await World()
        try await world.connect()
        service = VendorEventService(store: world.store, plugins: Listener(), clock: world.clock)
        for (number, listens) in [true, true, false].enumerated() {
            _ = try await world.store.saveConnection(
                Connection(
                    id: ConnectionID("hook_\(number)"), workspace: world.workspace,
                    integration: IntegrationName(plugin: "hook", name: "n\(number)"), stateSince: world.clock.now,
                    settings: ["listens": .bool(listens)], connectedAt: world.clock.now),
                credentials: [], baseline: nil, at: world.clock.now)
        }
    }

    private static func draft(
        _ id: String?, stage: String = "12", at: String? = nil, person: String = "person-77"
    ) throws -> VendorEventDraft {
        var body: [String: JSONValue] = [
            "topic": "deal.stage_changed",
            "data": [
                "dealId": "42", "newStage": .string(stage), "personId": .string(person), "value": "9.90",
                "currency": "EUR",
            ],
        ]
        if let id { body["id"] = .string(id) }
        if let at { body["at"] = .string(at) }
        return try VendorEventReader.read(.object(body)).get()
    }

    private func take(_ draft: VendorEventDraft) async throws -> VendorEventService.Taken {
        try await service.take(draft, from: IntegrationName(plugin: "pipedrive"), workspace: world.workspace)
    }

    private func events(limit: Int = 50, cursor: String? = nil) async throws -> Page<VendorEvent> {
        try await world.store.vendorEvents(
            workspace: world.workspace, connection: world.connection, topic: nil, cursor: cursor, limit: limit)
    }

    @Test("HOOK-08: one delivery for each connection that asked for it, once, over repetitions and restarts")
    func once() async throws {
        let first = try await take(Self.draft("e1"))
        #expect(first.isNew && first.deliveries.map(\.connection.rawValue).sorted() == ["hook_0", "hook_1"])
        let again = try await take(Self.draft("e1"))
        #expect(!again.isNew && again.deliveries.isEmpty && again.event == first.event)
        #expect(try await world.deliveries().count == 2)
        let payload = try #require(first.deliveries.first?.payload)
        #expect(payload["data"]?["value"] == "9.90" && payload["event"]?["integration"] == "pipedrive")
        #expect(payload["key"]?.string?.count == 32)
        let made = try await world.store.deliveries(ofEvents: [first.event.id, "other"], workspace: world.workspace)
        #expect(made[first.event.id]?.count == 2 && made.count == 1)
        #expect(made[first.event.id]?.allSatisfy { $0.scope == Scope(kind: .event, id: first.event.id) } == true)
        await world.store.close()
        let store = try SQLiteStore.open(directory: world.directory, clock: world.clock)
        let reopened = VendorEventService(store: store, plugins: Listener(), clock: world.clock)
        let later = try await reopened.take(
            Self.draft("e1"), from: IntegrationName(plugin: "pipedrive"), workspace: world.workspace)
        #expect(!later.isNew && later.event == first.event)
        await store.close()
        await world.end()
    }

    @Test("HOOK-08: without an id the content decides; an id that is used for something else is a conflict")
    func identity() async throws {
        let first = try await take(Self.draft(nil, at: "2026-11-21T10:00:00Z"))
        #expect(try await take(Self.draft(nil, at: "2026-11-21T11:00:00+01:00")).event == first.event)
        #expect(try await take(Self.draft(nil, at: "2026-11-21T10:00:01Z")).isNew)
        #expect(try await take(Self.draft("e1")).isNew)
        await #expect { try await take(Self.draft("e1", stage: "13")) } throws: {
            ($0 as? EngineError)?.code == .conflict
        }
        #expect(try await events().items.count == 3)
        await world.end()
    }

    @Test("HOOK-08: newest first, page by page, and of one connection only")
    func paging() async throws {
        for number in 0..<7 { _ = try await take(Self.draft("e\(number)")) }
        var found: [VendorEvent] = []
        var cursor: String?
        repeat {
            let page = try await events(limit: 3, cursor: cursor)
            found += page.items
            cursor = page.next
        } while cursor != nil
        #expect(found.count == 7 && Set(found.map(\.id)).count == 7)
        #expect(
            try await world.store.vendorEvents(
                workspace: world.workspace, connection: "hook_0", topic: nil, cursor: nil, limit: 9
            ).items.isEmpty)
        await world.end()
    }

    @Test("decisions 9: a connection that waits keeps it; a connection that ended, or is not there, is told so")
    func states() async throws {
        _ = try await world.store.setState(
            id: "hook_0", .needsReauth, reason: Reason(code: "credential_refused", message: "m"), at: world.clock.now)
        _ = try await world.store.setState(id: "hook_1", .disconnected, reason: nil, at: world.clock.now)
        let taken = try await take(Self.draft("e1"))
        #expect(taken.deliveries.map(\.connection) == ["hook_0"])
        let stored = try await world.deliveries()
        #expect(stored.map(\.state) == [.held] && stored[0].reason?.code == "credential_refused")
        _ = try await world.store.setState(id: world.connection, .disconnected, reason: nil, at: world.clock.now)
        await #expect { try await take(Self.draft("e2")) } throws: { ($0 as? EngineError)?.code == .conflict }
        await #expect {
            try await service.take(Self.draft("e2"), from: IntegrationName(plugin: "none"), workspace: world.workspace)
        } throws: { ($0 as? EngineError)?.code == .notFound }
        await world.end()
    }

    @Test("PRV-01, PRV-02: a person's events are exported, and erased with what they made; retention takes old ones")
    func privacy() async throws {
        _ = try await take(Self.draft("e1"))
        _ = try await take(Self.draft("e2", person: "person-88"))
        #expect(try await world.store.vendorEvents(workspace: world.workspace, person: "person-77").count == 1)
        let result = try await world.store.eraseContact(workspace: world.workspace, contact: "person-77")
        #expect(result.deliveries == 2)
        #expect(try await world.store.vendorEvents(workspace: world.workspace, person: "person-77").isEmpty)
        let left = try await events().items.map { $0.data["personId"]?.string }
        #expect(left == ["person-88", "[erased]"])
        #expect(try await !take(Self.draft("e1")).isNew, "a repetition brings nobody back")
        let later = world.clock.now + .seconds(100 * 86_400)
        _ = try await world.store.enforceRetention(
            clicksBefore: later, dedupeBefore: world.clock.now - .seconds(1), deliveriesBefore: later)
        #expect(try await events().items.count == 2, "it is remembered for as long as repetitions are known")
        _ = try await world.store.enforceRetention(clicksBefore: later, dedupeBefore: later, deliveriesBefore: later)
        #expect(try await events().items.isEmpty)
        await world.end()
    }
}
