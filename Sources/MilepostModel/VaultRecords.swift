// SPDX-License-Identifier: Apache-2.0

/// A secret as it lies in the store: useless without its workspace's data key (SEC-01, SEC-02).
///
/// The fields that say whose it is are bound into the tag, so a record copied into another row is refused (SEC-13).
public struct SealedCredential: Sendable, Equatable {
    public var connection: ConnectionID
    public var workspace: WorkspaceID
    /// The credential's name in the plugin's manifest, e.g. `api_token`.
    public var name: String
    /// `token_version`: grows with each replacement, so that a refresh can tell whether another one came first.
    public var version: Int64
    /// The data key that sealed it (`WrappedDataKey.id`).
    public var keyID: String
    /// 12 bytes, drawn anew for every sealing.
    public var nonce: [UInt8]
    public var ciphertext: [UInt8]
    /// 16 bytes.
    public var tag: [UInt8]

    public init(
        connection: ConnectionID, workspace: WorkspaceID, name: String, version: Int64, keyID: String,
        nonce: [UInt8], ciphertext: [UInt8], tag: [UInt8]
    ) {
        self.connection = connection
        self.workspace = workspace
        self.name = name
        self.version = version
        self.keyID = keyID
        self.nonce = nonce
        self.ciphertext = ciphertext
        self.tag = tag
    }

    public var reference: CredentialReference { CredentialReference(connection: connection, name: name) }
}

/// A workspace's data key, wrapped by a key-encryption key that only a key provider holds.
public struct WrappedDataKey: Sendable, Equatable {
    public var workspace: WorkspaceID
    /// Stays the same when the key is wrapped anew; sealed credentials refer to it.
    public var id: String
    /// The wrapping key's id at its provider.
    public var kekID: String
    /// The provider's own format; opaque to all others.
    public var wrapped: [UInt8]

    public init(workspace: WorkspaceID, id: String, kekID: String, wrapped: [UInt8]) {
        self.workspace = workspace
        self.id = id
        self.kekID = kekID
        self.wrapped = wrapped
    }
}

/// Where the vault's records lie. The store implements it; the vault holds no SQL (decisions 30).
public protocol VaultRecords: Sendable {
    /// As `SecretSource.epoch`, of the sealed records.
    var epoch: UInt64? { get }
    /// The workspace's data key; nil before its first secret.
    func dataKey(_ workspace: WorkspaceID) async throws -> WrappedDataKey?

    /// Inserts unless the workspace has one already.
    /// - Returns: the row that is in the store afterwards: `key`, or the one of whoever came first.
    func insertDataKey(_ key: WrappedDataKey) async throws -> WrappedDataKey

    /// Compare and swap for the online re-wrap: replaces `wrapped` and `kekID` of `new.workspace`'s key.
    /// - Parameter old: the `kekID` the row must still have, together with `new.id`.
    /// - Returns: false when it does not (another re-wrap was faster, or the workspace is gone).
    func replaceDataKey(_ new: WrappedDataKey, ifKekIs old: String) async throws -> Bool

    /// Data keys that any other key than `kekID` wraps, in a stable order, at most `limit`.
    func dataKeysNotWrapped(by kekID: String, limit: Int) async throws -> [WrappedDataKey]

    func dataKeyCount(wrappedBy kekID: String) async throws -> Int

    func credential(_ reference: CredentialReference) async throws -> SealedCredential?

    /// Inserts or replaces the credential of that connection and name.
    func storeCredential(_ credential: SealedCredential) async throws
}

extension VaultRecords {
    public var epoch: UInt64? { nil }
}
