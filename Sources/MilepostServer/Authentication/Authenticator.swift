// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import MilepostModel
import MilepostStore
import MilepostVault
import Synchronization

/// Who makes a request.
struct Principal: Sendable, Equatable {
    var tokenID: String
    var name: String
    var scopes: [AccessScope]
    var workspace: WorkspaceID?

    func has(_ scope: AccessScope) -> Bool { scopes.contains { $0.grants(scope) } }
    var actor: String { "\(name) (\(tokenID))" }
}

/// Finds the token behind `Authorization: Bearer`. Tokens are stored hashed; a found one is remembered for a few seconds so
/// that a stream of small posts does not read the store for each.
final class Authenticator: Sendable {
    private struct Remembered {
        var token: MilepostModel.AccessToken
        var until: Timestamp
    }
    private let remembered = Mutex<[[UInt8]: Remembered]>([:])

    /// How long a revoked token may still pass.
    static let memory: Duration = .seconds(5)
    static let maximumRemembered = 1024

    func principal(authorization: String?, store: any Store, now: Timestamp) async throws -> Principal {
        guard let authorization else {
            throw Self.refusal("Send a token: Authorization: Bearer mpt_…; milepost init prints the first one.")
        }
        let parts = authorization.split(separator: " ", maxSplits: 1)
        guard parts.count == 2, parts[0].lowercased() == "bearer",
            MilepostVault.AccessToken.isWellFormed(String(parts[1]))
        else {
            throw Self.refusal("The Authorization header is not a bearer token of this daemon (Bearer mpt_…).")
        }
        let hash = TokenHash(of: String(parts[1])).bytes
        let token = try await token(hash: hash, store: store, now: now)
        if let expiry = token.expiresAt, expiry <= now {
            throw Self.refusal("The token \(token.name) expired at \(expiry).")
        }
        return Principal(tokenID: token.id, name: token.name, scopes: token.scopes, workspace: token.workspace)
    }

    func forgetAll() { remembered.withLock { $0.removeAll() } }

    private func token(hash: [UInt8], store: any Store, now: Timestamp) async throws -> MilepostModel.AccessToken {
        if let known = remembered.withLock({ $0[hash] }), known.until > now { return known.token }
        guard let token = try await store.token(hash: hash) else {
            throw Self.refusal("The token is unknown or was revoked.")
        }
        remembered.withLock { remembered in
            if remembered.count >= Self.maximumRemembered { remembered.removeAll() }
            remembered[hash] = Remembered(token: token, until: now + Self.memory)
        }
        return token
    }

    private static func refusal(_ detail: String) -> Problem {
        Problem(
            status: .unauthorized, code: "unauthenticated", detail: detail,
            headers: [.wwwAuthenticate: "Bearer realm=\"milepost\""])
    }
}
