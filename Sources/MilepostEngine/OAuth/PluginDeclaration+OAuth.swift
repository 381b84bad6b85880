// SPDX-License-Identifier: Apache-2.0

import MilepostEgress
import MilepostModel
import MilepostPluginHost

extension PluginDeclaration {
    /// The ways to connect that are offered without being named, in the manifest's order.
    var offered: [PluginManifest.Auth] { (manifest.auth ?? []).filter { !manifest.isHidden($0) } }

    func auth(_ credential: String) -> PluginManifest.Auth? { manifest.auth?.first { $0.credential == credential } }

    /// The one alternative that a connection holds. A connection of an older daemon holds the first that takes a token.
    func held(by connection: Connection) -> [PluginManifest.Auth] {
        if let name = connection.credential { return auth(name).map { [$0] } ?? [] }
        return (manifest.auth ?? []).first { manifest.oauth($0.credential) == nil }.map { [$0] } ?? []
    }

    func oauth(_ credential: String) -> OAuthDeclaration? { manifest.oauth(credential) }

    /// The first alternative that authorises; nil when the plugin has none.
    var firstOAuth: OAuthDeclaration? { (manifest.auth ?? []).lazy.compactMap { manifest.oauth($0.credential) }.first }

    /// Base URL and path; nil when a setting names a generation that does not exist.
    func url(_ place: OAuthDeclaration.Place) -> String? { endpoints[place.endpoint].map { $0 + place.path } }

    /// Where tokens come from, in the generation that the settings or the plugin's default choose (Z-10).
    ///
    /// - Throws: `validationFailed` for a generation that the manifest does not list.
    func tokenURL(_ oauth: OAuthDeclaration, settings: JSONValue) throws(EngineError) -> String {
        var place = oauth.token
        if let setting = oauth.generationSetting, let chosen = settings[setting]?.string {
            guard let path = oauth.generations[chosen] else {
                throw EngineError(
                    code: .validationFailed,
                    detail: "\(setting) is \(chosen.prefix(32)); \(manifest.name) knows "
                        + "\(oauth.generations.keys.sorted().joined(separator: ", ")).")
            }
            place.path = path
        }
        guard let url = url(place) else {
            throw EngineError(code: .pluginUnavailable, detail: "\(manifest.name) has no endpoint \(place.endpoint).")
        }
        return url
    }

    /// One POST to one place and nothing else: what a token request may do.
    func tokenPolicy(_ url: String) -> EgressPolicy {
        guard let origin = EgressPolicy.Origin(url: url) else { return EgressPolicy(rules: []) }
        return EgressPolicy(
            rules: [EgressPolicy.Rule(hosts: [origin.host], ports: [origin.port], methods: ["POST"])],
            overridden: overridden.contains(origin) ? [origin] : [])
    }
}
