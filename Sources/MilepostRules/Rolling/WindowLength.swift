// SPDX-License-Identifier: Apache-2.0

/// The length of a rolling window as people write it: `30d rolling`, `72h`, `2w`.
public enum WindowLength {
    private static let units: [(suffix: String, milliseconds: Int64)] = [
        ("w", 604_800_000), ("d", 86_400_000), ("h", 3_600_000), ("m", 60_000),
    ]

    /// - Returns: milliseconds; nil when the text is none of ours or leaves `RollingRule.windowRange`. Every window rolls, so
    ///   the word `rolling` may stand behind it and changes nothing.
    public static func milliseconds(_ text: String) -> Int64? {
        guard text.utf8.count <= 64 else { return nil }
        var words = text.lowercased().split(separator: " ")
        if words.count == 2, words[1] == "rolling" { words.removeLast() }
        guard words.count == 1, let word = words.first,
            let unit = units.first(where: { word.hasSuffix($0.suffix) })
        else { return nil }
        let digits = word.dropLast(unit.suffix.count)
        guard (1...9).contains(digits.utf8.count), digits.utf8.allSatisfy({ (0x30...0x39).contains($0) }),
            let number = Int64(digits)
        else { return nil }
        let (length, overflows) = number.multipliedReportingOverflow(by: unit.milliseconds)
        return overflows || !RollingRule.windowRange.contains(length) ? nil : length
    }

    /// The text that `milliseconds(_:)` reads back, in the largest unit that fits; days before weeks, as people say it.
    public static func text(_ milliseconds: Int64) -> String {
        for (suffix, length) in units.dropFirst() where milliseconds % length == 0 {
            return "\(milliseconds / length)\(suffix)"
        }
        return "\(milliseconds / 60_000)m"
    }
}
