// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import Synchronization

/// The `Date` header's text (RFC 9110, 5.6.7), made once a second.
final class ResponseDate: Sendable {
    private let last = Mutex<(second: Int64, text: String)>((.min, ""))

    func text(at now: Timestamp) -> String {
        let second = now.milliseconds / 1000
        return last.withLock { last in
            if last.second != second { last = (second, Self.text(now)) }
            return last.text
        }
    }

    static func text(_ moment: Timestamp) -> String {
        let days = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"]
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        let day = moment.day  // YYYYMMDD
        let time = moment.description.drop { $0 != "T" }.dropFirst().prefix(8)
        // The first of January 1970 was a Thursday.
        let sinceEpoch = Int(moment.milliseconds / 86_400_000)
        let digits = String(day % 100)
        return "\(days[sinceEpoch % 7]), \(digits.count == 1 ? "0" : "")\(digits) \(months[Int(day / 100 % 100) - 1]) "
            + "\(day / 10_000) \(time) GMT"
    }
}
