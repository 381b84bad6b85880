// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import MilepostEgress
import MilepostModel
package import MilepostPluginHost

/// What egress needs of a plugin's manifest, joined with what the configuration overrides.
package struct PluginDeclaration: Sendable {
    let manifest: PluginManifest
    /// Final base URLs by endpoint name, without trailing slash.
    let endpoints: [String: String]
    let policy: EgressPolicy
    /// The plugin's settings by name, as its `config_schema` lists them.
    let settingNames: Set<String>
    /// Origins that the configuration put in place of the manifest's.
    let overridden: Set<EgressPolicy.Origin>
    private let placements: [String: [Placement]]
    private let rateLimits: [RateLimitDeclaration]

    /// - Parameter overrides: endpoints that the administrator put in the configuration; they alone may be plain http or
    ///   private addresses (decisions 26).
    package init(manifest: PluginManifest, overrides: [String: String]) throws {
        struct Egress: Decodable {
            struct Auth: Decodable {
                var credential: String
                var placements: [Placement]?
            }
            struct Rule: Decodable {
                var hosts: [String]
                var ports: [Int]?
                var methods: [String]?
            }
            struct App: Decodable {
                var credentials: [Auth]?
            }
            var auth: [Auth]?
            var app: App?
            var egress: [Rule]?
            var rate_limits: [RateLimitDeclaration]?
            var config_schema: Schema?
        }
        struct Schema: Decodable {
            var properties: [String: JSONValue]?
        }
        self.manifest = manifest
        var endpoints = (manifest.endpoints ?? [:]).mapValues { Self.trimmed($0.default) }
        for (name, url) in overrides { endpoints[name] = Self.trimmed(url) }
        self.endpoints = endpoints
        let declared = try JSONDecoder().decode(Egress.self, from: JSONEncoder().encode(manifest))
        placements = Dictionary(
            ((declared.auth ?? []) + (declared.app?.credentials ?? [])).map { ($0.credential, $0.placements ?? []) },
            uniquingKeysWith: { first, _ in first })
        rateLimits = declared.rate_limits ?? []
        settingNames = Set((declared.config_schema?.properties ?? [:]).keys)
        overridden = Set(overrides.values.compactMap { EgressPolicy.Origin(url: $0) })
        policy = EgressPolicy(
            rules: (declared.egress ?? []).map {
                EgressPolicy.Rule(hosts: $0.hosts, ports: $0.ports ?? [443], methods: $0.methods ?? ["GET"])
            },
            overridden: overridden)
    }

    private static func trimmed(_ url: String) -> String { url.hasSuffix("/") ? String(url.dropLast()) : url }

    func placement(_ name: String?, of credential: String) -> Placement? {
        var known = placements[credential] ?? []
        if known.isEmpty, manifest.oauth(credential) != nil { known = [Placement(name: "bearer", kind: .bearer)] }
        return name.map { wanted in known.first { $0.name == wanted } } ?? known.first
    }

    /// The budgets of one connection. Limits hang on the connection's id (decisions 17) unless the declaration says that
    /// the whole vendor account shares one (RATE-13).
    func buckets(connection: ConnectionID, account: String?, plan: String?) -> [RateBucket] {
        rateLimits.compactMap { declaration in
            // A plan that says nothing about a bucket leaves it at its own numbers.
            declaration.makeBucket(
                key: key(of: declaration, connection: connection, account: account),
                preset: plan.flatMap { declaration.presets?[$0] == nil ? nil : $0 })
        }
    }

    func charges(connection: ConnectionID, account: String?, bucket: String?, cost: Int) -> [BucketCharge] {
        rateLimits.compactMap { declaration in
            let isNamed = declaration.bucket == "default" || declaration.bucket == bucket
            guard isNamed || declaration.unit == .cost else { return nil }
            return BucketCharge(
                key: key(of: declaration, connection: connection, account: account),
                cost: declaration.unit == .cost ? cost : 1)
        }
    }

    /// The buckets that fill once a day.
    func dailyKeys(connection: ConnectionID, account: String?) -> [String] {
        rateLimits.filter { $0.period == "day" }.map { key(of: $0, connection: connection, account: account) }
    }

    private func key(of declaration: RateLimitDeclaration, connection: ConnectionID, account: String?) -> String {
        switch declaration.scope {
        case .account: "\(manifest.name)/account:\(account ?? connection.rawValue)/\(declaration.bucket)"
        case .credential: "\(manifest.name)/\(connection)/\(declaration.bucket)"
        }
    }
}
