// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import MilepostModel
import Testing

@Suite("JSON values")
struct JSONValueTests {
    @Test(
        "each kind is read as what it is",
        arguments: [
            ("null", JSONValue.null), ("true", true), ("false", false), ("0", 0), ("-7", -7),
            ("9223372036854775807", .integer(.max)), ("-9223372036854775808", .integer(.min)), ("1.5", .number(1.5)),
            ("1", 1), ("1.0", 1), ("1e3", 1000), (#""1""#, "1"), (#""true""#, "true"), (#""""#, ""), ("[]", []),
            ("{}", [:]), (#"[1,[2,{"a":[]}]]"#, [1, [2, ["a": []]]]),
            (#""\u00e9\ud83d\ude00\n""#, "é😀\n"), (" {\"a\" : null}\n", ["a": nil]),
        ] as [(String, JSONValue)])
    func reads(text: String, value: JSONValue) throws {
        #expect(try JSONValue(parsing: text) == value)
    }

    @Test("a number that no integer holds becomes a floating one")
    func largeNumbers() throws {
        #expect(try JSONValue(parsing: "9223372036854775808") == .number(9_223_372_036_854_775_808))
        #expect(try JSONValue(parsing: "1e30") == .number(1e30))
    }

    @Test(
        "malformed text is refused with a sentence",
        arguments: [
            "", " ", "{", "[1,]", "{\"a\":1,}", "{\"a\":}", "nul", "01", "1 2", "\"\\x\"", "[1e999]", "{\"a\" 1}",
            "'a'", "\"\\ud800\"", "{1:2}",
        ])
    func malformed(text: String) {
        let error = #expect(throws: JSONError.self) { try JSONValue(parsing: text) }
        #expect(error?.code == .malformed, "\(text)")
        #expect(error?.detail.isEmpty == false)
    }

    @Test("size and depth are limits, brackets inside text are not depth")
    func limits() throws {
        let limits = JSONLimits(bytes: 20, depth: 3)
        #expect(try JSONValue(parsing: "[[[1]]]", limits: limits) == [[[1]]])
        #expect(throws: JSONError.self) { try JSONValue(parsing: "[[[[1]]]]", limits: limits) }
        #expect(try JSONValue(parsing: #"["[[[[\"[[[["]"#, limits: limits) == [#"[[[["[[[["#])
        let large = #expect(throws: JSONError.self) {
            try JSONValue(parsing: String(repeating: " ", count: 20) + "1", limits: limits)
        }
        #expect(large?.code == .tooLarge)
        let deep = #expect(throws: JSONError.self) { try JSONValue(parsing: String(repeating: "[", count: 100_000)) }
        #expect(deep?.code == .tooDeep)
    }

    @Test("depth cannot be hidden in another encoding: only UTF-8 is taken")
    func otherEncodings() {
        // In UTF-16 the character U+5B22 holds the byte of a quotation mark, behind which a count of brackets by bytes is blind.
        let text = "[\"\u{5b22}\"," + String(repeating: "[", count: 400) + String(repeating: "]", count: 400) + "]"
        let bytes = text.utf16.flatMap { [UInt8($0 & 255), UInt8($0 >> 8)] }
        #expect(throws: JSONError.self) { try JSONValue(parsing: bytes) }
        #expect(throws: JSONError.self) { try JSONValue(parsing: [0x22, 0xff, 0x22]) }
    }

    @Test("vendors' oddities are taken: a key twice (the last counts), NUL, many members")
    func lenient() throws {
        #expect(try JSONValue(parsing: #"{"a":1,"\u0061":2}"#) == ["a": 2])
        #expect(try JSONValue(parsing: #""x\u0000y""#) == "x\0y")
        let many = "{" + (0..<5000).map { "\"k\($0)\":\($0)" }.joined(separator: ",") + "}"
        #expect(try JSONValue(parsing: many).object?.count == 5000)
    }

    @Test("written text is compact, sorted, escaped, and read again")
    func writes() throws {
        let value: JSONValue = ["b": [1, -2, .number(1.5), true, nil], "a": "q\"\\\u{1}\n\r\t/é😀", "": [:]]
        #expect(value.description == #"{"":{},"a":"q\"\\\u0001\n\r\t/é😀","b":[1,-2,1.5,true,null]}"#)
        #expect(try JSONValue(parsing: value.bytes) == value)
        #expect(JSONValue.number(.infinity).description == "null")
    }

    @Test(
        "a floating number keeps its value through writing and reading",
        arguments: [
            0.1, -0.0, 1e-7, 1e21, 1.7976931348623157e308, Double.leastNonzeroMagnitude, 123_456_789.123,
        ])
    func floating(number: Double) throws {
        switch try JSONValue(parsing: JSONValue.number(number).bytes) {
        case .number(let read): #expect(read == number)
        case .integer(let read): #expect(Double(read) == number)
        case let other: #expect(Bool(false), "\(other)")
        }
    }

    @Test("accessors answer for their own kind only")
    func accessors() {
        let value: JSONValue = ["a": 1, "b": "x", "c": [true]]
        #expect(value["a"]?.integer == 1 && value["a"]?.string == nil)
        #expect(value["b"]?.string == "x" && value["c"]?.array?.first?.bool == true)
        #expect(value["d"] == nil && JSONValue("x")["a"] == nil && JSONValue(nil) == .null)
    }

    @Test("a literal with a key twice keeps the last, and does not trap")
    func literalRepetition() {
        #expect((["a": 1, "a": 2] as JSONValue)["a"] == 2)
    }
}
