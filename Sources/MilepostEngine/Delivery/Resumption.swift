// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
package import MilepostStore

/// Lets a connection go on that works again.
package struct Resumption {
    let store: any Store
    let ticker: Ticker
    let clock: any DaemonClock
    let reporter: any EngineReporter

    /// Between the drains of a connection that was enabled again.
    static let pause: Duration = .seconds(10)

    package init(store: any Store, ticker: Ticker, clock: any DaemonClock, reporter: any EngineReporter) {
        self.store = store
        self.ticker = ticker
        self.clock = clock
        self.reporter = reporter
    }

    /// Delivers what waits: at once; or, where the connection was disabled for its endpoint, oldest first and each time
    /// more than the time before, until one fails, after which ticks go on. So they do when the store fails, which the
    /// reporter hears of.
    package func run(_ connection: Connection) async {
        do {
            if connection.health.resumeQuota == nil {
                _ = try await ticker.flush(connection)
                return
            }
            while let current = try await store.connection(id: connection.id), current.state == .active,
                current.health.resumeQuota != nil
            {
                _ = try await ticker.flush(current)
                guard let after = try await store.connection(id: connection.id), after.health.failures == 0 else {
                    return
                }
                try await clock.sleep(for: Self.pause)
            }
        } catch is CancellationError {
            // The daemon ends, and the next one's ticks go on.
        } catch {
            reporter.goingOnFailed(connection, "\(error)")
        }
    }
}

extension Engine {
    /// Delivers what waits on a connection that works again, without waiting for a tick (REA-06): all at once, or by and by
    /// where it was disabled for its endpoint (EXT-08). Never throws: the queue is on disk, and ticks go on with it.
    public func goOn(_ connection: Connection) async {
        await Resumption(store: store, ticker: ticker, clock: clock, reporter: reporter).run(connection)
    }
}
