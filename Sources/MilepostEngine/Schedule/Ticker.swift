// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
public import MilepostStore

/// Runs ticks: every workspace with a connection, in parallel and isolated, each under its lock (DUP-01, THR-02).
///
/// A workspace is worked on by one tick at a time; a vendor that hangs holds up its own connection only (RATE-14).
public actor Ticker {
    let store: any Store
    let plugins: any PluginPort
    let clock: any DaemonClock
    let evaluator: Evaluator
    private let dispatcher: Dispatcher
    private let owner: String
    let reporter: any EngineReporter
    private var busy: Set<WorkspaceID> = []
    private var waiting: [WorkspaceID: [CheckedContinuation<Void, Never>]] = [:]

    public init(
        store: any Store, plugins: any PluginPort, clock: any DaemonClock, evaluator: Evaluator, dispatcher: Dispatcher,
        owner: String, reporter: any EngineReporter
    ) {
        self.store = store
        self.plugins = plugins
        self.clock = clock
        self.evaluator = evaluator
        self.dispatcher = dispatcher
        self.owner = owner
        self.reporter = reporter
    }

    /// The job's name, as the schedule lists it (THR-01).
    public static let scheduleName = "click_threshold_hook"
    /// A lock left by a dispatcher that died is free again after this long.
    static let lockLease: Duration = .seconds(600)
    /// Workspaces worked on at once: more would only queue at the one writer of the store.
    static let parallelWorkspaces = 16

    /// Evaluates and delivers, for one workspace or for all, and records the run.
    ///
    /// - Parameter skipsBusy: leave out workspaces that another tick is still working on, as the schedule does; otherwise
    ///   wait for them, so that `milepost tick` after an import always sees the import.
    public func tick(workspace only: WorkspaceID? = nil, skipsBusy: Bool = false) async throws -> TickReport {
        var report = TickReport(startedAt: clock.now, finishedAt: clock.now)
        let connections = try await store.connections(workspace: only).filter { $0.state != .disconnected }
        let groups = Dictionary(grouping: connections, by: \.workspace).sorted { $0.key < $1.key }
        report.workspaces = groups.count
        var cursors: [ConnectionID: CursorMove] = [:]
        try await withThrowingTaskGroup(of: Share.self) { tasks in
            var rest = groups[...]
            for _ in 0..<Self.parallelWorkspaces {
                guard let (workspace, members) = rest.popFirst() else { break }
                tasks.addTask { try await self.share(of: workspace, members, skipsBusy: skipsBusy) }
            }
            while let share = try await tasks.next() {
                report.add(share)
                cursors.merge(share.cursors) { first, _ in first }
                guard let (workspace, members) = rest.popFirst() else { continue }
                tasks.addTask { try await self.share(of: workspace, members, skipsBusy: skipsBusy) }
            }
        }
        report.finishedAt = clock.now
        try await store.recordRun(
            ScheduleRun(
                schedule: Self.scheduleName, startedAt: report.startedAt, finishedAt: report.finishedAt,
                succeeded: report.errors.isEmpty, summary: report.json), cursors: cursors)
        reporter.ticked(report)
        return report
    }

    /// Delivers what one connection has waiting, without evaluating: after a reauthorisation nobody should wait for the
    /// next tick (REA-06).
    public func flush(_ connection: Connection) async throws -> DeliveryTally {
        await takeTurn(connection.workspace)
        defer { passTurn(connection.workspace) }
        return try await locked(connection.workspace) {
            guard let workspace = try await self.store.workspace(connection.workspace),
                let current = try await self.upToDate(connection.id, of: workspace)
            else { return DeliveryTally() }
            return try await self.dispatcher.drain(current, asOf: self.clock.now)
        } ?? DeliveryTally()
    }

    // MARK: One workspace

    /// What one workspace added to a tick.
    struct Share: Sendable {
        var linksExamined = 0
        var crossings = 0
        var deliveries = DeliveryTally()
        var cursors: [ConnectionID: CursorMove] = [:]
        var isLocked = false
        var error: TickReport.WorkspaceError?
    }

    /// Never throws but for cancellation: a workspace that fails is reported and leaves the others alone.
    private func share(of id: WorkspaceID, _ connections: [Connection], skipsBusy: Bool) async throws -> Share {
        if skipsBusy, busy.contains(id) { return Share() }
        await takeTurn(id)
        defer { passTurn(id) }
        do {
            return try await locked(id) { try await self.work(id, connections.sorted { $0.id < $1.id }) }
                ?? Share(isLocked: true)
        } catch is CancellationError {
            throw CancellationError()
        } catch {
            reporter.tickFailed(id, "\(error)")
            return Share(error: .init(workspace: id, message: "\(error)"))
        }
    }

    private func work(_ id: WorkspaceID, _ connections: [Connection]) async throws -> Share {
        guard let workspace = try await store.workspace(id) else { return Share() }
        var share = Share()
        var due: [Connection] = []
        for connection in connections {
            guard let current = try await upToDate(connection.id, of: workspace) else { continue }
            due.append(current)
            guard let action = plugins.thresholdAction(of: connection.integration.plugin) else { continue }
            let evaluated = try await evaluator.evaluate(
                current, workspace: workspace, action: action, off: plugins.switchedOff(action, on: current))
            share.linksExamined += evaluated.linksExamined
            share.crossings += evaluated.crossings
            share.cursors[current.id] = evaluated.looked
        }
        let asOf = clock.now
        try await withThrowingTaskGroup(of: DeliveryTally.self) { [dispatcher] drains in
            for connection in due { drains.addTask { try await dispatcher.drain(connection, asOf: asOf) } }
            // One that fails does not cut its neighbours off in the middle of theirs (RATE-14).
            var failure: (any Error)?
            while let result = await drains.nextResult() {
                switch result {
                case .success(let tally): share.deliveries += tally
                case .failure(let error): failure = failure ?? error
                }
            }
            if let failure { throw failure }
        }
        return share
    }

    // MARK: Locks and turns

    /// Nil when somebody else holds the workspace's lock.
    private func locked<Result: Sendable>(
        _ workspace: WorkspaceID, _ body: () async throws -> Result
    ) async throws -> Result? {
        let now = clock.now
        guard try await store.lockWorkspace(workspace, owner: owner, now: now, until: now + Self.lockLease) else {
            return nil
        }
        do {
            let result = try await body()
            try await store.unlockWorkspace(workspace, owner: owner)
            return result
        } catch {
            // The body's error is the one worth telling; an unreleased lock expires by itself.
            try? await store.unlockWorkspace(workspace, owner: owner)
            throw error
        }
    }

    private func takeTurn(_ workspace: WorkspaceID) async {
        if busy.insert(workspace).inserted { return }
        await withCheckedContinuation { waiting[workspace, default: []].append($0) }
    }

    private func passTurn(_ workspace: WorkspaceID) {
        if var line = waiting[workspace], !line.isEmpty {
            let next = line.removeFirst()
            waiting[workspace] = line.isEmpty ? nil : line
            next.resume()
        } else {
            busy.remove(workspace)
        }
    }
}

extension TickReport {
    mutating func add(_ share: Ticker.Share) {
        linksExamined += share.linksExamined
        crossings += share.crossings
        deliveries += share.deliveries
        if share.isLocked { locked += 1 }
        if let error = share.error { errors.append(error) }
    }
}
