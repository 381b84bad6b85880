// SPDX-License-Identifier: Apache-2.0

import Foundation
import MilepostEgress
import MilepostEngine
import MilepostModel
import MilepostPluginHost
import MilepostStore
import MilepostVault
import Synchronization

/// An installation on a real store with a real vault, in virtual time; the store can be closed and opened again, as by a
/// daemon that was killed and its successor.
final class OAuthWorld: Sendable {
    struct Life: Sendable {
        var store: SQLiteStore
        var vault: Vault
        var vendor: VendorDouble
        var keeper: TokenKeeper
    }

    let clock = VirtualClock(Timestamp(rfc3339: "2026-11-25T12:00:00Z")!)
    let connection: ConnectionID = "con_1"
    var directory: String { folder.path }
    private let folder: TemporaryFolder
    let plugins: OnePlugin
    let moves = Moves()
    private let keys: KeyRingFile
    private let life: Mutex<Life?> = Mutex(nil)
    private let isRotating: Bool
    private let expiresIn: Int?

    init(isRotating: Bool = true, expiresIn: Int? = 1800) async throws {
        self.isRotating = isRotating
        self.expiresIn = expiresIn
        folder = try TemporaryFolder()
        try FileManager.default.createDirectory(atPath: folder.path + "/data", withIntermediateDirectories: true)
        keys = KeyRingFile(path: folder.path + "/kek")
        _ = try keys.create(createdAt: clock.now, random: OpenSSLRandomSource())
        plugins = try OnePlugin()
        try open()
        try await install()
    }

    var store: SQLiteStore { life.withLock { $0! }.store }
    var keeper: TokenKeeper { life.withLock { $0! }.keeper }
    var vendor: VendorDouble { life.withLock { $0! }.vendor }
    var vault: Vault { life.withLock { $0! }.vault }

    /// - Parameter place: where the data directory lies; another one is a copy.
    private func open(owner: String = "run_1", place: String = "here", from old: VendorDouble? = nil) throws {
        let store = try SQLiteStore.open(directory: directory + "/data", clock: clock)
        let vault = Vault(
            records: store, keys: try FileKeyProvider(file: keys, random: OpenSSLRandomSource()),
            random: OpenSSLRandomSource())
        let vendor = VendorDouble(secrets: vault, clock: clock, isRotating: isRotating, expiresIn: expiresIn)
        if let old { vendor.state.withLock { new in old.state.withLock { new = $0 } } }
        let keeper = TokenKeeper(
            store: store, vault: vault, plugins: plugins, egress: vendor, clock: clock,
            random: SeededRandom(seed: 7), reporter: moves, owner: owner, place: place,
            policy: RefreshPolicy(lostAnswerPause: .seconds(5)), requestTimeout: .seconds(30))
        life.withLock { $0 = Life(store: store, vault: vault, vendor: vendor, keeper: keeper) }
    }

    /// A new process on the same directory: what the old one had in memory is gone.
    func restart(owner: String = "run_2", place: String = "here") async throws {
        let old = life.withLock { $0! }
        await old.store.close()
        try open(owner: owner, place: place, from: old.vendor)
        try await keeper.recover()
    }

    /// What connect stores: an installation whose tokens are the vendor's newest.
    func install() async throws {
        _ = try await store.ensureWorkspace("acme", at: clock.now)
        let secret = try text("app-secret")
        try await store.saveApp(
            AppRegistration(plugin: "fake", clientID: "client", secrets: ["client_secret"], updatedAt: clock.now),
            secrets: [
                try await vault.seal(
                    secret,
                    for: CredentialReference(
                        connection: AppRegistration.connection(of: "fake"), name: "client_secret"),
                    workspace: AppRegistration.workspace)
            ])
        let token = vendor.state.withLock { state in
            state.isUninstalled = false
            state.number += 1
            state.refresh = "refresh-\(state.number)"
            state.isLost = false
            return state.refresh
        }
        let refresh = try text(token)
        let version = (try await store.chain(connection)?.version ?? 0) + 1
        let chain = TokenChain(
            connection: connection, workspace: "acme", credential: "oauth", lineage: "lineage-\(version)",
            version: version, fingerprint: TokenSeal.fingerprint(of: refresh, lineage: "lineage-\(version)"),
            scopes: ["a"], issuedAt: clock.now, expiresAt: clock.now + .seconds(expiresIn ?? 1800))
        let sealed = try await TokenSeal(vault: vault).seal(access: text("access-0"), refresh: refresh, for: chain)
        _ = try await store.saveConnection(
            Connection(
                id: connection, workspace: "acme", integration: IntegrationName(plugin: "fake"),
                stateSince: clock.now, connectedAt: clock.now, credential: "oauth"),
            credentials: sealed, baseline: nil, chain: chain, at: clock.now)
        await keeper.recordLineage()
    }

