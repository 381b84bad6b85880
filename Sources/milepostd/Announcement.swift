// SPDX-License-Identifier: Apache-2.0

import CMilepostLinux
import Logging
import MilepostSupervision
import NIOCore
import NIOPosix
import ServiceLifecycle
import Synchronization

/// Tells the service manager where the daemon's life has got to. Ready means that every listener listens and that the
/// engine has recovered and takes work.
final class Announcement: Service, Sendable {
    private struct State {
        var awaited: Int
        var isReady = false
    }

    private let manager: ServiceManager
    private let logger: Logger
    private let state: Mutex<State>

    /// - Parameter listeners: how many must listen before the daemon is ready.
    init(_ manager: ServiceManager, listeners: Int, logger: Logger) {
        self.manager = manager
        self.logger = logger
        state = Mutex(State(awaited: listeners + 1))
    }

    /// One listener listens, or the engine takes work.
    func arrived() {
        let isLast = state.withLock { state in
            state.awaited -= 1
            return state.awaited == 0
        }
        guard isLast else { return }
        state.withLock { $0.isReady = true }
        tell(.ready(status: "takes work"))
    }

    /// A standby does what it is there for, so that whoever starts it need not wait for the other daemon's end.
    func standsBy() { tell(.ready(status: "standby: another daemon works on this data directory")) }

    /// The start takes long because the database is brought up to date: the manager must not give up meanwhile.
    func upgrades(_ doing: String) { tell(.extends(.seconds(300), status: doing)) }

    func reloads() {
        guard state.withLock({ $0.isReady }) else { return }
        tell(.reloading(at: milepost_monotonic_ns() / 1000))
    }

    /// - Parameter isRefused: whether the old configuration stays in force.
    func reloaded(isRefused: Bool) {
        guard state.withLock({ $0.isReady }) else { return }
        tell(.ready(status: isRefused ? "takes work; the last reload was refused, see the log" : "takes work"))
    }

    /// Waits for the end to be asked for, and says that it is under way.
    func run() async throws {
        try? await gracefulShutdown()  // cancelled: the end comes all the same
        tell(.stopping(status: "finishes what is under way"))
    }

    /// Feeds the watchdog until the task is cancelled. Each sign of life has been through the pool and every event loop: a
    /// daemon in which one of them is stuck answers nobody and should be started anew.
    func feedWatchdog() async {
        guard let interval = manager.watchdogInterval else { return }
        while !Task.isCancelled {
            do {
                for loop in MultiThreadedEventLoopGroup.singleton.makeIterator() { try await loop.submit {}.get() }
            } catch {
                logger.error(
                    "an event loop takes no work: the service manager will end this daemon",
                    metadata: ["error": "\(error)"])
                return
            }
            tell(.watchdog)
            try? await Task.sleep(for: interval)
        }
    }

    private func tell(_ news: ServiceNews) {
        do { try manager.tell(news) } catch {
            logger.warning("\(error)", metadata: ["code": "\(SupervisionError.code)"])
        }
    }
}
