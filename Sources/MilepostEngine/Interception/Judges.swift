// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostStore

/// Brings what is due before its judges, and stores what they decide, before anything of it leaves (HOOK-01 to HOOK-06).
///
/// A delivery is claimed for its judgement, and given back when that is stored: the dispatcher then delivers what was let
/// through as it delivers everything else. So a crash finds either a decision, which counts, or none, and then the judges
/// are asked again with the same key while nothing of their first answer has had an effect.
struct Judges: Sendable {
    let store: any Store
    let plugins: any PluginPort
    let clock: any DaemonClock
    let owner: String
    let reporter: any EngineReporter

    /// Questions under way at once for one connection's records.
    static let atOnce = 8
    /// For so long one drain asks; what is left waits for the next, and what was let through leaves meanwhile.
    static let patience = Duration.seconds(30)
    /// A judge that does not come to an end is given up after so many questions or so much time.
    static let maximumAsks = 500
    static let longestWait = Duration.seconds(30 * 86_400)
    /// While a judge that was to be waited for fails: doubled each time.
    static let firstPause = Duration.seconds(60)
    static let longestPause = Duration.seconds(3600)
    /// A hold without a time.
    static let defaultHold = Duration.seconds(300)

    struct Judge: Sendable {
        var connection: Connection
        var policy: InterceptPolicy
        /// Nil while its plugin is not there: nobody knows then what it judges.
        var points: [HookPoint]?

        func isAsked(at point: String) -> Bool { points?.contains { $0.name == point } ?? true }

        func budget(at point: String) -> Duration {
            policy.budgetMilliseconds.map { .milliseconds($0) }
                ?? points?.first { $0.name == point }?.budget ?? .seconds(5)
        }

        /// Without a manifest to ask the careful side: a wait ends, a deal that nobody judged stays.
        func onFailure(at point: String) -> InterceptPolicy.OnFailure {
            policy.onFailure ?? points?.first { $0.name == point }?.onFailure ?? .hold
        }
    }

    /// Who judges what the connection does, in the order in which they are asked.
    func judges(of connection: Connection) async throws -> [Judge] {
        try await store.connections(workspace: connection.workspace).compactMap { other -> Judge? in
            guard other.id != connection.id, other.state != .disconnected, let policy = other.policy.intercept,
                policy.isOn, policy.judges(connection.integration)
            else { return nil }
            let points = plugins.hookPoints(of: other.integration.plugin)
            return points?.isEmpty == true ? nil : Judge(connection: other, policy: policy, points: points)
        }.sorted {
            ($0.policy.order, $0.connection.integration.description)
                < ($1.policy.order, $1.connection.integration.description)
        }
    }

