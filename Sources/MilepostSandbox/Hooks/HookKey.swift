// SPDX-License-Identifier: Apache-2.0

import COpenSSL

/// A key with which signed webhooks are checked: Standard Webhooks 1.0.0, as senders' and receivers' keys are written there.
struct HookKey: Hashable, Sendable {
    private enum Material: Hashable, Sendable {
        /// `v1`: HMAC-SHA256.
        case symmetric([UInt8])
        /// `v1a`: ed25519, the 32 bytes of the public key.
        case ed25519([UInt8])
    }

    private let material: Material

    /// The version that a signature bears which this key can check.
    var version: String {
        switch material {
        case .symmetric: "v1"
        case .ed25519: "v1a"
        }
    }

    /// - Parameter text: `whsec_…` or no prefix for a shared key, `whpk_…` for a public key; `whsk_…`, the private one, is
    ///   taken too and its public half kept.
    init(_ text: String) throws(ControlError) {
        let (prefix, rest) = Self.split(text)
        guard let bytes = ProofKey.decodeBase64(rest), !bytes.isEmpty else {
            throw ControlError("a key must be whsec_…, whpk_… or whsk_… with base64 behind it")
        }
        switch prefix {
        case "whpk_":
            guard bytes.count == 32 else { throw ControlError("a whpk_ key has 32 bytes, this one \(bytes.count)") }
            material = .ed25519(bytes)
        case "whsk_":
            guard bytes.count == 32 || bytes.count == 64, let open = Self.publicHalf(of: Array(bytes.prefix(32))) else {
                throw ControlError("a whsk_ key has 32 or 64 bytes, this one \(bytes.count)")
            }
            material = .ed25519(open)
        default:
            guard (16...512).contains(bytes.count) else {
                throw ControlError("a shared key has 24 to 64 bytes (16 to 512 are taken), this one \(bytes.count)")
            }
            material = .symmetric(bytes)
        }
    }

    private static func split(_ text: String) -> (prefix: String, rest: String) {
        for prefix in ["whsec_", "whpk_", "whsk_"] where text.hasPrefix(prefix) {
            return (prefix, String(text.dropFirst(prefix.count)))
        }
        return ("", text)
    }

    /// Whether the bytes are this key's signature of the message.
    func signed(_ message: [UInt8], with signature: [UInt8]) -> Bool {
        switch material {
        case .symmetric(let key):
            let own = Self.hmac(key, message)
            guard own.count == signature.count else { return false }
            return unsafe CRYPTO_memcmp(own, signature, own.count) == 0
        case .ed25519(let key): return Self.verifies(key, message, signature)
        }
    }

    private static func hmac(_ key: [UInt8], _ message: [UInt8]) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: 32)
        let isDone =
            unsafe HMAC(
                EVP_sha256(), key, Int32(key.count), message, message.count, &digest, nil) != nil
        precondition(isDone, "libcrypto has no HMAC-SHA256")
        return digest
    }

    private static func publicHalf(of seed: [UInt8]) -> [UInt8]? {
        guard let key = unsafe EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nil, seed, seed.count) else { return nil }
        defer { unsafe EVP_PKEY_free(key) }
        var open = [UInt8](repeating: 0, count: 32)
        var length = open.count
        return unsafe EVP_PKEY_get_raw_public_key(key, &open, &length) == 1 && length == 32 ? open : nil
    }

    private static func verifies(_ key: [UInt8], _ message: [UInt8], _ signature: [UInt8]) -> Bool {
        guard signature.count == 64,
            let open = unsafe EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nil, key, key.count)
        else { return false }
        defer { unsafe EVP_PKEY_free(open) }
        guard let context = unsafe EVP_MD_CTX_new() else { return false }
        defer { unsafe EVP_MD_CTX_free(context) }
        guard unsafe EVP_DigestVerifyInit(context, nil, nil, nil, open) == 1 else { return false }
        return unsafe EVP_DigestVerify(context, signature, signature.count, message, message.count) == 1
    }
}
