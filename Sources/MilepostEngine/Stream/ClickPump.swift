// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
public import MilepostStore

/// Runs the click stream of every connection whose plugin takes clicks, each in a task of its own: a vendor that hangs or
/// limits holds up its own connection only (RATE-14), and never the intake, which knows nothing of it (ING-01).
public actor ClickPump {
    private let store: any Store
    private let plugins: any PluginPort
    private let stream: ConnectionStream
    private let clock: any DaemonClock
    private let reporter: any EngineReporter
    private let arrivals: ArrivalSignal.Subscription
    private var running: [ConnectionID: ArrivalSignal.Subscription] = [:]

    public init(
        store: any Store, plugins: any PluginPort, stream: ConnectionStream, clock: any DaemonClock,
        reporter: any EngineReporter
    ) {
        self.store = store
        self.plugins = plugins
        self.stream = stream
        self.clock = clock
        self.reporter = reporter
        arrivals = store.arrivals.subscribe(to: .connections)
    }

    /// After a failure of the store.
    static let pauseAfterFailure: Duration = .seconds(5)

    /// Looks again which plugins take clicks; call it when plugins were loaded or replaced.
    public nonisolated func nudge() { arrivals.nudge() }

    /// Runs until its task is cancelled.
    public func run() async throws {
        try await withThrowingDiscardingTaskGroup { group in
            while true {
                try await startMissing(&group)
                _ = try await arrivals.next()
            }
        }
    }

    private func startMissing(_ group: inout ThrowingDiscardingTaskGroup<any Error>) async throws {
        let connections: [Connection]
        do { connections = try await store.connections(workspace: nil) } catch is StoreError {
            try await clock.sleep(for: Self.pauseAfterFailure)
            arrivals.nudge()
            return
        }
        // One that waits for its plugin hears of nothing else when the plugin is back.
        for subscription in running.values { subscription.nudge() }
        for connection in connections where connection.state != .disconnected && running[connection.id] == nil {
            let plugin = connection.integration.plugin
            let wasThere = plugins.obstacle(for: plugin) == nil
            if plugins.clickActions(of: plugin).isEmpty {
                // One that is only switched off keeps its place: it goes on where it was. Asked before and after, because a
                // reload may come between the questions.
                if wasThere, plugins.obstacle(for: plugin) == nil { try? await store.closeStream(connection.id) }
                continue
            }
            // First the subscription, then the look at what is stored: nothing falls between.
            let subscription = store.arrivals.subscribe(to: .workspace(connection.workspace))
            running[connection.id] = subscription
            group.addTask {
                await self.serve(connection.id, of: connection.workspace, subscription)
                await self.ended(connection.id)
            }
        }
    }

    /// It may have been connected again while its stream was ending.
    private func ended(_ id: ConnectionID) {
        running[id] = nil
        arrivals.nudge()
    }

    private nonisolated func serve(
        _ id: ConnectionID, of workspace: WorkspaceID, _ subscription: ArrivalSignal.Subscription
    ) async {
        var state = ConnectionStream.State(now: clock.now)
        while !Task.isCancelled {
            let next: ConnectionStream.Next
            do {
                next = try await stream.pass(id, &state)
            } catch is CancellationError {
                return
            } catch {
                reporter.streamFailed(id, "\(error)")
                // Where it was is on disk.
                state = ConnectionStream.State(now: clock.now)
                next = .wait(until: clock.now + Self.pauseAfterFailure)
            }
            let arrived: Arrivals
            switch next {
            case .ended: return
            case .again: arrived = subscription.take()
            case .wait(let until):
                guard let waited = try? await wait(on: subscription, until: until) else { return }  // cancelled
                arrived = waited
            }
            state.note(arrived, of: workspace, now: clock.now)
        }
    }

    private nonisolated func wait(
        on subscription: ArrivalSignal.Subscription, until: Timestamp?
    ) async throws -> Arrivals {
        guard let until else { return try await subscription.next() }
        return try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { [clock] in
                try await clock.sleep(for: max(.milliseconds(1), until - clock.now))
                subscription.nudge()
            }
            let arrived = try await subscription.next()
            group.cancelAll()
            return arrived
        }
    }
}
