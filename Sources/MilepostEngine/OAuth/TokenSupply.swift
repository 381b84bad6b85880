// SPDX-License-Identifier: Apache-2.0

package import MilepostModel
import MilepostPluginHost
package import MilepostStore

/// What the gateway asks before and after a request that carries an OAuth token.
package protocol TokenSupply: Sendable {
    /// Makes sure that the stored access token lives, refreshing it when it does not.
    func ready(_ connection: ConnectionID, credential: String) async -> TokenReadiness
    /// The vendor answered 401 to a request that carried `version` or an older token. True when a newer one is stored now,
    /// so that one repeat makes sense (OAU-16).
    func refused(_ connection: ConnectionID, credential: String, version: Int64) async -> Bool
    /// The vault could not open a token: finds out why.
    func examine(_ connection: ConnectionID) async
}

package enum TokenReadiness: Sendable, Equatable {
    /// No chain: the connection is being proved, or the credential is of another kind.
    case unmanaged
    case ready(version: Int64)
    /// No living token now; a refresh is tried again at the moment given.
    case closed(until: Timestamp, Reason)
    /// No living token, and only a person can help.
    case ended(Verdict.Class, Reason)
}

/// What the keeper must know of plugins; `HostedPlugins`, or a double in tests.
package protocol PluginDirectory: Sendable {
    func declaration(of plugin: PluginName) -> PluginDeclaration?
    func obstacle(for plugin: PluginName) -> Reason?
    /// A new pair is stored: what plugins are told of the token has changed.
    func renewed(_ chain: TokenChain)
}

extension PluginDirectory {
    package func renewed(_ chain: TokenChain) {}
}

extension HostedPlugins: PluginDirectory {
    package func renewed(_ chain: TokenChain) { gateway.renew(chain.connection, CredentialFacts(chain)) }
}
