// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import MilepostModel
import Testing

@Suite("moments")
struct TimestampTests {
    @Test(
        "RFC 3339 is read",
        arguments: [
            ("1970-01-01T00:00:00Z", 0), ("1969-12-31T23:59:59.999Z", -1), ("2000-02-29T12:00:00Z", 951_825_600_000),
            ("2026-11-21T07:00:00.5Z", 1_795_244_400_500), ("2026-11-21t07:00:00.123456789z", 1_795_244_400_123),
            ("2026-11-21 08:30:00+01:30", 1_795_244_400_000), ("2026-11-20T19:00:00-12:00", 1_795_244_400_000),
            ("2016-12-31T23:59:60Z", 1_483_228_799_000), ("0001-01-01T00:00:00Z", -62_135_596_800_000),
            ("9999-12-31T23:59:59.999Z", 253_402_300_799_999), ("2026-11-21T07:00:00-00:00", 1_795_244_400_000),
        ])
    func reads(text: String, milliseconds: Int64) {
        #expect(Timestamp(rfc3339: text)?.milliseconds == milliseconds)
    }

    @Test(
        "anything else is not",
        arguments: [
            "", "yesterday", "2026-11-21", "2026-11-21T07:00:00", "2026-11-21T07:00Z", "2026-02-29T00:00:00Z",
            "1900-02-29T00:00:00Z",
            "2026-13-01T00:00:00Z", "2026-00-01T00:00:00Z", "2026-04-31T00:00:00Z", "2026-01-00T00:00:00Z",
            "2026-01-01T24:00:00Z",
            "2026-01-01T00:60:00Z", "2026-01-01T00:00:61Z", "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00.1234567890123456789Z",
            "2026-01-01T00:00:00+24:00", "2026-01-01T00:00:00+01:60", "2026-01-01T00:00:00+0100",
            "2026-01-01T00:00:00Zz",
            "0000-01-01T00:00:00Z", "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "+2026-01-01T00:00:00Z",
            "２０２６-01-01T00:00:00Z", "2026-01-01T00:00:00Z\n", "-026-01-01T00:00:00Z",
        ])
    func refuses(text: String) {
        #expect(Timestamp(rfc3339: text) == nil)
    }

    @Test("what is written is read again, and days agree, over the whole calendar")
    func roundTrip() {
        var milliseconds: Int64 = -62_135_596_800_000
        var previousDay: Int32 = 0
        while milliseconds <= 253_402_300_799_999 {
            let moment = Timestamp(milliseconds: milliseconds)
            #expect(Timestamp(rfc3339: moment.description) == moment)
            let digits = moment.description.prefix(10).filter { $0 != "-" }
            #expect(moment.day == Int32(digits))
            #expect(moment.day > previousDay)
            previousDay = moment.day
            milliseconds += 7_777_777_777_777 / 10
        }
    }

    @Test("a day changes at midnight UTC, before 1970 too")
    func midnight() {
        #expect(Timestamp(milliseconds: 0).day == 19_700_101)
        #expect(Timestamp(milliseconds: -1).day == 19_691_231)
        #expect(Timestamp(milliseconds: -86_400_000).day == 19_691_231)
        #expect(Timestamp(milliseconds: -86_400_001).day == 19_691_230)
    }

    @Test("arithmetic stops at the ends instead of trapping: durations come from outside")
    func overflow() {
        let last = Timestamp(milliseconds: .max)
        #expect(last + .seconds(1) == last)
        #expect(Timestamp(milliseconds: .min) - .seconds(1) == Timestamp(milliseconds: .min))
        #expect(Timestamp(seconds: .max) == last)
        #expect(Duration.seconds(Int64.max).wholeMilliseconds == .max)
        #expect(Duration.seconds(Int64.min).wholeMilliseconds == .min)
        #expect((Timestamp(milliseconds: .min) - last).wholeMilliseconds == .min)
        #expect((last - Timestamp(milliseconds: .min)).wholeMilliseconds == .max)
        #expect(!last.description.isEmpty && !Timestamp(milliseconds: .min).description.isEmpty)
    }

    @Test("durations are cut toward zero")
    func durations() {
        #expect(Duration.microseconds(1999).wholeMilliseconds == 1)
        #expect(Duration.microseconds(-1999).wholeMilliseconds == -1)
        #expect(Timestamp(seconds: 10) - Timestamp(seconds: 4) == .seconds(6))
        #expect(Timestamp(seconds: 10) + .milliseconds(1) > Timestamp(seconds: 10))
    }

    @Test("in JSON it is text, and other text is an error that quotes it")
    func coding() throws {
        let text = try JSONEncoder().encode([Timestamp(milliseconds: 0)])
        #expect(String(decoding: text, as: UTF8.self) == #"["1970-01-01T00:00:00.000Z"]"#)
        #expect(try JSONDecoder().decode([Timestamp].self, from: text) == [Timestamp(milliseconds: 0)])
        let error = #expect(throws: DecodingError.self) {
            try JSONDecoder().decode([Timestamp].self, from: Data(#"["noon"]"#.utf8))
        }
        #expect("\(error as Any)".contains("'noon'"))
    }
}
