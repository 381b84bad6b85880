// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostStore

/// What is known of a token by consent beside its secret: what a plugin may be told, so that it need not find out by asking.
struct CredentialFacts: Sendable, Equatable {
    /// The credential's name in the manifest.
    var credential: String
    /// As granted; as asked for where the vendor did not say.
    var scopes: [String]
    var expiresAt: Timestamp
}

extension CredentialFacts {
    init(_ chain: TokenChain) {
        self.init(credential: chain.credential, scopes: chain.scopes, expiresAt: chain.expiresAt)
    }

    init(_ granted: GrantedTokens, at issuedAt: Timestamp) {
        self.init(
            credential: granted.credential, scopes: granted.grant.scopes ?? granted.requested,
            expiresAt: issuedAt + granted.grant.lifetime)
    }

    /// Members for a credential's object in JSON. Nothing is known of one that somebody pasted.
    static func members(_ facts: CredentialFacts?, of credential: String) -> [String: JSONValue] {
        guard let facts, facts.credential == credential else { return ["scopes": [], "expires_at": .null] }
        return [
            "scopes": .array(facts.scopes.map(JSONValue.string)), "expires_at": .string(facts.expiresAt.description),
        ]
    }
}
