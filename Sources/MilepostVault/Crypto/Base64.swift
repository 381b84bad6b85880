// SPDX-License-Identifier: Apache-2.0

/// Base64 between buffers, because a key must not pass through a `String` or an array on its way to the ring file.
enum Base64 {
    private static let standard = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)

    static func encodedCount(_ count: Int) -> Int { (count + 2) / 3 * 4 }

    /// Padded, standard alphabet. `output` has `encodedCount` bytes.
    static func encode(_ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer) {
        precondition(output.count == encodedCount(input.count))
        var position = 0
        for start in stride(from: 0, to: input.count, by: 3) {
            let available = min(3, input.count - start)
            var group: UInt32 = 0
            for index in 0..<3 { unsafe group = group << 8 | (index < available ? UInt32(input[start + index]) : 0) }
            for index in 0..<4 {
                let digit = standard[Int(group >> UInt32(18 - 6 * index) & 63)]
                unsafe output[position + index] = index <= available ? digit : UInt8(ascii: "=")
            }
            position += 4
        }
    }

    /// Strict: padded, no line ends, no bits beyond the last byte. `output` decides how many bytes there must be.
    /// - Returns: false for anything else; `output` then holds rubbish.
    static func decode(_ input: UnsafeRawBufferPointer, into output: UnsafeMutableRawBufferPointer) -> Bool {
        guard input.count == encodedCount(output.count) else { return false }
        var position = 0
        for start in stride(from: 0, to: input.count, by: 4) {
            let wanted = min(3, output.count - position)
            var group: UInt32 = 0
            for index in 0..<4 {
                let byte = unsafe input[start + index]
                if index <= wanted {
                    guard let value = value(of: byte) else { return false }
                    group = group << 6 | UInt32(value)
                } else {
                    guard byte == UInt8(ascii: "=") else { return false }
                    group <<= 6
                }
            }
            for index in 0..<wanted { unsafe output[position + index] = UInt8(group >> UInt32(16 - 8 * index) & 255) }
            guard group & ((1 << UInt32(24 - 8 * wanted)) - 1) == 0 else { return false }
            position += wanted
        }
        return true
    }

    /// URL alphabet, no padding (RFC 4648, section 5).
    static func encodeURL(_ bytes: [UInt8]) -> String {
        var text = [UInt8](repeating: 0, count: encodedCount(bytes.count))
        unsafe text.withUnsafeMutableBytes { text in
            unsafe bytes.withUnsafeBytes { unsafe encode($0, into: text) }
        }
        let url = text.prefix { $0 != UInt8(ascii: "=") }.map { byte in
            byte == UInt8(ascii: "+") ? UInt8(ascii: "-") : byte == UInt8(ascii: "/") ? UInt8(ascii: "_") : byte
        }
        return String(decoding: url, as: UTF8.self)
    }

    static func isURLDigit(_ byte: UInt8) -> Bool {
        switch byte {
        case 0x41...0x5a, 0x61...0x7a, 0x30...0x39, UInt8(ascii: "-"), UInt8(ascii: "_"): true
        default: false
        }
    }

    /// A digit's value in the standard alphabet.
    private static func value(of byte: UInt8) -> UInt8? {
        switch byte {
        case 0x41...0x5a: byte - 0x41
        case 0x61...0x7a: byte - 0x61 + 26
        case 0x30...0x39: byte - 0x30 + 52
        case 0x2b: 62
        case 0x2f: 63
        default: nil
        }
    }
}
