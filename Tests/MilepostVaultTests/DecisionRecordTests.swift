// SPDX-License-Identifier: Apache-2.0

import Foundation
import MilepostVault
import Testing

@Suite struct DecisionRecordTests {
    /// SEC-14: the repository's root is three folders above this file.
    private static let record = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .appendingPathComponent("docs/decisions/0002-envelope-encryption.md")

    @Test(
        "SEC-14: the architecture record states the constants that the code has",
        arguments: [
            "| cipher | \(AuthenticatedCipher.name) |",
            "| key | \(AuthenticatedCipher.keyByteCount) bytes |",
            "| nonce | \(AuthenticatedCipher.nonceByteCount * 8) bits |",
            "| tag | \(AuthenticatedCipher.tagByteCount * 8) bits |",
            "| access token | `\(AccessToken.prefix)` and 256 random bits, stored as SHA-256 |",
            "| longest secret | \(SecretBytes.maximumCount) bytes |",
            "| keys in a ring | \(KeyRing.maximumKeyCount) |",
            "| re-wrap chunk | \(Vault.rewrapChunk) data keys |",
        ])
    func constants(line: String) throws {
        let text = try String(contentsOf: Self.record, encoding: .utf8)
        #expect(text.components(separatedBy: "\n").contains(line), "missing: \(line)")
    }
}
