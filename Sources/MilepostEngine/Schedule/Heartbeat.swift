// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
public import MilepostStore

/// Leaves a sign of life on disk every minute, so that the next start knows for how long nobody could try anything: the
/// caps of what was due stand still meanwhile (decisions 9, THR-17).
public struct Heartbeat: Sendable {
    let store: any Store
    let clock: any DaemonClock

    /// A small commit a minute; after a kill at most this much working time is taken for absence.
    public static let interval: Duration = .seconds(60)

    public init(store: any Store, clock: any DaemonClock) {
        self.store = store
        self.clock = clock
    }

    /// Runs until its task is cancelled.
    public func run() async throws {
        while true {
            try await clock.sleep(for: Self.interval)
            await beat()
        }
    }

    /// One sign, now. A store that cannot be written says so in health; the gap then only looks longer.
    public func beat() async { try? await store.heartbeat(at: clock.now) }
}
