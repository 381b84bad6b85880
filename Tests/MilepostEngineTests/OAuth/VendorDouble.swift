// SPDX-License-Identifier: Apache-2.0

import MilepostEgress
import MilepostModel
import Synchronization

/// A vendor's token endpoint behind the egress protocol: rotates or not, and loses answers by script.
final class VendorDouble: Egress {
    /// What happens to one token request.
    enum Act: Sendable {
        case answer
        /// Refused without a trace: nobody listens.
        case neverSent
        /// Committed, and the connection dies.
        case commitAndLose
        /// The connection dies before the vendor did anything.
        case loseBeforeCommitting
        case status(Int, String)
        /// Committed, and the answer is rubbish.
        case commitAndGarble(String)
    }

    struct State {
        var script: [Act] = []
        var refresh = "refresh-0"
        var dead: Set<String> = []
        /// The newest refresh token was issued in an answer that nobody got.
        var isLost = false
        var number = 0
        /// Refresh tokens as they were sent, in order.
        var sent: [String] = []
        /// Tokens sent although their successor had been delivered: a client must never do that (OAU-06).
        var reused: [String] = []
        var isUninstalled = false
        var inside = 0
        var overlaps = 0
    }

    let state = Mutex(State())
    let isRotating: Bool
    let expiresIn: Int?
    private let secrets: any SecretSource
    private let clock: VirtualClock
    /// Runs while a request is under way.
    let during = Mutex<(@Sendable () async -> Void)?>(nil)

    init(secrets: any SecretSource, clock: VirtualClock, isRotating: Bool, expiresIn: Int?) {
        self.secrets = secrets
        self.clock = clock
        self.isRotating = isRotating
        self.expiresIn = expiresIn
    }

    func script(_ acts: Act...) { state.withLock { $0.script = acts } }
    var sent: [String] { state.withLock { $0.sent } }

    func send(_ request: EgressRequest, beforeSend: @Sendable () async throws -> Void) async -> EgressOutcome {
        var fields: [String: String] = [:]
        for use in request.credentials {
            let clear: String?
            // An unknown secret is what a deleted or edited row looks like: egress says so and sends nothing.
            do {
                clear = try await unsafe secrets.withSecret(use.reference) {
                    unsafe String(decoding: $0, as: UTF8.self)
                }
            } catch { clear = nil }
            guard let clear else { return failed(.neverSent, .secretUnavailable) }
            fields[use.placement.kind == .basic ? "client" : use.placement.target] = clear
        }
        let act = state.withLock { $0.script.isEmpty ? Act.answer : $0.script.removeFirst() }
        do { try await beforeSend() } catch { return failed(.neverSent, .beforeSendFailed) }
        if case .neverSent = act { return failed(.neverSent, .connectFailed) }
        state.withLock { state in
            state.inside += 1
            state.overlaps += state.inside > 1 ? 1 : 0
        }
        if let during = during.withLock({ $0 }) { await during() }
        defer { state.withLock { $0.inside -= 1 } }
        let token = fields["refresh_token"] ?? ""
        state.withLock { $0.sent.append(token) }
        switch act {
        case .loseBeforeCommitting: return failed(.maybeSent, .reset)
        case .status(let status, let body): return answered(status, body)
        case .neverSent: return failed(.neverSent, .connectFailed)
        case .answer: return commit(token, isDelivered: true)
        case .commitAndLose:
            _ = commit(token, isDelivered: false)
            return failed(.maybeSent, .timeout)
        case .commitAndGarble(let body):
            _ = commit(token, isDelivered: false)
            return answered(200, body)
        }
    }

    private func commit(_ token: String, isDelivered: Bool) -> EgressOutcome {
        let pair: (access: String, refresh: String)? = state.withLock { state in
            guard token == state.refresh, !state.isUninstalled else {
                if state.dead.contains(token), !state.isLost { state.reused.append(token) }
                return nil
            }
            state.number += 1
            if isRotating {
                state.dead.insert(token)
                state.refresh = "refresh-\(state.number)"
                state.isLost = !isDelivered
            }
            return ("access-\(state.number)", state.refresh)
        }
        guard let pair else { return answered(400, #"{"status":"BAD_REFRESH_TOKEN","message":"no"}"#) }
        let life = expiresIn.map { ",\"expires_in\":\($0)" } ?? ""
        return answered(200, "{\"access_token\":\"\(pair.access)\",\"refresh_token\":\"\(pair.refresh)\"\(life)}")
    }

    private func answered(_ status: Int, _ body: String) -> EgressOutcome {
        EgressOutcome(wire: .answered, response: EgressResponse(status: status, headers: [], body: Array(body.utf8)))
    }

    private func failed(_ wire: WireState, _ code: EgressFailure.Code) -> EgressOutcome {
        EgressOutcome(wire: wire, failure: EgressFailure(code: code, message: "the vendor double says \(code)"))
    }
}
