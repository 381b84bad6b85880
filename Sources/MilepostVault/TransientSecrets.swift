// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
internal import Synchronization

/// Secrets of connections that do not exist yet: connect proves a token before anything is stored.
///
/// Whoever puts one in takes it out again, in a `defer`; it is wiped when the last call that uses it has ended.
public final class TransientSecrets: SecretSource {
    /// Connects under way at once; a page of locked memory holds several.
    public static let maximumCount = 1024

    private let secrets = Mutex<[CredentialReference: SecretBytes]>([:])
    private let changes = Atomic<UInt64>(0)

    public init() {}

    public var count: Int { secrets.withLock { $0.count } }

    /// Puts a secret in, or replaces it.
    ///
    /// - Throws: `.limitExceeded` when there are `maximumCount`: a connect does not take its own out, or somebody floods.
    public func insert(_ secret: SecretBytes, for reference: CredentialReference) throws(VaultError) {
        let isInserted = secrets.withLock { secrets in
            guard secrets[reference] != nil || secrets.count < Self.maximumCount else { return false }
            secrets[reference] = secret
            return true
        }
        changes.wrappingAdd(1, ordering: .sequentiallyConsistent)
        guard isInserted else {
            throw VaultError(.limitExceeded, "\(Self.maximumCount) connects are under way: try again later")
        }
    }

    public func remove(_ reference: CredentialReference) {
        secrets.withLock { _ = $0.removeValue(forKey: reference) }
        changes.wrappingAdd(1, ordering: .sequentiallyConsistent)
    }

    public func removeAll(of connection: ConnectionID) {
        secrets.withLock { secrets in secrets = secrets.filter { $0.key.connection != connection } }
        changes.wrappingAdd(1, ordering: .sequentiallyConsistent)
    }

    public var epoch: UInt64? { changes.load(ordering: .sequentiallyConsistent) }

    public func secret(_ reference: CredentialReference) -> SecretBytes? { secrets.withLock { $0[reference] } }

    public func withSecret<Result: Sendable>(
        _ reference: CredentialReference,
        _ body: @Sendable (UnsafeRawBufferPointer) throws -> Result
    ) async throws -> Result {
        guard let secret = secret(reference) else {
            throw VaultError(
                .secretUnknown, "no transient credential \(reference.name) of connection \(reference.connection)")
        }
        return try unsafe secret.withBytes(body)
    }
}

/// Transient secrets first, then the vault: what egress is given.
public struct OverlaidSecrets: SecretSource {
    private let transient: TransientSecrets
    private let base: any SecretSource

    public init(_ transient: TransientSecrets, over base: any SecretSource) {
        self.transient = transient
        self.base = base
    }

    /// Both only grow, so their sum changes with either.
    public var epoch: UInt64? { base.epoch.flatMap { base in transient.epoch.map { base &+ $0 } } }

    public func withSecret<Result: Sendable>(
        _ reference: CredentialReference,
        _ body: @Sendable (UnsafeRawBufferPointer) throws -> Result
    ) async throws -> Result {
        if let secret = transient.secret(reference) { return try unsafe secret.withBytes(body) }
        return try await unsafe base.withSecret(reference, body)
    }
}
