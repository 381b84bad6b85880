// SPDX-License-Identifier: Apache-2.0

package import MilepostModel
package import MilepostStore
package import MilepostVault

/// Seals a pair of tokens together with a check over the row that describes them, and finds out whether somebody else
/// changed any of it (OAU-09).
package struct TokenSeal: Sendable {
    let vault: Vault

    package init(vault: Vault) { self.vault = vault }

    /// What opening and comparing found.
    enum Examination: Sendable, Equatable {
        case intact
        /// Changed by something other than the daemon; the text says what.
        case edited(String)
        /// Cannot be opened now: keys are absent, the store does not answer.
        case unreadable(VaultError)
    }

    /// All three are bound to the chain's version: an older row in a newer one's place does not open.
    package func seal(access: SecretBytes, refresh: SecretBytes, for chain: TokenChain) async throws(VaultError)
        -> [SealedCredential]
    {
        var check = Array(Self.digest(of: chain).utf8)
        let contents = [
            (chain.credential, access), (TokenClient.Name.refresh(chain.credential), refresh),
            (TokenClient.Name.check(chain.credential), try SecretBytes(wiping: &check)),
        ]
        var sealed: [SealedCredential] = []
        for (name, secret) in contents {
            sealed.append(
                try await vault.seal(
                    secret, for: CredentialReference(connection: chain.connection, name: name),
                    workspace: chain.workspace, version: chain.version))
        }
        return sealed
    }

    func examine(_ chain: TokenChain, in store: any Store) async -> Examination {
        do {
            for name in [
                chain.credential, TokenClient.Name.refresh(chain.credential), TokenClient.Name.check(chain.credential),
            ] {
                let reference = CredentialReference(connection: chain.connection, name: name)
                let version = try await store.credential(reference)?.version
                guard version == chain.version else {
                    return .edited(
                        "the chain is at version \(chain.version), the sealed \(name) at "
                            + (version.map(String.init) ?? "none"))
                }
                let secret = try await vault.open(reference)
                if name == TokenClient.Name.check(chain.credential) {
                    let digest = Self.digest(of: chain)
                    let isSame = unsafe secret.withBytes { unsafe $0.elementsEqual(digest.utf8) }
                    if !isSame { return .edited("version, expiry, scopes or account of the row are not those stored") }
                } else if name == TokenClient.Name.refresh(chain.credential) {
                    guard Self.fingerprint(of: secret, lineage: chain.lineage) == chain.fingerprint else {
                        return .edited("the fingerprint of the row is not that of the sealed refresh token")
                    }
                }
            }
            return .intact
        } catch let error as VaultError {
            switch error.code {
            case .recordTampered, .secretUnknown: return .edited("a sealed token does not open")
            default: return .unreadable(error)
            }
        } catch {
            return .unreadable(VaultError(.storeFailed, "reading the tokens failed: \(error)"))
        }
    }

    /// Half of SHA-256 over lineage and token: tells two tokens apart and gives none away.
    package static func fingerprint(of refresh: SecretBytes, lineage: String) -> String {
        unsafe refresh.withBytes { token in
            var bytes = Array(lineage.utf8) + [0]
            unsafe bytes.append(contentsOf: token)
            defer { for index in bytes.indices { bytes[index] = 0 } }
            return Digest.hex(Array(Digest.sha256(bytes).prefix(16)))
        }
    }

    /// Over everything that only a new pair may change.
    private static func digest(of chain: TokenChain) -> String {
        let value: JSONValue = [
            "connection": .string(chain.connection.rawValue), "credential": .string(chain.credential),
            "lineage": .string(chain.lineage), "version": .integer(chain.version),
            "fingerprint": .string(chain.fingerprint), "scopes": .array(chain.scopes.map(JSONValue.string)),
            "account": JSONValue(chain.account), "issued": .integer(chain.issuedAt.milliseconds),
            "expires": .integer(chain.expiresAt.milliseconds),
        ]
        return Digest.hex(Digest.sha256(value.bytes))
    }
}
