// SPDX-License-Identifier: Apache-2.0

internal import COpenSSL
internal import MilepostModel

/// The keys of a credential that signs, and the headers they make: Standard Webhooks 1.0.0
/// (https://www.standardwebhooks.com, `specs/standard-webhooks`).
///
/// Signing happens at the moment of sending, with that moment's time stamp, so that a key never meets a plugin and a retry
/// never carries an old time (decisions 21). While a key is rotated the credential holds both, separated by a space, and
/// every request carries a signature of each: a receiver that knows either one accepts it (EXT-04).
struct WebhookSignature {
    struct Unusable: Error, Equatable { let reason: String }

    /// A receiver must read every signature of the list; more keys than these are no rotation.
    static let maximumKeys = 4
    /// RFC 2104 gains nothing from more; the scheme recommends 24 to 64.
    static let keyBytes = 16...512

    private enum Key {
        /// `v1`: HMAC-SHA256.
        case symmetric(SecretBytes)
        /// `v1a`: ed25519, made from its 32-byte seed.
        case ed25519(SecretBytes)
    }

    private let keys: [Key]
    /// What the answer is scrubbed of besides the credential as a whole: each key as text, and its bytes.
    let traces: [SecretBytes]

    /// - Parameter credential: `whsec_…` or `whsk_…` keys in base64, separated by spaces; without a prefix a key is
    ///   symmetric.
    init(_ credential: SecretBytes) throws(Unusable) {
        var clear = credential.copy()
        defer { wipe(&clear) }
        var keys: [Key] = []
        var traces: [SecretBytes] = []
        for part in clear.split(separator: 0x20) {
            guard keys.count < Self.maximumKeys else {
                throw Unusable(reason: "holds more than \(Self.maximumKeys) keys; drop the oldest")
            }
            let isPrivate = part.starts(with: "whsk_".utf8)
            let text =
                isPrivate || part.starts(with: "whsec_".utf8) ? part.drop(while: { $0 != 0x5F }).dropFirst() : part
            guard var bytes = Encoding.decodedBase64(text) else {
                throw Unusable(reason: "holds a key that is not base64")
            }
            defer { wipe(&bytes) }
            traces.append(Self.held(text))
            if isPrivate {
                // The seed alone, or seed and public key, as the reference implementation writes it.
                guard bytes.count == 32 || bytes.count == 64 else {
                    throw Unusable(reason: "holds an ed25519 key of \(bytes.count) bytes; 32 or 64 are right")
                }
                keys.append(.ed25519(Self.held(bytes[..<32])))
            } else {
                guard Self.keyBytes.contains(bytes.count) else {
                    throw Unusable(reason: "holds a key of \(bytes.count) bytes; 24 to 64 are right")
                }
                keys.append(.symmetric(Self.held(bytes[...])))
            }
            traces.append(Self.held(bytes[...]))
        }
        guard !keys.isEmpty else { throw Unusable(reason: "holds no key") }
        self.keys = keys
        self.traces = traces
    }

    /// The value of the signature header: one signature a key, the first key's first.
    func value(id: String, timestamp: Int64, body: [UInt8]) throws(Unusable) -> String {
        let message = Array("\(id).\(timestamp).".utf8) + body
        var signatures: [String] = []
        for key in keys {
            switch key {
            case .symmetric(let secret): signatures.append("v1," + Self.padded(Self.hmac(secret, message)))
            case .ed25519(let seed):
                guard let signature = Self.ed25519(seed, message) else {
                    throw Unusable(reason: "cannot sign: libcrypto refused its ed25519 key")
                }
                signatures.append("v1a," + Self.padded(signature))
            }
        }
        return signatures.joined(separator: " ")
    }

    private static func held(_ bytes: ArraySlice<UInt8>) -> SecretBytes {
        unsafe bytes.withUnsafeBytes { unsafe SecretBytes(copying: $0) }
    }

    private static func padded(_ bytes: [UInt8]) -> String {
        var text = Encoding.base64(bytes[...], alphabet: Encoding.base64Alphabet)
        while text.count % 4 != 0 { text.append(0x3D) }
        return String(decoding: text, as: UTF8.self)
    }

    private static func hmac(_ key: SecretBytes, _ message: [UInt8]) -> [UInt8] {
        var clear = key.copy()
        defer { wipe(&clear) }
        var digest = [UInt8](repeating: 0, count: 32)
        let isDone = unsafe digest.withUnsafeMutableBufferPointer { digest in
            unsafe message.withUnsafeBufferPointer { message in
                unsafe clear.withUnsafeBytes { key in
                    unsafe HMAC(
                        EVP_sha256(), key.baseAddress, Int32(key.count), message.baseAddress, message.count,
                        digest.baseAddress, nil) != nil
                }
            }
        }
        precondition(isDone, "libcrypto has no HMAC-SHA256")
        return digest
    }

    private static func ed25519(_ seed: SecretBytes, _ message: [UInt8]) -> [UInt8]? {
        var clear = seed.copy()
        defer { wipe(&clear) }
        guard let key = unsafe EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nil, clear, clear.count) else {
            return nil
        }
        defer { unsafe EVP_PKEY_free(key) }
        guard let context = unsafe EVP_MD_CTX_new() else { return nil }
        defer { unsafe EVP_MD_CTX_free(context) }
        guard unsafe EVP_DigestSignInit(context, nil, nil, nil, key) == 1 else { return nil }
        var signature = [UInt8](repeating: 0, count: 64)
        var length = signature.count
        guard unsafe EVP_DigestSign(context, &signature, &length, message, message.count) == 1, length == 64 else {
            return nil
        }
        return signature
    }
}

extension Encoding {
    /// The standard alphabet, with or without padding; nil for anything else.
    static func decodedBase64(_ text: ArraySlice<UInt8>) -> [UInt8]? {
        var digits = text
        while digits.last == 0x3D, text.endIndex - digits.endIndex < 2 { digits.removeLast() }
        guard digits.count % 4 != 1 else { return nil }
        var result: [UInt8] = []
        result.reserveCapacity(digits.count * 3 / 4)
        var bits: UInt32 = 0
        var count = 0
        for digit in digits {
            let value: UInt8
            switch digit {
            case 0x41...0x5A: value = digit - 0x41
            case 0x61...0x7A: value = digit - 0x61 + 26
            case 0x30...0x39: value = digit - 0x30 + 52
            case 0x2B: value = 62
            case 0x2F: value = 63
            default: return nil
            }
            bits = bits << 6 | UInt32(value)
            count += 6
            if count >= 8 {
                count -= 8
                result.append(UInt8(truncatingIfNeeded: bits >> UInt32(count)))
            }
        }
        return result
    }
}
