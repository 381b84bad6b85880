// SPDX-License-Identifier: Apache-2.0

import MilepostModel

/// An `auth` entry of the scheme `oauth2`: where a person authorises, where tokens come from, and what the vendor's
/// refusals mean.
public struct OAuthDeclaration: Sendable, Hashable {
    /// A page of one of the manifest's endpoints, so that the configuration can send it elsewhere.
    public struct Place: Sendable, Hashable {
        public var endpoint: String
        public var path: String
    }

    /// How the app proves itself: its id and secret in the form, or as HTTP Basic.
    public enum ClientAuthentication: String, Sendable, Hashable { case body, basic }

    /// A scope that only a feature needs.
    public struct FeatureScope: Sendable, Hashable {
        public var scope: String
        /// A name the core knows, or `setting:NAME` for a boolean setting of the connection.
        public var feature: String
        /// Why it is asked for; the person who consents reads it.
        public var reason: String
    }

    /// The features that the core itself can tell to be switched on.
    public static let coreFeatures: Set<String> = ["rules", "provision", "email_match", "timeline"]
    static let scheme = "oauth2"

    public var credential: String
    public var title: String
    public var authorize: Place
    public var token: Place
    /// Where a token that is not kept is given back (RFC 7009); nil where the vendor has no such place.
    public var revoke: Place?
    /// Paths by generation, and the setting that chooses one.
    public var generations: [String: String]
    public var generationSetting: String?
    public var clientAuthentication: ClientAuthentication
    /// RFC 7636 with SHA-256; left out for vendors that do not know it.
    public var usesPKCE: Bool
    public var separator: String
    public var baseScopes: [String]
    public var featureScopes: [FeatureScope]
    /// The member of the token's answer that names the account.
    public var accountMember: String?
    public var revokedCodes: Set<String>
    public var operatorCodes: Set<String>
    /// How long before its end an access token is replaced.
    public var margin: Duration

    /// What RFC 6749, section 5.2, calls a refused grant, and what it calls our own fault.
    static let standardRevoked: Set<String> = ["invalid_grant"]
    static let standardOperator: Set<String> = [
        "invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope", "invalid_request",
    ]
}

extension OAuthDeclaration {
    /// What is wrong with an entry, as the end of a sentence that begins with the file's name.
    struct Malformed: Error { var problem: String }

    /// - Parameter endpoints: the names that the manifest declares.
    init(_ auth: PluginManifest.Auth, endpoints: Set<String>) throws(Malformed) {
        let entry = Entry(auth: auth, endpoints: endpoints)
        guard Self.isToken(auth.credential), !auth.credential.contains("."), auth.credential.utf8.count <= 64 else {
            throw entry.fail("with a name that is no word without a dot")
        }
        credential = auth.credential
        title = entry["title"]?.string ?? "Install"
        authorize = try entry.place("authorize")
        token = try entry.place("token")
        if let given = entry["revoke"], given != .null { revoke = try entry.place("revoke") }
        generations = try entry.generations()
        generationSetting = entry["token"]?["generation_setting"]?.string
        guard generationSetting == nil || !generations.isEmpty else {
            throw entry.fail("with token.generation_setting and no token.paths to choose from")
        }
        let client = entry["token"]?["client_auth"]?.string ?? ClientAuthentication.body.rawValue
        guard let kind = ClientAuthentication(rawValue: client) else {
            throw entry.fail("with token.client_auth '\(client.prefix(32))'; body and basic are possible")
        }
        clientAuthentication = kind
        let pkce = entry["pkce"] ?? .null
        guard pkce == .null || pkce == "S256" else { throw entry.fail("with a pkce other than S256") }
        usesPKCE = pkce == "S256"
        let scopes = entry["scopes"]
        separator = scopes?["separator"]?.string ?? " "
        guard [" ", ","].contains(separator) else {
            throw entry.fail("with scopes.separator other than a blank or a comma")
        }
        baseScopes = try entry.texts(scopes?["base"], "scopes.base")
        featureScopes = try entry.features(scopes?["features"])
        accountMember = entry["account_from"]?.string
        let errors = entry["errors"]
        revokedCodes = Self.standardRevoked.union(try entry.texts(errors?["revoked"], "errors.revoked"))
        operatorCodes = Self.standardOperator.union(try entry.texts(errors?["operator"], "errors.operator"))
        let seconds = entry["refresh"]?["margin_s"]?.integer ?? 90
        guard (0...86_400).contains(seconds) else { throw entry.fail("with a refresh.margin_s outside 0 to 86400") }
        margin = .seconds(seconds)
    }

