// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostStore

extension Judges {
    /// What stays the same for all judges of one delivery.
    struct Question: Sendable {
        var delivery: Delivery
        var point: String
        var connection: Connection
        var history: [InterceptDecision]

        /// `include/milepost/schemas/intercept.request.json`. The key is the same however often it is asked, so that a
        /// service can tell a repetition.
        func body(event: JSONValue, ask: Int, at: Timestamp, budget: Duration) -> JSONValue {
            [
                "point": .string(point), "delivery_id": .string(delivery.id.rawValue),
                "idempotency_key": .string(delivery.id.rawValue), "ask": .integer(Int64(ask)),
                "asked_at": .string(at.description), "budget_ms": .integer(budget.wholeMilliseconds),
                "integration": .string(connection.integration.description), "action": .string(delivery.action),
                "event": event,
            ]
        }
    }

    enum Asked: Sendable {
        /// With the event as it is from here on; nil where it stays.
        case decided(InterceptDecision, JSONValue?)
        /// The judge has answered, and the vendor could not be asked whether that is possible.
        case vendorFailed(Verdict)
    }

    /// What there is to read in a judge's answer, or what was wrong.
    private enum Heard {
        case answer(InterceptAnswer, reason: String?)
        case failure(Reason)
    }

    func ask(_ judge: Judge, _ question: Question, event: JSONValue, number: Int) async -> Asked {
        let askedAt = clock.now
        let heard = await hear(judge, question, event: event, number: number, since: askedAt)
        var decision = InterceptDecision(
            delivery: question.delivery.id, point: question.point, judge: judge.connection.id,
            integration: judge.connection.integration, ask: number, askedAt: askedAt, answeredAt: clock.now,
            verdict: .continue, effect: .passed)
        switch heard {
        case .failure(let reason): return .decided(failed(decision, judge, reason), nil)
        case .answer(let answer, let reason):
            decision.message = reason
            switch answer {
            case .proceed: return .decided(decision, nil)
            case .drop:
                decision.verdict = .drop
                decision.effect = .dropped
                return .decided(decision, nil)
            case .hold(let until):
                decision.verdict = .hold
                decision.effect = .held
                decision.until = max(until ?? clock.now + Self.defaultHold, clock.now + .seconds(1))
                return .decided(decision, nil)
            case .change(let change):
                return await changed(decision, change, judge, question, event: event)
            }
        }
    }

    /// Within the budget, a judge that could not be reached is asked once more.
    private func hear(
        _ judge: Judge, _ question: Question, event: JSONValue, number: Int, since: Timestamp
    ) async -> Heard {
        let name = judge.connection.integration
        guard judge.connection.state == .active else {
            return .failure(
                Reason(
                    code: "hook_not_active",
                    message: "\(name) is \(judge.connection.state.rawValue)"
                        + (judge.connection.stateReason.map { ": \($0.message)" } ?? "")))
        }
        if let obstacle = plugins.obstacle(for: name.plugin) { return .failure(obstacle) }
        let budget = judge.budget(at: question.point)
        var left = budget
        for isLast in [false, true] {
            let body = question.body(event: event, ask: number, at: clock.now, budget: left)
            let reply = await plugins.intercept(
                body, about: question.delivery.id, by: judge.connection, within: left, ask: number)
            switch reply {
            case .answer(let json):
                do {
                    let (answer, reason) = try InterceptAnswer.read(json, now: clock.now)
                    return .answer(answer, reason: reason)
                } catch {
                    return .failure(Reason(code: "hook_answer_invalid", message: error.problem))
                }
            case .failed(let verdict):
                left = budget - (clock.now - since)
                // Whatever the plugin says of it: its time was up.
                if left <= .zero { return .failure(Self.reason(for: Verdict(kind: .deadline), budget: budget)) }
                if isLast || verdict.kind != .retry || left < budget / 2 {
                    return .failure(Self.reason(for: verdict, budget: budget))
                }
            }
        }
        preconditionFailure("the last try answers")
    }

    private static func reason(for verdict: Verdict, budget: Duration) -> Reason {
        switch verdict.kind {
        case .deadline, .cancelled:
            Reason(
                code: "hook_timeout", message: "it gave no answer within \(budget.wholeMilliseconds) ms")
        case .crashed: Reason(code: "hook_crashed", message: "its plugin crashed while it was asked")
        case .unsupported: Reason(code: "hook_unsupported", message: "its plugin judges nothing")
        default:
            Reason(
                code: verdict.code ?? verdict.kind.rawValue,
                message: InterceptAnswer.line(verdict.reason.message, longest: 1000) ?? "it failed")
        }
    }

    private func failed(_ decision: InterceptDecision, _ judge: Judge, _ reason: Reason) -> InterceptDecision {
        var decision = decision
        decision.verdict = .failed
        decision.code = reason.code
        decision.message = reason.message
        if judge.onFailure(at: decision.point) == .hold {
            decision.effect = .held
            let doubled = Self.firstPause * (1 << min(decision.ask - 1, 10))
            decision.until = clock.now + min(doubled, Self.longestPause)
        }
        return decision
    }

    private func changed(
        _ decision: InterceptDecision, _ change: DealChange, _ judge: Judge, _ question: Question, event: JSONValue
    ) async -> Asked {
        var decision = decision
        guard question.point == HookPoint.beforeDeal else {
            let reason = Reason(
                code: "hook_answer_invalid",
                message: "it changes a rule's action, which can only be let through, dropped or held")
            return .decided(failed(decision, judge, reason), nil)
        }
        switch await TargetCheck(plugins: plugins, connection: question.connection).check(change, event: event) {
        case .checked(let checked):
            decision.verdict = .change
            decision.changes = checked.json
            return .decided(decision, checked.applied(to: event))
        case .refused(let problem):
            return .decided(
                failed(decision, judge, Reason(code: "hook_answer_invalid", message: problem)), nil)
        case .failed(let verdict): return .vendorFailed(verdict)
        }
    }
}
