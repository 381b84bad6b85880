// SPDX-License-Identifier: Apache-2.0

/// One line of the token ledger. No token stands in it: grants have numbers.
struct OAuthEvent: Hashable, Sendable {
    enum Kind: String, Sendable {
        case authorized, denied, granted, refreshed, refused, revoked, ended
        /// A replaced refresh token was sent once more, before anything of its successor was used: the answer was lost.
        case deadTokenRetried = "dead_token_retried"
        /// A replaced refresh token was sent although its successor was there.
        case deadTokenReused = "dead_token_reused"
    }

    let at: Instant
    let kind: Kind
    var accountID: Int?
    var grantID: Int?
    var scopes: [String]?
    var detail: String?
    /// Refreshes of the grant so far.
    var refreshes: Int?

    func json(vendor: String) -> JSONValue {
        .object([
            ("vendor", .string(vendor)), ("at", .string(at.rfc3339Milliseconds)),
            ("at_ms", .integer(Int(at.milliseconds))), ("event", .string(kind.rawValue)),
            ("account", .optional(accountID)), ("grant", .optional(grantID)),
            ("scopes", scopes.map { .array($0.map { .string($0) }) } ?? .null), ("detail", .optional(detail)),
            ("refreshes", .optional(refreshes)),
        ])
    }
}
