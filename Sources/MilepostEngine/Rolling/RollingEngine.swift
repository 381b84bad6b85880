// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
import MilepostRules
import MilepostStore
import Synchronization

/// Runs rolling rules: evaluates clicks as they are stored, acts on crossings, looks after rules once a day.
public final class RollingEngine: Sendable {
    private let store: any Store
    private let clock: any DaemonClock
    private let cache: RuleCache
    private let evaluator: RollingEvaluator
    private let settler: FiringSettler
    private let ticker: Ticker
    private let service: RuleService
    private let reporter: any EngineReporter
    private let subscription: ArrivalSignal.Subscription
    /// Workspaces whose crossings are being acted on; true: look once more when done.
    private let settling = Mutex<[WorkspaceID: Bool]>([:])
    private let changed = Mutex<Set<WorkspaceID>>([])

    init(
        store: any Store, clock: any DaemonClock, cache: RuleCache, evaluator: RollingEvaluator,
        settler: FiringSettler, ticker: Ticker, service: RuleService, reporter: any EngineReporter,
        arrivals: ArrivalSignal
    ) {
        self.store = store
        self.clock = clock
        self.cache = cache
        self.evaluator = evaluator
        self.settler = settler
        self.ticker = ticker
        self.service = service
        self.reporter = reporter
        subscription = arrivals.subscribe()
    }

    /// How long nothing may happen before all workspaces are looked at: rules are checked against the vendor then.
    static let longestRest: Duration = .seconds(3600)
    static let shortestRest: Duration = .milliseconds(250)
    /// How long a failing workspace rests.
    static let restAfterFailure: Duration = .seconds(30)

    /// Runs until its task is cancelled. A workspace that fails is reported and tried again; a vendor that hangs holds up
    /// its own workspace's crossings and nobody's windows.
    public func run() async throws {
        try await withThrowingDiscardingTaskGroup { tasks in
            var due = Set(try await store.ruleWorkspaces())
            for workspace in due { tasks.addTask { try await self.deliverLeftovers(workspace) } }
            var nextCheck = clock.now
            while true {
                var hasFailed = false
                // A page for each workspace in turn, so that a busy one keeps no other waiting.
                while !due.isEmpty {
                    for workspace in due.sorted() {
                        try Task.checkCancellation()
                        let outcome = try await evaluate(workspace)
                        if outcome == .failed { hasFailed = true }
                        if outcome != .hasMore { due.remove(workspace) }
                        if startSettling(workspace) { tasks.addTask { try await self.settle(workspace) } }
                    }
                    if !due.isEmpty { due.formUnion(takeDue(subscription.take())) }
                }
                if clock.now >= nextCheck {
                    nextCheck = clock.now + Self.longestRest
                    tasks.addTask { await self.service.recheck() }
                }
                due = try await nextDue(afterFailure: hasFailed)
            }
        }
    }

    /// A workspace's rules were changed, or its crossings may be acted on again.
    func wake(_ workspace: WorkspaceID) {
        changed.withLock { _ = $0.insert(workspace) }
        subscription.nudge()
    }

    /// Evaluates everything that is stored and acts on what is due, for one workspace: what `run` does on a signal.
    public func catchUp(_ workspace: WorkspaceID) async throws {
        while try await evaluator.advance(workspace).hasMore { try Task.checkCancellation() }
        for connection in try await settler.settleDue(workspace) { _ = try await ticker.flush(connection) }
    }

    // MARK: Steps

    private enum Outcome { case done, hasMore, failed }

    /// One page. A workspace that fails is tried again later.
    private func evaluate(_ workspace: WorkspaceID) async throws -> Outcome {
        do {
            return try await evaluator.advance(workspace).hasMore ? .hasMore : .done
        } catch is CancellationError {
            throw CancellationError()
        } catch {
            cache.forget(workspace)
            reporter.rulesNoticed(workspace, "rules could not be evaluated: \(error)")
            return .failed
        }
    }

    /// A process that died may have left deliveries that nobody had begun.
    private func deliverLeftovers(_ workspace: WorkspaceID) async throws {
        do {
            for connection in try await store.connections(workspace: workspace) where connection.state == .active {
                _ = try await ticker.flush(connection)
            }
        } catch is CancellationError {
            throw CancellationError()
        } catch {
            reporter.rulesNoticed(workspace, "deliveries could not be taken up again: \(error)")
        }
    }

    private func startSettling(_ workspace: WorkspaceID) -> Bool {
        settling.withLock { settling in
            guard settling[workspace] == nil else {
                settling[workspace] = true
                return false
            }
            settling[workspace] = false
            return true
        }
    }

    private func settle(_ workspace: WorkspaceID) async throws {
        while true {
            do {
                for connection in try await settler.settleDue(workspace) { _ = try await ticker.flush(connection) }
            } catch is CancellationError {
                settling.withLock { settling in settling[workspace] = nil }
                throw CancellationError()
            } catch {
                // What waits is on disk and due again: the next signal, click or hour finds it.
                reporter.rulesNoticed(workspace, "crossings of rules could not be acted on: \(error)")
                try await clock.sleep(for: Self.restAfterFailure)
            }
            let isDone = settling.withLock { settling -> Bool in
                if settling[workspace] == true {
                    settling[workspace] = false
                    return false
                }
                settling[workspace] = nil
                return true
            }
            if isDone { break }
        }
        // A put-off crossing may be due before anything else happens.
        subscription.nudge()
    }

    /// Waits for clicks, changes, or the time of the next crossing that was put off.
    private func nextDue(afterFailure: Bool) async throws -> Set<WorkspaceID> {
        var rest = afterFailure ? Self.restAfterFailure : Self.longestRest
        let now = clock.now
        if let next = try await store.nextFiring(), settling.withLock({ $0.isEmpty }) {
            rest = min(rest, max(Self.shortestRest, next - now))
        }
        let pause = rest
        let arrivals = try await withThrowingTaskGroup(of: Arrivals?.self) { group in
            group.addTask { [subscription] in try await subscription.next() }
            group.addTask { [subscription, clock] in
                try await clock.sleep(for: pause)
                subscription.nudge()
                return nil
            }
            defer { group.cancelAll() }
            while let first = try await group.next() { if let first { return first } }
            return Arrivals()
        }
        var due = takeDue(arrivals)
        if clock.now >= now + pause { due.formUnion(try await store.ruleWorkspaces()) }
        return due
    }

    /// The workspaces that an arrival or a change concerns.
    private func takeDue(_ arrivals: Arrivals) -> Set<WorkspaceID> {
        let changed = self.changed.withLock { changed in
            defer { changed = [] }
            return changed
        }
        return changed.union(arrivals.clicks).union(arrivals.connections)
    }
}
