// SPDX-License-Identifier: Apache-2.0

import GRDB
import MilepostModel
import MilepostStore
import Testing

@Suite("What is remembered of endpoints (EXT-08)")
struct EndpointBookTests {
    private let directory: TemporaryDirectory
    private let store: SQLiteStore
    private let failure = Reason(code: "receiver_failed", message: "It answered 500.")

    init() async throws {
        directory = try TemporaryDirectory()
        store = try directory.open(SQLiteConfiguration(retentionChunk: 40))
    }

    private func health() async throws -> EndpointHealth? { try await store.connection(id: "con_1")?.health }

    @Test("EXT-08: failures add up from the first of them, and one success forgets them")
    func counts() async throws {
        try await store.prepareDeliveries(1)
        _ = try await store.noteFailures(connection: "con_1", count: 2, reason: failure, at: .start)
        let health = try await store.noteFailures(
            connection: "con_1", count: 3, reason: Reason(code: "other", message: "m"), at: .start + .seconds(60))
        #expect(health.failures == 5 && health.failingSince == .start && health.lastFailure?.code == "other")
        #expect(try await self.health() == health)
        try await store.noteSuccess(connection: "con_1")
        #expect(try await self.health() == EndpointHealth())
        await #expect(throws: StoreError.self) {
            try await store.noteFailures(connection: "none", count: 1, reason: failure, at: .start)
        }
        await store.close()
    }

    @Test("EXT-08: enabling is for what was disabled for its endpoint, and begins with the first quota")
    func enabling() async throws {
        try await store.prepareDeliveries(2)
        #expect(try await !store.enable(connection: "con_1", at: .start), "it is active")
        _ = try await store.setState(
            id: "con_1", .disabled, reason: Reason(code: "plugin_unavailable", message: "m"), at: .start)
        #expect(try await !store.enable(connection: "con_1", at: .start), "its plugin's return ends that")
        _ = try await store.setState(id: "con_1", .active, reason: nil, at: .start)
        _ = try await store.noteFailures(connection: "con_1", count: 9, reason: failure, at: .start)
        _ = try await store.setState(
            id: "con_1", .disabled, reason: Reason(code: Connection.endpointFailing, message: "m"), at: .start)
        #expect(try await store.heldDeliveries(of: "con_1") == 2)
        #expect(try await store.enable(connection: "con_1", at: .start + .seconds(60)))
        #expect(try await store.heldDeliveries(of: "con_1") == 0)
        #expect(try await health() == EndpointHealth(resumeQuota: EndpointHealth.firstQuota))
        try await store.setResumeQuota(connection: "con_1", 64)
        _ = try await store.noteFailures(connection: "con_1", count: 1, reason: failure, at: .start)
        #expect(try await health()?.resumeQuota == EndpointHealth.firstQuota, "a failure begins anew")
        try await store.setResumeQuota(connection: "con_1", nil)
        try await store.setResumeQuota(connection: "con_1", 8)
        #expect(try await health()?.resumeQuota == nil, "whoever is late begins nothing anew")
        await store.close()
    }

    @Test(
        "EXT-08: one that was disabled for its endpoint begins with the first quota by whatever way it works again",
        arguments: ["reauthorised while it resumes", "credentials while it resumes", "disconnected", "connected again"])
    func slowly(way: String) async throws {
        try await store.prepareDeliveries(2)
        let later = Timestamp.start + .seconds(60)
        let gone = Reason(code: Connection.endpointFailing, message: "m")
        _ = try await store.setState(id: "con_1", .disabled, reason: gone, at: .start)
        let baseline = Reason(code: "b", message: "b")
        func connectAgain() async throws {
            let now = try #require(try await store.connection(id: "con_1"))
            _ = try await store.saveConnection(
                Connection(
                    id: "con_1", workspace: .acme, integration: now.integration, stateSince: later,
                    connectedAt: later), credentials: [], baseline: nil, at: later)
        }
        switch way {
        case "connected again": try await connectAgain()
        case "disconnected":
            _ = try await store.setState(id: "con_1", .disconnected, reason: baseline, at: later)
            try await connectAgain()
        default:
            #expect(try await store.enable(connection: "con_1", at: later))
            try await store.setResumeQuota(connection: "con_1", 512)
            // Its token died while nothing was sent.
            _ = try await store.setState(id: "con_1", .needsReauth, reason: baseline, at: later)
            if way == "reauthorised while it resumes" {
                try await connectAgain()
            } else {
                _ = try await store.changeConnection(
                    id: "con_1", policy: nil, settings: ["url": "https://new.example"], warnings: nil, account: nil,
                    credentials: [], baseline: baseline, at: later)
                _ = try await store.setState(id: "con_1", .active, reason: nil, at: later)
            }
        }
        let connection = try #require(try await store.connection(id: "con_1"))
        #expect(connection.state == .active)
        #expect(connection.health == EndpointHealth(resumeQuota: EndpointHealth.firstQuota), "\(way)")
        await store.close()
    }

    @Test("EXT-08: one that never failed for long is not slowed by a new token")
    func unslowed() async throws {
        try await store.prepareDeliveries(1)
        _ = try await store.noteFailures(connection: "con_1", count: 2, reason: failure, at: .start)
        _ = try await store.changeConnection(
            id: "con_1", policy: nil, settings: ["url": "https://new.example"], warnings: nil, account: nil,
            credentials: [], baseline: failure, at: .start)
        #expect(try await health() == EndpointHealth())
        await store.close()
    }

    @Test("a database of the schema before has endpoints of which nothing bad is known, and no events")
    func migration() async throws {
        try await store.prepareDeliveries(1)
        await store.close()
        let queue = try DatabaseQueue(path: directory.database)
        try await queue.write { db in
            try db.execute(
                sql: """
                    ALTER TABLE connections DROP COLUMN failures;
                    ALTER TABLE connections DROP COLUMN failing_since;
                    ALTER TABLE connections DROP COLUMN failure_code;
                    ALTER TABLE connections DROP COLUMN failure_message;
                    ALTER TABLE connections DROP COLUMN resume_quota;
                    DROP TABLE vendor_events;
                    DELETE FROM grdb_migrations WHERE identifier = '0009-endpoints';
                    PRAGMA user_version = 8;
                    """)
        }
        try queue.close()
        let opened = try directory.open()
        #expect(try await opened.connection(id: "con_1")?.health == EndpointHealth())
        let page = try await opened.vendorEvents(
            workspace: .acme, connection: nil, topic: nil, cursor: nil, limit: 10)
        #expect(page.items.isEmpty)
        await opened.close()
    }
}
