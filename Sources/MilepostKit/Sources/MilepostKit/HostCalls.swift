// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin
import Synchronization

/// Host calls that answer by an event: who waits for which token.
///
/// Apart from `Instance`, so that a plugin may keep its `PluginContext` for good without keeping itself alive.
final class HostCalls: Sendable {
    let host: Host
    private let state = Mutex(State())

    private struct State {
        var nextToken: UInt64 = 1
        var isAbandoned = false
        var http: [UInt64: CheckedContinuation<Result<HTTPAnswer, HTTPFailure>, Never>] = [:]
        var others: [UInt64: CheckedContinuation<HostAnswer, Never>] = [:]
    }

    /// An answer as it came with the event: a large body is still the host's.
    struct HTTPAnswer: Sendable {
        var response: HTTPResponse
        var blob: UInt64
        var blobLength: UInt64
    }

    /// What an event other than HTTP brought. `status` nil: the wait was given up.
    struct HostAnswer: Sendable {
        var status: Int32?
        var json: [UInt8] = []
        var data: [UInt8] = []
    }

    init(host: Host) { self.host = host }

    /// Makes a call and waits for its event, for the host's refusal or for the task's cancellation, whichever is first.
    ///
    /// The call is made even when the task is cancelled already: a step that happened is worth storing though nobody
    /// waits for the confirmation.
    func answer(
        to call: (_ token: UInt64) -> Int32, whenGivenUp: @escaping @Sendable (_ token: UInt64) -> Void = { _ in }
    ) async -> HostAnswer {
        let token = newToken()
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                // Waiting first, calling then: the event may come before the call returns.
                let isAbandoned = state.withLock { state in
                    if !state.isAbandoned { state.others[token] = continuation }
                    return state.isAbandoned
                }
                if isAbandoned { return continuation.resume(returning: HostAnswer(status: MP_CALL_STALE)) }
                let status = call(token)
                if status != MP_CALL_OK { receive(HostAnswer(status: status), for: token) }
                // A task that was cancelled before it waited has run its handler already, and found nobody.
                if Task.isCancelled { giveUp(token, whenGivenUp) }
            }
        } onCancel: {
            giveUp(token, whenGivenUp)
        }
    }

    private func giveUp(_ token: UInt64, _ told: (UInt64) -> Void) {
        guard let waiter = state.withLock({ $0.others.removeValue(forKey: token) }) else { return }
        told(token)
        waiter.resume(returning: HostAnswer(status: nil))
    }

    func send(_ request: HTTPRequest, op: UInt64, records: [UInt32]) async -> Result<HTTPResponse, HTTPFailure> {
        if Task.isCancelled {
            return .failure(HTTPFailure(wire: .neverSent, code: "cancelled", message: "Given up before it was sent."))
        }
        let token = newToken()
        let answer = await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let isAbandoned = state.withLock { state in
                    if !state.isAbandoned { state.http[token] = continuation }
                    return state.isAbandoned
                }
                if isAbandoned { return continuation.resume(returning: .failure(.destroyed(.neverSent))) }
                let status = host.submit(request, op: op, token: token, records: records)
                guard status != MP_CALL_OK else {
                    // A task that was cancelled before the host knew the request has told it in vain.
                    if Task.isCancelled { host.cancelHTTP(token) }
                    return
                }
                receive(
                    .failure(
                        HTTPFailure(
                            wire: .neverSent, code: "host_call_\(status)",
                            message: "The host did not take the request (\(status)).")), for: token)
            }
        } onCancel: {
            // The event still comes and tells how far the request got: only the host knows.
            host.cancelHTTP(token)
        }
        return answer.flatMap { whole($0) }
    }

    /// Reads what the event left with the host.
    private func whole(_ answer: HTTPAnswer) -> Result<HTTPResponse, HTTPFailure> {
        guard answer.blob != 0 else { return .success(answer.response) }
        var response = answer.response
        // 16 MiB: no answer of a CRM that a plugin reads in one piece is longer.
        guard let body = host.blob(answer.blob, length: answer.blobLength, cap: 16 << 20) else {
            return .failure(HTTPFailure(wire: .answered, code: "blob_unreadable", message: "The body is gone."))
        }
        response.body = body
        response.isTruncated = response.isTruncated || UInt64(body.count) < answer.blobLength
        return .success(response)
    }

    /// Ends every wait of an instance whose host is gone, and every later one at once, so that no task hangs for ever.
    func abandon() {
        let (http, others) = state.withLock { state in
            defer {
                state.http = [:]
                state.others = [:]
            }
            state.isAbandoned = true
            return (Array(state.http.values), Array(state.others.values))
        }
        for waiter in http { waiter.resume(returning: .failure(.destroyed(.maybeSent))) }
        for waiter in others { waiter.resume(returning: HostAnswer(status: MP_CALL_STALE)) }
    }

    /// Wakes whoever waits for a request. A token that nobody waits for is ignored: a second event, or one too late.
    func receive(_ answer: Result<HTTPAnswer, HTTPFailure>, for token: UInt64) {
        state.withLock { $0.http.removeValue(forKey: token) }?.resume(returning: answer)
    }

    func receive(_ answer: HostAnswer, for token: UInt64) {
        state.withLock { $0.others.removeValue(forKey: token) }?.resume(returning: answer)
    }

    private func newToken() -> UInt64 {
        state.withLock { state in
            defer { state.nextToken += 1 }
            return state.nextToken
        }
    }
}

extension HTTPFailure {
    fileprivate static func destroyed(_ wire: Wire) -> HTTPFailure {
        HTTPFailure(wire: wire, code: "destroyed", message: "The instance is gone.")
    }
}
