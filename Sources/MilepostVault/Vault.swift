// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// Seals secrets and lends them for the length of one call (invariant 6, SEC-01 to SEC-13).
///
/// Envelope encryption: a data key for each workspace seals its credentials; the key provider wraps the data keys.
/// Nothing in clear is kept between calls, data keys included: with the file provider an unwrap costs microseconds, so
/// a cache would widen the exposure and win nothing. Any task may call; there is no state to lock.
public final class Vault: SecretSource {
    /// Two rotations within one call are not expected, three no rotation.
    private static let maximumDataKeyReads = 3

    private let records: any VaultRecords
    private let keys: any KeyProvider
    private let random: any SecureRandomSource

    public init(records: any VaultRecords, keys: any KeyProvider, random: any SecureRandomSource) {
        self.records = records
        self.keys = keys
        self.random = random
    }

    // MARK: Lending

    public var epoch: UInt64? { records.epoch }

    /// - Throws: `VaultError`, or what `body` throws.
    public func withSecret<Result: Sendable>(
        _ reference: CredentialReference,
        _ body: @Sendable (UnsafeRawBufferPointer) throws -> Result
    ) async throws -> Result {
        let plaintext = try await open(reference)
        return try unsafe plaintext.withBytes(body)
    }

    /// For what must hold a secret across several steps, as a token refresh does; let go of it as soon as it is used.
    public func open(_ reference: CredentialReference) async throws(VaultError) -> SecretBytes {
        let found = try await fromStore("reading \(Self.describe(reference))") { [records] in
            try await records.credential(reference)
        }
        guard let sealed = found else {
            throw VaultError(
                .secretUnknown,
                "no secret \(Self.describe(reference)) is stored: connect the integration again")
        }
        let (key, dataKey) = try await existingDataKey(of: sealed.workspace)
        guard key.id == sealed.keyID else {
            throw VaultError(
                .dataKeyMissing,
                "\(Self.describe(reference)) needs data key \(sealed.keyID), workspace \(sealed.workspace) has "
                    + "\(key.id): they come from different backups; restore both from one, or connect again")
        }
        // What was asked for goes into the associated data, not what the row says of itself.
        let associated = try AssociatedData.credential(
            reference, workspace: sealed.workspace, version: sealed.version, keyID: sealed.keyID)
        guard
            let plaintext = try AuthenticatedCipher.open(
                .init(ciphertext: sealed.ciphertext, tag: sealed.tag), key: dataKey, nonce: sealed.nonce,
                associatedData: associated)
        else {
            throw VaultError(
                .recordTampered,
                "the stored \(Self.describe(reference)) was changed or belongs to another row: restore it from a backup "
                    + "or connect the integration again, and find out who can write to the database")
        }
        return plaintext
    }

    // MARK: Sealing

    /// Seals without storing, so that the caller can store the credential in one transaction with its connection
    /// (PCON-12). The workspace's data key is created and stored at its first secret.
    ///
    /// - Parameter version: `token_version`; bound to the record.
    public func seal(
        _ secret: SecretBytes, for reference: CredentialReference, workspace: WorkspaceID, version: Int64 = 1
    ) async throws(VaultError) -> SealedCredential {
        // Before anything is stored: an identifier past its limit is refused here.
        _ = try AssociatedData.credential(reference, workspace: workspace, version: version, keyID: "-")
        let (key, dataKey) = try await dataKey(of: workspace)
        let nonce = try random.bytes(AuthenticatedCipher.nonceByteCount)
        let associated = try AssociatedData.credential(
            reference, workspace: workspace, version: version, keyID: key.id)
        let sealed = try unsafe secret.withBytes { (bytes: UnsafeRawBufferPointer) throws(VaultError) in
            try unsafe AuthenticatedCipher.seal(bytes, key: dataKey, nonce: nonce, associatedData: associated)
        }
        return SealedCredential(
            connection: reference.connection, workspace: workspace, name: reference.name, version: version,
            keyID: key.id, nonce: nonce, ciphertext: sealed.ciphertext, tag: sealed.tag)
    }

