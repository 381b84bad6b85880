// SPDX-License-Identifier: Apache-2.0

/// A moment in UTC, in milliseconds since 1970. The sandbox never asks for the time itself: every call brings one.
package struct Instant: Hashable, Comparable, Sendable {
    package let milliseconds: Int64

    package init(milliseconds: Int64) { self.milliseconds = milliseconds }

    package static func < (left: Instant, right: Instant) -> Bool { left.milliseconds < right.milliseconds }

    package func adding(milliseconds: Int64) -> Instant { Instant(milliseconds: self.milliseconds + milliseconds) }

    /// Whole seconds since 1970, rounded down.
    package var seconds: Int64 { milliseconds >= 0 ? milliseconds / 1000 : (milliseconds - 999) / 1000 }

    /// Days since 1970 in UTC; the daily budget starts anew when it changes.
    package var day: Int64 { seconds >= 0 ? seconds / 86_400 : (seconds - 86_399) / 86_400 }

    /// `2026-11-02T15:04:05Z`, the form of Pipedrive's v2.
    package var rfc3339: String {
        let part = civil
        return "\(part.year)-\(pad(part.month))-\(pad(part.day))T\(clock)Z"
    }

    /// `2026-11-02T15:04:05.123Z`, the form of HubSpot.
    package var rfc3339Milliseconds: String {
        let fraction = String(((milliseconds % 1000) + 1000) % 1000)
        return String(rfc3339.dropLast()) + "." + String(repeating: "0", count: 3 - fraction.count) + fraction + "Z"
    }

    /// `2026-11-02 15:04:05`, the form of Pipedrive's v1.
    package var plain: String {
        let part = civil
        return "\(part.year)-\(pad(part.month))-\(pad(part.day)) \(clock)"
    }

    private var clock: String {
        let second = Int(seconds - day * 86_400)
        return "\(pad(second / 3600)):\(pad(second / 60 % 60)):\(pad(second % 60))"
    }

    private func pad(_ value: Int) -> String { value < 10 ? "0\(value)" : "\(value)" }

    /// Howard Hinnant's `civil_from_days`: exact for every year this program will see, and needs no calendar library.
    private var civil: (year: Int, month: Int, day: Int) {
        let shifted = Int(day) + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthFromMarch = (5 * dayOfYear + 2) / 153
        let month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
        return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * monthFromMarch + 2) / 5 + 1)
    }
}

extension Instant {
    /// Reads `2026-11-02T15:04:05Z` or an offset instead of `Z`. No fraction: the vendor answered milliseconds with 400.
    package init?(rfc3339 text: String) {
        guard let date = Self.parts(text.prefix(10), count: 3, separator: "-"), text.utf8.count >= 20 else {
            return nil
        }
        let rest = text.dropFirst(10)
        guard rest.first == "T", let time = Self.parts(rest.dropFirst().prefix(8), count: 3, separator: ":") else {
            return nil
        }
        let zone = rest.dropFirst(9)
        var offsetSeconds = 0
        if zone != "Z" {
            guard let sign = zone.first, sign == "+" || sign == "-",
                let parts = Self.parts(zone.dropFirst(), count: 2, separator: ":"), parts[0] < 24, parts[1] < 60
            else { return nil }
            offsetSeconds = (parts[0] * 3600 + parts[1] * 60) * (sign == "-" ? -1 : 1)
        }
        guard Self.isDay(year: date[0], month: date[1], day: date[2]), time[0] < 24, time[1] < 60, time[2] < 60 else {
            return nil
        }
        let days = Self.daysSince1970(year: date[0], month: date[1], day: date[2])
        let seconds = days * 86_400 + time[0] * 3600 + time[1] * 60 + time[2] - offsetSeconds
        self.init(milliseconds: Int64(seconds) * 1000)
    }

    /// Reads an RFC 3339 time that may have a fraction of a second, of which three digits count.
    package init?(rfc3339WithFraction text: String) {
        guard let point = text.firstIndex(of: ".") else {
            self.init(rfc3339: text)
            return
        }
        let digits = text[text.index(after: point)...].prefix { ("0"..."9").contains($0) }
        guard (1...9).contains(digits.count),
            let whole = Instant(rfc3339: String(text[..<point]) + String(text[digits.endIndex...])),
            let thousandths = Int64((digits + "00").prefix(3))
        else { return nil }
        self = whole.adding(milliseconds: thousandths)
    }

    /// Whether a text is a real day written `YYYY-MM-DD`.
    package static func isDay(_ text: String) -> Bool {
        guard text.utf8.count == 10, let part = parts(text[...], count: 3, separator: "-") else { return false }
        return isDay(year: part[0], month: part[1], day: part[2])
    }

    private static func isDay(year: Int, month: Int, day: Int) -> Bool {
        guard (1...12).contains(month), day >= 1 else { return false }
        let isLeap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
        return day <= [31, isLeap ? 29 : 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month - 1]
    }

    private static func parts(_ text: Substring, count: Int, separator: Character) -> [Int]? {
        let parts = text.split(separator: separator, omittingEmptySubsequences: false)
        guard parts.count == count, parts.allSatisfy({ $0.utf8.allSatisfy { (0x30...0x39).contains($0) } }) else {
            return nil
        }
        let numbers = parts.compactMap { Int($0) }
        return numbers.count == count ? numbers : nil
    }

    private static func daysSince1970(year: Int, month: Int, day: Int) -> Int {
        let shifted = month <= 2 ? year - 1 : year
        let era = shifted / 400
        let yearOfEra = shifted - era * 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }
}
