// SPDX-License-Identifier: Apache-2.0

/// Seconds since 1970 of a time as Pipedrive (v1 `YYYY-MM-DD HH:MM:SS` in UTC, v2 RFC 3339) or the host writes it.
/// Fractions are dropped. nil for anything else.
func epochSeconds(_ text: String) -> Int64? {
    let bytes = Array(text.utf8)
    guard bytes.count >= 19, bytes.count <= 40 else { return nil }
    func number(_ range: Range<Int>) -> Int64? {
        var value: Int64 = 0
        for byte in bytes[range] {
            guard (48...57).contains(byte) else { return nil }
            value = value * 10 + Int64(byte - 48)
        }
        return value
    }
    guard bytes[4] == 45, bytes[7] == 45, bytes[13] == 58, bytes[16] == 58, [32, 84, 116].contains(bytes[10]),
        let year = number(0..<4), let month = number(5..<7), let day = number(8..<10), let hour = number(11..<13),
        let minute = number(14..<16), let second = number(17..<19), (1...12).contains(month),
        (1...length(of: month, in: year)).contains(day),
        hour < 24, minute < 60, second < 61
    else { return nil }
    let local = days(year: year, month: month, day: day) * 86_400 + hour * 3_600 + minute * 60 + second
    guard let sign = bytes[19...].lastIndex(where: { $0 == 43 || $0 == 45 }) else { return local }
    guard bytes.count == sign + 6, let hours = number(sign + 1..<sign + 3), let minutes = number(sign + 4..<sign + 6)
    else { return nil }
    let offset = hours * 3_600 + minutes * 60
    return bytes[sign] == 43 ? local - offset : local + offset
}

private func length(of month: Int64, in year: Int64) -> Int64 {
    switch month {
    case 2: year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 29 : 28
    case 4, 6, 9, 11: 30
    default: 31
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar (Howard Hinnant, "chrono-compatible date algorithms").
private func days(year: Int64, month: Int64, day: Int64) -> Int64 {
    let year = month <= 2 ? year - 1 : year
    let era = (year >= 0 ? year : year - 399) / 400
    let ofEra = year - era * 400
    let ofYear = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1
    return era * 146_097 + ofEra * 365 + ofEra / 4 - ofEra / 100 + ofYear - 719_468
}
