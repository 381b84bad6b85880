// SPDX-License-Identifier: Apache-2.0

/// Any JSON value. Whole numbers that fit keep their exactness; keys are unordered.
public enum JSONValue: Hashable, Sendable {
    case null
    case bool(Bool)
    case integer(Int64)
    case number(Double)
    case string(String)
    case array([JSONValue])
    case object([String: JSONValue])

    public subscript(key: String) -> JSONValue? {
        if case .object(let members) = self { members[key] } else { nil }
    }

    public var string: String? { if case .string(let text) = self { text } else { nil } }
    public var integer: Int64? { if case .integer(let value) = self { value } else { nil } }
    public var bool: Bool? { if case .bool(let value) = self { value } else { nil } }
    public var array: [JSONValue]? { if case .array(let items) = self { items } else { nil } }
    public var object: [String: JSONValue]? { if case .object(let members) = self { members } else { nil } }

    /// Text becomes a string, nil becomes null.
    public init(_ text: String?) { self = text.map(JSONValue.string) ?? .null }
}

extension JSONValue: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral, ExpressibleByBooleanLiteral,
    ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral, ExpressibleByNilLiteral
{
    public init(stringLiteral value: String) { self = .string(value) }
    public init(integerLiteral value: Int64) { self = .integer(value) }
    public init(booleanLiteral value: Bool) { self = .bool(value) }
    public init(arrayLiteral elements: JSONValue...) { self = .array(elements) }
    public init(dictionaryLiteral elements: (String, JSONValue)...) {
        self = .object(Dictionary(elements, uniquingKeysWith: { _, last in last }))
    }
    public init(nilLiteral: ()) { self = .null }
}

// MARK: - Parsing

/// What a JSON text from outside may cost.
public struct JSONLimits: Sendable, Hashable {
    public var bytes: Int
    public var depth: Int

    public init(bytes: Int = 1 << 20, depth: Int = 32) {
        self.bytes = bytes
        self.depth = depth
    }
}

/// Why a JSON text was refused.
public struct JSONError: Error, Hashable, Sendable, CustomStringConvertible {
    public enum Code: String, Sendable { case tooLarge = "body_too_large", tooDeep = "too_deep", malformed }
    public let code: Code
    public let detail: String

    public var description: String { detail }
}

extension JSONValue {
    /// Parses one JSON value, which must be UTF-8. Of a key that repeats the last value counts, as in ECMAScript.
    ///
    /// Whole numbers are integers however they are written (`1.0`, `1e3`); those beyond 64 bits become floating ones.
    public init(parsing bytes: some Collection<UInt8>, limits: JSONLimits = JSONLimits()) throws(JSONError) {
        guard bytes.count <= min(limits.bytes, Int(Int32.max)) else {
            throw JSONError(code: .tooLarge, detail: "\(bytes.count) bytes of JSON, at most \(limits.bytes) are taken")
        }
        var tape = JSONTape(
            limits: JSONTape.Limits(depth: limits.depth, members: .max, stringBytes: .max, isLenient: true))
        let text = Array(bytes)
        do throws(JSONFault) {
            try tape.scanText(text.span)
        } catch {
            if case .tooDeep(let limit) = error.kind {
                throw JSONError(code: .tooDeep, detail: "JSON nested deeper than the \(limit) levels that are taken")
            }
            throw JSONError(code: .malformed, detail: "not valid JSON: \(error.message)")
        }
        var index = 0
        self = Self.value(tape, at: &index, text.span)
    }

    public init(parsing text: String, limits: JSONLimits = JSONLimits()) throws(JSONError) {
        try self.init(parsing: Array(text.utf8), limits: limits)
    }

