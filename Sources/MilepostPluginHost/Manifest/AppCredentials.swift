// SPDX-License-Identifier: Apache-2.0

internal import FoundationEssentials
internal import MilepostModel

extension PluginManifest {
    /// Keys of the vendor's app, in the shape of `auth` entries: `app.credentials`. What cannot be read is left out; a
    /// request that names it is refused.
    public var appCredentials: [Auth] {
        (raw["app"]?["credentials"]?.array ?? []).prefix(16).compactMap {
            try? JSONDecoder().decode(Auth.self, from: Data($0.bytes))
        }
    }
}
