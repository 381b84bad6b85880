// SPDX-License-Identifier: Apache-2.0

import MilepostIntake
import MilepostModel
import Testing

@Suite("hostile bodies", .timeLimit(.minutes(10)))
struct ClickParserFuzzTests {
    static let events = [
        Array(DerivedIDTests.full.split(separator: "\n").joined(separator: " ").utf8),
        Array(#"{"link":"l","ts":"2026-11-20T10:00:00Z","id":7,"bot":false}"#.utf8),
        Array(#"{"link":"l","ts":1764000000.5,"request_url":"/s?eid=%41&utm_source=x+y","user_agent":"curl/8"}"#.utf8),
    ]

    @Test(
        "the parser survives anything, accounts for every line once and keeps the good ones",
        arguments: [21, 22, 23] as [UInt64])
    func mutations(seed: UInt64) {
        var random = SeededBytes(state: seed)
        let parser = ClickParser()
        for round in 0..<4000 {
            var lines = Self.events
            for index in lines.indices.dropFirst() {
                for _ in 0...random.pick(3) { random.damage(&lines[index]) }
            }
            let batch = parser.parse(
                body: Array(lines.joined(separator: [0x0a])), kind: .ndjson, workspace: acme, now: now)
            let accounted = batch.clicks.map(\.line) + batch.rejections.map(\.line)
            #expect(Set(accounted).count == accounted.count, "seed \(seed), round \(round)")
            #expect(batch.clicks.first?.line == 1, "seed \(seed), round \(round)")
            let array = [0x5b] + Array(lines.joined(separator: [0x2c])) + [0x5d]
            let elements = parser.parse(body: array, kind: .auto, workspace: acme, now: now)
            #expect(elements.clicks.first?.line == 1, "seed \(seed), round \(round)")
        }
    }

    @Test("an import file's lines survive anything, in every format", arguments: ImportFormat.allCases)
    func imports(format: ImportFormat) {
        var random = SeededBytes(state: 31)
        var reader = ImportReader(format: format)
        let lines = [
            #"{"g":"A","t":1331923247,"u":"http:\/\/x.gov\/?utm_source=a","r":"direct","c":"US","a":"Mozilla"}"#,
            #"{"id":"evt_1","event":"link.clicked","data":{"click":{"timestamp":"2025-10-24T10:00:00Z","ua":null},"link":{"id":"l","tags":[{"name":"t"}]}}}"#,
            #"{"shortUrl":{"shortCode":"a","tags":["t"]},"visit":{"date":"2025-10-24T12:00:00+02:00","potentialBot":true}}"#,
        ].map { Array($0.utf8) }
        for round in 0..<6000 {
            var line = (lines + Self.events)[round % 6]
            for _ in 0..<random.pick(4) { random.damage(&line) }
            guard case .click(let json) = reader.next(line: line) else { continue }
            // What comes out must be taken, whatever went in.
            let batch = ClickParser().parse(
                body: json, kind: .json, workspace: acme, now: Timestamp(milliseconds: .max))
            #expect(batch.clicks.count == 1, "\(batch.rejections) from \(String(decoding: line, as: UTF8.self))")
        }
    }

    @Test("random bytes and long repetitions end quickly in rejections")
    func noise() {
        var random = SeededBytes(state: 41)
        for round in 0..<500 {
            let body = (0..<random.pick(400)).map { _ in UInt8(random.pick(256)) }
            let batch = ClickParser().parse(body: body, kind: .auto, workspace: acme, now: now)
            #expect(batch.clicks.isEmpty, "round \(round)")
        }
        for piece in ["[", "{", "\"", "\\", "{\"a\":", "[[]", ",", "\n", "[1,"] {
            let text = Array(repeatElement(Array(piece.utf8), count: 100_000).joined())
            #expect(ClickParser().parse(body: text, kind: .auto, workspace: acme, now: now).clicks.isEmpty)
        }
    }
}

/// SplitMix64, so that a failure can be replayed from its seed.
struct SeededBytes {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }

    mutating func pick(_ count: Int) -> Int { Int(next() % UInt64(count)) }

    mutating func damage(_ text: inout [UInt8]) {
        let hostile = Array("{}[]\",:\\u0eE+-.tfn/ \u{0}".utf8) + [0x80, 0xc3, 0xed, 0xf4, 0xff, 0x1f]
        let index = text.isEmpty ? 0 : pick(text.count)
        switch pick(5) {
        case 0 where !text.isEmpty: text.remove(at: index)
        case 1 where !text.isEmpty: text[index] = hostile[pick(hostile.count)]
        case 2 where !text.isEmpty: text[index] = UInt8(pick(245) + 11)  // no line feed: lines are counted
        case 3 where !text.isEmpty: text.removeSubrange(index..<min(text.count, index + pick(8)))
        default: text.insert(hostile[pick(hostile.count)], at: index)
        }
    }
}
