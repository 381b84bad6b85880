// SPDX-License-Identifier: Apache-2.0

package import MilepostEgress
public import MilepostModel
import MilepostPluginHost
package import MilepostStore
package import MilepostVault

/// Keeps every chain of tokens alive: refreshes ahead of expiry, one refresh a chain at a time, with the intent on disk
/// before the request leaves and the new pair on disk before anybody uses it (section R, decisions 10).
///
/// One daemon is active on a data directory (its lock says so), so the actor is the single flight; what a killed daemon
/// left open is found by `recover`.
public actor TokenKeeper: TokenSupply {
    let store: any Store
    let plugins: any PluginDirectory
    let clock: any DaemonClock
    let random: any RandomSource
    let reporter: any EngineReporter
    let client: TokenClient
    let seal: TokenSeal
    let vault: Vault
    let owner: String
    /// Machine and directory of this daemon, for the lineage record.
    let place: String
    public let policy: RefreshPolicy
    /// Called after a chain works again, so that what waited leaves at once (REA-06).
    private var resume: @Sendable (Connection) async -> Void = { _ in }

    private var flights: [ConnectionID: Task<Void, Never>] = [:]
    /// When a 401 last forced a refresh, so that a vendor that always answers so is not asked for tokens all the time.
    private var forced: [ConnectionID: Timestamp] = [:]
    private var nap: Task<Void, Never>?
    private var isStopping = false

    static let pauseBetweenForced: Duration = .seconds(60)
    /// Refreshes under way at once; each waits for a vendor.
    static let parallelRefreshes = 64
    static let longestNap: Duration = .seconds(60)
    /// Many chains are looked at together, not one by one.
    static let shortestNap: Duration = .milliseconds(250)

    package init(
        store: any Store, vault: Vault, plugins: any PluginDirectory, egress: any Egress, clock: any DaemonClock,
        random: any RandomSource, reporter: any EngineReporter, owner: String, place: String, policy: RefreshPolicy,
        requestTimeout: Duration
    ) {
        self.store = store
        self.vault = vault
        self.plugins = plugins
        self.clock = clock
        self.random = random
        self.reporter = reporter
        self.owner = owner
        self.place = place
        self.policy = policy
        client = TokenClient(egress: egress, timeout: requestTimeout)
        seal = TokenSeal(vault: vault)
    }

    package func onResume(_ body: @escaping @Sendable (Connection) async -> Void) { resume = body }

    // MARK: Schedule

    /// Refreshes what is due until its task is cancelled.
    public func run() async throws {
        while true {
            try Task.checkCancellation()
            let next = await refreshDue()
            let wait = next.map { max($0 - clock.now, Self.shortestNap) } ?? Self.longestNap
            let nap = Task<Void, Never> { [clock] in
                // Cancelled to be woken: nothing to tell.
                try? await clock.sleep(for: min(wait, Self.longestNap))
            }
            self.nap = nap
            await withTaskCancellationHandler {
                await nap.value
            } onCancel: {
                nap.cancel()
            }
        }
    }

    /// Looks again at once: a chain was made or changed.
    public func wake() { nap?.cancel() }

    /// Begins no more refreshes and waits for those under way: cutting one off could cost an installation. Before egress
    /// is shut down; takes a request's time-out at most while the store can be written.
    public func stop() async {
        isStopping = true
        nap?.cancel()
        for flight in Array(flights.values) { await flight.value }
    }

    /// One pass over all chains: refreshes those that are due now.
    ///
    /// - Returns: when the next one is due; nil when there is none, or the store cannot be read now.
    @discardableResult
    public func refreshDue() async -> Timestamp? {
        let now = clock.now
        let due = await schedule().filter { $0.at <= now }.map(\.chain)
        for start in stride(from: 0, to: due.count, by: Self.parallelRefreshes) {
            let flights = due[start...].prefix(Self.parallelRefreshes).map { flight($0, isForced: false) }
            for flight in flights { await flight.value }
        }
        guard !due.isEmpty else { return await schedule().map(\.at).min() }
        await recordLineage()
        // What stays due although it was tried (its plugin is switched off) must not make a busy loop.
        let after = clock.now
        return await schedule().map { $0.at > after ? $0.at : after + .seconds(5) }.min()
    }

    /// When each chain wants to be refreshed; empty while the store cannot be read, which its own health says.
    private func schedule() async -> [(chain: ConnectionID, at: Timestamp)] {
        guard let chains = try? await store.chains(), !chains.isEmpty,
            let connections = try? await store.connections(workspace: nil)
        else { return [] }
        let standing = Dictionary(
            connections.filter { $0.state != .disconnected }.map { ($0.id, $0) },
            uniquingKeysWith: { first, _ in first })
        return chains.compactMap { chain in
            guard let connection = standing[chain.connection], let at = dueAt(chain, of: connection) else { return nil }
            return (chain.connection, at)
        }
    }

    private func dueAt(_ chain: TokenChain, of connection: Connection) -> Timestamp? {
        let margin =
            plugins.declaration(of: connection.integration.plugin)?.oauth(chain.credential)?.margin ?? .seconds(90)
        return RefreshPolicy.due(chain, margin: margin)
    }

    /// The refresh of a chain that is under way, or a new one.
    private func flight(_ id: ConnectionID, isForced: Bool) -> Task<Void, Never> {
        if let running = flights[id] { return running }
        if isStopping { return Task {} }
        let task = Task {
            await self.refresh(id, isForced: isForced)
            self.flights[id] = nil
        }
        flights[id] = task
        return task
    }

    // MARK: TokenSupply

    package func ready(_ id: ConnectionID, credential: String) async -> TokenReadiness {
        guard var chain = try? await store.chain(id), chain.credential == credential,
            let connection = try? await store.connection(id: id)
        else { return .unmanaged }
        if let due = dueAt(chain, of: connection), due <= clock.now {
            let flight = flight(id, isForced: false)
            // A token that lives still serves while its successor is fetched.
            if clock.now >= chain.expiresAt {
                await flight.value
                chain = (try? await store.chain(id)) ?? chain
            }
        }
        switch chain.state {
        case .held, .edited, .revoked:
            return .ended(.authRevoked, chain.reason ?? Reason(code: "refresh_refused", message: RefreshPolicy.cure))
        case .ok, .failing, .uncertain, .operatorError: break
        }
        if clock.now < chain.expiresAt { return .ready(version: chain.version) }
        let reason = chain.reason ?? Reason(code: "token_expired", message: "The access token ended.")
        if chain.state == .operatorError {
            await move(connection, to: .permission, reason)
            return .ended(.config, reason)
        }
        return .closed(until: max(chain.nextAttemptAt ?? clock.now, clock.now + .milliseconds(100)), reason)
    }

    package func refused(_ id: ConnectionID, credential: String, version: Int64) async -> Bool {
        guard let chain = try? await store.chain(id), chain.credential == credential else { return false }
        if chain.version > version { return true }
        if let running = flights[id] {
            await running.value
        } else {
            let now = clock.now
            if let last = forced[id], now - last < Self.pauseBetweenForced, now < chain.expiresAt { return false }
            forced[id] = now
            await flight(id, isForced: true).value
        }
        return ((try? await store.chain(id))?.version ?? version) > version
    }

    package func examine(_ id: ConnectionID) async {
        guard let chain = try? await store.chain(id), let connection = try? await store.connection(id: id) else {
            return
        }
        _ = await isIntact(chain, connection)
    }

    // MARK: One refresh

    private func refresh(_ id: ConnectionID, isForced: Bool) async {
        // What the store cannot tell now, the next pass asks again; its own health says what is wrong with it.
        guard let chain = try? await store.chain(id), let connection = try? await store.connection(id: id),
            connection.state != .disconnected, let due = dueAt(chain, of: connection)
        else { return }
        if let intent = chain.intent {
            // A chain has one flight at a time: one of ours that is open now ended without the store's taking its end.
            guard intent.owner == owner else { return }
            await settle(chain, .uncertain(Self.unsettled), connection)
            return
        }
        let now = clock.now
        if let wait = chain.nextAttemptAt, wait > now { return }
        guard isForced || due <= now else { return }
        let plugin = connection.integration.plugin
        guard plugins.obstacle(for: plugin) == nil, let declaration = plugins.declaration(of: plugin),
            let oauth = declaration.oauth(chain.credential), await isIntact(chain, connection)
        else { return }
        let resent = chain.state == .uncertain ? chain.resent + 1 : chain.resent
        let url: String
        guard let app = try? await store.app(plugin) else {
            let reason = Reason(
                code: "app_refused",
                message: "The app's credentials of \(plugin) are not set: milepost app set \(plugin).")
            await settle(chain, .operatorError(reason), connection)
            return
        }
        do { url = try declaration.tokenURL(oauth, settings: connection.settings) } catch {
            await settle(chain, .operatorError(Reason(code: "app_refused", message: error.detail)), connection)
            return
        }
        let sentAt = clock.now
        let (answer, _, failure) = await client.refresh(
            CredentialReference(connection: id, name: TokenClient.Name.refresh(chain.credential)),
            app: .init(
                clientID: app.clientID,
                secret: CredentialReference(
                    connection: AppRegistration.connection(of: plugin), name: TokenClient.Name.clientSecret)),
            url: url, oauth, declaration
        ) { [store, clock, owner] in
            CrashPoint.reach("before_refresh_intent")
            try await store.beginRefresh(
                id, version: chain.version, owner: owner, resent: resent, at: clock.now)
            CrashPoint.reach("after_refresh_intent")
        }
        // Nobody else's intent is ours to close.
        if failure == .beforeSendFailed { return }
        CrashPoint.reach("before_refresh_store")
        if case .granted(let grant) = answer {
            await adopt(grant, after: chain, connection, sentAt: sentAt)
        } else {
            await settle(chain, answer, connection)
        }
        CrashPoint.reach("after_refresh_store")
    }

    private static let unsettled = Reason(
        code: "refresh_interrupted",
        message: "What came of a token refresh could not be stored; the token is tried once more.")

    /// Stores a new pair. A store that is full must not cost an installation: the pair is kept in memory and tried again.
    private func adopt(_ grant: TokenGrant, after old: TokenChain, _ connection: Connection, sentAt: Timestamp) async {
        var chain = old
        chain.version += 1
        chain.issuedAt = sentAt
        chain.expiresAt = sentAt + grant.lifetime
        chain.lastRefreshAt = clock.now
        chain.refreshes += 1
        if let scopes = grant.scopes { chain.scopes = scopes }
        if let account = grant.account { chain.account = account }
        (chain.state, chain.reason, chain.failures) = (.ok, nil, 0)
        (chain.resent, chain.nextAttemptAt, chain.intent) = (0, nil, nil)
        for attempt in 1...1000 {
            do {
                let refresh: SecretBytes
                if let fresh = grant.refresh {
                    refresh = fresh
                } else {
                    refresh = try await vault.open(
                        CredentialReference(
                            connection: old.connection, name: TokenClient.Name.refresh(old.credential)))
                }
                chain.fingerprint = TokenSeal.fingerprint(of: refresh, lineage: chain.lineage)
                let sealed = try await seal.seal(access: grant.access, refresh: refresh, for: chain)
                try await store.storeRefresh(chain, credentials: sealed)
                break
            } catch let error as StoreError where error.code == .conflict || error.code == .closed {
                // Installed anew meanwhile, or the daemon ends: a successor finds the intent.
                return
            } catch {
                let pause = policy.backoff.delay(attempt: min(attempt, 20), unit: random.unit())
                do { try await clock.sleep(for: pause) } catch { return }
            }
        }
        plugins.renewed(chain)
        reporter.refreshed(connection, succeeded: true)
        if connection.state == .permission, connection.stateReason?.code == "app_refused" {
            await move(connection, to: .active, nil)
        }
        if old.state != .ok, let current = try? await store.connection(id: connection.id), current.state == .active {
            await resume(current)
        }
    }

    private func settle(_ before: TokenChain, _ answer: TokenAnswer, _ connection: Connection) async {
        let chain = policy.settled(before, answer, now: clock.now, unit: random.unit())
        reporter.refreshed(connection, succeeded: false)
        if chain.state == .revoked {
            await end(chain, connection)
            return
        }
        // When the store does not take it, the open intent says "uncertain" to the next refresh or start: the careful side.
        _ = try? await store.settleRefresh(chain)
        if chain.state == .operatorError, clock.now >= chain.expiresAt, let reason = chain.reason {
            await move(connection, to: .permission, reason)
        }
    }

    /// Only a person can help from here on.
    func end(_ chain: TokenChain, _ connection: Connection) async {
        guard (try? await store.settleRefresh(chain)) == true else { return }
        await move(connection, to: .needsReauth, chain.reason)
    }

    func move(_ connection: Connection, to state: Connection.State, _ reason: Reason?) async {
        guard let current = try? await store.connection(id: connection.id), current.state != .disconnected,
            // A state that is not OAuth's own is not ended by it.
            state != .permission || current.state == .active,
            (try? await store.setState(id: connection.id, state, reason: reason, at: clock.now)) == true
        else { return }
        reporter.connectionMoved(connection, to: state, reason: reason)
    }

    /// False when the stored tokens are not what the daemon stored: then nothing is sent (OAU-09).
    private func isIntact(_ chain: TokenChain, _ connection: Connection) async -> Bool {
        switch await seal.examine(chain, in: store) {
        case .intact: return true
        case .unreadable: return false
        case .edited(let what):
            // A refresh may have replaced the row between reading it and looking at its secrets.
            guard (try? await store.chain(chain.connection)) == chain else { return false }
            let reason = Reason(
                code: "credentials_edited",
                message: "The stored tokens were changed by something other than Milepost: \(what). "
                    + "Find out who can write to the database. \(RefreshPolicy.cure)")
            await end(policy.ended(chain, .edited, reason), connection)
            return false
        }
    }

    /// The app's credentials were changed: what they held up is tried at once.
    public func appChanged(_ plugin: PluginName) async {
        for chain in (try? await store.chains()) ?? [] where [.operatorError, .uncertain].contains(chain.state) {
            guard chain.intent == nil, let connection = try? await store.connection(id: chain.connection),
                connection.integration.plugin == plugin
            else { continue }
            var again = chain
            again.nextAttemptAt = clock.now
            _ = try? await store.settleRefresh(again)  // an hour later it is tried anyway
        }
        wake()
    }
}