    /// Seals and stores in one go, for a secret that stands alone.
    @discardableResult
    public func store(
        _ secret: SecretBytes, for reference: CredentialReference, workspace: WorkspaceID, version: Int64 = 1
    ) async throws(VaultError) -> SealedCredential {
        let sealed = try await seal(secret, for: reference, workspace: workspace, version: version)
        try await fromStore("storing \(Self.describe(reference))") { [records] in
            try await records.storeCredential(sealed)
        }
        return sealed
    }

    // MARK: Data keys

    private func dataKey(of workspace: WorkspaceID) async throws(VaultError) -> (WrappedDataKey, SecretBytes) {
        let found = try await fromStore("reading the data key of \(workspace)") { [records] in
            try await records.dataKey(workspace)
        }
        if found != nil { return try await existingDataKey(of: workspace) }
        let id = "dk-\(Digest.hex(try random.bytes(8)))"
        let fresh = try SecretBytes(count: AuthenticatedCipher.keyByteCount, random: random)
        let mine = try await wrap(fresh, context: KeyContext(workspace: workspace, dataKeyID: id))
        let winner = try await fromStore("storing the data key of \(workspace)") { [records] in
            try await records.insertDataKey(mine)
        }
        return winner.id == id ? (winner, fresh) : try await existingDataKey(of: workspace)
    }

    /// A re-wrap may pass between reading the row and unwrapping it, and the old key may even be dropped meanwhile; the
    /// row then names another key, so it is read again.
    private func existingDataKey(of workspace: WorkspaceID) async throws(VaultError) -> (WrappedDataKey, SecretBytes) {
        var unknown: (keyID: String, error: VaultError)?
        for _ in 0..<Self.maximumDataKeyReads {
            let found = try await fromStore("reading the data key of \(workspace)") { [records] in
                try await records.dataKey(workspace)
            }
            guard let key = found else {
                throw VaultError(
                    .dataKeyMissing,
                    "workspace \(workspace) has sealed secrets and no data key: restore the database from a backup")
            }
            if let unknown, unknown.keyID == key.kekID { throw unknown.error }
            do throws(VaultError) {
                let context = KeyContext(workspace: workspace, dataKeyID: key.id)
                return (key, try await keys.unwrap(key.wrapped, keyID: key.kekID, context: context))
            } catch {
                guard error.code == .keyUnknown else { throw error }
                unknown = (key.kekID, error)
            }
        }
        throw unknown?.error ?? VaultError(.systemFailure, "the data key of \(workspace) was never read")
    }

    /// Wraps, and unwraps again before anyone relies on it: a data key that does not come back takes every secret of
    /// its workspace with it.
    func wrap(_ dataKey: SecretBytes, context: KeyContext) async throws(VaultError) -> WrappedDataKey {
        let (keyID, wrapped) = try await keys.wrap(dataKey, context: context)
        guard try await keys.unwrap(wrapped, keyID: keyID, context: context).isEqual(to: dataKey) else {
            throw VaultError(
                .keyServiceRefused,
                "key \(keyID) gave a different data key back than it was given for workspace \(context.workspace): "
                    + "nothing was changed; check the key service")
        }
        return WrappedDataKey(
            workspace: context.workspace, id: context.dataKeyID, kekID: keyID, wrapped: wrapped)
    }

    // MARK: Rotation's access to the parts (Vault+Rotation.swift)

    var provider: any KeyProvider { keys }
    var store: any VaultRecords { records }

    /// Gives the store's failure the vault's shape. The store sees sealed records only, so its text holds no secret.
    func fromStore<Value>(_ what: String, _ body: () async throws -> Value) async throws(VaultError) -> Value {
        do {
            return try await body()
        } catch let error as VaultError {
            throw error
        } catch {
            throw VaultError(.storeFailed, "\(what) failed: \(error)")
        }
    }

    private static func describe(_ reference: CredentialReference) -> String {
        "credential \(reference.name) of connection \(reference.connection)"
    }
}
