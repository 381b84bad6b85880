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
        subscription = arrivals.subscribe(to: .clicksOf([]))
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
            var due = try await allWorkspaces()
            // Clicks alone make no crossing due: only those that fire do.
            var toSettle = due
            for workspace in due { tasks.addTask { try await self.deliverLeftovers(workspace) } }
            var nextCheck = clock.now
            var lastLook = clock.now
            var retryAt: Timestamp?
            while true {
                // A page for each workspace in turn, so that a busy one keeps no other waiting.
                while !due.isEmpty {
                    for workspace in due.sorted() {
                        try Task.checkCancellation()
                        let outcome = try await evaluate(workspace)
                        if outcome.hasFailed { retryAt = retryAt ?? clock.now + Self.restAfterFailure }
                        if !outcome.hasMore { due.remove(workspace) }
                        if toSettle.remove(workspace) != nil || outcome.hasFired, startSettling(workspace) {
                            tasks.addTask { try await self.settle(workspace) }
                        }
                    }
                    if !due.isEmpty { take(subscription.take(), &due, &toSettle) }
                }
                if clock.now >= nextCheck {
                    nextCheck = clock.now + Self.longestRest
                    tasks.addTask { await self.service.recheck() }
                }
                let isTime = try await rest(since: lastLook, retryAt: retryAt, &due, &toSettle)
                if isTime {
                    let all = try await allWorkspaces()
                    due.formUnion(all)
                    toSettle.formUnion(all)
                    lastLook = clock.now
                    retryAt = nil
                }
            }
        }
    }

    /// A workspace's rules were changed, or its crossings may be acted on again.
    func wake(_ workspace: WorkspaceID) {
        subscription.listen(to: workspace)
        changed.withLock { _ = $0.insert(workspace) }
        subscription.nudge()
    }

    /// Evaluates everything that is stored and acts on what is due, for one workspace: what `run` does on a signal.
    public func catchUp(_ workspace: WorkspaceID) async throws {
        while try await evaluator.advance(workspace).hasMore { try Task.checkCancellation() }
        for connection in try await settler.settleDue(workspace) { _ = try await ticker.flush(connection) }
    }

    // MARK: Steps

    private struct Outcome {
        var hasMore = false
        var hasFired = false
        var hasFailed = false
    }

    /// One page. A workspace that fails is tried again later.
    private func evaluate(_ workspace: WorkspaceID) async throws -> Outcome {
        do {
            let step = try await evaluator.advance(workspace)
            return Outcome(hasMore: step.hasMore, hasFired: step.firings > 0)
        } catch is CancellationError {
            throw CancellationError()
        } catch {
            cache.forget(workspace)
            reporter.rulesNoticed(workspace, "rules could not be evaluated: \(error)")
            return Outcome(hasFailed: true)
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

    /// All that have rules or crossings that wait; their clicks are heard of from here on, and nobody else's.
    private func allWorkspaces() async throws -> Set<WorkspaceID> {
        let all = Set(try await store.ruleWorkspaces())
        for workspace in all { subscription.listen(to: workspace) }
        return all
    }

    /// Waits for clicks or changes, and takes them.
    ///
    /// - Returns: whether it is time to look at all workspaces: for the next crossing that was put off, for those that
    ///   failed, or because an hour is over. Clicks that keep coming do not put that off.
    private func rest(
        since lastLook: Timestamp, retryAt: Timestamp?, _ due: inout Set<WorkspaceID>,
        _ toSettle: inout Set<WorkspaceID>
    ) async throws -> Bool {
        var lookAt = lastLook + Self.longestRest
        if let retryAt { lookAt = min(lookAt, retryAt) }
        if let next = try await store.nextFiring(), settling.withLock({ $0.isEmpty }) {
            lookAt = min(lookAt, max(next, lastLook + Self.shortestRest))
        }
        // The clock may have stepped back.
        let now = clock.now
        let pause = min(max(.milliseconds(1), lookAt - now), Self.longestRest)
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
        take(arrivals, &due, &toSettle)
        return clock.now >= min(lookAt, now + pause)
    }

    /// The workspaces that an arrival or a change concerns.
    private func take(_ arrivals: Arrivals, _ due: inout Set<WorkspaceID>, _ toSettle: inout Set<WorkspaceID>) {
        let changed = self.changed.withLock { changed in
            defer { changed = [] }
            return changed
        }.union(arrivals.connections)
        due.formUnion(changed)
        due.formUnion(arrivals.clicks)
        // A form may say whose a click was that waits.
        due.formUnion(arrivals.forms.keys)
        toSettle.formUnion(changed)
    }
}
