// SPDX-License-Identifier: Apache-2.0

import MilepostVault
import Testing

/// SEC-03
@Suite struct AuthenticatedCipherTests {
    struct Vector: Sendable {
        let name, key, nonce, associated, plaintext, ciphertext, tag: String
    }

    /// McGrew and Viega, "The Galois/Counter Mode of Operation", appendix B, AES-256 test cases 14 to 16, as submitted
    /// to NIST (csrc.nist.gov, proposed modes, gcm-revised-spec.pdf).
    static let vectors = [
        Vector(
            name: "14", key: String(repeating: "00", count: 32), nonce: String(repeating: "00", count: 12),
            associated: "",
            plaintext: String(repeating: "00", count: 16), ciphertext: "cea7403d4d606b6e074ec5d3baf39d18",
            tag: "d0d1c8a799996bf0265b98b5d48ab919"),
        Vector(
            name: "15", key: String(repeating: "feffe9928665731c6d6a8f9467308308", count: 2),
            nonce: "cafebabefacedbaddecaf888", associated: "",
            plaintext: "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
                + "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
            ciphertext: "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
                + "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad",
            tag: "b094dac5d93471bdec1a502270e3cc6c"),
        Vector(
            name: "16", key: String(repeating: "feffe9928665731c6d6a8f9467308308", count: 2),
            nonce: "cafebabefacedbaddecaf888", associated: "feedfacedeadbeeffeedfacedeadbeefabaddad2",
            plaintext: "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
                + "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
            ciphertext: "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
                + "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
            tag: "76fc6ece0f4e1768cddf8853bb2d551b"),
    ]

    private func key(_ vector: Vector) throws -> SecretBytes {
        var key = bytes(hex: vector.key)
        return try SecretBytes(wiping: &key)
    }

    @Test("SEC-03: the published test cases come out, sealing and opening", arguments: vectors)
    func knownAnswers(vector: Vector) throws {
        let key = try key(vector)
        let sealed = try unsafe bytes(hex: vector.plaintext).withUnsafeBytes {
            try unsafe AuthenticatedCipher.seal(
                $0, key: key, nonce: bytes(hex: vector.nonce), associatedData: bytes(hex: vector.associated))
        }
        #expect(Digest.hex(sealed.ciphertext) == vector.ciphertext)
        #expect(Digest.hex(sealed.tag) == vector.tag)
        let opened = try AuthenticatedCipher.open(
            sealed, key: key, nonce: bytes(hex: vector.nonce), associatedData: bytes(hex: vector.associated))
        let plaintext = unsafe try #require(opened).withBytes { unsafe Array($0) }
        #expect(plaintext == bytes(hex: vector.plaintext))
    }

    @Test("SEC-03: no single flipped bit in ciphertext, tag, associated data, nonce or key opens")
    func flippedBits() throws {
        let vector = Self.vectors[2]
        let parts = [vector.ciphertext, vector.tag, vector.associated, vector.nonce, vector.key].map(bytes(hex:))
        func opens(_ parts: [[UInt8]]) throws -> Bool {
            var key = parts[4]
            return try AuthenticatedCipher.open(
                .init(ciphertext: parts[0], tag: parts[1]), key: SecretBytes(wiping: &key), nonce: parts[3],
                associatedData: parts[2]) != nil
        }
        try #require(try opens(parts))
        for part in parts.indices {
            for bit in 0..<parts[part].count * 8 {
                var flipped = parts
                flipped[part][bit / 8] ^= 1 << UInt8(bit % 8)
                #expect(try !opens(flipped), "part \(part), bit \(bit)")
            }
        }
    }

    @Test("a tag or a nonce of another length is refused: no truncated tags", arguments: [0, 4, 12, 15, 17])
    func wrongLengths(count: Int) throws {
        let vector = Self.vectors[2]
        let tag = Array((bytes(hex: vector.tag) + [0]).prefix(count))
        let isOpened =
            try AuthenticatedCipher.open(
                .init(ciphertext: bytes(hex: vector.ciphertext), tag: tag), key: key(vector),
                nonce: bytes(hex: vector.nonce), associatedData: bytes(hex: vector.associated)) != nil
        #expect(!isOpened)
        let shortNonce = Array(bytes(hex: vector.nonce).prefix(min(count, 11)))
        let isOpenedWithNonce =
            try AuthenticatedCipher.open(
                .init(ciphertext: bytes(hex: vector.ciphertext), tag: bytes(hex: vector.tag)), key: key(vector),
                nonce: shortNonce, associatedData: bytes(hex: vector.associated)) != nil
        #expect(!isOpenedWithNonce)
    }
}
