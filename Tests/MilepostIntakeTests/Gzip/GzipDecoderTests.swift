// SPDX-License-Identifier: Apache-2.0

import MilepostIntake
import Testing

@Suite("gzip bodies are decoded within a limit")
struct GzipDecoderTests {
    /// `gzip.compress(b'{"link":"spring","ts":1764000000}\n', 9, mtime=0)` of Python 3.
    static let event = bytes(
        "1f8b0800000000000203ab56cac9cccb56b2522a2e28cacc4b57d2512a2956b2323437333100835a2e00607f6cd122000000")
    static let text = "{\"link\":\"spring\",\"ts\":1764000000}\n"
    /// 100,000 zeros in 132 bytes.
    static let zeros = bytes(
        "1f8b0800000000000203edc13101000000c2a0f54f6d0d0fa0" + String(repeating: "0", count: 192)
            + "8057037d9511d4a0860100")

    static func bytes(_ hexadecimal: String) -> [UInt8] {
        let digits = Array(hexadecimal)
        return stride(from: 0, to: digits.count, by: 2).map { UInt8(String(digits[$0...$0 + 1]), radix: 16)! }
    }

    @Test("one member, and several")
    func members() throws {
        #expect(try GzipDecoder.decode(Self.event, limit: 1000) == Array(Self.text.utf8))
        let twice = try GzipDecoder.decode(Self.event + Self.event, limit: 1000)
        #expect(twice == Array((Self.text + Self.text).utf8))
    }

    @Test("output past the limit is refused, output at the limit is not")
    func limit() throws {
        #expect(try GzipDecoder.decode(Self.zeros, limit: 100_000).count == 100_000)
        #expect(throws: GzipError(code: .bodyTooLarge, detail: "the body decodes to more than 99999 bytes")) {
            try GzipDecoder.decode(Self.zeros, limit: 99_999)
        }
        #expect(try GzipDecoder.decode(Self.event, limit: 34).count == 34)
        #expect(throws: GzipError.self) { try GzipDecoder.decode(Self.event, limit: 33) }
        #expect(throws: GzipError.self) { try GzipDecoder.decode(Self.event + Self.event, limit: 67) }
    }

    @Test("every truncation is refused, except the empty rest after a whole member")
    func truncated() {
        for count in 0..<Self.event.count {
            let error = #expect(throws: GzipError.self) {
                try GzipDecoder.decode(Array(Self.event[..<count]), limit: 1000)
            }
            #expect(error?.code == .malformed, "\(count) bytes")
        }
    }

    @Test("no flipped byte crashes, and a wrong checksum or trailing bytes are refused")
    func damaged() {
        for index in Self.event.indices {
            var damaged = Self.event
            damaged[index] ^= 0x55
            // Bytes of the header's time and system mean nothing to the content.
            let decoded = try? GzipDecoder.decode(damaged, limit: 1000)
            #expect(decoded == nil || decoded == Array(Self.text.utf8), "byte \(index)")
        }
        #expect(throws: GzipError.self) { try GzipDecoder.decode(Self.event + [0x78], limit: 1000) }
        #expect(throws: GzipError.self) { try GzipDecoder.decode(Array(Self.text.utf8), limit: 1000) }
    }
}
