// SPDX-License-Identifier: Apache-2.0

import Foundation
import MilepostEngine
import MilepostModel
import MilepostStore
import Testing

/// Several connections served at once, each in its own task, on a clock that stands still: whatever happens, happens
/// because somebody was woken.
@Suite("The pump that brings clicks to connections")
struct ClickPumpTests {
    private struct Place {
        let clock = StandingClock(Timestamp(rfc3339: "2026-11-21T12:00:00Z")!)
        let vendor = ClickVendor(actions: [ClickAction(name: "timeline", maximumBatch: 10)])
        private let folder: TemporaryFolder
        let store: SQLiteStore

        init() async throws {
            folder = try TemporaryFolder()
            store = try SQLiteStore.open(directory: folder.path, clock: clock)
            _ = try await store.ensureWorkspace("acme", at: clock.now)
        }

        func connect(_ number: Int, state: Connection.State = .active) async throws {
            _ = try await store.saveConnection(
                Connection(
                    id: ConnectionID("con_\(number)"), workspace: "acme",
                    integration: IntegrationName(plugin: "hub", name: number == 1 ? "" : "n\(number)"), state: state,
                    stateSince: clock.now, connectedAt: clock.now),
                credentials: [], baseline: Reason(code: "baseline", message: "baseline"), at: clock.now)
        }

        func click(_ contact: String) async throws {
            let id = EventID(contact)
            _ = try await store.append(
                [
                    IdentifiedClick(
                        click: Click(id: id, link: "l", time: clock.now, contactID: contact),
                        identity: StreamWorld.identity(id))
                ], workspace: "acme", receivedAt: clock.now)
        }

        func running(_ body: () async throws -> Void) async throws {
            let pump = ClickPump(
                store: store, plugins: vendor, stream: StreamWorld.stream(store, vendor, clock), clock: clock,
                reporter: SilentReporter())
            let task = Task { try await pump.run() }
            try await body()
            task.cancel()
            vendor.letGo()
            _ = await task.result
            await store.close()
            folder.remove()
        }

        func contacts(of number: Int) -> [String] {
            vendor.calls.filter { $0.connection == ConnectionID("con_\(number)") }.flatMap(\.payloads)
                .compactMap { $0["contact"]?["id"]?.string }
        }
    }

    @Test(
        "every destination gets every click once, whatever the others' state; a hanging one holds up nobody (ING-01, ING-06, RATE-14)"
    )
    func independence() async throws {
        let place = try await Place()
        try await place.connect(1)
        try await place.connect(2)
        place.vendor.hang("con_1")
        try await place.running {
            for number in 0..<20 { try await place.click("c\(number)") }
            await place.vendor.received(20)
            #expect(place.contacts(of: 2) == (0..<20).map { "c\($0)" })
            #expect(place.contacts(of: 1).isEmpty)
            place.vendor.letGo()
            await place.vendor.received(40)
            #expect(Set(place.contacts(of: 1)) == Set((0..<20).map { "c\($0)" }))
        }
    }

    @Test("a connection that is made or works again is served at once, without a timer (REA-06, ING-04)")
    func woken() async throws {
        let place = try await Place()
        try await place.connect(1, state: .needsReauth)
        try await place.running {
            for number in 0..<30 { try await place.click("q\(number)") }
            try await place.connect(2)
            try await place.click("last")
            await place.vendor.received(1)
            #expect(place.contacts(of: 2) == ["last"], "a new connection begins at its connect")
            _ = try await place.store.setState(id: "con_1", .active, reason: nil, at: place.clock.now)
            await place.vendor.received(32)
            #expect(Set(place.contacts(of: 1)).count == 31)
        }
    }
}
