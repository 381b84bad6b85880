// SPDX-License-Identifier: Apache-2.0

extension String {
    /// Copies bytes that are known to be UTF-8; ill-formed ones would be replaced, never trusted.
    package init(utf8 bytes: Span<UInt8>) {
        self = unsafe bytes.withUnsafeBufferPointer { unsafe String(decoding: $0, as: UTF8.self) }
    }
}

extension [UInt8] {
    package init(copying bytes: Span<UInt8>) {
        self = unsafe bytes.withUnsafeBufferPointer { unsafe Array($0) }
    }
}

/// The value of a hexadecimal digit.
package func hexDigit(_ byte: UInt8) -> UInt8? {
    switch byte {
    case 0x30...0x39: byte - 0x30
    case 0x41...0x46: byte - 0x41 + 10
    case 0x61...0x66: byte - 0x61 + 10
    default: nil
    }
}

/// The 32-bit FNV-1a hash. Not keyed, so nothing may rest on it but speed: equal hashes are always followed by a
/// comparison, and the number of keys that can share one is bounded by the members an object may have.
package enum FNV {
    package static func hash(_ bytes: Span<UInt8>) -> UInt32 {
        var hash: UInt32 = 0x811c_9dc5
        for index in bytes.indices { hash = (hash ^ UInt32(bytes[index])) &* 0x0100_0193 }
        return hash
    }
}

enum UTF8Sequence {
    /// Length of the multi-byte sequence at `index`, which holds a byte of 0x80 or above.
    /// The ranges are table 3-7 of the Unicode standard, "Well-Formed UTF-8 Byte Sequences".
    static func length(_ bytes: Span<UInt8>, at index: Int) throws(JSONFault) -> Int {
        let first = bytes[index]
        let (length, second): (Int, ClosedRange<UInt8>) =
            switch first {
            case 0xc2...0xdf: (2, 0x80...0xbf)
            case 0xe0: (3, 0xa0...0xbf)
            case 0xed: (3, 0x80...0x9f)
            case 0xe1...0xef: (3, 0x80...0xbf)
            case 0xf0: (4, 0x90...0xbf)
            case 0xf1...0xf3: (4, 0x80...0xbf)
            case 0xf4: (4, 0x80...0x8f)
            default: (0, 0x80...0xbf)
            }
        guard length > 0, index + length <= bytes.count, second.contains(bytes[index + 1]) else {
            throw JSONFault(.invalidUTF8, at: index)
        }
        for offset in 2..<max(length, 2) where bytes[index + offset] & 0xc0 != 0x80 {
            throw JSONFault(.invalidUTF8, at: index)
        }
        return length
    }
}
