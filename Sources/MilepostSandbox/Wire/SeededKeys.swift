// SPDX-License-Identifier: Apache-2.0

/// SplitMix64: the same seed gives the same field keys, so that a failing run can be repeated.
package struct SeededKeys: Sendable {
    private var state: UInt64

    package init(seed: UInt64) { state = seed }

    package mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    /// Forty hexadecimal characters, the form of a Pipedrive field key.
    package mutating func fieldKey() -> String { hexadecimal(40) }

    /// `b3f2d1c0-0000-4000-8000-000000000001`, the form of a correlation id.
    package mutating func uuid() -> String {
        let digits = hexadecimal(32)
        var rest = digits[...]
        func take(_ count: Int) -> String {
            defer { rest = rest.dropFirst(count) }
            return String(rest.prefix(count))
        }
        return "\(take(8))-\(take(4))-4\(take(4).dropFirst())-8\(take(4).dropFirst())-\(take(12))"
    }

    /// A text of so many hexadecimal characters.
    package mutating func hexadecimal(_ count: Int) -> String {
        var digits = ""
        while digits.utf8.count < count {
            let part = String(next(), radix: 16)
            digits += String(repeating: "0", count: 16 - part.utf8.count) + part
        }
        return String(digits.prefix(count))
    }
}
