// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import MilepostModel
import Testing

/// SplitMix64: seeded, so that a failure can be replayed.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}

@Suite("the scanner against FoundationEssentials (decisions 29)", .timeLimit(.minutes(10)))
struct JSONTapeFuzzTests {
    static let limits = JSONTape.Limits(depth: 64, members: 1000, stringBytes: 100_000)

    /// What ours makes of a text.
    static func ours(_ text: [UInt8]) -> Result<Reference, JSONFault> {
        var tape = JSONTape(limits: limits)
        do throws(JSONFault) {
            try tape.scanText(text.span)
        } catch {
            return .failure(error)
        }
        var index = 0
        return .success(build(tape, &index, text.span))
    }

    private static func build(_ tape: JSONTape, _ index: inout Int, _ bytes: Span<UInt8>) -> Reference {
        let node = tape.nodes[index]
        index += 1
        switch node.kind {
        case .null: return .null
        case .yes: return .bool(true)
        case .no: return .bool(false)
        case .number: return .number(Double(tape.text(node, bytes))!)
        case .string, .key: return .string(tape.text(node, bytes))
        case .array:
            var items: [Reference] = []
            while index < node.next { items.append(build(tape, &index, bytes)) }
            return .array(items)
        case .object:
            var members: [String: Reference] = [:]
            while index < node.next {
                let key = tape.text(tape.nodes[index], bytes)
                index += 1
                // Swift compares text by its characters, as the other side does: é in one scalar or two is one key there.
                let value = build(tape, &index, bytes)
                if members[key] == nil { members[key] = value }
            }
            return .object(members)
        }
    }

    /// Numbers as `Double`, all else as it is.
    enum Reference: Decodable, Equatable {
        case null, bool(Bool), number(Double), string(String), array([Reference]), object([String: Reference])

        init(from decoder: any Decoder) throws {
            if let keyed = try? decoder.container(keyedBy: Key.self) {
                self = .object(
                    try keyed.allKeys.reduce(into: [:]) {
                        $0[$1.stringValue] = try keyed.decode(Reference.self, forKey: $1)
                    })
            } else if var list = try? decoder.unkeyedContainer() {
                var items: [Reference] = []
                while !list.isAtEnd { items.append(try list.decode(Reference.self)) }
                self = .array(items)
            } else {
                let single = try decoder.singleValueContainer()
                if single.decodeNil() {
                    self = .null
                } else if let value = try? single.decode(Bool.self) {
                    self = .bool(value)
                } else if let value = try? single.decode(String.self) {
                    self = .string(value)
                } else {
                    self = .number(try single.decode(Double.self))
                }
            }
        }

        init(_ value: JSONValue) {
            self =
                switch value {
                case .null: .null
                case .bool(let flag): .bool(flag)
                case .integer(let number): .number(Double(number))
                case .number(let number): .number(number)
                case .string(let text): .string(text)
                case .array(let items): .array(items.map(Reference.init))
                case .object(let members): .object(members.mapValues(Reference.init))
                }
        }

        struct Key: CodingKey {
            var stringValue: String
            var intValue: Int? { nil }
            init(stringValue: String) { self.stringValue = stringValue }
            init?(intValue: Int) { nil }
        }
    }

    /// Compares the two on one text. Ours is stricter on purpose: it refuses a key twice, NUL, what passes the limits, a
    /// comma before a closing bracket, and any encoding but UTF-8 (the other side guesses UTF-16 and UTF-32 from NULs near
    /// the beginning). In one thing ours is right and the other is not: `0e5` is a number by RFC 8259.
    static func compare(_ text: [UInt8], _ label: @autoclosure () -> String) {
        if text.prefix(4).contains(0) { return _ = ours(text) }
        let asValue = try? JSONValue(parsing: text)
        let theirs = try? JSONDecoder().decode(Reference.self, from: Data(text))
        switch ours(text) {
        case .success(let value):
            #expect(
                asValue.map(Reference.init) == value, "\(label()): JSONValue, \(String(decoding: text, as: UTF8.self))")
            if theirs == nil, hasZeroWithExponent(text) { return }
            #expect(theirs == value, "\(label()): accepted, \(String(decoding: text, as: UTF8.self))")
        case .failure(let fault):
            switch fault.kind {
            case .duplicateKey, .nulCharacter, .tooDeep, .tooManyMembers, .stringTooLong: break
            case .unexpectedByte(0x5d), .unexpectedByte(0x7d): break
            case .endOfInput, .unexpectedByte, .controlCharacter, .trailingData, .invalidUTF8, .invalidEscape,
                .loneSurrogate,
                .invalidNumber, .numberOutOfRange:
                #expect(asValue == nil, "\(label()): JSONValue, \(fault.message)")
                #expect(theirs == nil, "\(label()): \(fault.message), \(String(decoding: text, as: UTF8.self))")
            }
        }
    }

    private static func hasZeroWithExponent(_ text: [UInt8]) -> Bool {
        zip(text, text.dropFirst()).contains { $0 == 0x30 && ($1 | 0x20) == 0x65 }
    }

    @Test("random values agree", arguments: [1, 2, 3, 4] as [UInt64])
    func randomValues(seed: UInt64) {
        var writer = RandomJSON(generator: SeededGenerator(state: seed))
        for round in 0..<2500 {
            let text = writer.text()
            compareValid(text, "seed \(seed), round \(round)")
        }
    }

    private func compareValid(_ text: [UInt8], _ label: String) { Self.compare(text, label) }

    @Test("mutated values agree on what is JSON, and nothing crashes", arguments: [11, 12, 13, 14] as [UInt64])
    func mutations(seed: UInt64) {
        var writer = RandomJSON(generator: SeededGenerator(state: seed))
        for round in 0..<5000 {
            var text = writer.text()
            for _ in 0...Int.random(in: 0...2, using: &writer.generator) { writer.mutate(&text) }
            Self.compare(text, "seed \(seed), round \(round)")
        }
    }

    @Test("every beginning of a document is handled, and only the whole is taken")
    func prefixes() {
        let text = Array(#"{"a":[1,-2.5e3,true,false,null,"\u00e9\ud83d\ude00\n"],"b":{}}"#.utf8)
        for count in 0..<text.count {
            guard case .failure = Self.ours(Array(text[..<count])) else {
                return #expect(Bool(false), "\(count) bytes")
            }
        }
        #expect((try? Self.ours(text).get()) != nil)
    }

    @Test("keys that differ only in their scalars are two keys; the same through an escape is one")
    func keys() {
        #expect((try? Self.ours(Array("{\"\u{e9}\":1,\"e\u{301}\":2}".utf8)).get()) != nil)
        #expect(Self.ours(Array(#"{"a":1,"\u0061":2}"#.utf8)) == .failure(JSONFault(.duplicateKey, at: 7)))
    }
}

