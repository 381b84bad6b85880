// SPDX-License-Identifier: Apache-2.0

import MilepostSandbox
import Testing

@Suite("JSON")
struct JSONTests {
    @Test(
        "what is read is written back",
        arguments: [
            #"{"a":[1,-2,0.5,true,false,null,"x"],"b":{}}"#, #""\"\\\n\u0001é😀""#, "[]", "0", "-0.25",
            #"{"z":1,"a":2}"#,
        ])
    func roundTrip(text: String) throws {
        #expect(try JSONValue(parsing: text).text == text)
    }

    @Test(
        "what is no JSON is refused",
        arguments: [
            "", "{", "[1,]", #"{"a":1,}"#, "01", "1.", ".5", "1e", "+1", "NaN", "tru", #""\x""#, #""\ud800""#,
            #""\u12g4""#, "\"a\nb\"", "1 2", #"{"a":1,"a":2}"#, "{a:1}", "'a'", "1e999", #""\u+123""#,
            String(repeating: "[", count: 5000),
        ])
    func refusal(text: String) {
        #expect(throws: JSONParseError.self) { try JSONValue(parsing: text) }
    }

    @Test("bytes that are no UTF-8 are refused")
    func invalidText() {
        #expect(throws: JSONParseError.self) { try JSONValue(parsing: [0x22, 0xFF, 0x22]) }
    }

    @Test("a surrogate pair is one character, and a whole number written with a point is an integer")
    func details() throws {
        #expect(try JSONValue(parsing: #""\uD83D\ude00""#) == .string("😀"))
        #expect(try JSONValue(parsing: "5.0").integer == 5)
        #expect(JSONValue.number(5).text == "5")
    }
}

@Suite("Moments")
struct InstantTests {
    @Test(
        "both forms of a time",
        arguments: [
            (0, "1970-01-01T00:00:00Z"), (951_782_400_000, "2000-02-29T00:00:00Z"),
            (1_793_631_845_999, "2026-11-02T15:04:05Z"), (-1000, "1969-12-31T23:59:59Z"),
        ] as [(Int64, String)])
    func forms(milliseconds: Int64, text: String) throws {
        let instant = Instant(milliseconds: milliseconds)
        #expect(instant.rfc3339 == text)
        #expect(Instant(rfc3339: text)?.seconds == instant.seconds)
        #expect(instant.plain == text.replacing("T", with: " ").replacing("Z", with: ""))
    }

    @Test("an offset is taken off")
    func offset() {
        #expect(Instant(rfc3339: "2026-11-02T15:04:05+01:30") == Instant(rfc3339: "2026-11-02T13:34:05Z"))
    }

    @Test(
        "what the vendor refuses is refused",
        arguments: [
            "2026-11-02T15:04:05.123Z", "2026-11-02 15:04:05", "2026-02-30T00:00:00Z", "2026-11-02T24:00:00Z",
            "2026-11-02T15:04:05", "", "2026-13-01T00:00:00Z", "2026-11-02T15:04:05+25:00",
        ])
    func refusal(text: String) {
        #expect(Instant(rfc3339: text) == nil)
    }
}
