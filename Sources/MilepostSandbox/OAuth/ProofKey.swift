// SPDX-License-Identifier: Apache-2.0

import COpenSSL

/// Proof Key for Code Exchange (RFC 7636), method S256.
package enum ProofKey {
    /// BASE64URL(SHA256(verifier)), without padding.
    package static func challenge(of verifier: String) -> String {
        let input = Array(verifier.utf8)
        var digest = [UInt8](repeating: 0, count: 32)
        let made = unsafe input.withUnsafeBufferPointer { input in
            unsafe digest.withUnsafeMutableBufferPointer { output in
                unsafe SHA256(input.baseAddress, input.count, output.baseAddress)
            }
        }
        precondition(unsafe made != nil, "SHA-256 of \(input.count) bytes failed in libcrypto")
        return base64(digest, alphabet: urlAlphabet)
    }

    /// Undoes standard base64, as `Authorization: Basic` uses it; nil for anything else.
    package static func decodeBase64(_ text: String) -> [UInt8]? {
        var out: [UInt8] = []
        var bits: UInt32 = 0
        var count = 0
        let body = text.utf8.reversed().drop { $0 == UInt8(ascii: "=") }.reversed()
        for byte in body {
            guard let value = alphabet.firstIndex(of: byte) else { return nil }
            bits = bits << 6 | UInt32(value)
            count += 6
            if count >= 8 {
                count -= 8
                out.append(UInt8(truncatingIfNeeded: bits >> UInt32(count)))
            }
        }
        return out
    }

    private static let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    private static let urlAlphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)

    private static func base64(_ bytes: [UInt8], alphabet: [UInt8]) -> String {
        var out: [UInt8] = []
        var start = 0
        while start < bytes.count {
            let part = bytes[start..<min(start + 3, bytes.count)]
            var bits: UInt32 = 0
            for place in 0..<3 { bits = bits << 8 | (place < part.count ? UInt32(part[start + place]) : 0) }
            for place in 0...part.count {
                out.append(alphabet[Int(bits >> UInt32(18 - 6 * place) & 63)])
            }
            start += 3
        }
        return String(decoding: out, as: UTF8.self)
    }
}
