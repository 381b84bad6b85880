// SPDX-License-Identifier: Apache-2.0

/// An amount of money as exact decimal text: `4999.99` is below `5000`, and `0.1` is `0.1`. Vendors write amounts as text;
/// binary fractions would make some of them a little larger or smaller than they are.
public struct DecimalAmount: Hashable, Sendable, Comparable {
    /// As it was written.
    public let text: String
    private let isNegative: Bool
    /// Significant digits without leading or trailing zeros; empty for zero.
    private let digits: [UInt8]
    /// The value is `0.digits * 10^exponent`.
    private let exponent: Int

    /// Parses an optional sign, digits, an optional fraction and an optional power of ten. At most 64 bytes.
    public init?(_ text: String) {
        guard (1...64).contains(text.utf8.count) else { return nil }
        var bytes = Array(text.utf8)[...]
        var isNegative = false
        if let sign = bytes.first, sign == 0x2d || sign == 0x2b {
            isNegative = sign == 0x2d
            bytes.removeFirst()
        }
        var power = 0
        if let mark = bytes.firstIndex(where: { $0 == 0x65 || $0 == 0x45 }) {
            let tail = String(decoding: bytes[(mark + 1)...], as: UTF8.self)
            guard let value = Int(tail), (-99...99).contains(value) else { return nil }
            power = value
            bytes = bytes[..<mark]
        }
        let parts = bytes.split(separator: 0x2e, maxSplits: 1, omittingEmptySubsequences: false)
        guard let whole = parts.first, !whole.isEmpty || parts.count == 2 else { return nil }
        let fraction = parts.count == 2 ? parts[1] : []
        guard !whole.isEmpty || !fraction.isEmpty, !(parts.count == 2 && fraction.isEmpty),
            (whole + fraction).allSatisfy({ (0x30...0x39).contains($0) })
        else { return nil }
        let all = Array(whole + fraction)
        let leading = all.prefix { $0 == 0x30 }.count
        var digits = Array(all.dropFirst(leading))
        while digits.last == 0x30 { digits.removeLast() }
        self.text = text
        self.digits = digits
        self.isNegative = isNegative && !digits.isEmpty
        exponent = digits.isEmpty ? 0 : whole.count - leading + power
    }

    public static func < (left: Self, right: Self) -> Bool {
        if left.isNegative != right.isNegative { return left.isNegative }
        return left.isNegative ? right.isSmallerInSize(than: left) : left.isSmallerInSize(than: right)
    }

    /// Equal amounts are equal however they are written: `5000` and `5000.00`.
    public static func == (left: Self, right: Self) -> Bool {
        left.isNegative == right.isNegative && left.exponent == right.exponent && left.digits == right.digits
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(isNegative)
        hasher.combine(exponent)
        hasher.combine(digits)
    }

    private func isSmallerInSize(than other: Self) -> Bool {
        if digits.isEmpty || other.digits.isEmpty { return digits.isEmpty && !other.digits.isEmpty }
        if exponent != other.exponent { return exponent < other.exponent }
        return digits.lexicographicallyPrecedes(other.digits)
    }
}
