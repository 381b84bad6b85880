// SPDX-License-Identifier: Apache-2.0

internal import MilepostModel

/// `Retry-After` of RFC 9110 10.2.3: seconds, or an IMF-fixdate such as `Sun, 06 Nov 1994 08:49:37 GMT`.
enum RetryAfter {
    /// - Returns: how long from `now`, zero for a date gone by, nil for anything unreadable (the obsolete date forms
    ///   included: no vendor here sends them).
    static func parse(_ text: String, now: Timestamp) -> Duration? {
        let trimmed = text.drop { $0 == " " || $0 == "\t" }
        if let seconds = wholeNumber(trimmed) { return .seconds(seconds) }
        let fields = trimmed.split(separator: " ")
        guard fields.count == 6, fields[5] == "GMT",
            let day = wholeNumber(fields[1]), let year = wholeNumber(fields[3]),
            let month = months.firstIndex(of: String(fields[2])).map({ $0 + 1 })
        else { return nil }
        func padded(_ number: Int, _ width: Int) -> String {
            String(repeating: "0", count: max(0, width - String(number).count)) + String(number)
        }
        let text = "\(padded(year, 4))-\(padded(month, 2))-\(padded(day, 2))T\(fields[4])Z"
        guard let date = Timestamp(rfc3339: text) else { return nil }
        return max(.zero, date - now)
    }

    /// Digits only, at most nine: a header is no place for surprises such as signs or overflow.
    static func wholeNumber(_ text: some StringProtocol) -> Int? {
        let digits = text.utf8.reversed().drop { $0 == 0x20 || $0 == 0x09 }.reversed()
        guard (1...9).contains(digits.count), digits.allSatisfy({ (0x30...0x39).contains($0) }) else { return nil }
        return digits.reduce(0) { $0 * 10 + Int($1 - 0x30) }
    }

    private static let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]
}
