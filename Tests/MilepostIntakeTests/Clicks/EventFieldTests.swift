// SPDX-License-Identifier: Apache-2.0

import MilepostIntake
import MilepostModel
import Testing

@Suite("the fields of a click event")
struct EventFieldTests {
    @Test("ING-10: every field arrives, decoded; the ip does not")
    func allFields() throws {
        let text = #"""
            {"id":"evt_7","ts":"2026-11-20T10:00:00.5+01:00","link":"lnk","url":"https:\/\/example.test\/","contact_id":"c\u00fc",
             "gclid":"G","fbclid":"F","utm":{"source":"s","medium":"m","campaign":"c \ud83d\ude00","term":"t","content":"n","id":3},
             "referrer":"https://t.co/","country":"de","device":"Desktop","user_agent":"Mozilla/5.0","ip":"203.0.113.7",
             "whatever":[{"deep":null}]}
            """#
        let click = try #require(parse(text).clicks.first).click
        let utm = UTM(source: "s", medium: "m", campaign: "c 😀", term: "t", content: "n")
        #expect(
            click
                == Click(
                    id: EventID("evt_7"), link: LinkID("lnk"), time: Timestamp(rfc3339: "2026-11-20T09:00:00.500Z")!,
                    url: "https://example.test/", contactID: "cü", googleClickID: "G", facebookClickID: "F", utm: utm,
                    referrer: "https://t.co/", country: "DE", device: "Desktop", userAgent: "Mozilla/5.0"))
        #expect(!"\(click)".contains("203.0.113.7"))
    }

    @Test("null and empty text mean absent")
    func absent() throws {
        let bare = try #require(parse(#"{"id":"e","link":"l","ts":1764000000}"#).clicks.first)
        let empty = #"""
            {"id":"e","link":"l","ts":1764000000,"url":"","contact_id":null,"gclid":"","utm":{"source":"","term":null},
             "referrer":"","country":"","user_agent":"","request_url":"","bot":null,"method":"","purpose":null}
            """#
        #expect(parse(empty).clicks == [bare])
        #expect(parse(#"{"id":"e","link":"l","ts":1764000000,"utm":null}"#).clicks == [bare])
    }

    @Test(
        "a time is RFC 3339, unix seconds or milliseconds, as number or text",
        arguments: [
            ("1331923247", 1_331_923_247_000), ("1331923247.25", 1_331_923_247_250),
            ("1331923247000", 1_331_923_247_000),
            ("1331923247123.9", 1_331_923_247_123), (#""1331923247""#, 1_331_923_247_000),
            ("1.331923247e9", 1_331_923_247_000),
            (#""2012-03-16T18:40:47Z""#, 1_331_923_247_000), (#""2012-03-16t19:40:47.0004+01:00""#, 1_331_923_247_000),
            (#""2012-03-16\u005418:40:47Z""#, 1_331_923_247_000), ("631152000", 631_152_000_000),
        ])
    func times(text: String, milliseconds: Int64) {
        let batch = parse(#"{"link":"l","ts":\#(text)}"#)
        #expect(batch.rejections == [])
        #expect(batch.clicks.map(\.click.time.milliseconds) == [milliseconds])
    }

    @Test(
        "what cannot be a click is rejected, and the message names the field",
        arguments: [
            (
                #"{"link":"l","ts":"yesterday"}"#, "ts_invalid",
                "ts: 'yesterday' is neither RFC 3339 nor unix seconds or milliseconds"
            ),
            (#"{"link":"l","ts":"2026-02-30T00:00:00Z"}"#, "ts_invalid", "ts: '2026-02-30"),
            (#"{"link":"l","ts":1764000000000000}"#, "ts_invalid", "ts: '1764000000000000'"),
            (#"{"link":"l","ts":99999999999999999999999999}"#, "ts_invalid", "ts: "),
            (#"{"link":"l","ts":1e300}"#, "ts_invalid", "ts: '1e300'"),
            (#"{"link":"l","ts":"17x"}"#, "ts_invalid", "ts: '17x'"),
            (#"{"link":"l","ts":0}"#, "ts_too_early", "ts: 1970-01-01"),
            (#"{"link":"l","ts":-1764000000}"#, "ts_too_early", "ts: 1914"),
            (#"{"link":"l","ts":"1989-12-31T23:59:59Z"}"#, "ts_too_early", "ts: 1989"),
            (#"{"link":"l","ts":true}"#, "wrong_type", "ts: true where a time belongs"),
            (#"{"link":"l","ts":{}}"#, "wrong_type", "ts: an object where"),
            (#"{"link":"l"}"#, "ts_missing", "ts: missing"), (#"{"link":"l","ts":""}"#, "ts_missing", "ts: missing"),
            (#"{"link":"l","ts":null}"#, "ts_missing", "ts: missing"),
            (#"{"ts":1764000000}"#, "link_missing", "link: missing"),
            (#"{"ts":1764000000,"link":""}"#, "link_missing", "link: missing"),
            (#"{"ts":1764000000,"link":1.5}"#, "wrong_type", "link: the number '1.5'"),
            (#"{"ts":1764000000,"link":-5}"#, "wrong_type", "link: the number"),
            (#"{"ts":1764000000,"link":["l"]}"#, "wrong_type", "link: an array where text belongs"),
            (#"{"link":"l","ts":1764000000,"country":5}"#, "wrong_type", "country: a number"),
            (#"{"link":"l","ts":1764000000,"utm":"x"}"#, "wrong_type", "utm: text where an object belongs"),
            (#"{"link":"l","ts":1764000000,"utm":{"term":[]}}"#, "wrong_type", "utm.term: an array"),
            (#"{"link":"l","ts":1764000000,"bot":"yes"}"#, "wrong_type", "bot: text where true or false belongs"),
            (#"{"link":"a\nb","ts":1764000000}"#, "control_character", "link: 'a\u{fffd}b' holds"),
            (#"{"link":"l","ts":1764000000,"id":"\u007f"}"#, "control_character", "id: "),
            (#"{"link":"l\u0000","ts":1764000000}"#, "nul_character", "column 11"),
            (#"{"link":"l","ts":1764000000,"x":"\ud800"}"#, "invalid_escape", "column"),
            (#"{"link":"l","ts":1764000000,"x":"\q"}"#, "invalid_escape", "column"),
            (#"{"link":"l","ts":1764000000,"x":1e999}"#, "number_out_of_range", "column 33"),
            (#"{"link":"l","ts":1764000000,"l\u0069nk":"m"}"#, "duplicate_key", "column 29"),
            (#"{"link":"l","ts":1764000000,"x":{"a":1,"a":1}}"#, "duplicate_key", "column"),
            (#"{"link":"l","ts":1764000000} {}"#, "trailing_data", "column 30"),
            (#"["link"]"#, "not_an_object", "a click event is a JSON object, not text"),
            (#"{"link":"l","ts":1764000000,}"#, "invalid_json", "column 29: '}'"),
            (#"{"link":"l","ts":01}"#, "invalid_json", "column 18: not a JSON number"),
            (#"{"link":"l","ts":17"#, "invalid_json", "column 20: the text ends"),
        ])
    func rejected(text: String, code: String, message: String) {
        let batch = parse(text, .json)
        #expect(batch.clicks == [])
        #expect(batch.rejections.map(\.code) == [code])
        #expect(batch.rejections.first?.message.hasPrefix(message) == true, "\(batch.rejections)")
    }

    @Test(
        "invalid UTF-8 is rejected wherever it stands",
        arguments: [
            [0xff], [0xc0, 0x80], [0xed, 0xa0, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xe2, 0x82], [0x80],
        ] as [[UInt8]])
    func invalidUTF8(bytes: [UInt8]) {
        let body = Array(#"{"link":"l","ts":1764000000,"x":""#.utf8) + bytes + Array(#""}"#.utf8)
        let batch = ClickParser().parse(body: body, kind: .ndjson, workspace: acme, now: now)
        #expect(batch.rejections.map(\.code) == ["invalid_utf8"])
    }

    @Test("a click further ahead than the tolerance is rejected (decisions 14)")
    func future() {
        let soon = now + .seconds(300)
        #expect(parse(#"{"link":"l","ts":"\#(soon)"}"#).rejectedCount == 0)
        let late = soon + .milliseconds(1)
        #expect(parse(#"{"link":"l","ts":"\#(late)"}"#).rejections.map(\.code) == ["ts_in_future"])
        let lenient = ClickParser(futureTolerance: .seconds(3600))
        #expect(parse(#"{"link":"l","ts":"\#(late)"}"#, parser: lenient).rejectedCount == 0)
    }

    @Test("keys past their length reject, descriptions are cut between characters")
    func lengths() throws {
        func event(_ member: String, _ value: String) -> IntakeBatch {
            parse(#"{"link":"l","ts":1764000000,"\#(member)":"\#(value)"}"#)
        }
        for name in ["id", "contact_id"] {
            #expect(event(name, String(repeating: "x", count: 256)).rejectedCount == 0)
            #expect(event(name, String(repeating: "x", count: 257)).rejections.map(\.code) == ["\(name)_too_long"])
        }
        #expect(event("gclid", String(repeating: "x", count: 513)).rejections.map(\.code) == ["gclid_too_long"])
        let agent = try #require(
            event("user_agent", "x" + String(repeating: "é", count: 600)).clicks.first?.click.userAgent)
        #expect(agent == "x" + String(repeating: "é", count: 511))
        let referrer = try #require(event("referrer", String(repeating: "y", count: 3000)).clicks.first?.click.referrer)
        #expect(referrer.utf8.count == 1024)
        #expect(event("x", String(repeating: "y", count: 33_000)).rejections.map(\.code) == ["string_too_long"])
    }

    @Test("too many members and too many levels are rejected, the limits themselves are not")
    func counts() {
        func members(_ count: Int) -> String {
            #"{"link":"l","ts":1764000000,"# + (0..<count - 2).map { #""k\#($0)":0"# }.joined(separator: ",") + "}"
        }
        #expect(parse(members(128)).rejectedCount == 0)
        #expect(parse(members(129)).rejections.map(\.code) == ["too_many_members"])
        func levels(_ count: Int) -> String {
            #"{"link":"l","ts":1764000000,"x":"# + String(repeating: "[", count: count - 1)
                + String(repeating: "]", count: count - 1) + "}"
        }
        #expect(parse(levels(16)).rejectedCount == 0)
        #expect(parse(levels(17)).rejections.map(\.code) == ["too_deep"])
    }

    @Test("numbers name links, events and contacts by their digits")
    func numericKeys() {
        let click = parse(#"{"id":7,"link":42,"contact_id":18446744073709551615,"ts":1764000000}"#).clicks.first?.click
        #expect(click?.id == EventID("7") && click?.link == LinkID("42"))
        #expect(click?.contactID == "18446744073709551615")
    }

    @Test("ING-11, ING-12: contact, ad click ids and campaign are read from the request's URL when absent")
    func requestURL() throws {
        let url =
            "https://go.test/spring?eid=c%2B1&gclid=g%201&fbclid=f&utm_source=a+b&utm_source=z&utm_term=%e4#x?eid=no"
        let click = try #require(parse(#"{"link":"l","ts":1764000000,"request_url":"\#(url)"}"#).clicks.first).click
        #expect(click.contactID == "c+1" && click.googleClickID == "g 1" && click.facebookClickID == "f")
        #expect(click.utm == UTM(source: "a b"))
        let given = #"{"link":"l","ts":1764000000,"contact_id":"own","utm":{"source":"own"},"request_url":"\#(url)"}"#
        let own = try #require(parse(given).clicks.first).click
        #expect(own.contactID == "own" && own.utm.source == "own")
        let encoded = parse(#"{"link":"l","ts":1764000000,"request_url":"?a&%65id=1&eid=2&utm_medium=x=y"}"#)
        #expect(encoded.clicks.first?.click.contactID == "1" && encoded.clicks.first?.click.utm.medium == "x=y")
        let other = ClickParser(contactParameter: "who")
        let named = parse(#"{"link":"l","ts":1764000000,"request_url":"/s?eid=1&who=2"}"#, parser: other)
        #expect(named.clicks.first?.click.contactID == "2")
    }

    @Test(
        "a bad value in the request's URL costs no click",
        arguments: [
            "?eid=", "?eid", "?eid=%00", "?eid=%ff", "?eid=%0a", "?eid=" + String(repeating: "x", count: 300), "?", "",
            "?&&==&eid=&%",
        ])
    func badRequestURL(query: String) {
        let batch = parse(#"{"link":"l","ts":1764000000,"request_url":"https://go.test/s\#(query)"}"#)
        #expect(batch.clicks.count == 1 && batch.clicks.first?.click.contactID == nil)
    }

    @Test(
        "EXC-06: HEAD, prefetch and known agents are machines; the shortener's own verdict wins either way",
        arguments: [
            ("", false), (#","method":"head""#, true), (#","method":"GET""#, false),
            (#","purpose":"prefetch;prerender""#, true),
            (#","purpose":"preview""#, true), (#","user_agent":"curl/8.5.0""#, true), (#","bot":true"#, true),
            (#","bot":false,"user_agent":"curl/8.5.0","method":"HEAD""#, false),
        ])
    func machines(members: String, isBot: Bool) {
        #expect(parse(#"{"link":"l","ts":1764000000\#(members)}"#).clicks.map(\.click.isBot) == [isBot])
    }
}