    private func text(_ text: String) throws -> SecretBytes {
        var bytes = Array(text.utf8)
        return try SecretBytes(wiping: &bytes)
    }

    func chain() async throws -> TokenChain {
        guard let chain = try await store.chain(connection) else { throw Missing() }
        return chain
    }

    func connectionState() async throws -> Connection.State? { try await store.connection(id: connection)?.state }

    /// Lets time pass in steps and does what is due at each, as the schedule would.
    func pass(_ duration: Duration, step: Duration = .seconds(5)) async {
        let end = clock.now + duration
        while clock.now < end {
            clock.advance(by: min(step, end - clock.now))
            await keeper.refreshDue()
        }
    }

    func stored(_ name: String) async throws -> String {
        let secret = try await vault.open(CredentialReference(connection: connection, name: name))
        return unsafe secret.withBytes { unsafe String(decoding: $0, as: UTF8.self) }
    }

    func end() async {
        await store.close()
        folder.remove()
    }

    struct Missing: Error {}
}

/// A plugin that declares OAuth, and can be switched off.
final class OnePlugin: PluginDirectory {
    let isOff = Mutex(false)
    private let declared: PluginDeclaration

    static let manifest = """
        {"manifest":1,"id":"dev.test.fake","name":"fake","title":"Fake","version":"1.0.0",
         "abi":{"major":1,"min_host_minor":0},"kinds":["destination"],
         "endpoints":{"api":{"default":"https://api.vendor.test"}},
         "egress":[{"hosts":["api.vendor.test"],"methods":["GET"]}],
         "auth":[{"scheme":"oauth2","credential":"oauth",
           "authorize":{"endpoint":"api","path":"/authorize"},"token":{"endpoint":"api","path":"/token"},
           "errors":{"revoked":["BAD_REFRESH_TOKEN"],"operator":["BAD_CLIENT_ID"]},"refresh":{"margin_s":90}}]}
        """

    init() throws {
        declared = try PluginDeclaration(
            manifest: PluginManifest(parsing: Array(Self.manifest.utf8), name: "fake"), overrides: [:])
    }

    func declaration(of plugin: PluginName) -> PluginDeclaration? { declared }
    func obstacle(for plugin: PluginName) -> Reason? {
        isOff.withLock { $0 } ? Reason(code: "plugin_not_enabled", message: "off") : nil
    }
}

/// Remembers what the keeper reported.
final class Moves: EngineReporter {
    struct Seen {
        var states: [Connection.State] = []
        var ok = 0
        var errors = 0
    }
    let seen = Mutex(Seen())

    func attempted(_ record: AttemptRecord, on connection: Connection) {}
    func settled(_ outcome: DeliveryOutcome, on connection: Connection) {}
    func warned(_ warning: Reason, delivery: DeliveryID, on connection: Connection) {}
    func connectionMoved(_ connection: Connection, to state: Connection.State, reason: Reason?) {
        seen.withLock { $0.states.append(state) }
    }
    func ticked(_ report: TickReport) {}
    func tickFailed(_ workspace: WorkspaceID, _ problem: String) {}
    func refreshed(_ connection: Connection, succeeded: Bool) {
        seen.withLock { if succeeded { $0.ok += 1 } else { $0.errors += 1 } }
    }
}
