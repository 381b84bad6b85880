// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostValidator
import Testing

@Suite("the catalogue of checks and its reports")
struct ReportTests {
    @Test("EXT-04: checks are numbered once, in order, and each says what it proves and what to do")
    func catalogue() {
        let numbers = Catalogue.checks.map(\.number)
        #expect(numbers == numbers.sorted() && Set(numbers).count == numbers.count)
        #expect(numbers == Array(1...47))
        for check in Catalogue.checks {
            #expect((1...10).contains(check.level))
            #expect(!check.title.isEmpty && !check.proves.isEmpty && check.cure.hasSuffix("."), "\(check.number)")
        }
    }

    @Test("EXT-04: levels, chosen and skipped numbers select")
    func selection() {
        var selection = Selection()
        #expect(selection.checks.count == Catalogue.checks.count)
        selection.level = 1
        #expect(selection.checks.allSatisfy { $0.level == 1 } && !selection.checks.isEmpty)
        selection.level = 10
        selection.only = [1, 2, 29]
        selection.skipped = [2]
        #expect(selection.checks.map(\.number) == [1, 29])
    }

    @Test("EXT-04: what does not apply is no skip, and a skip is not strictly green")
    func strictness() throws {
        let check = try #require(Catalogue.checks.first)
        func report(_ outcomes: [Outcome]) -> Report {
            let results = outcomes.map {
                CheckResult(check: check, outcome: $0, milliseconds: 1, trace: [], output: "")
            }
            return Report(plugin: "acme", seed: 7, results: results, disabled: [:])
        }
        let plain = report([.passed(""), .inapplicable("it has no pull")])
        #expect(
            plain.isGreen && plain.isStrictlyGreen && plain.json["not_applicable"] == 1 && plain.json["skipped"] == 0)
        #expect(plain.summary.hasPrefix("acme: 1 passed, 0 failed, 0 skipped, 1 not applicable"))
        #expect(plain.junit.firstRange(of: "skipped=\"1\"") != nil)
        #expect(plain.junit.firstRange(of: "<skipped message=\"not applicable: it has no pull\"/>") != nil)
        let unknown = report([.passed(""), .skipped("give a vendor's script")])
        #expect(unknown.isGreen && !unknown.isStrictlyGreen)
        #expect(!report([.failed("no")]).isStrictlyGreen)
    }

    @Test("EXT-04: a disabled check needs a reason")
    func disableFile() throws {
        #expect(try Selection.disabled(parsing: "# none\n\n16\t no extensions  # yet\n") == [16: "no extensions"])
        for text in ["16\n", "99 there is none\n", "sixteen why\n"] {
            #expect(throws: ScriptError.self, "\(text)") { try Selection.disabled(parsing: text) }
        }
    }

    @Test("EXT-04: what a plugin says cannot break out of the report")
    func hostileTexts() throws {
        let message = "</failure>\u{1b}[2J\u{9b}2J\"&\u{0}\u{1}\n<x>"
        let check = try #require(Catalogue.checks.first)
        let result = CheckResult(check: check, outcome: .failed(message), milliseconds: 5, trace: [], output: message)
        let report = Report(plugin: "a<b", seed: 7, results: [result], disabled: [2: "why"])
        for text in [report.junit, Report.line(result, color: false)] {
            #expect(!text.unicodeScalars.contains { $0.value < 0x20 && $0 != "\n" || (0x7f..<0xa0).contains($0.value) })
        }
        #expect(report.junit.firstRange(of: "<x>") == nil && report.junit.firstRange(of: "a&lt;b") != nil)
        #expect(!report.isGreen && report.json["failed"] == 1 && report.json["disabled"]?["2"] == "why")
        #expect(try JSONValue(parsing: report.json.bytes) == report.json)
    }

    @Test("EXT-04: a vendor's script that is wrong is refused with the place, and no mutation of a good one crashes")
    func scripts() throws {
        let good = #"{"settings":{"list":1},"routes":[{"match":"GET /v1/me","status":200,"body":{"id":1}}]}"#
        #expect(try VendorScript(parsing: Array(good.utf8)).isGiven && !VendorScript.anything.isGiven)
        for (text, word) in [
            ("[", "cannot be read"), ("{}", "no routes"), (#"{"routes":[{"match":"GET"}]}"#, "route 1"),
            (#"{"routes":[{"match":"GET /","status":99}]}"#, "status"),
            (#"{"routes":[{"match":"GET /","statuss":200}]}"#, "statuss"), (#"{"rules":[],"routes":[]}"#, "rules"),
        ] {
            let error = #expect(throws: ScriptError.self) { try VendorScript(parsing: Array(text.utf8)) }
            #expect(error?.description.firstRange(of: word) != nil, "\(text)")
        }
        var state: UInt64 = 9
        for _ in 0..<5000 {
            var bytes = Array(good.utf8)
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            bytes[Int(state >> 33) % bytes.count] = UInt8(truncatingIfNeeded: state >> 17)
            _ = try? VendorScript(parsing: bytes)
        }
    }
}
