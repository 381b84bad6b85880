// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import Testing

@Suite("Answers of judges")
struct InterceptAnswerTests {
    private static let now = Timestamp(rfc3339: "2026-11-21T12:00:00Z")!

    @Test(
        "HOOK-06: what is no verdict says what is wrong with it",
        arguments: [
            (nil, "no JSON object"), ([], "no JSON object"), ([:], "no verdict"), (["verdict": 1], "verdict 1 is none"),
            (["verdict": "route"], "route"), (["verdict": "drop", "reason": []], "reason is no text"),
            (["verdict": "hold", "until": "tomorrow"], "RFC 3339"),
            (["verdict": "hold", "until": "2027-11-21T12:00:00Z"], "30 days"),
            (["verdict": "modify"], "needs the object deal"), (["verdict": "modify", "deal": [:]], "changes nothing"),
            (["verdict": "continue", "deal": ["title": "x"]], "only modify"),
            (["verdict": "modify", "deal": ["Title": "x"]], "cannot be changed"),
            (["verdict": "modify", "deal": ["title": " "]], "deal.title"),
            (["verdict": "modify", "deal": ["stage": .number(1.5)]], "deal.stage"),
            (["verdict": "modify", "deal": ["fields": ["a": ["b": 1]]]], "deal.fields.\"a\""),
            (["verdict": "modify", "deal": ["fields": ["": 1]]], "a name that is empty"),
        ] as [(JSONValue?, String)])
    func malformed(json: JSONValue?, problem: String) {
        do {
            _ = try InterceptAnswer.read(json, now: Self.now)
            Issue.record("taken: \(json ?? .null)")
        } catch {
            #expect(error.problem.contains(problem), "\(error.problem)")
        }
    }

    @Test("a reason is one line of bounded length, whatever it holds")
    func reasons() throws {
        let long = String(repeating: "é\n", count: 5000)
        let (answer, reason) = try InterceptAnswer.read(["verdict": "drop", "reason": .string(long)], now: Self.now)
        #expect(answer == .drop)
        let line = try #require(reason)
        #expect(line.unicodeScalars.count <= 500 && !line.contains("\n"))
    }

    @Test("damaged answers are read or refused, and what is read keeps the limits")
    func fuzz() {
        let good = JSONValue.object([
            "verdict": "modify", "reason": "r", "until": "2026-11-22T12:00:00Z",
            "deal": ["title": "T", "pipeline": 1, "stage": "s", "fields": ["a": 1, "b": ["x", 2]]],
        ]).bytes
        var seed: UInt64 = 11
        for _ in 0..<5000 {
            var bytes = good
            for _ in 0..<3 {
                seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                bytes[Int(truncatingIfNeeded: seed >> 33) % bytes.count] = UInt8(truncatingIfNeeded: seed >> 24)
            }
            guard let json = try? JSONValue(parsing: bytes) else { continue }
            guard let read = try? InterceptAnswer.read(json, now: Self.now) else { continue }
            if case .change(let change) = read.answer {
                #expect((change.title?.count ?? 1) <= 255 && change.fields.count <= DealChange.maximumFields)
            }
            #expect(read.reason.map { $0.utf8.allSatisfy { $0 >= 0x20 } } ?? true)
        }
    }
}
