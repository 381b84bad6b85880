// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
public import MilepostRules
public import MilepostStore
public import MilepostVault

/// The engine, wired: what the server and the daemon's life cycle call.
public final class Engine: Sendable {
    public let store: any Store
    public let vault: Vault
    public let clock: any DaemonClock
    public let plugins: HostedPlugins
    public let connections: ConnectionService
    public let ticker: Ticker
    public let scheduler: Scheduler
    public let explainer: Explainer
    public let rules: RollingRooms
    /// What counts while nobody handed a matrix in by REST.
    public let configuredPlans: PlanMatrix
    /// This process's name on claims and locks.
    public let owner: String

    public struct Settings: Sendable {
        public var interval: Duration
        public var limits: DeliveryMachine.Limits
        public var backoff: Backoff
        public var plans: PlanMatrix
        public var analyticsURLTemplate: String?
        /// For how long clicks are kept.
        public var clickRetentionDays: Int?

        public init(
            interval: Duration = .seconds(300), limits: DeliveryMachine.Limits = .init(), backoff: Backoff = Backoff(),
            plans: PlanMatrix = PlanMatrix(), analyticsURLTemplate: String? = nil, clickRetentionDays: Int? = nil
        ) {
            self.interval = interval
            self.limits = limits
            self.backoff = backoff
            self.plans = plans
            self.analyticsURLTemplate = analyticsURLTemplate
            self.clickRetentionDays = clickRetentionDays
        }
    }

    public init(
        store: any Store, vault: Vault, transient: TransientSecrets, plugins: HostedPlugins, clock: any DaemonClock,
        random: any RandomSource, settings: Settings, reporter: any EngineReporter,
        arrivals: ArrivalSignal = ArrivalSignal()
    ) {
        self.store = store
        self.vault = vault
        self.clock = clock
        self.plugins = plugins
        configuredPlans = settings.plans
        owner = random.identifier(prefix: "run", at: clock.now)
        connections = ConnectionService(
            store: store, vault: vault, transient: transient, plugins: plugins, clock: clock, random: random,
            reporter: reporter)
        let evaluator = Evaluator(
            store: store, clock: clock, random: random, plans: settings.plans,
            analyticsURLTemplate: settings.analyticsURLTemplate)
        let dispatcher = Dispatcher(
            store: store, plugins: plugins, clock: clock, random: random, owner: owner, limits: settings.limits,
            backoff: settings.backoff, reporter: reporter)
        ticker = Ticker(
            store: store, plugins: plugins, clock: clock, evaluator: evaluator, dispatcher: dispatcher, owner: owner,
            reporter: reporter)
        scheduler = Scheduler(ticker: ticker, store: store, clock: clock, interval: settings.interval)
        explainer = Explainer(store: store, plans: settings.plans, plugins: plugins, clock: clock)
        rules = RollingRooms(
            store: store, port: plugins, clock: clock, random: random, plans: settings.plans, ticker: ticker,
            resolver: ContactResolver(store: store, arrivals: arrivals), arrivals: arrivals, reporter: reporter,
            retentionDays: settings.clickRetentionDays)
    }

    /// Finds out what a crash left behind: claims of a process that is gone become uncertain where a request may have left,
    /// and due again where none did.
    public func recover() async throws -> (uncertain: Int, retrying: Int) {
        try await store.recoverClaims(exceptOwner: owner, at: clock.now)
    }

    /// Delivers what waits on a connection that works again, without waiting for a tick (REA-06). Errors are the next
    /// tick's to report.
    public func flush(_ connection: Connection) async {
        _ = try? await ticker.flush(connection)  // the queue is on disk; the next tick delivers what this one could not
    }
}
