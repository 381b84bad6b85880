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
    /// Brings every click to the connections that take them.
    public let pump: ClickPump
    public let clickExplainer: ClickExplainer
    public let oauth: OAuthService
    public let apps: AppService
    public let tokens: TokenKeeper
    public let rules: RollingRooms
    public let provision: ProvisionService
    public let vendorEvents: VendorEventService
    /// What counts while nobody handed a matrix in by REST.
    public let configuredPlans: PlanMatrix
    let reporter: any EngineReporter
    /// This process's name on claims and locks.
    public let owner: String

    public struct Settings: Sendable {
        public var interval: Duration
        public var limits: DeliveryMachine.Limits
        public var backoff: Backoff
        public var plans: PlanMatrix
        public var analyticsURLTemplate: String?
        /// How far apart form and click may be (RES-06).
        public var matchWindow: Duration
        /// How long a click waits for its identity (RES-06).
        public var hold: Duration

        /// For how long clicks are kept.
        public var clickRetentionDays: Int?
        public var oauth: OAuth

        /// What OAuth must know of the daemon's surroundings.
        public struct OAuth: Sendable {
            /// Where vendors send people back to.
            public var redirectURI: String
            /// Machine and directory, for the lineage record (docs/decisions/0006).
            public var place: String
            public var policy: RefreshPolicy

            public init(
                redirectURI: String = "http://127.0.0.1:8787" + OAuthService.callbackPath, place: String = "",
                policy: RefreshPolicy = RefreshPolicy()
            ) {
                self.redirectURI = redirectURI
                self.place = place
                self.policy = policy
            }
        }

        public init(
            interval: Duration = .seconds(300), limits: DeliveryMachine.Limits = .init(), backoff: Backoff = Backoff(),
            plans: PlanMatrix = PlanMatrix(), analyticsURLTemplate: String? = nil,
            matchWindow: Duration = .seconds(14 * 86_400), hold: Duration = .seconds(72 * 3600),
            clickRetentionDays: Int? = nil,
            oauth: OAuth = OAuth()
        ) {
            self.oauth = oauth
            self.interval = interval
            self.limits = limits
            self.backoff = backoff
            self.plans = plans
            self.analyticsURLTemplate = analyticsURLTemplate
            self.matchWindow = matchWindow
            self.hold = hold
            self.clickRetentionDays = clickRetentionDays
        }
    }

    public init(
        store: any Store, vault: Vault, transient: TransientSecrets, plugins: HostedPlugins, clock: any DaemonClock,
        random: any RandomSource, settings: Settings, reporter: any EngineReporter
    ) {
        self.store = store
        self.vault = vault
        self.clock = clock
        self.plugins = plugins
        self.reporter = reporter
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
        tokens = TokenKeeper(
            store: store, vault: vault, plugins: plugins, egress: plugins.gateway.egress, clock: clock, random: random,
            reporter: reporter, owner: owner, place: settings.oauth.place, policy: settings.oauth.policy,
            requestTimeout: settings.limits.requestTimeout)
        plugins.gateway.attach(tokens)
        oauth = OAuthService(
            store: store, vault: vault, transient: transient, plugins: plugins, connections: connections,
            keeper: tokens, client: tokens.client, clock: clock, random: random,
            redirectURI: settings.oauth.redirectURI)
        apps = AppService(store: store, vault: vault, plugins: plugins, keeper: tokens, clock: clock)
        provision = ProvisionService(
            store: store, plugins: plugins, clock: clock, requestTimeout: settings.limits.requestTimeout)
        vendorEvents = VendorEventService(store: store, plugins: plugins, clock: clock)
        explainer = Explainer(store: store, plans: settings.plans, plugins: plugins, clock: clock)
        let resolver = ContactResolver(store: store, arrivals: store.arrivals, window: settings.matchWindow)
        let stream = ConnectionStream(
            store: store, plugins: plugins, resolver: resolver, dispatcher: dispatcher, clock: clock,
            plans: settings.plans, reporter: reporter, hold: settings.hold)
        pump = ClickPump(store: store, plugins: plugins, stream: stream, clock: clock, reporter: reporter)
        clickExplainer = ClickExplainer(store: store, plugins: plugins)
        rules = RollingRooms(
            store: store, port: plugins, clock: clock, random: random, plans: settings.plans, ticker: ticker,
            resolver: resolver, arrivals: store.arrivals, reporter: reporter,
            retentionDays: settings.clickRetentionDays,
            hold: settings.hold)
    }

    /// Finds out what a crash left behind: claims of a process that is gone become uncertain where a request may have left,
    /// and due again where none did.
    /// Then the time since the last sign of life is taken for waiting. In this order: what a claim leaves to a connection
    /// that waits is counted by that connection.
    public func recover() async throws -> (uncertain: Int, retrying: Int) {
        // In a task of its own, which ends by itself: a queue that leaves by and by must not keep the next refresh waiting.
        await tokens.onResume { [weak self] connection in Task { await self?.goOn(connection) } }
        try await tokens.recover()
        let recovered = try await store.recoverClaims(exceptOwner: owner, at: clock.now)
        _ = try await store.resume(at: clock.now)
        return recovered
    }
}