    /// An entry being read.
    private struct Entry {
        let auth: PluginManifest.Auth
        let endpoints: Set<String>

        subscript(key: String) -> JSONValue? { auth.raw[key] }

        func fail(_ problem: String) -> Malformed {
            Malformed(problem: "declares oauth2 credential '\(auth.credential.prefix(64))' \(problem)")
        }

        func place(_ key: String) throws(Malformed) -> Place {
            guard let endpoint = self[key]?["endpoint"]?.string, let path = self[key]?["path"]?.string else {
                throw fail("without \(key).endpoint and \(key).path")
            }
            guard endpoints.contains(endpoint) else {
                throw fail("with \(key).endpoint '\(endpoint.prefix(64))', which is none of its endpoints")
            }
            guard isPath(path) else { throw fail("with a \(key).path that is no absolute path of printable ASCII") }
            return Place(endpoint: endpoint, path: path)
        }

        func generations() throws(Malformed) -> [String: String] {
            var paths: [String: String] = [:]
            for (name, value) in self["token"]?["paths"]?.object ?? [:] {
                guard let path = value.string, isPath(path) else {
                    throw fail("with a token.paths.\(name.prefix(32)) that is no absolute path of printable ASCII")
                }
                paths[name] = path
            }
            return paths
        }

        func texts(_ value: JSONValue?, _ key: String) throws(Malformed) -> [String] {
            guard let value else { return [] }
            guard let items = value.array else { throw fail("with \(key) that is no list") }
            let texts = items.compactMap(\.string)
            guard texts.count == items.count, texts.count <= 100, texts.allSatisfy(isToken) else {
                throw fail("with \(key) that are not at most 100 words of printable ASCII")
            }
            return texts
        }

        func features(_ value: JSONValue?) throws(Malformed) -> [FeatureScope] {
            let items = value?.array ?? []
            guard items.count <= 100 else { throw fail("with more than 100 scopes.features") }
            var features: [FeatureScope] = []
            for item in items {
                guard let scope = item["scope"]?.string, let feature = item["feature"]?.string, isToken(scope) else {
                    throw fail("with scopes.features that lack scope or feature")
                }
                guard coreFeatures.contains(feature) || feature.hasPrefix("setting:") else {
                    throw fail(
                        "with the feature '\(feature.prefix(64))'; \(coreFeatures.sorted().joined(separator: ", ")) "
                            + "and setting:NAME are possible")
                }
                let reason = item["reason"]?.string ?? "needed by \(feature)"
                features.append(FeatureScope(scope: scope, feature: feature, reason: String(reason.prefix(300))))
            }
            return features
        }
    }

    private static func isPath(_ text: String) -> Bool {
        text.hasPrefix("/") && !text.hasPrefix("//") && text.utf8.count <= 512
            && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "?") && $0 != UInt8(ascii: "#") }
    }

    private static func isToken(_ text: String) -> Bool {
        (1...200).contains(text.utf8.count)
            && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7F && $0 != 0x22 && $0 != 0x5C }
    }
}

extension PluginManifest {
    /// Not offered unless it is named: for tokens that only some know how to use (PAT-02).
    public func isHidden(_ auth: Auth) -> Bool { auth.raw["hidden"]?.bool ?? false }

    /// The `oauth2` entry of that name; nil when the credential is of another kind.
    public func oauth(_ credential: String) -> OAuthDeclaration? {
        guard let auth = auth?.first(where: { $0.credential == credential && $0.scheme == OAuthDeclaration.scheme })
        else { return nil }
        // A manifest that does not parse was refused when it was loaded.
        return try? OAuthDeclaration(auth, endpoints: Set((endpoints ?? [:]).keys))
    }

    /// What is wrong with the alternatives to connect by; nil when nothing is.
    func authProblem() -> String? {
        var seen: Set<String> = []
        for auth in auth ?? [] {
            guard seen.insert(auth.credential).inserted else {
                return "declares the credential '\(auth.credential)' twice; a connection holds one, so names differ"
            }
            if auth.raw["hidden"] != nil, auth.raw["hidden"]?.bool == nil {
                return "says hidden of credential '\(auth.credential)' with something else than true or false"
            }
            guard auth.scheme == OAuthDeclaration.scheme else { continue }
            do throws(OAuthDeclaration.Malformed) {
                _ = try OAuthDeclaration(auth, endpoints: Set((endpoints ?? [:]).keys))
            } catch { return error.problem }
        }
        return nil
    }
}
