// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
public import MilepostStore

/// Runs a tick every interval, at fixed times without drift (THR-01), and at once when one was missed (THR-17).
public struct Scheduler: Sendable {
    let ticker: Ticker
    let store: any Store
    let clock: any DaemonClock
    public let interval: Duration

    public init(ticker: Ticker, store: any Store, clock: any DaemonClock, interval: Duration) {
        self.ticker = ticker
        self.store = store
        self.clock = clock
        self.interval = interval
    }

    /// Runs until its task is cancelled. A tick that takes longer than the interval does not delay the next one: that one
    /// leaves out the workspaces which are still being worked on.
    public func run() async throws {
        let isLate = try await isOverdue()
        try await withThrowingDiscardingTaskGroup { ticks in
            if isLate { ticks.addTask { try await runOnce() } }
            while true {
                let now = clock.now
                try await clock.sleep(for: next(after: now) - now)
                ticks.addTask { try await runOnce() }
            }
        }
    }

    /// The first multiple of the interval since the epoch that lies after `moment`.
    public func next(after moment: Timestamp) -> Timestamp {
        let step = max(1, interval.wholeMilliseconds)
        return Timestamp(milliseconds: (moment.milliseconds / step + 1) * step)
    }

    /// Whether the last run is more than one interval and its grace away (THR-18); true when there was none.
    public func isOverdue() async throws -> Bool {
        guard let last = try await store.lastRun(of: Ticker.scheduleName) else { return true }
        return clock.now > last.startedAt + interval + .seconds(60)
    }

    /// A failing tick must not end the schedule: the ticker reports per workspace, and a store that is full or damaged
    /// shows in health and recovers or stops there.
    private func runOnce() async throws {
        do { _ = try await ticker.tick(skipsBusy: true) } catch is CancellationError { throw CancellationError() } catch
        {
            // Reported by the ticker; the next tick catches up from the cursor.
        }
    }
}
