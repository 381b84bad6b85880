// SPDX-License-Identifier: Apache-2.0

import MilepostVault
import Testing

@Suite struct DigestTests {
    @Test("SHA-256 gives the answers of FIPS 180-4")
    func sha256() {
        #expect(
            Digest.hex(Digest.sha256(Array("abc".utf8)))
                == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
        #expect(
            Digest.hex(Digest.sha256([UInt8]()))
                == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
    }

    /// RFC 4231, test cases 1 and 2; the last is HMAC of nothing under nothing.
    @Test(
        "HMAC-SHA256 gives the answers of RFC 4231, and takes an empty key",
        arguments: [
            (
                String(repeating: "0b", count: 20), "Hi There",
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
            ),
            (
                "4a656665", "what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
            ),
            ("", "", "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad"),
        ])
    func hmac(key: String, message: String, expected: String) {
        #expect(Digest.hex(Digest.hmacSHA256(key: bytes(hex: key), message: Array(message.utf8))) == expected)
    }

    @Test("constant-time comparison is a comparison")
    func equality() {
        #expect(Digest.isEqual([1, 2, 3], [1, 2, 3]))
        #expect(Digest.isEqual([], []))
        #expect(!Digest.isEqual([1, 2, 3], [1, 2, 4]))
        #expect(!Digest.isEqual([1, 2, 3], [1, 2]))
    }

    @Test("an access token has 256 random bits, is stored as its hash, and prints nothing of itself")
    func accessToken() throws {
        let token = try AccessToken.generate(random: SeededRandom(1))
        #expect(AccessToken.isWellFormed(token.text), "\(token.text)")
        #expect(token.hash.matches(token.text))
        #expect(!token.hash.matches(token.text + "x"))
        #expect(token.hash.bytes == Digest.sha256(Array(token.text.utf8)))
        #expect(TokenHash(bytes: token.hash.bytes) == token.hash)
        #expect(TokenHash(bytes: [1, 2, 3]) == nil)
        #expect(try AccessToken.generate(random: OpenSSLRandomSource()).text != token.text)
        var dumped = ""
        dump(token, to: &dumped)
        #expect(!(dumped + "\(token)" + String(reflecting: token)).contains(token.text.dropFirst(4)))
    }

    @Test(
        "what is no token's form is told apart",
        arguments: ["", "mpt_", "mpt_" + String(repeating: "a", count: 42), "mpt_" + String(repeating: "+", count: 43)])
    func malformedToken(text: String) {
        #expect(!AccessToken.isWellFormed(text))
    }
}
