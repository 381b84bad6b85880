// SPDX-License-Identifier: Apache-2.0

import Logging
import MilepostModel
import MilepostStore

/// Says when writing stops and when it goes on, and finds out by itself that there is room again: whoever follows
/// readiness sends no click meanwhile that would.
struct StorageWatch {
    let store: SQLiteStore
    let clock: any DaemonClock
    let logger: Logger

    static let interval: Duration = .seconds(5)

    /// Runs until its task is cancelled.
    func run() async throws {
        var isStopped = false
        while true {
            try await clock.sleep(for: Self.interval)
            var health = await store.health()
            if !health.isWritable, health.problem != .corrupt {
                await probe()
                health = await store.health()
            }
            if !health.isWritable, !isStopped {
                logger.error(
                    "the store cannot be written: nothing new is accepted until it can",
                    metadata: [
                        "problem": "\(health.problem?.rawValue ?? "unknown")", "detail": "\(health.detail ?? "")",
                        "free_bytes": "\(health.freeDiskBytes)",
                    ])
            } else if health.isWritable, isStopped {
                logger.warning("the store can be written again")
            }
            isStopped = !health.isWritable
        }
    }

    /// A write that changes nothing anybody reads.
    private func probe() async {
        let now = clock.now
        let run = ScheduleRun(schedule: "storage_probe", startedAt: now, finishedAt: now, succeeded: true)
        try? await store.recordRun(run)  // health says what came of it
    }
}
