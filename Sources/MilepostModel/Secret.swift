// SPDX-License-Identifier: Apache-2.0

/// Lends secrets for the length of one call (invariant 6).
///
/// The vault implements it; egress asks for a secret by reference at the moment of sending, so that no other room ever
/// holds one. The buffer is wiped when `body` returns; nothing derived from it may outlive the call in clear.
public protocol SecretSource: Sendable {
    /// - Parameters:
    ///   - reference: which secret.
    ///   - body: receives the plaintext bytes; must not block for longer than it takes to copy them into a request.
    /// - Throws: when the secret cannot be opened (unknown, key missing, record tampered with), or what `body` throws.
    func withSecret<Result: Sendable>(
        _ reference: CredentialReference,
        _ body: @Sendable (UnsafeRawBufferPointer) throws -> Result
    ) async throws -> Result

    /// Another number after any secret may have changed, at the latest when whoever changed it hears so; nil when nothing
    /// is known of changes. Calls that overlap may share what one of them opened as long as the number stands.
    var epoch: UInt64? { get }
}

extension SecretSource {
    public var epoch: UInt64? { nil }
}

/// Names one secret of one connection; carries nothing of the secret itself.
public struct CredentialReference: Hashable, Sendable, Codable {
    /// The connection that owns the secret.
    public let connection: ConnectionID
    /// The credential's name in the plugin's manifest, e.g. `api_token`.
    public let name: String

    public init(connection: ConnectionID, name: String) {
        self.connection = connection
        self.name = name
    }
}
