// SPDX-License-Identifier: Apache-2.0

import Foundation
import MilepostEngine
import MilepostModel
import MilepostStore
import Synchronization
import Testing

@Suite("Chains over crashes, restores, copies and edits", .serialized, .timeLimit(.minutes(10)))
struct LineageTests {
    @Test(
        "OAU-03: a daemon that dies with an open intent leaves a successor that knows it, tries once and tells a lost chain",
        arguments: [true, false], [true, false])
    func killed(isRotating: Bool, isCommitted: Bool) async throws {
        let world = try await OAuthWorld(isRotating: isRotating)
        world.clock.advance(by: .seconds(1710))
        // The dead daemon's steps: intent on disk, request sent, and nothing more.
        try await world.store.beginRefresh("con_1", version: 1, owner: "run_1", resent: 0, at: world.clock.now)
        if isCommitted, isRotating {
            world.vendor.state.withLock { state in
                state.dead.insert(state.refresh)
                state.refresh = "refresh-lost"
                state.isLost = true
            }
        }
        try await world.restart()
        #expect(try await world.chain().state == .uncertain)
        await world.pass(.seconds(10), step: .seconds(1))
        let chain = try await world.chain()
        if isRotating && isCommitted {
            #expect(chain.state == .revoked && chain.reason?.code == "refresh_answer_lost")
        } else {
            #expect(chain.state == .ok && chain.version == 2)
        }
        #expect(world.vendor.sent == ["refresh-1"] && world.vendor.state.withLock { $0.reused } == [])
        await world.end()
    }

    @Test("a successor that finds everything stored goes on without a call")
    func killedAfterStoring() async throws {
        let world = try await OAuthWorld()
        await world.pass(.seconds(1710))
        try await world.restart()
        #expect(try await world.chain().state == .ok)
        #expect(await world.keeper.ready("con_1", credential: "oauth") == .ready(version: 2))
        #expect(world.vendor.sent.count == 1)
        await world.end()
    }

    @Test(
        "OAU-07: a restored database is noticed before a refresh, says so, and goes on after an installation (OAU-11)")
    func restored() async throws {
        let world = try await OAuthWorld()
        let copy = world.directory + "/backup.db"
        try await world.store.backup(to: copy)
        await world.pass(.seconds(4000))
        #expect(world.vendor.sent.count == 2)
        try await swapDatabase(world, with: copy)
        #expect(world.vendor.sent.count == 2, "nothing is sent")
        let chain = try await world.chain()
        #expect(chain.state == .held && chain.reason?.code == "credentials_restored")
        #expect(chain.reason?.message.contains("restored or copied credentials") == true)
        #expect(try await world.connectionState() == .needsReauth)
        await world.pass(.seconds(4000))
        #expect(world.vendor.sent.count == 2)
        try await world.install()
        await world.pass(.seconds(1710))
        #expect(try await world.chain().state == .ok && world.vendor.sent.count == 3)
        await world.end()
    }

    @Test("OAU-07: whoever adopts a restored chain that is dead learns the likely cause")
    func adopted() async throws {
        let world = try await OAuthWorld()
        let copy = world.directory + "/backup.db"
        try await world.store.backup(to: copy)
        await world.pass(.seconds(1800))
        try await swapDatabase(world, with: copy)
        #expect(try await world.keeper.adoptHeld() == 1)
        #expect(try await world.connectionState() == .active)
        await world.keeper.refreshDue()
        let chain = try await world.chain()
        #expect(chain.state == .revoked && chain.reason?.code == "credentials_restored")
        #expect(try await world.connectionState() == .needsReauth)
        await world.end()
    }

    @Test("a vendor that never rotates makes a restore harmless: the token is the same, and nobody is asked anything")
    func restoredWithoutRotation() async throws {
        let world = try await OAuthWorld(isRotating: false)
        let copy = world.directory + "/backup.db"
        try await world.store.backup(to: copy)
        await world.pass(.seconds(4000))
        try await swapDatabase(world, with: copy)
        await world.keeper.refreshDue()
        #expect(try await world.chain().state == .ok)
        #expect(try await world.connectionState() == .active)
        await world.end()
    }

    @Test("OAU-08: a directory that lies elsewhere than it was written sends nothing and names the cause")
    func copied() async throws {
        let world = try await OAuthWorld()
        try await world.restart(place: "elsewhere")
        world.clock.advance(by: .seconds(3000))
        await world.keeper.refreshDue()
        #expect(world.vendor.sent.isEmpty)
        #expect(try await world.chain().reason?.code == "credentials_copied")
        #expect(try await world.connectionState() == .needsReauth)
        // The same place once more does not forget it.
        try await world.restart(owner: "run_3", place: "elsewhere")
        #expect(try await world.chain().state == .held)
        await world.end()
    }

    @Test("OAU-08: of two daemons with copies that nobody could tell apart the loser is told the likely cause")
    func twins() async throws {
        let world = try await OAuthWorld()
        world.vendor.state.withLock { state in
            state.dead.insert(state.refresh)
            state.refresh = "refresh-of-the-twin"
        }
        await world.pass(.seconds(1800))
        let chain = try await world.chain()
        #expect(chain.state == .revoked)
        #expect(chain.reason?.message.contains("restored or copied credentials") == true)
        await world.end()
    }

    @Test(
        "OAU-09: an edit of the token's rows by hand is noticed before anything is sent, and reported as such",
        arguments: [
            "UPDATE oauth_chains SET token_version = token_version + 1",
            "UPDATE oauth_chains SET expires_at = expires_at + 86400000",
            "UPDATE oauth_chains SET scopes = '[\"all\"]'", "UPDATE oauth_chains SET account = 'other'",
            "UPDATE oauth_chains SET fingerprint = '00'",
            "UPDATE integration_credentials SET version = 9 WHERE name = 'oauth.refresh'",
            "UPDATE integration_credentials SET ciphertext = zeroblob(length(ciphertext)) WHERE name = 'oauth'",
            "DELETE FROM integration_credentials WHERE name = 'oauth.check'",
            "UPDATE oauth_chains SET state = 'fine'",
        ])
    func edited(sql: String) async throws {
        let world = try await OAuthWorld()
        await world.store.close()
        try edit(world.directory + "/data/milepost.db", sql)
        try await world.restart()
        world.clock.advance(by: .seconds(90_000))
        await world.keeper.refreshDue()
        #expect(world.vendor.sent.isEmpty)
        let chain = try await world.chain()
        if !sql.contains("'fine'") {
            #expect(chain.state == .edited && chain.reason?.code == "credentials_edited", "\(sql): \(chain)")
            #expect(try await world.connectionState() == .needsReauth)
        } else {
            #expect(chain.state == .edited)
        }
        try await world.install()
        await world.pass(.seconds(1710))
        #expect(try await world.chain().state == .ok, "OAU-11")
        await world.end()
    }

    private func swapDatabase(_ world: OAuthWorld, with copy: String) async throws {
        await world.store.close()
        let path = world.directory + "/data/milepost.db"
        for suffix in ["", "-wal", "-shm"] where FileManager.default.fileExists(atPath: path + suffix) {
            try FileManager.default.removeItem(atPath: path + suffix)
        }
        try FileManager.default.copyItem(atPath: copy, toPath: path)
        try await world.restart()
    }

    private func edit(_ path: String, _ sql: String) throws {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = [
            "python3", "-c",
            "import sqlite3,sys; c=sqlite3.connect(sys.argv[1]); c.execute(sys.argv[2]); c.commit(); c.close()",
            path, sql,
        ]
        try process.run()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0)
    }
}
