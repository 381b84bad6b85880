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
    /// More than any transaction takes. On a disk with less the probe may fit where the next batch of clicks does not, so its
    /// success would prove nothing.
    static let roomToGoOn: Int64 = 16 << 20

    /// Runs until its task is cancelled.
    func run() async throws {
        var stop: StoreError.Code?
        while true {
            try await clock.sleep(for: Self.interval)
            let failure = store.takeFailure()
            var health = await store.health()
            // What failed since the last look counts, though a smaller write has found its place meanwhile.
            if stop == nil, let problem = failure?.code ?? health.problem {
                stop = problem
                say(problem, detail: failure?.detail ?? health.detail, health)
            }
            let hasRoom = stop != .storageFull || health.freeDiskBytes >= Self.roomToGoOn
            if !health.isWritable, health.problem != .corrupt, hasRoom {
                await probe()
                health = await store.health()
            }
            if stop != nil, failure == nil, health.isWritable, hasRoom {
                stop = nil
                logger.notice("the store can be written again")
            }
        }
    }

    private func say(_ problem: StoreError.Code, detail: String?, _ health: StoreHealth) {
        let cure =
            switch problem {
            case .storageFull: "make room on the disk of data_dir, and it goes on by itself"
            case .corrupt: "stop the daemon and restore the newest backup"
            default: "see to the disk of data_dir; it goes on by itself"
            }
        logger.error(
            "the store cannot be written: what is refused is not stored, what was acknowledged is safe; \(cure)",
            metadata: [
                "code": "\(problem.rawValue)", "detail": "\(detail ?? "")", "free_bytes": "\(health.freeDiskBytes)",
            ])
    }

    /// A write that changes nothing anybody reads.
    private func probe() async {
        let now = clock.now
        let run = ScheduleRun(schedule: "storage_probe", startedAt: now, finishedAt: now, succeeded: true)
        try? await store.recordRun(run)  // health says what came of it
    }
}
