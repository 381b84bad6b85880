// SPDX-License-Identifier: Apache-2.0

internal import COpenSSL

/// AES-256-GCM: what opens is exactly what was sealed, under the same key, nonce and associated data (SEC-03).
///
/// `docs/decisions/0002-envelope-encryption.md` names these constants, and a test compares them.
public enum AuthenticatedCipher {
    public static let name = "AES-256-GCM"
    public static let keyByteCount = 32
    public static let nonceByteCount = 12
    public static let tagByteCount = 16

    package struct Sealed: Equatable {
        package var ciphertext: [UInt8]
        package var tag: [UInt8]
        package init(ciphertext: [UInt8], tag: [UInt8]) {
            self.ciphertext = ciphertext
            self.tag = tag
        }
    }

    /// - Parameter nonce: 12 bytes, never used before under this key.
    package static func seal(
        _ plaintext: UnsafeRawBufferPointer, key: SecretBytes, nonce: [UInt8], associatedData: [UInt8]
    ) throws(VaultError) -> Sealed {
        let context = try CipherContext()
        try context.begin(.seal, key: key, nonce: nonce)
        try context.authenticate(associatedData)
        var sealed = Sealed(
            ciphertext: [UInt8](repeating: 0, count: plaintext.count),
            tag: [UInt8](repeating: 0, count: tagByteCount))
        let written = unsafe sealed.ciphertext.withUnsafeMutableBytes {
            unsafe context.transform(plaintext, into: $0) && context.finish()
        }
        let tagged = unsafe sealed.tag.withUnsafeMutableBytes { unsafe context.readTag(into: $0) }
        guard written, tagged else { throw CipherContext.failure("sealing") }
        return sealed
    }

    /// - Returns: the plaintext in locked memory, or nil when tag, ciphertext, nonce, associated data or key do not
    ///   belong together. Nothing unauthenticated leaves this function.
    package static func open(
        _ sealed: Sealed, key: SecretBytes, nonce: [UInt8], associatedData: [UInt8]
    ) throws(VaultError) -> SecretBytes? {
        guard nonce.count == nonceByteCount, sealed.tag.count == tagByteCount, !sealed.ciphertext.isEmpty,
            sealed.ciphertext.count <= SecretBytes.maximumCount
        else { return nil }
        let context = try CipherContext()
        try context.begin(.open, key: key, nonce: nonce)
        try context.authenticate(associatedData)
        var isAuthentic = false
        let plaintext = try unsafe SecretBytes(count: sealed.ciphertext.count) { room in
            isAuthentic =
                unsafe sealed.ciphertext.withUnsafeBytes { unsafe context.transform($0, into: room) }
                && sealed.tag.withUnsafeBytes { unsafe context.expectTag($0) }
                && context.finish()
        }
        return isAuthentic ? plaintext : nil
    }
}

/// One EVP context. Owned, moved, never copied; freed, and its key schedule wiped, exactly once.
@safe
struct CipherContext: ~Copyable {
    enum Direction: Int32 { case open = 0, seal = 1 }

    private let raw: OpaquePointer

    init() throws(VaultError) {
        guard let raw = unsafe EVP_CIPHER_CTX_new() else { throw Self.failure("EVP_CIPHER_CTX_new") }
        unsafe self.raw = raw
    }

    deinit { unsafe EVP_CIPHER_CTX_free(raw) }

    borrowing func begin(_ direction: Direction, key: SecretBytes, nonce: [UInt8]) throws(VaultError) {
        precondition(key.count == AuthenticatedCipher.keyByteCount, "a key of \(key.count) bytes")
        precondition(nonce.count == AuthenticatedCipher.nonceByteCount, "a nonce of \(nonce.count) bytes")
        let raw = unsafe raw
        let status = unsafe key.withBytes { key in
            unsafe nonce.withUnsafeBufferPointer { nonce in
                unsafe EVP_CipherInit_ex(
                    raw, EVP_aes_256_gcm(), nil, key.baseAddress?.assumingMemoryBound(to: UInt8.self),
                    nonce.baseAddress, direction.rawValue)
            }
        }
        guard status == 1 else { throw Self.failure("EVP_CipherInit_ex") }
    }

    borrowing func authenticate(_ associatedData: [UInt8]) throws(VaultError) {
        guard !associatedData.isEmpty else { return }
        let raw = unsafe raw
        var ignored: Int32 = 0
        let status = unsafe associatedData.withUnsafeBufferPointer {
            unsafe EVP_CipherUpdate(raw, nil, &ignored, $0.baseAddress, Int32($0.count))
        }
        guard status == 1 else { throw Self.failure("EVP_CipherUpdate") }
    }

    /// GCM is a stream: as many bytes come out as go in.
    borrowing func transform(_ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer) -> Bool {
        precondition(input.count == output.count, "\(input.count) bytes into \(output.count)")
        guard input.count > 0 else { return true }
        var written: Int32 = 0
        let status = unsafe EVP_CipherUpdate(
            raw, output.baseAddress?.assumingMemoryBound(to: UInt8.self), &written,
            input.baseAddress?.assumingMemoryBound(to: UInt8.self), Int32(input.count))
        return status == 1 && Int(written) == input.count
    }

    /// When opening, this is where the tag is compared.
    borrowing func finish() -> Bool {
        var nothing: UInt8 = 0
        var written: Int32 = 0
        return unsafe EVP_CipherFinal_ex(raw, &nothing, &written) == 1 && written == 0
    }

    borrowing func readTag(into tag: UnsafeMutableRawBufferPointer) -> Bool {
        unsafe EVP_CIPHER_CTX_ctrl(raw, EVP_CTRL_AEAD_GET_TAG, Int32(tag.count), tag.baseAddress) == 1
    }

    borrowing func expectTag(_ tag: UnsafeRawBufferPointer) -> Bool {
        // libcrypto only reads the tag here, though its signature says otherwise.
        unsafe EVP_CIPHER_CTX_ctrl(
            raw, EVP_CTRL_AEAD_SET_TAG, Int32(tag.count), UnsafeMutableRawPointer(mutating: tag.baseAddress)) == 1
    }

    static func failure(_ what: String) -> VaultError {
        VaultError(.systemFailure, "libcrypto failed in \(what): is the installed OpenSSL 3 complete?")
    }
}