    /// Has everything of the connection judged that is due at `asOf` and was not yet.
    func judgeDue(
        on connection: Connection, by judges: [Judge], excluding actions: [String], asOf: Timestamp
    ) async throws {
        // Nobody judges any more: what was held for it leaves.
        let due = judges.isEmpty ? Timestamp(milliseconds: .max) : asOf
        _ = try await store.releaseJudged(connection: connection.id, due: due, at: clock.now)
        guard !judges.isEmpty else { return }
        let start = clock.now
        while clock.now - start < Self.patience {
            try Task.checkCancellation()
            let claims = try await store.claimUnjudged(
                connection: connection.id, owner: owner, now: asOf, limit: Self.atOnce, excluding: actions)
            if claims.isEmpty { return }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for claim in claims {
                    group.addTask { try await settle(claim, on: connection, by: judges, asOf: asOf) }
                }
                try await group.waitForAll()
            }
        }
    }

    private func settle(
        _ claim: ClaimedDelivery, on connection: Connection, by judges: [Judge], asOf: Timestamp
    ) async throws {
        let judgement = try await judge(claim, on: connection, by: judges, asOf: asOf)
        CrashPoint.reach("before_judgement")
        try await store.storeJudgement(judgement, at: clock.now)
        CrashPoint.reach("after_judgement")
        for decision in judgement.decisions { reporter.judged(decision, on: connection) }
        if let state = judgement.settledState, let reason = judgement.reason {
            reporter.settled(
                DeliveryOutcome(delivery: claim.delivery.id, state: state, reason: reason, at: clock.now),
                on: connection)
        }
    }

    // MARK: One delivery

    private func judge(
        _ claim: ClaimedDelivery, on connection: Connection, by judges: [Judge], asOf: Timestamp
    ) async throws -> Judgement {
        let delivery = claim.delivery
        var judgement = Judgement(delivery: delivery.id, fate: .passed)
        // What has begun at the vendor is no crossing any more that could be vetoed.
        guard claim.journal.isEmpty,
            let point = plugins.hookPoint(before: delivery.action, of: connection.integration.plugin)
        else { return judgement }
        let history = try await store.decisions(of: delivery.id)
        let question = Question(
            delivery: delivery, point: point, connection: connection, history: history)
        var event = delivery.payload
        for judge in judges where judge.isAsked(at: point) {
            let earlier = history.filter { $0.judge == judge.connection.id }
            if earlier.last?.effect == .passed { continue }
            // A replay begins anew after the end that the judge made of it.
            let open = earlier.suffix(from: earlier.lastIndex { $0.effect == .dropped }.map { $0 + 1 } ?? 0)
            if let first = open.first,
                open.count >= Self.maximumAsks || clock.now - first.askedAt >= Self.longestWait
            {
                let reason = Reason(
                    code: "hook_undecided",
                    message: "Hook \(judge.connection.integration) was asked \(open.count) times since "
                        + "\(first.askedAt) and never decided; replay asks it again.")
                judgement.decisions.append(
                    InterceptDecision(
                        delivery: delivery.id, point: point, judge: judge.connection.id,
                        integration: judge.connection.integration, ask: earlier.count, askedAt: clock.now,
                        answeredAt: clock.now, verdict: .failed, effect: .dropped, code: reason.code))
                judgement.fate = .dead(reason)
                return judgement
            }
            let answer = await ask(judge, question, event: event, number: (earlier.last?.ask ?? 0) + 1)
            switch answer {
            case .vendorFailed(let verdict):
                try await follow(verdict, on: connection)
                judgement.fate = .later(
                    max(asOf, clock.now) + .milliseconds(1),
                    Reason(
                        code: verdict.reason.code,
                        message: "What hook \(judge.connection.integration) changed could not be checked yet: "
                            + verdict.reason.message))
                return judgement
            case .decided(let decision, let changed):
                judgement.decisions.append(decision)
                if let changed {
                    event = changed
                    judgement.payload = changed
                }
                if decision.effect != .passed {
                    judgement.fate = Self.fate(of: decision)
                    return judgement
                }
            }
        }
        return judgement
    }

    private static func fate(of decision: InterceptDecision) -> Judgement.Fate {
        let why = decision.message.map { ": \($0)." } ?? "."
        let until = decision.until ?? decision.answeredAt
        switch (decision.effect, decision.verdict) {
        case (.passed, _): return .passed
        case (.dropped, _):
            return .dropped(
                Reason(code: "vetoed_by_hook", message: "Vetoed by hook \(decision.integration)\(why)"))
        case (.held, .failed):
            return .held(
                until: until,
                Reason(
                    code: "hook_failed",
                    message: "Waits, because hook \(decision.integration) did not judge it\(why) "
                        + "It is asked again at \(until)."))
        case (.held, _):
            return .held(
                until: until,
                Reason(
                    code: "held_by_hook", message: "Held by hook \(decision.integration) until \(until)\(why)"))
        }
    }

    /// A vendor that refuses to list its pipelines refuses deals as well.
    private func follow(_ verdict: Verdict, on connection: Connection) async throws {
        guard let state = DeliveryMachine.connectionState(for: verdict) else { return }
        if try await store.setState(id: connection.id, state, reason: verdict.reason, at: clock.now) {
            reporter.connectionMoved(connection, to: state, reason: verdict.reason)
        }
    }
}

extension Judgement {
    fileprivate var settledState: Delivery.State? {
        switch fate {
        case .passed, .later: nil
        case .held: .held
        case .dropped: .dropped
        case .dead: .dead
        }
    }

    fileprivate var reason: Reason? {
        switch fate {
        case .passed: nil
        case .held(_, let reason), .dropped(let reason), .dead(let reason), .later(_, let reason): reason
        }
    }
}
