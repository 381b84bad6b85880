// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostStore
import Synchronization

/// Watches how deliveries to each connection's endpoint go, and disables one where nothing succeeds for too long (EXT-08).
/// The count is on disk; a connection that works costs no write.
final class EndpointWatch: Sendable {
    private let store: any Store
    private let clock: any DaemonClock
    private let reporter: any EngineReporter
    /// Where a failure was noted since the last success: a caller's copy of the connection may be older than that.
    private let failing = Mutex<Set<ConnectionID>>([])

    init(store: any Store, clock: any DaemonClock, reporter: any EngineReporter) {
        self.store = store
        self.clock = clock
        self.reporter = reporter
    }

    /// What a verdict says about the endpoint.
    enum Sign: Equatable {
        case works, fails
        /// It was not asked, or its answer is about the record or the credential only.
        case silent
    }

    static func sign(of verdict: Verdict) -> Sign {
        switch verdict.kind {
        case .ok: return .works
        case .retry, .uncertain: return verdict.wasHeldBack || verdict.neverReachedPlugin ? .silent : .fails
        case .rejected:
            let isDecision =
                verdict.code.map { $0 == "contact_unknown" || DeliveryMachine.decidedNotToHappen.contains($0) } ?? false
            // Without a status it is the plugin that refuses.
            return isDecision || verdict.httpStatus == nil ? .silent : .fails
        // A request to wait (429) is no failure, however long it lasts: the other side lives, says when to come back and is
        // obeyed (RATE-06, TRB-07). A vendor whose daily budget is spent answers nothing else until its midnight, longer than
        // `disable_after`; disabled, it would wait for a person where it goes on by itself. Nor is it a success: it ends no
        // run of failures. One who asks for patience for ever is seen by the caps, which end its deliveries as `gave_up`
        // (Z-04). Tokens and settings have states of their own, crashes a quarantine.
        case .rateLimited, .authExpired, .authRevoked, .config, .cancelled, .deadline, .pluginBug, .crashed,
            .unsupported:
            return .silent
        }
    }

    /// Takes note of the verdicts of one call.
    ///
    /// - Returns: whether the connection was disabled for them.
    func observe(_ verdicts: [Verdict], on connection: Connection) async throws -> Bool {
        let signs = verdicts.map(Self.sign)
        if signs.contains(.works) {
            let wasFailing = failing.withLock { $0.remove(connection.id) != nil }
            if wasFailing || connection.health.failures > 0 { try await store.noteSuccess(connection: connection.id) }
            return false
        }
        guard let last = signs.lastIndex(of: .fails).map({ verdicts[$0] }) else { return false }
        let now = clock.now
        failing.withLock { _ = $0.insert(connection.id) }
        let count = signs.count { $0 == .fails }
        let health = try await store.noteFailures(
            connection: connection.id, count: count, reason: last.reason, at: now)
        let policy = connection.policy.endpoint ?? EndpointPolicy()
        guard let due = policy.disablesAt(health), due <= now, let since = health.failingSince else {
            if policy.isFailing(health), health.failures - count < policy.minimumFailures {
                reporter.connectionFails(connection, health, disablesAt: policy.disablesAt(health))
            }
            return false
        }
        let reason = Reason(
            code: Connection.endpointFailing,
            message: "Disabled: \(health.failures) attempts since \(since) failed and none succeeded, the last with: "
                + "\(last.reason.message) What waits is kept; when the other side works again: "
                + "milepost integrations enable \(connection.integration).")
        if try await store.setState(id: connection.id, .disabled, reason: reason, at: now) {
            reporter.connectionMoved(connection, to: .disabled, reason: reason)
        }
        return true
    }

    /// After a drain of a connection that was enabled again, in which all went well: the next one may send more.
    func passed(_ connection: Connection) async throws {
        guard connection.health.resumeQuota != nil else { return }
        try await store.setResumeQuota(connection: connection.id, connection.health.nextQuota)
    }
}
