// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
package import MilepostModel

/// An address that a plugin's requests go to, as manifest and configuration say: an override wins (decisions 26).
public struct VendorEndpoint: Sendable, Hashable {
    public let plugin: String
    /// The manifest's name for it.
    public let name: String
    public let url: String
    /// Whether only tokens are fetched there, so that nobody goes there while no connection was made by consent.
    public let isForTokens: Bool

    /// Those of every plugin that is switched on, from the manifests beside the objects. A manifest that cannot be read
    /// tells none; what is wrong with it is the daemon's to say. Blocks on file reads.
    static func all(of configuration: Configuration) -> [VendorEndpoint] {
        configuration.plugins.filter(\.value.enabled).sorted { $0.key < $1.key }.flatMap { name, plugin in
            let files = configuration.pluginDirectories.map { "\($0)/\(name).json" }
            guard let path = files.first(where: { FileStatus(path: $0) != nil }),
                let status = FileStatus(path: path), status.isRegular, status.size <= maximumManifest,
                let data = try? Data(contentsOf: URL(filePath: path)),
                let manifest = try? JSONValue(parsing: Array(data))
            else { return [VendorEndpoint]() }
            return all(in: manifest, of: name, overrides: plugin.endpoints)
        }
    }

    /// For tests.
    package init(plugin: String, name: String, url: String, isForTokens: Bool) {
        self.plugin = plugin
        self.name = name
        self.url = url
        self.isForTokens = isForTokens
    }

    private static let maximumManifest = 1 << 20

    /// - Parameter overrides: the configuration's, by the manifest's names. A name that the manifest does not have is an
    ///   address that the plugin may be told of by its settings.
    package static func all(in manifest: JSONValue, of plugin: String, overrides: [String: String]) -> [VendorEndpoint]
    {
        var urls = (manifest["endpoints"]?.object ?? [:]).compactMapValues { $0["default"]?.string }
        urls.merge(overrides) { $1 }
        let consents = (manifest["auth"]?.array ?? []).filter { $0["scheme"]?.string == "oauth2" }
        func names(_ step: String) -> Set<String> { Set(consents.compactMap { $0[step]?["endpoint"]?.string }) }
        let others = Set(urls.keys).subtracting(names("authorize").union(names("token")).union(names("revoke")))
        // A plugin with one address for all fetches its tokens there, too.
        let main = others.isEmpty ? names("token") : others
        return urls.sorted { $0.key < $1.key }.compactMap { name, url in
            // Where a person's browser is sent to is not where requests go.
            guard main.contains(name) || names("token").contains(name), !url.contains("{") else { return nil }
            return VendorEndpoint(plugin: plugin, name: name, url: url, isForTokens: !main.contains(name))
        }
    }
}
