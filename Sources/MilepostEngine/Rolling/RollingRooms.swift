// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
public import MilepostRules
public import MilepostStore
import Synchronization

/// Everything of rolling rules, wired: what the engine holds and the server calls.
public struct RollingRooms: Sendable {
    public let engine: RollingEngine
    public let service: RuleService
    public let explainer: RuleExplainer
    public let simulator: RuleSimulator

    /// As many as the intake stores in one transaction: what a page costs whatever it holds (the cursor, a row of every rule
    /// that is being filled, one commit) is shared by them, and so are pages of the file on which several windows lie.
    /// Rules that are up to date find what has just come, which is less.
    public static let clicksPerPage = 8192

    /// - Parameters:
    ///   - arrivals: the signal that `store` raises.
    ///   - retentionDays: for how long clicks are kept; rules with longer windows get a warning.
    ///   - hold: how long a click waits for a form that says who clicked.
    ///   - clicksPerPage: clicks that are evaluated in one transaction.
    public init(
        store: any Store, port: any RulePort, clock: any DaemonClock, random: any RandomSource, plans: PlanMatrix,
        ticker: Ticker, resolver: ContactResolver, arrivals: ArrivalSignal, reporter: any EngineReporter,
        retentionDays: Int? = nil, hold: Duration = .seconds(72 * 3600), clicksPerPage: Int = Self.clicksPerPage
    ) {
        let cache = RuleCache(store: store)
        // The service wakes the engine, which holds the service.
        let bell = Bell()
        service = RuleService(
            store: store, port: port, clock: clock, cache: cache, reporter: reporter, retentionDays: retentionDays,
            wake: { bell.ring($0) })
        engine = RollingEngine(
            store: store, clock: clock, cache: cache,
            evaluator: RollingEvaluator(
                store: store, resolver: resolver, cache: cache, clock: clock, pageSize: clicksPerPage, hold: hold,
                reporter: reporter),
            settler: FiringSettler(
                store: store, port: port, clock: clock, random: random, plans: plans, reporter: reporter),
            ticker: ticker, service: service, reporter: reporter, arrivals: arrivals)
        explainer = RuleExplainer(store: store, resolver: resolver, hold: hold)
        simulator = RuleSimulator(store: store, resolver: resolver, hold: hold)
        bell.connect { [weak engine] in engine?.wake($0) }
    }
}

private final class Bell: Sendable {
    private let listener = Mutex<(@Sendable (WorkspaceID) -> Void)?>(nil)

    func connect(_ listener: @escaping @Sendable (WorkspaceID) -> Void) {
        self.listener.withLock { $0 = listener }
    }

    func ring(_ workspace: WorkspaceID) { listener.withLock { $0 }?(workspace) }
}
