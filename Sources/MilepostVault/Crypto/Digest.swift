// SPDX-License-Identifier: Apache-2.0

internal import COpenSSL

/// SHA-256 and HMAC-SHA256 of libcrypto, for bytes that are no secret of ours or that the caller holds anyway.
public enum Digest {
    public static let byteCount = 32

    public static func sha256(_ bytes: [UInt8]) -> [UInt8] {
        unsafe bytes.withUnsafeBytes { unsafe sha256($0) }
    }

    public static func sha256(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: byteCount)
        let result = unsafe digest.withUnsafeMutableBufferPointer { digest in
            unsafe SHA256(bytes.baseAddress?.assumingMemoryBound(to: UInt8.self), bytes.count, digest.baseAddress)
                != nil
        }
        precondition(result, "libcrypto has no SHA-256")
        return digest
    }

    /// - Parameter key: lent by `SecretSource.withSecret`; may be empty.
    public static func hmacSHA256(key: UnsafeRawBufferPointer, message: [UInt8]) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: byteCount)
        // A null key means "the key of the last call" to HMAC(), so an empty one still needs an address.
        var placeholder: UInt8 = 0
        let isDone = unsafe withUnsafePointer(to: &placeholder) { placeholder in
            unsafe digest.withUnsafeMutableBufferPointer { digest in
                unsafe message.withUnsafeBufferPointer { message in
                    unsafe HMAC(
                        EVP_sha256(), key.baseAddress ?? UnsafeRawPointer(placeholder), Int32(key.count),
                        message.baseAddress, message.count, digest.baseAddress, nil) != nil
                }
            }
        }
        precondition(isDone, "libcrypto has no HMAC-SHA256")
        return digest
    }

    public static func hmacSHA256(key: [UInt8], message: [UInt8]) -> [UInt8] {
        unsafe key.withUnsafeBytes { unsafe hmacSHA256(key: $0, message: message) }
    }

    /// Compares in a time that depends on the lengths only: for tags, signatures and token hashes.
    public static func isEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
        guard left.count == right.count else { return false }
        return unsafe left.withUnsafeBytes { left in
            unsafe right.withUnsafeBytes { unsafe CRYPTO_memcmp(left.baseAddress, $0.baseAddress, left.count) == 0 }
        }
    }

    /// Lower-case hexadecimal.
    public static func hex(_ bytes: [UInt8]) -> String {
        let digits = Array("0123456789abcdef".utf8)
        return String(decoding: bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }, as: UTF8.self)
    }
}