    /// Builds the value at `index` and moves `index` past it.
    private static func value(_ tape: JSONTape, at index: inout Int, _ bytes: Span<UInt8>) -> JSONValue {
        let node = tape.nodes[index]
        index += 1
        switch node.kind {
        case .null: return .null
        case .yes: return .bool(true)
        case .no: return .bool(false)
        case .key, .string: return .string(tape.text(node, bytes))
        case .number: return number(String(utf8: bytes.extracting(node.range)))
        case .array:
            var items: [JSONValue] = []
            while index < node.next { items.append(value(tape, at: &index, bytes)) }
            return .array(items)
        case .object:
            var members: [String: JSONValue] = [:]
            while index < node.next {
                let key = tape.text(tape.nodes[index], bytes)
                index += 1
                members[key] = value(tape, at: &index, bytes)
            }
            return .object(members)
        }
    }

    private static func number(_ literal: String) -> JSONValue {
        if let whole = Int64(literal) { return .integer(whole) }
        guard let value = Double(literal) else { preconditionFailure("a scanned number is none: \(literal)") }
        return Int64(exactly: value).map(JSONValue.integer) ?? .number(value)
    }
}

extension JSONValue: Codable {
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        if container.decodeNil() {
            self = .null
        } else if let value = try? container.decode(Bool.self) {
            self = .bool(value)
        } else if let value = try? container.decode(Int64.self) {
            self = .integer(value)
        } else if let value = try? container.decode(Double.self) {
            self = .number(value)
        } else if let value = try? container.decode(String.self) {
            self = .string(value)
        } else if let value = try? container.decode([JSONValue].self) {
            self = .array(value)
        } else {
            self = .object(try container.decode([String: JSONValue].self))
        }
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        switch self {
        case .null: try container.encodeNil()
        case .bool(let value): try container.encode(value)
        case .integer(let value): try container.encode(value)
        case .number(let value): try container.encode(value)
        case .string(let value): try container.encode(value)
        case .array(let value): try container.encode(value)
        case .object(let value): try container.encode(value)
        }
    }
}

// MARK: - Writing

extension JSONValue: CustomStringConvertible {
    /// Compact JSON with sorted keys: equal values give equal bytes.
    public var description: String { String(decoding: bytes, as: UTF8.self) }

    /// Compact JSON with sorted keys, as UTF-8.
    public var bytes: [UInt8] {
        var output: [UInt8] = []
        write(into: &output)
        return output
    }

    private func write(into output: inout [UInt8]) {
        switch self {
        case .null: output.append(contentsOf: "null".utf8)
        case .bool(let value): output.append(contentsOf: (value ? "true" : "false").utf8)
        case .integer(let value): output.append(contentsOf: String(value).utf8)
        case .number(let value):
            // JSON has no word for these; null is what ECMAScript writes.
            output.append(contentsOf: (value.isFinite ? "\(value)" : "null").utf8)
        case .string(let value): Self.write(value, into: &output)
        case .array(let items):
            output.append(0x5b)
            for (index, item) in items.enumerated() {
                if index > 0 { output.append(0x2c) }
                item.write(into: &output)
            }
            output.append(0x5d)
        case .object(let members):
            output.append(0x7b)
            for (index, member) in members.sorted(by: { $0.key < $1.key }).enumerated() {
                if index > 0 { output.append(0x2c) }
                Self.write(member.key, into: &output)
                output.append(0x3a)
                member.value.write(into: &output)
            }
            output.append(0x7d)
        }
    }

    private static func write(_ text: String, into output: inout [UInt8]) {
        output.append(0x22)
        defer { output.append(0x22) }
        // Most texts have nothing to escape and go over as a whole.
        if text.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x22 && $0 != 0x5c }) {
            output.append(contentsOf: text.utf8)
            return
        }
        let hex = Array("0123456789abcdef".utf8)
        for byte in text.utf8 {
            switch byte {
            case 0x22: output.append(contentsOf: [0x5c, 0x22])
            case 0x5c: output.append(contentsOf: [0x5c, 0x5c])
            case 0x0a: output.append(contentsOf: [0x5c, 0x6e])
            case 0x0d: output.append(contentsOf: [0x5c, 0x72])
            case 0x09: output.append(contentsOf: [0x5c, 0x74])
            case 0..<0x20:
                output.append(contentsOf: [0x5c, 0x75, 0x30, 0x30, hex[Int(byte >> 4)], hex[Int(byte & 15)]])
            default: output.append(byte)
            }
        }
    }
}
