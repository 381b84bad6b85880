// SPDX-License-Identifier: Apache-2.0

/// A moment on the wall clock, in whole milliseconds since 1970-01-01T00:00:00Z.
public struct Timestamp: Hashable, Comparable, Sendable {
    public let milliseconds: Int64

    public init(milliseconds: Int64) { self.milliseconds = milliseconds }
    /// Stops at the ends of what 64 bits of milliseconds hold.
    public init(seconds: Int64) { self.milliseconds = seconds.thousandfoldOrStopping }

    public static func < (left: Self, right: Self) -> Bool { left.milliseconds < right.milliseconds }

    /// Stops at the ends of what 64 bits hold: durations come from configuration files and vendors' headers.
    public static func + (left: Self, right: Duration) -> Self {
        Self(milliseconds: left.milliseconds.addingOrStopping(right.wholeMilliseconds))
    }
    public static func - (left: Self, right: Duration) -> Self {
        Self(milliseconds: left.milliseconds.addingOrStopping(right.wholeMilliseconds.negatedOrStopping))
    }
    public static func - (left: Self, right: Self) -> Duration {
        .milliseconds(left.milliseconds.addingOrStopping(right.milliseconds.negatedOrStopping))
    }

    /// The day in UTC as `YYYYMMDD`: days of storage are days of receipt (decisions 7).
    public var day: Int32 {
        let civil = CivilDate(daysSinceEpoch: milliseconds.flooredDivision(by: 86_400_000))
        return Int32(civil.year * 10_000 + civil.month * 100 + civil.day)
    }
}

extension Duration {
    /// Rounded toward zero; durations past 292 million years count as that long.
    public var wholeMilliseconds: Int64 {
        components.seconds.thousandfoldOrStopping.addingOrStopping(components.attoseconds / 1_000_000_000_000_000)
    }
}

// MARK: - RFC 3339

extension Timestamp: CustomStringConvertible, Codable {
    /// RFC 3339 in UTC with milliseconds, e.g. `2026-11-21T07:00:00.000Z`.
    public var description: String {
        let days = milliseconds.flooredDivision(by: 86_400_000)
        // Wrapping: the first day of 64 bits begins before them; the difference is right all the same.
        let rest = milliseconds &- days &* 86_400_000
        let civil = CivilDate(daysSinceEpoch: days)
        if (0...9999).contains(civil.year) { return Self.text(civil, rest) }
        func padded(_ number: Int64, _ width: Int) -> String {
            let digits = String(number)
            return String(repeating: "0", count: max(0, width - digits.count)) + digits
        }
        return "\(padded(Int64(civil.year), 4))-\(padded(Int64(civil.month), 2))-\(padded(Int64(civil.day), 2))T"
            + "\(padded(rest / 3_600_000, 2)):\(padded(rest / 60_000 % 60, 2)):\(padded(rest / 1000 % 60, 2))"
            + ".\(padded(rest % 1000, 3))Z"
    }

    /// The same for years of four digits, in one piece: every event that leaves carries a few times.
    private static func text(_ civil: CivilDate, _ rest: Int64) -> String {
        func digit(_ number: Int, _ unit: Int) -> UInt8 { 0x30 + UInt8(number / unit % 10) }
        let (hour, minute) = (Int(rest / 3_600_000), Int(rest / 60_000 % 60))
        let (second, fraction) = (Int(rest / 1000 % 60), Int(rest % 1000))
        let (year, month, day) = (civil.year, civil.month, civil.day)
        let bytes: [24 of UInt8] = [
            digit(year, 1000), digit(year, 100), digit(year, 10), digit(year, 1), 0x2d, digit(month, 10),
            digit(month, 1), 0x2d, digit(day, 10), digit(day, 1), 0x54, digit(hour, 10), digit(hour, 1), 0x3a,
            digit(minute, 10), digit(minute, 1), 0x3a, digit(second, 10), digit(second, 1), 0x2e,
            digit(fraction, 100), digit(fraction, 10), digit(fraction, 1), 0x5a,
        ]
        return String(utf8: bytes.span)
    }

    /// Parses RFC 3339 (`Z` or an offset, up to 18 fraction digits, cut to milliseconds). Years 1 to 9999, in UTC too.
    /// Returns nil for anything else, for days that do not exist and for hours past 23; a leap second counts as :59.
    public init?(rfc3339 text: some StringProtocol) {
        self.init(rfc3339: Array(text.utf8).span)
    }

