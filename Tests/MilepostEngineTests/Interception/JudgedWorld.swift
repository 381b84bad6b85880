// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostRules
import MilepostStore
import Synchronization
import Testing

/// A vendor as `ScriptedPlugins` plays it, and beside it judges that answer by script.
final class JudgingPlugins: PluginPort {
    enum Reply: Sendable {
        case says(JSONValue?)
        case fails(Verdict)
        /// Takes so long of the clock, then says it.
        case takes(Duration, JSONValue)
    }

    struct Asked: Sendable, Equatable {
        var judge: IntegrationName
        var question: JSONValue
        var budget: Duration
    }

    private struct State {
        var replies: [String: [Reply]] = [:]
        var asked: [Asked] = []
        var underWay = 0
        var most = 0
        var delivered: [JSONValue] = []
        var choices: [String: TargetChoices] = [:]
        var gone: Set<PluginName> = []
        var isOff = false
        var point = HookPoint.beforeDeal
    }

    private let state = Mutex(State())
    private let vendor: ScriptedPlugins
    private let clock: any DaemonClock

    init(vendor: ScriptedPlugins, clock: any DaemonClock) {
        self.vendor = vendor
        self.clock = clock
    }

    var asked: [Asked] { state.withLock { $0.asked } }
    /// How many questions were under way at once.
    var most: Int { state.withLock { $0.most } }
    /// Payloads that reached the vendor's plugin.
    var delivered: [JSONValue] { state.withLock { $0.delivered } }

    /// What a judge answers, in order; the last one again and again.
    func reply(_ judge: String, _ replies: Reply...) { state.withLock { $0.replies[judge] = replies } }
    func choices(_ picker: String, _ answer: TargetChoices) { state.withLock { $0.choices[picker] = answer } }
    func take(away plugin: PluginName) { state.withLock { _ = $0.gone.insert(plugin) } }
    /// What is delivered is a rule's action from here on.
    func judgeRules() { state.withLock { $0.point = HookPoint.beforeRule } }
    func switchOff() { state.withLock { $0.isOff = true } }

    func traits(of plugin: PluginName, action: String) -> ActionTraits? { vendor.traits(of: plugin, action: action) }
    func thresholdAction(of plugin: PluginName) -> String? { plugin == "judge" ? nil : "deal" }
    func obstacle(for plugin: PluginName) -> Reason? {
        state.withLock { $0.gone.contains(plugin) } ? Reason(code: "plugin_not_enabled", message: "not there") : nil
    }
    func hookPoints(of plugin: PluginName) -> [HookPoint]? {
        if state.withLock({ $0.gone.contains(plugin) }) { return nil }
        return plugin == "judge"
            ? [HookPoint.beforeDeal, HookPoint.beforeRule].map {
                HookPoint(name: $0, budget: .seconds(2), onFailure: .proceed)
            } : []
    }
    func hookPoint(before action: String, of plugin: PluginName) -> String? { state.withLock { $0.point } }
    func switchedOff(_ action: String, on connection: Connection) -> Reason? {
        state.withLock { $0.isOff } ? Reason(code: "switched_off", message: "off") : nil
    }

    func intercept(
        _ question: JSONValue, about delivery: DeliveryID, by judge: Connection, within budget: Duration, ask: Int
    ) async -> InterceptReply {
        let reply = state.withLock { state -> Reply in
            state.asked.append(Asked(judge: judge.integration, question: question, budget: budget))
            state.underWay += 1
            state.most = max(state.most, state.underWay)
            var replies = state.replies[judge.integration.description] ?? [.says(["verdict": "continue"])]
            let next = replies.count > 1 ? replies.removeFirst() : replies[0]
            state.replies[judge.integration.description] = replies
            return next
        }
        await Task.yield()
        defer { state.withLock { $0.underWay -= 1 } }
        switch reply {
        case .says(let json): return .answer(json)
        case .fails(let verdict): return .failed(verdict)
        case .takes(let time, let json):
            // Cancelled only when the test ends.
            try? await clock.sleep(for: time)
            return .answer(json)
        }
    }

    func targetChoices(_ picker: String, under value: JSONValue?, on connection: Connection) async -> TargetChoices? {
        state.withLock { $0.choices[value.map { "\(picker) of \($0)" } ?? picker] ?? $0.choices[picker] }
    }

    func deliver(_ claims: [ClaimedDelivery], on connection: Connection) async -> [Verdict] {
        state.withLock { $0.delivered += claims.map(\.delivery.payload) }
        return await vendor.deliver(claims, on: connection)
    }
    func reconcile(_ claims: [ClaimedDelivery], on connection: Connection) async -> [Finding] {
        await vendor.reconcile(claims, on: connection)
    }
}

/// `World` with judges in it.
struct JudgedWorld {
    let base: World
    let plugins: JudgingPlugins
    let ticker: Ticker

    init() async throws {
        base = try await World()
        plugins = JudgingPlugins(vendor: base.plugins, clock: base.clock)
        ticker = Self.ticker(base, plugins, owner: "run_1")
        try await base.connect(ThresholdPolicy(thresholds: [10]))
    }

    static func ticker(_ base: World, _ plugins: JudgingPlugins, owner: String) -> Ticker {
        let random = SeededRandom(seed: 1)
        return Ticker(
            store: base.store, plugins: plugins, clock: base.clock,
            evaluator: Evaluator(
                store: base.store, clock: base.clock, random: random, plans: PlanMatrix(), analyticsURLTemplate: nil),
            dispatcher: Dispatcher(
                store: base.store, plugins: plugins, clock: base.clock, random: random, owner: owner,
                limits: .init(), backoff: Backoff(), reporter: SilentReporter()),
            owner: owner, reporter: SilentReporter())
    }

    /// Adds a judge, or changes one.
    func judge(_ name: String, _ policy: InterceptPolicy = InterceptPolicy(isOn: true)) async throws {
        let integration = IntegrationName(name)!
        _ = try await base.store.saveConnection(
            Connection(
                id: ConnectionID("con_" + name), workspace: base.workspace, integration: integration,
                stateSince: base.clock.now, policy: ThresholdPolicy(intercept: policy), connectedAt: base.clock.now),
            credentials: [], baseline: Reason(code: "baseline", message: "baseline"), at: base.clock.now)
        if let saved = try await base.store.connection(integration, workspace: base.workspace) {
            _ = try await base.store.changeConnection(
                id: saved.id, policy: ThresholdPolicy(intercept: policy), settings: nil, warnings: nil, account: nil,
                credentials: [], baseline: Reason(code: "x", message: "x"), at: base.clock.now)
        }
    }

    /// A link crosses, and a tick runs.
    @discardableResult
    func cross(_ link: LinkID = "a") async throws -> Delivery {
        try await base.click(link, 10)
        try await tick()
        return try #require(try await base.deliveries().first { $0.scope.id == link.rawValue })
    }

    func tick(after pause: Duration = .seconds(300)) async throws {
        base.clock.advance(by: pause)
        _ = try await ticker.tick()
    }

    func delivery(_ id: DeliveryID) async throws -> Delivery {
        try #require(try await base.deliveries().first { $0.id == id })
    }

    func decisions(_ id: DeliveryID) async throws -> [InterceptDecision] { try await base.store.decisions(of: id) }
}
