// SPDX-License-Identifier: Apache-2.0

/// Durations and sizes as people write them.
enum Units {
    private static let durations: [(unit: String, milliseconds: Int64)] = [
        ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1),
    ]
    private static let sizes: [(unit: String, bytes: Int)] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]

    /// Parses `500ms`, `30s`, `1h30m`, `90d`: whole numbers with units, larger units first, each once.
    static func duration(_ text: String) -> Duration? {
        var rest = text[...]
        var total: Int64 = 0
        var next = 0
        while !rest.isEmpty {
            let digits = rest.prefix { $0.isASCII && $0.isNumber }
            rest = rest.dropFirst(digits.count)
            let unit = rest.prefix { $0.isASCII && $0.isLetter }
            rest = rest.dropFirst(unit.count)
            guard let number = Int64(digits), let index = durations.firstIndex(where: { $0.unit == unit }),
                index >= next
            else { return nil }
            let (product, overflows) = number.multipliedReportingOverflow(by: durations[index].milliseconds)
            let (sum, overflowsToo) = total.addingReportingOverflow(product)
            guard !overflows, !overflowsToo else { return nil }
            total = sum
            next = index + 1
        }
        return text.isEmpty ? nil : .milliseconds(total)
    }

    /// The shortest text that `duration(_:)` reads back; parts below a millisecond are dropped.
    static func text(_ duration: Duration) -> String {
        let (seconds, attoseconds) = duration.components
        var rest = seconds * 1000 + attoseconds / 1_000_000_000_000_000
        guard rest > 0 else { return "0s" }
        var result = ""
        for (unit, milliseconds) in durations where rest >= milliseconds && !(unit == "d" && rest == 86_400_000) {
            result += "\(rest / milliseconds)\(unit)"
            rest %= milliseconds
        }
        return result
    }

    /// Parses a count of bytes: a whole number, alone or with `KiB`, `MiB` or `GiB`.
    static func size(_ text: String) -> Int? {
        for (unit, bytes) in sizes where text.hasSuffix(unit) {
            guard let number = Int(text.dropLast(unit.count)) else { return nil }
            let (product, overflows) = number.multipliedReportingOverflow(by: bytes)
            return overflows ? nil : product
        }
        return Int(text)
    }

    /// The shortest text that `size(_:)` reads back.
    static func text(bytes: Int) -> String {
        for (unit, size) in sizes where bytes >= size && bytes % size == 0 { return "\(bytes / size)\(unit)" }
        return String(bytes)
    }
}
