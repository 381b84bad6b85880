// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostPluginHost

/// Which scopes a connection needs, each with its reason (Z-05). Pure.
public struct ScopePlan: Sendable, Equatable {
    public struct Wanted: Sendable, Equatable {
        public var scope: String
        /// Nil for those that are always asked for.
        public var feature: String?
        public var reason: String
    }

    public var wanted: [Wanted]

    public var scopes: [String] { wanted.map(\.scope) }

    /// - Parameters:
    ///   - features: those of the core that are switched on.
    ///   - settings: the connection's, for `setting:NAME`.
    ///   - declared: the settings as the manifest declares them, for their defaults.
    init(_ declaration: OAuthDeclaration, features: Set<String>, settings: JSONValue, declared: JSONValue?) {
        var wanted = declaration.baseScopes.map {
            Wanted(scope: $0, feature: nil, reason: "Milepost always needs it with this vendor.")
        }
        for item in declaration.featureScopes where !wanted.contains(where: { $0.scope == item.scope }) {
            let isOn: Bool
            if item.feature.hasPrefix("setting:") {
                let name = String(item.feature.dropFirst("setting:".count))
                isOn = settings[name]?.bool ?? declared?[name]?["default"]?.bool ?? false
            } else {
                isOn = features.contains(item.feature)
            }
            if isOn { wanted.append(Wanted(scope: item.scope, feature: item.feature, reason: item.reason)) }
        }
        self.wanted = wanted
    }

    /// What was asked for and not granted. A vendor that does not say what it granted is taken at its word elsewhere: its
    /// plugin's `connect` finds out.
    func missing(in granted: [String]?) -> [String] {
        guard let granted else { return [] }
        let have = Set(granted)
        return scopes.filter { !have.contains($0) }
    }
}
