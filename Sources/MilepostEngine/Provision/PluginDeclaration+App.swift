// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostPluginHost
import MilepostStore

extension PluginDeclaration {
    /// The app's own keys that requests may name, from `app.credentials` of the manifest. They open no account, so no
    /// connection holds one.
    var appCredentials: [PluginManifest.Auth] { manifest.appCredentials }

    /// What an instance may name: the alternative that its connection holds, or for the app's own instance the app's keys.
    func credentials(of connection: Connection) -> [PluginManifest.Auth] {
        connection.id == AppRegistration.connection(of: manifest.name) ? appCredentials : held(by: connection)
    }
}