/// Writes JSON with everything the grammar allows, and damages it.
struct RandomJSON {
    var generator: SeededGenerator

    mutating func text() -> [UInt8] {
        var output: [UInt8] = []
        value(&output, depth: 0)
        return output
    }

    private mutating func pick(_ count: Int) -> Int { Int.random(in: 0..<count, using: &generator) }

    private mutating func space(_ output: inout [UInt8]) {
        if pick(4) == 0 { output.append([0x20, 0x0a, 0x0d, 0x09][pick(4)]) }
    }

    private mutating func value(_ output: inout [UInt8], depth: Int) {
        space(&output)
        switch pick(depth > 4 ? 5 : 8) {
        case 0: output.append(contentsOf: ["null", "true", "false"][pick(3)].utf8)
        case 1, 2: number(&output)
        case 3, 4: string(&output)
        case 5: list(&output, 0x5b, 0x5d) { writer, output in writer.value(&output, depth: depth + 1) }
        default:
            list(&output, 0x7b, 0x7d) { writer, output in
                writer.space(&output)
                writer.string(&output)
                writer.space(&output)
                output.append(0x3a)
                writer.value(&output, depth: depth + 1)
            }
        }
        space(&output)
    }

    private mutating func list(
        _ output: inout [UInt8], _ open: UInt8, _ close: UInt8, _ item: (inout RandomJSON, inout [UInt8]) -> Void
    ) {
        output.append(open)
        for index in 0..<pick(5) {
            if index > 0 { output.append(0x2c) }
            item(&self, &output)
        }
        output.append(close)
    }

    private mutating func number(_ output: inout [UInt8]) {
        let samples = [
            "0", "-0", "1", "-17", "3.25", "1e5", "1E-5", "2.5e+10", "123456789012345678", "9223372036854775807", "0.1",
            "1e308", "1.7976931348623157e308", "1e-300", "18446744073709551616", "0e0", "-0.0", "1764000000.123",
        ]
        output.append(contentsOf: samples[pick(samples.count)].utf8)
    }

    private mutating func string(_ output: inout [UInt8]) {
        let pieces = [
            "a", "link", "é", "😀", "\\n", "\\\"", "\\\\", "\\/", "\\u0041", "\\u00e9", "\\ud83d\\ude00", "\\b\\f\\r\\t",
            " ", "\u{7f}",
            "\u{ffff}", "ts", "\\u2028", "Ω", "x y", "[{",
        ]
        output.append(0x22)
        for _ in 0..<pick(6) { output.append(contentsOf: pieces[pick(pieces.count)].utf8) }
        output.append(0x22)
    }

    mutating func mutate(_ text: inout [UInt8]) {
        let interesting = Array("{}[]\",:\\u0eE+-.tfn/ \u{0}\n".utf8) + [0x80, 0xc3, 0xed, 0xf4, 0xff, 0x1f]
        let index = text.isEmpty ? 0 : pick(text.count)
        switch pick(5) {
        case 0 where !text.isEmpty: text.remove(at: index)
        case 1 where !text.isEmpty: text[index] = interesting[pick(interesting.count)]
        case 2 where !text.isEmpty: text[index] = UInt8(pick(256))
        case 3 where !text.isEmpty: text.removeSubrange(index..<min(text.count, index + pick(8)))
        default: text.insert(interesting[pick(interesting.count)], at: index)
        }
    }
}