    /// As for text, from bytes that are looked at where they lie.
    public init?(rfc3339 bytes: Span<UInt8>) {
        var scanner = DigitScanner()
        guard let year = scanner.number(digits: 4, bytes), scanner.skip(0x2d, bytes),
            let month = scanner.number(digits: 2, bytes), scanner.skip(0x2d, bytes),
            let day = scanner.number(digits: 2, bytes), scanner.skipDateTimeSeparator(bytes),
            let hour = scanner.number(digits: 2, bytes), scanner.skip(0x3a, bytes),
            let minute = scanner.number(digits: 2, bytes), scanner.skip(0x3a, bytes),
            let second = scanner.number(digits: 2, bytes),
            let fraction = scanner.fractionMilliseconds(bytes),
            let offsetMinutes = scanner.offsetMinutes(bytes), scanner.index == bytes.count,
            year >= 1, (1...12).contains(month), day >= 1,
            day <= CivilDate.days(inMonth: month, year: year), hour <= 23, minute <= 59, second <= 60
        else { return nil }
        let days = CivilDate(year: year, month: month, day: day).daysSinceEpoch
        let seconds = days * 86_400 + Int64(hour) * 3600 + Int64(minute) * 60 + Int64(min(second, 59))
        let milliseconds = (seconds - Int64(offsetMinutes) * 60) * 1000 + Int64(fraction)
        // An offset can carry the ends of the calendar over the border, where `description` could not be read back.
        guard Self.writable.contains(milliseconds) else { return nil }
        self.init(milliseconds: milliseconds)
    }

    /// The years 1 to 9999, which four digits can name.
    private static let writable: Range<Int64> = -62_135_596_800_000..<253_402_300_800_000

    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let value = Timestamp(rfc3339: text) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "'\(text)' is not an RFC 3339 time")
        }
        self = value
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}

/// A day of the proleptic Gregorian calendar. The arithmetic is Howard Hinnant's `days_from_civil`
/// (https://howardhinnant.github.io/date_algorithms.html), which needs no table and no time zone database.
struct CivilDate {
    var year: Int
    var month: Int
    var day: Int

    init(year: Int, month: Int, day: Int) {
        self.year = year
        self.month = month
        self.day = day
    }

    init(daysSinceEpoch: Int64) {
        let shifted = daysSinceEpoch + 719_468
        let era = shifted.flooredDivision(by: 146_097)
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        day = Int(dayOfYear - (153 * shiftedMonth + 2) / 5 + 1)
        month = Int(shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9)
        year = Int(yearOfEra + era * 400) + (month <= 2 ? 1 : 0)
    }

    var daysSinceEpoch: Int64 {
        let shiftedYear = Int64(month <= 2 ? year - 1 : year)
        let era = shiftedYear.flooredDivision(by: 400)
        let yearOfEra = shiftedYear - era * 400
        let dayOfYear = Int64((153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1)
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }

    static func days(inMonth month: Int, year: Int) -> Int {
        switch month {
        case 2: (year % 4 == 0 && year % 100 != 0) || year % 400 == 0 ? 29 : 28
        case 4, 6, 9, 11: 30
        default: 31
        }
    }
}

extension Int64 {
    func flooredDivision(by divisor: Int64) -> Int64 {
        let (quotient, remainder) = quotientAndRemainder(dividingBy: divisor)
        return remainder < 0 ? quotient - 1 : quotient
    }

    fileprivate func addingOrStopping(_ other: Int64) -> Int64 {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? (other < 0 ? .min : .max) : sum
    }

    fileprivate var negatedOrStopping: Int64 { self == .min ? .max : -self }

    fileprivate var thousandfoldOrStopping: Int64 {
        let (product, overflow) = multipliedReportingOverflow(by: 1000)
        return overflow ? (self < 0 ? .min : .max) : product
    }
}

private struct DigitScanner {
    var index = 0

    mutating func number(digits: Int, _ bytes: Span<UInt8>) -> Int? {
        guard index + digits <= bytes.count else { return nil }
        var value = 0
        for position in index..<index + digits {
            let digit = bytes[position] &- 0x30
            guard digit < 10 else { return nil }
            value = value * 10 + Int(digit)
        }
        index += digits
        return value
    }

    mutating func skip(_ byte: UInt8, _ bytes: Span<UInt8>) -> Bool {
        guard index < bytes.count, bytes[index] == byte else { return false }
        index += 1
        return true
    }

    /// `T`, `t` or a space.
    mutating func skipDateTimeSeparator(_ bytes: Span<UInt8>) -> Bool {
        skip(0x54, bytes) || skip(0x74, bytes) || skip(0x20, bytes)
    }

    mutating func fractionMilliseconds(_ bytes: Span<UInt8>) -> Int? {
        guard skip(0x2e, bytes) else { return 0 }
        let start = index
        var value = 0
        while index < bytes.count, bytes[index] &- 0x30 < 10 {
            if index - start < 3 { value = value * 10 + Int(bytes[index] - 0x30) }
            index += 1
        }
        let count = index - start
        guard (1...18).contains(count) else { return nil }
        for _ in count..<max(count, 3) { value *= 10 }
        return value
    }

    mutating func offsetMinutes(_ bytes: Span<UInt8>) -> Int? {
        if skip(0x5a, bytes) || skip(0x7a, bytes) { return 0 }
        let sign: Int
        if skip(0x2b, bytes) { sign = 1 } else if skip(0x2d, bytes) { sign = -1 } else { return nil }
        guard let hours = number(digits: 2, bytes), skip(0x3a, bytes), let minutes = number(digits: 2, bytes),
            hours <= 23, minutes <= 59
        else { return nil }
        return sign * (hours * 60 + minutes)
    }
}
