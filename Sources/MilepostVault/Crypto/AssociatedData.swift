// SPDX-License-Identifier: Apache-2.0

internal import MilepostModel

/// The bytes that tie a ciphertext to its row: a schema label, then every field with its length before it, so that no
/// two different rows give the same bytes.
enum AssociatedData {
    /// The longest identifier taken; a longer one could only come from outside.
    static let maximumFieldByteCount = 1024

    /// The schema is in the label: a changed record layout gets a new one, and old records keep opening under theirs.
    static func credential(
        _ reference: CredentialReference, workspace: WorkspaceID, version: Int64, keyID: String
    ) throws(VaultError) -> [UInt8] {
        try encode(
            "milepost/credential/1", workspace.rawValue, reference.connection.rawValue, reference.name,
            String(version), keyID)
    }

    static func dataKey(_ context: KeyContext, wrappedBy keyID: String) throws(VaultError) -> [UInt8] {
        try encode("milepost/data-key/1", keyID, context.workspace.rawValue, context.dataKeyID)
    }

    private static func encode(_ fields: String...) throws(VaultError) -> [UInt8] {
        var bytes: [UInt8] = []
        for field in fields {
            let length = field.utf8.count
            guard (1...maximumFieldByteCount).contains(length) else {
                throw VaultError(
                    .limitExceeded,
                    "an identifier of a secret has 1 to \(maximumFieldByteCount) bytes, not \(length): "
                        + "\(field.prefix(40))")
            }
            bytes += [UInt8(length >> 8), UInt8(length & 255)]
            bytes += field.utf8
        }
        return bytes
    }
}
