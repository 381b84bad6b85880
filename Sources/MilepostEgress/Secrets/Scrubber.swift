// SPDX-License-Identifier: Apache-2.0

/// Takes a request's secrets out of everything that comes back (invariant 6, SEC-06, SEC-08).
///
/// A secret is found however it is written: plain, percent-encoded, with JSON or HTML escapes, any mixture of these, in
/// base64 at each of the three alignments and both alphabets, and in hexadecimal. Bodies are scrubbed whole, so chunk
/// borders hide nothing. Secrets under four bytes are left: masking them would eat the answer, and guessing them is
/// quicker than reading it.
///
/// `@unchecked Sendable`: nothing changes between `init` and `deinit`, which wipes.
final class Scrubber: @unchecked Sendable {
    static let mask = Array("[secret]".utf8)
    static let shortestSecret = 4

    private var patterns: [[UInt8]]
    private let mayStart: [Bool]

    init(_ secrets: [SecretBytes]) {
        var patterns: [[UInt8]] = []
        for secret in secrets where secret.count >= Self.shortestSecret {
            var clear = secret.copy()
            patterns.append(secret.copy())
            for alphabet in [Encoding.base64Alphabet, Encoding.base64URLAlphabet] {
                for shift in 0..<3 { patterns.append(Self.base64(clear, shift: shift, alphabet: alphabet)) }
            }
            patterns.append(Self.hexadecimal(clear, upper: false))
            patterns.append(Self.hexadecimal(clear, upper: true))
            wipe(&clear)
        }
        patterns = patterns.filter { $0.count >= Self.shortestSecret }.sorted { $0.count > $1.count }
        var mayStart = [Bool](repeating: false, count: 256)
        for byte in patterns.compactMap(\.first) { mayStart[Int(byte)] = true }
        if !patterns.isEmpty { for byte in "%\\&+".utf8 { mayStart[Int(byte)] = true } }
        self.patterns = patterns
        self.mayStart = mayStart
    }

    deinit { for index in patterns.indices { wipe(&patterns[index]) } }

    /// - Parameter isCut: the text ends where a limit cut it, so a secret's beginning at its end is masked too.
    func scrub(_ text: [UInt8], isCut: Bool = false) -> [UInt8] {
        guard !patterns.isEmpty else { return text }
        var result: [UInt8] = []
        var copied = 0
        var index = 0
        while index < text.count {
            guard mayStart[Int(text[index])], let end = matchEnd(in: text, at: index, isCut: isCut) else {
                index += 1
                continue
            }
            result += text[copied..<index]
            result += Self.mask
            index = end
            copied = end
        }
        guard copied > 0 else { return text }
        result += text[copied...]
        return result
    }

    func scrub(_ text: String) -> String { String(decoding: scrub(Array(text.utf8)), as: UTF8.self) }

    private func matchEnd(in text: [UInt8], at start: Int, isCut: Bool) -> Int? {
        for pattern in patterns {
            var index = start
            var matched = 0
            while matched < pattern.count, index < text.count {
                guard let next = Self.step(over: pattern[matched], in: text, at: index) else { break }
                index = next
                matched += 1
            }
            if matched == pattern.count { return index }
            let isBroken = index < text.count && !(text.count - index < 6 && isEscape(text[index]))
            if isCut, matched >= Self.shortestSecret, !isBroken { return text.count }
        }
        return nil
    }

    private func isEscape(_ byte: UInt8) -> Bool { byte == 0x25 || byte == 0x5C || byte == 0x26 }

    /// The index past one written form of `byte`, or nil when something else stands there.
    private static func step(over byte: UInt8, in text: [UInt8], at index: Int) -> Int? {
        let first = text[index]
        if first == byte { return index + 1 }
        switch first {
        case 0x25:  // %41
            return number(text, index + 1, digits: 2) == Int(byte) ? index + 3 : nil
        case 0x2B:  // a form's blank
            return byte == 0x20 ? index + 1 : nil
        case 0x5C:  // JSON: \u0041, \/, \", \n …; a doubled backslash is one byte
            guard index + 1 < text.count else { return nil }
            let second = text[index + 1]
            if second == 0x75 { return number(text, index + 2, digits: 4) == Int(byte) ? index + 6 : nil }
            if second == byte, byte == 0x22 || byte == 0x2F || byte == 0x5C || byte == 0x27 { return index + 2 }
            let controls: [UInt8: UInt8] = [0x6E: 0x0A, 0x72: 0x0D, 0x74: 0x09, 0x62: 0x08, 0x66: 0x0C]
            return controls[second] == byte ? index + 2 : nil
        case 0x26:  // HTML
            for (entity, meaning) in entities where meaning == byte && text[index...].starts(with: entity) {
                return index + entity.count
            }
            return nil
        default: return nil
        }
    }

    private static let entities: [([UInt8], UInt8)] = [
        (Array("&amp;".utf8), 0x26), (Array("&lt;".utf8), 0x3C), (Array("&gt;".utf8), 0x3E),
        (Array("&quot;".utf8), 0x22), (Array("&#34;".utf8), 0x22), (Array("&#39;".utf8), 0x27),
        (Array("&#x27;".utf8), 0x27), (Array("&apos;".utf8), 0x27), (Array("&#43;".utf8), 0x2B),
        (Array("&#x2F;".utf8), 0x2F), (Array("&#61;".utf8), 0x3D),
    ]

    private static func number(_ text: [UInt8], _ start: Int, digits: Int) -> Int? {
        guard start + digits <= text.count else { return nil }
        var value = 0
        for byte in text[start..<(start + digits)] {
            switch byte {
            case 0x30...0x39: value = value * 16 + Int(byte) - 0x30
            case 0x41...0x46: value = value * 16 + Int(byte) - 0x41 + 10
            case 0x61...0x66: value = value * 16 + Int(byte) - 0x61 + 10
            default: return nil
            }
        }
        return value
    }

    /// The part of the encoding that the neighbours' bits do not reach, when `shift` bytes stand before the secret.
    private static func base64(_ secret: [UInt8], shift: Int, alphabet: [UInt8]) -> [UInt8] {
        var padded = [UInt8](repeating: 0, count: shift) + secret
        defer { wipe(&padded) }
        let encoded = Encoding.base64(padded[...], alphabet: alphabet)
        let first = (shift * 8 + 5) / 6
        let last = padded.count * 8 / 6
        return first < last ? Array(encoded[first..<last]) : []
    }

    private static func hexadecimal(_ secret: [UInt8], upper: Bool) -> [UInt8] {
        let digits = Array((upper ? "0123456789ABCDEF" : "0123456789abcdef").utf8)
        return secret.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] }
    }
}
