// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
internal import Synchronization

/// The default provider: a key ring in a file, held in locked memory (decisions 33).
public final class FileKeyProvider: KeyProvider {
    private static let formatVersion: UInt8 = 1
    private static let wrappedByteCount =
        1 + AuthenticatedCipher.nonceByteCount + AuthenticatedCipher.keyByteCount + AuthenticatedCipher.tagByteCount

    private let file: KeyRingFile
    private let random: any SecureRandomSource
    private let ring: Mutex<KeyRing>

    /// Reads the ring; blocks on the disk.
    public init(file: KeyRingFile, random: any SecureRandomSource) throws(VaultError) {
        self.file = file
        self.random = random
        ring = Mutex(try file.read())
    }

    /// Reads the ring again; blocks on the disk. When this throws, the old ring stays in use.
    public func reload() throws(VaultError) {
        let fresh = try file.read()
        ring.withLock { $0 = fresh }
    }

    /// Adds a key to the file and uses it from now on; blocks on the disk.
    /// - Returns: the new key's id.
    @discardableResult
    public func addKey(createdAt time: Timestamp) throws(VaultError) -> String {
        let fresh = try file.addKey(createdAt: time, random: random)
        ring.withLock { $0 = fresh }
        return fresh.current.id
    }

    /// Removes a key from the file and from memory; blocks on the disk. Ask `Vault.checkUnused` before.
    public func dropKey(_ id: String) throws(VaultError) {
        let fresh = try file.dropKey(id)
        ring.withLock { $0 = fresh }
    }

    public func currentKeyID() async throws(VaultError) -> String { ring.withLock { $0.current.id } }

    public func keyIDs() async throws(VaultError) -> [String] { ring.withLock { $0.keys.map(\.id) } }

    public func wrap(
        _ dataKey: SecretBytes, context: KeyContext
    ) async throws(VaultError) -> (keyID: String, wrapped: [UInt8]) {
        guard dataKey.count == AuthenticatedCipher.keyByteCount else {
            throw VaultError(
                .limitExceeded, "a data key has \(AuthenticatedCipher.keyByteCount) bytes, not \(dataKey.count)")
        }
        let key = ring.withLock { $0.current }
        let nonce = try random.bytes(AuthenticatedCipher.nonceByteCount)
        let associated = try AssociatedData.dataKey(context, wrappedBy: key.id)
        let sealed = try unsafe dataKey.withBytes { (bytes: UnsafeRawBufferPointer) throws(VaultError) in
            try unsafe AuthenticatedCipher.seal(bytes, key: key.bytes, nonce: nonce, associatedData: associated)
        }
        return (key.id, [Self.formatVersion] + nonce + sealed.ciphertext + sealed.tag)
    }

    public func unwrap(_ wrapped: [UInt8], keyID: String, context: KeyContext) async throws(VaultError) -> SecretBytes {
        guard let key = ring.withLock({ $0.key(keyID) }) else {
            throw VaultError(
                .keyUnknown,
                "the key ring \(file.path) has no key \(keyID), which wraps the data key of workspace "
                    + "\(context.workspace): put it back from where you keep a copy, and reload")
        }
        let associated = try AssociatedData.dataKey(context, wrappedBy: keyID)
        guard wrapped.count == Self.wrappedByteCount, wrapped[0] == Self.formatVersion else {
            throw Self.tampered(context, keyID)
        }
        let nonceEnd = 1 + AuthenticatedCipher.nonceByteCount
        let tagStart = wrapped.count - AuthenticatedCipher.tagByteCount
        let sealed = AuthenticatedCipher.Sealed(
            ciphertext: Array(wrapped[nonceEnd..<tagStart]), tag: Array(wrapped[tagStart...]))
        guard
            let dataKey = try AuthenticatedCipher.open(
                sealed, key: key.bytes, nonce: Array(wrapped[1..<nonceEnd]), associatedData: associated)
        else { throw Self.tampered(context, keyID) }
        return dataKey
    }

    public func health() async -> KeyProviderHealth {
        let (count, current) = ring.withLock { ($0.keys.count, $0.current.id) }
        return KeyProviderHealth(isHealthy: true, detail: "key ring \(file.path), \(count) keys, current \(current)")
    }

    private static func tampered(_ context: KeyContext, _ keyID: String) -> VaultError {
        VaultError(
            .recordTampered,
            "the data key of workspace \(context.workspace) does not open under \(keyID): its row was changed, or the "
                + "key ring holds another key under this id; restore the one or the other from a backup")
    }
}
