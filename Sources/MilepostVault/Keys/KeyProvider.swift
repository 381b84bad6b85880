// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// What a wrapped data key is bound to, so that it opens in its own workspace only (SEC-13).
///
/// A file provider authenticates it as associated data; Vault's transit takes it as `associated_data`, AWS KMS as the
/// encryption context.
public struct KeyContext: Hashable, Sendable {
    public let workspace: WorkspaceID
    public let dataKeyID: String

    public init(workspace: WorkspaceID, dataKeyID: String) {
        self.workspace = workspace
        self.dataKeyID = dataKeyID
    }
}

/// Whether a provider could wrap and unwrap now, for `status` and `doctor`.
public struct KeyProviderHealth: Hashable, Sendable {
    public let isHealthy: Bool
    /// For the operator: what is wrong and what to do; or what the provider is. Never a key.
    public let detail: String

    public init(isHealthy: Bool, detail: String) {
        self.isHealthy = isHealthy
        self.detail = detail
    }
}

/// Holds key-encryption keys and wraps data keys with them; the keys themselves need never leave it (SEC-09, SEC-10).
///
/// Made so that a remote service fits: everything is asynchronous and may fail for a while
/// (`.keyServiceUnavailable`), keys are named by ids that the provider chooses, and a wrapped key is opaque bytes.
/// Calls may come concurrently from any task; a provider does its blocking work on threads of its own.
public protocol KeyProvider: Sendable {
    /// The key that `wrap` uses now.
    func currentKeyID() async throws(VaultError) -> String

    /// Every key that `unwrap` can use, the current one among them.
    func keyIDs() async throws(VaultError) -> [String]

    /// Wraps with the current key and says which that was: it may have changed since the caller asked.
    func wrap(_ dataKey: SecretBytes, context: KeyContext) async throws(VaultError) -> (keyID: String, wrapped: [UInt8])

    /// - Throws: `.keyUnknown` when the provider has no such key, `.recordTampered` when `wrapped` does not open with it
    ///   in this context, `.keyServiceUnavailable` or `.keyServiceRefused`.
    func unwrap(_ wrapped: [UInt8], keyID: String, context: KeyContext) async throws(VaultError) -> SecretBytes

    func health() async -> KeyProviderHealth
}

/// Two providers while data keys move from one to the other: the new one wraps, each unwraps what it knows (SEC-10).
///
/// Key ids must differ between the two. When `Vault.rewrapAll` has finished, the old provider can go.
public struct MigratingKeyProvider: KeyProvider {
    private let new: any KeyProvider
    private let old: any KeyProvider

    public init(to new: any KeyProvider, from old: any KeyProvider) {
        self.new = new
        self.old = old
    }

    public func currentKeyID() async throws(VaultError) -> String { try await new.currentKeyID() }

    public func keyIDs() async throws(VaultError) -> [String] { try await new.keyIDs() + old.keyIDs() }

    public func wrap(
        _ dataKey: SecretBytes, context: KeyContext
    ) async throws(VaultError) -> (keyID: String, wrapped: [UInt8]) {
        try await new.wrap(dataKey, context: context)
    }

    public func unwrap(_ wrapped: [UInt8], keyID: String, context: KeyContext) async throws(VaultError) -> SecretBytes {
        // Asking with the key itself spares a remote provider the list of its keys before every unwrap.
        do throws(VaultError) {
            return try await new.unwrap(wrapped, keyID: keyID, context: context)
        } catch {
            guard error.code == .keyUnknown else { throw error }
        }
        return try await old.unwrap(wrapped, keyID: keyID, context: context)
    }

    public func health() async -> KeyProviderHealth {
        let (new, old) = (await new.health(), await old.health())
        return KeyProviderHealth(
            isHealthy: new.isHealthy && old.isHealthy, detail: "new: \(new.detail); old: \(old.detail)")
    }
}
