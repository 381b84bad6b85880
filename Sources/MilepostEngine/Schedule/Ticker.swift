// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
public import MilepostStore

/// Runs ticks: every workspace with a connection, isolated from the others, under the workspace's lock (DUP-01).
///
/// One tick at a time per ticker; a call during a tick waits for it and then runs its own, so that `milepost tick` after
/// an import always sees the import.
public actor Ticker {
    private let store: any Store
    private let plugins: any PluginPort
    private let clock: any DaemonClock
    private let evaluator: Evaluator
    private let dispatcher: Dispatcher
    private let owner: String
    private let reporter: any EngineReporter
    private var running = false
    private var queue: [CheckedContinuation<Void, Never>] = []

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

    /// Evaluates and delivers, for one workspace or for all, and records the run.
    public func tick(workspace only: WorkspaceID? = nil) async throws -> TickReport {
        await takeTurn()
        defer { passTurn() }
        var report = TickReport(startedAt: clock.now, finishedAt: clock.now)
        let connections = try await store.connections(workspace: only).filter { $0.state != .disconnected }
        for (workspace, members) in Dictionary(grouping: connections, by: \.workspace).sorted(by: { $0.key < $1.key }) {
            do {
                report.workspaces += 1
                try await handle(workspace, members.sorted { $0.id < $1.id }, into: &report)
            } catch is CancellationError {
                throw CancellationError()
            } catch {
                report.errors.append(.init(workspace: workspace, message: "\(error)"))
                reporter.tickFailed(workspace, "\(error)")
            }
        }
        report.finishedAt = clock.now
        try await store.recordRun(
            ScheduleRun(
                schedule: Self.scheduleName, startedAt: report.startedAt, finishedAt: report.finishedAt,
                succeeded: report.errors.isEmpty, summary: report.json))
        reporter.ticked(report)
        return report
    }

    /// Delivers what one connection has waiting, without evaluating: after a reauthorisation nobody should wait for the
    /// next tick (REA-06).
    public func flush(_ connection: Connection) async throws -> DeliveryTally {
        await takeTurn()
        defer { passTurn() }
        guard try await lock(connection.workspace) else { return DeliveryTally() }
        let tally: DeliveryTally
        do {
            tally = try await dispatcher.drain(connection, asOf: clock.now)
        } catch {
            try await store.unlockWorkspace(connection.workspace, owner: owner)
            throw error
        }
        try await store.unlockWorkspace(connection.workspace, owner: owner)
        return tally
    }

    private func handle(_ id: WorkspaceID, _ connections: [Connection], into report: inout TickReport) async throws {
        guard let workspace = try await store.workspace(id), try await lock(id) else { return }
        do {
            for connection in connections {
                guard let action = plugins.thresholdAction(of: connection.integration.plugin) else { continue }
                let current = try await reopenAfterMidnight(connection)
                let evaluated = try await evaluator.evaluate(current, workspace: workspace, action: action)
                report.linksExamined += evaluated.linksExamined
                report.crossings += evaluated.crossings
                report.deliveries += try await dispatcher.drain(current, asOf: clock.now)
            }
        } catch {
            try await store.unlockWorkspace(id, owner: owner)
            throw error
        }
        try await store.unlockWorkspace(id, owner: owner)
    }

    private func lock(_ workspace: WorkspaceID) async throws -> Bool {
        let now = clock.now
        return try await store.lockWorkspace(workspace, owner: owner, now: now, until: now + Self.lockLease)
    }

    /// A spent daily budget comes back by itself: the vendor resets it at midnight (crm-apis.md 2.4).
    private func reopenAfterMidnight(_ connection: Connection) async throws -> Connection {
        guard connection.state == .dailyBudget, connection.stateSince.day < clock.now.day else { return connection }
        if try await store.setState(id: connection.id, .active, reason: nil, at: clock.now) {
            reporter.connectionMoved(connection, to: .active, reason: nil)
        }
        return try await store.connection(id: connection.id) ?? connection
    }

    // MARK: Turns

    private func takeTurn() async {
        if !running {
            running = true
            return
        }
        await withCheckedContinuation { queue.append($0) }
    }

    private func passTurn() {
        if queue.isEmpty { running = false } else { queue.removeFirst().resume() }
    }
}
