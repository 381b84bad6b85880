// SPDX-License-Identifier: Apache-2.0

import MilepostIntake
import MilepostModel
import Testing

let now = Timestamp(rfc3339: "2026-11-21T07:00:00Z")!
let acme = WorkspaceID("acme")

func parse(
    _ text: String, _ kind: ClickParser.Kind = .auto, parser: ClickParser = ClickParser(), at moment: Timestamp = now
) -> IntakeBatch {
    parser.parse(body: Array(text.utf8), kind: kind, workspace: acme, now: moment)
}

@Suite("a body becomes clicks")
struct ClickParserTests {
    @Test("one object, over several lines or with a byte order mark", arguments: [ClickParser.Kind.json, .auto])
    func oneObject(kind: ClickParser.Kind) {
        for text in [
            #"{"link":"spring","ts":1764000000}"#, " {\n  \"link\": \"spring\",\n  \"ts\": 1764000000\n}\n",
            "\u{feff}{\"link\":\"spring\",\"ts\":1764000000}",
        ] {
            let batch = parse(text, kind)
            #expect(batch.rejections == [])
            #expect(batch.clicks.map(\.click.link) == [LinkID("spring")])
            #expect(batch.clicks.map(\.line) == [1])
        }
    }

    @Test("NDJSON: blank lines are skipped and counted, carriage returns are white space, good lines are kept")
    func ndjson() {
        let text = "{\"link\":\"a\",\"ts\":1764000000}\r\n\n  \n{oops}\n{\"link\":\"b\",\"ts\":1764000001}"
        for kind in [ClickParser.Kind.ndjson, .auto] {
            let batch = parse(text, kind)
            #expect(batch.clicks.map(\.line) == [1, 5])
            #expect(
                batch.rejections == [
                    Rejection(line: 4, code: "invalid_json", message: "column 2: 'o' does not belong here")
                ])
            #expect(batch.rejectedCount == 1)
        }
    }

    @Test("an array counts its elements and skips the ones that are too costly")
    func arrays() {
        let deep = String(repeating: "[", count: 20) + String(repeating: "]", count: 20)
        let text = """
            [{"link":"a","ts":1764000000}, {"link":"b","ts":1764000000,"x":\(deep)}, 7,
             {"link":"c","link":"c","ts":1}, {"link":"d","ts":1764000000}]
            """
        let batch = parse(text, .json)
        #expect(batch.clicks.map(\.line) == [1, 5])
        #expect(batch.rejections.map(\.line) == [2, 3, 4])
        #expect(batch.rejections.map(\.code) == ["too_deep", "not_an_object", "duplicate_key"])
    }

    @Test("an array that breaks keeps what came before and says that the rest was not read")
    func brokenArray() {
        let batch = parse(#"[{"link":"a","ts":1764000000},{"link":"b" "ts":1},{"link":"c","ts":1764000000}]"#)
        #expect(batch.clicks.map(\.line) == [1])
        #expect(batch.rejections.map(\.code) == ["invalid_json"])
        #expect(batch.rejections[0].message.hasSuffix("; the rest of the array was not read"))
        #expect(parse(#"[{"link":"a","ts":1764000000}"#).rejections.map(\.line) == [2])
        #expect(parse(#"[{"link":"a","ts":1764000000}] x"#).rejections.map(\.code) == ["trailing_data"])
        #expect(parse("[").rejections.map(\.code) == ["invalid_json"])
        #expect(parse("[]").rejectedCount == 0)
        #expect(parse("[1,]").rejections.map(\.line) == [1, 2])
    }

    @Test("an empty body is a fault as JSON and no line as NDJSON")
    func emptyBodies() {
        #expect(parse(" \n", .json).rejections.map(\.code) == ["empty_body"])
        #expect(parse(" \n", .ndjson).rejectedCount == 0)
        #expect(parse("", .auto).rejectedCount == 0)
    }

    @Test("a line past the limit is rejected and the next one taken")
    func lineLimit() {
        let long =
            #"{"link":"a","ts":1764000000,"x":[\#(Array(repeating: #""yyyyyyyyyy""#, count: 6000).joined(separator: ","))]}"#
        let short = #"{"link":"b","ts":1764000000}"#
        for text in ["\(long)\n\(short)\n", "[\(long),\(short)]"] {
            let batch = parse(text)
            #expect(batch.clicks.map(\.line) == [2])
            #expect(batch.rejections.map(\.code) == ["line_too_long"])
        }
        #expect(parse("[\(long)]").rejections.map(\.code) == ["line_too_long"])
        #expect(parse("{\(long)}", .json).rejections.map(\.code) == ["line_too_long"])
    }

    @Test(
        "an element that breaks off at the limit inside anything is too long, and the next one is taken",
        arguments: [
            #"\ud83d\ude00"#, "😀", "\\n", #"",true,""#, #"",-1.5e10,""#,
        ])
    func cutElements(filler: String) {
        let short = #"{"link":"b","ts":1764000000}"#
        let repeated = String(repeating: filler, count: 24_000 / filler.utf8.count)
        for shift in 0..<16 {
            let pad = String(repeating: "x", count: shift)
            let long = #"{"link":"a","ts":1764000000,"x":["\#(repeated)","\#(pad)\#(repeated)","\#(repeated)"]}"#
            let batch = parse("[\(long),\(short)]")
            #expect(batch.clicks.map(\.line) == [2], "shift \(shift): \(batch.rejections)")
            #expect(batch.rejections.map(\.code) == ["line_too_long"])
        }
    }

    @Test("rejections are described up to their limit and counted past it")
    func manyRejections() {
        let batch = parse(String(repeating: "x\n", count: 2500), .ndjson)
        #expect(batch.rejections.count == 1000)
        #expect(batch.rejectedCount == 2500)
    }

    @Test("the identity is of workspace and id")
    func identity() {
        let text = #"{"id":"evt_1","link":"a","ts":1764000000}"#
        let here = parse(text).clicks[0].identity
        #expect(here.hexadecimal == "a6134578990c931ceb7241203a246200")
        let there = ClickParser().parse(body: Array(text.utf8), kind: .json, workspace: WorkspaceID("other"), now: now)
        #expect(there.clicks[0].identity != here)
    }
}

extension [UInt8] {
    var hexadecimal: String {
        map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}
