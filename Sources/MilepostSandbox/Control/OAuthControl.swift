// SPDX-License-Identifier: Apache-2.0

/// `/_sandbox/hubspot/oauth` and `/_sandbox/pipedrive/oauth`: how the authorisation servers behave, and what they end.
extension OAuthAuthority {
    private static let members = [
        "expires_in", "code_expires_in", "rotate", "grant_scopes", "consent", "account", "redirect_uris",
        "client_secret",
        "end",
    ]

    /// Takes the settings of a body over; unknown names are refused, so that a typing error does not pass for a test.
    mutating func change(_ body: JSONValue, now: Instant) throws(ControlError) {
        guard let object = body.object else { throw ControlError("the body must be an object") }
        if let key = object.keys.first(where: { !Self.members.contains($0) }) {
            throw ControlError("unknown member \"\(key)\"; known: \(Self.members.joined(separator: ", "))")
        }
        if let value = object["expires_in"] { lifeSeconds = try Self.seconds(value, "expires_in") }
        if let value = object["code_expires_in"] { codeLifeSeconds = try Self.seconds(value, "code_expires_in") }
        if let value = object["rotate"] {
            guard let flag = value.bool else { throw ControlError("rotate must be true or false") }
            rotates = flag
        }
        if let value = object["grant_scopes"] {
            guard value.isNull || value.array != nil else {
                throw ControlError("grant_scopes must be an array, or null for all")
            }
            grantableScopes = value.array?.compactMap(\.string)
        }
        if let value = object["consent"] {
            guard let consent = value.string.flatMap(Consent.init(rawValue:)) else {
                throw ControlError("consent must be one of \(Consent.allCases.map(\.rawValue).joined(separator: ", "))")
            }
            self.consent = consent
        }
        // Beside "end" the account says whose grants end, not who installs next.
        if let value = object["account"], object["end"] == nil {
            guard let id = value.integer else { throw ControlError("account must be an id") }
            accountID = id
        }
        if let value = object["redirect_uris"] { redirectURIs = (value.array ?? []).compactMap(\.string) }
        if let value = object["client_secret"]?.string { clientSecret = value }
        if let value = object["end"] {
            guard let ending = value.string.flatMap(Ending.init(rawValue:)) else {
                throw ControlError("end must be one of \(Ending.allCases.map(\.rawValue).joined(separator: ", "))")
            }
            end(ending, accountID: object["account"]?.integer, now: now)
        }
    }

    private static func seconds(_ value: JSONValue, _ name: String) throws(ControlError) -> Int {
        guard let seconds = value.integer, (0...31_536_000).contains(seconds) else {
            throw ControlError("\(name) must be a whole number of seconds")
        }
        return seconds
    }

    /// Settings and grants, without tokens.
    var json: JSONValue {
        .object([
            ("client_id", .string(clientID)), ("expires_in", .integer(lifeSeconds)),
            ("code_expires_in", .integer(codeLifeSeconds)), ("rotate", .bool(rotates)),
            ("grant_scopes", grantableScopes.map { .array($0.map { .string($0) }) } ?? .null),
            ("consent", .string(consent.rawValue)), ("account", .integer(accountID)),
            ("redirect_uris", .array(redirectURIs.map { .string($0) })),
            (
                "grants",
                .array(
                    grants.values.sorted { $0.id < $1.id }.map { grant in
                        .object([
                            ("id", .integer(grant.id)), ("account", .integer(grant.accountID)),
                            ("scopes", .array(grant.scopes.map { .string($0) })), ("revoked", .bool(grant.isRevoked)),
                            ("uninstalled", .bool(grant.isUninstalled)), ("refreshes", .integer(grant.refreshes)),
                        ])
                    })
            ),
        ])
    }
}
