// SPDX-License-Identifier: Apache-2.0

/// Why bytes are no JSON text.
public struct JSONError: Error, Hashable, Sendable {
    /// Bytes before the place.
    public var offset: Int
    public var reason: String
}

/// Reads JSON text (RFC 8259) from anybody: strict, in one pass, bounded in depth.
///
/// Our own because a plugin carries everything it uses: Foundation's reader is half of a shared object's size.
struct JSONReader {
    /// Deeper than any vendor's answer, shallower than a thread's stack of 512 KiB.
    static let deepest = 128

    private let bytes: [UInt8]
    private var at = 0

    private init(_ bytes: [UInt8]) { self.bytes = bytes }

    static func value(of bytes: [UInt8]) throws(JSONError) -> JSONValue {
        var reader = JSONReader(bytes)
        reader.skipSpace()
        let value = try reader.value(depth: 0)
        reader.skipSpace()
        guard reader.at == bytes.count else { throw reader.error("text after the value") }
        return value
    }

    private func error(_ reason: String) -> JSONError { JSONError(offset: at, reason: reason) }

    private var next: UInt8? { at < bytes.count ? bytes[at] : nil }

    private mutating func skipSpace() {
        while let byte = next, byte == 0x20 || byte == 0x0A || byte == 0x0D || byte == 0x09 { at += 1 }
    }

    private mutating func value(depth: Int) throws(JSONError) -> JSONValue {
        switch next {
        case UInt8(ascii: "{"): return try object(depth: depth)
        case UInt8(ascii: "["): return try array(depth: depth)
        case UInt8(ascii: "\""): return .string(try string())
        case UInt8(ascii: "t"): return try word("true", .bool(true))
        case UInt8(ascii: "f"): return try word("false", .bool(false))
        case UInt8(ascii: "n"): return try word("null", .null)
        case nil: throw error("the text ends where a value is due")
        default: return try number()
        }
    }

    private mutating func word(_ word: StaticString, _ value: JSONValue) throws(JSONError) -> JSONValue {
        let text = Array(word.description.utf8)
        guard bytes.count - at >= text.count, bytes[at..<at + text.count].elementsEqual(text) else {
            throw error("no value begins so")
        }
        at += text.count
        return value
    }

    private mutating func open(depth: Int) throws(JSONError) {
        guard depth < Self.deepest else { throw error("nested deeper than \(Self.deepest)") }
        at += 1
        skipSpace()
    }

    private mutating func object(depth: Int) throws(JSONError) -> JSONValue {
        try open(depth: depth)
        var members: [String: JSONValue] = [:]
        if next == UInt8(ascii: "}") {
            at += 1
            return .object(members)
        }
        // Most have so many: growing into it by steps costs as much as reading.
        members.reserveCapacity(6)
        while true {
            guard next == UInt8(ascii: "\"") else { throw error("a member begins with its name") }
            let name = try string()
            skipSpace()
            guard next == UInt8(ascii: ":") else { throw error("a colon is due") }
            at += 1
            skipSpace()
            members[name] = try value(depth: depth + 1)
            if try isLast(closing: UInt8(ascii: "}")) { return .object(members) }
        }
    }

    private mutating func array(depth: Int) throws(JSONError) -> JSONValue {
        try open(depth: depth)
        var elements: [JSONValue] = []
        if next == UInt8(ascii: "]") {
            at += 1
            return .array(elements)
        }
        while true {
            elements.append(try value(depth: depth + 1))
            if try isLast(closing: UInt8(ascii: "]")) { return .array(elements) }
        }
    }

    /// Takes a comma (false) or the closing sign (true).
    private mutating func isLast(closing: UInt8) throws(JSONError) -> Bool {
        skipSpace()
        guard let byte = next, byte == closing || byte == UInt8(ascii: ",") else {
            throw error("a comma or an end is due")
        }
        at += 1
        if byte == closing { return true }
        skipSpace()
        return false
    }

    // MARK: Texts

    private mutating func string() throws(JSONError) -> String {
        at += 1
        let start = at
        var isASCII = true
        while let byte = next, byte != UInt8(ascii: "\""), byte != UInt8(ascii: "\\"), byte >= 0x20 {
            if byte >= 0x80 { isASCII = false }
            at += 1
        }
        if next == UInt8(ascii: "\"") {
            let part = bytes[start..<at]
            let text = isASCII ? String(decoding: part, as: UTF8.self) : try text(part)
            at += 1
            return text
        }
        var unescaped = Array(bytes[start..<at])
        while let byte = next {
            at += 1
            switch byte {
            case UInt8(ascii: "\""): return try text(unescaped[...])
            case UInt8(ascii: "\\"): try escape(into: &unescaped)
            case 0..<0x20: throw error("a control character stands bare in a text")
            default: unescaped.append(byte)
            }
        }
        throw error("a text does not end")
    }

    private func text(_ bytes: ArraySlice<UInt8>) throws(JSONError) -> String {
        guard let text = String(validating: bytes, as: UTF8.self) else { throw error("a text is no UTF-8") }
        return text
    }

    private mutating func escape(into bytes: inout [UInt8]) throws(JSONError) {
        guard let byte = next else { throw error("a text does not end") }
        at += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): bytes.append(byte)
        case UInt8(ascii: "b"): bytes.append(8)
        case UInt8(ascii: "f"): bytes.append(12)
        case UInt8(ascii: "n"): bytes.append(10)
        case UInt8(ascii: "r"): bytes.append(13)
        case UInt8(ascii: "t"): bytes.append(9)
        case UInt8(ascii: "u"):
            var code = try hexadecimal()
            if (0xD800..<0xDC00).contains(code) {
                guard bytesFollow([UInt8(ascii: "\\"), UInt8(ascii: "u")]) else { throw error("half a surrogate pair") }
                at += 2
                let low = try hexadecimal()
                guard (0xDC00..<0xE000).contains(low) else { throw error("half a surrogate pair") }
                code = 0x10000 + (code - 0xD800) << 10 + (low - 0xDC00)
            }
            guard let scalar = Unicode.Scalar(code) else { throw error("half a surrogate pair") }
            bytes += Array(String(Character(scalar)).utf8)
        default: throw error("no escape is written so")
        }
    }

    private func bytesFollow(_ wanted: [UInt8]) -> Bool {
        bytes.count - at >= wanted.count && bytes[at..<at + wanted.count].elementsEqual(wanted)
    }

    private mutating func hexadecimal() throws(JSONError) -> UInt32 {
        guard bytes.count - at >= 4 else { throw error("a text does not end") }
        var code: UInt32 = 0
        for byte in bytes[at..<at + 4] {
            guard let digit = Character(Unicode.Scalar(byte)).hexDigitValue, byte < 0x80 else {
                throw error("no hexadecimal digit")
            }
            code = code << 4 | UInt32(digit)
        }
        at += 4
        return code
    }

    // MARK: Numbers

    private mutating func number() throws(JSONError) -> JSONValue {
        let start = at
        if next == UInt8(ascii: "-") { at += 1 }
        let whole = at
        guard skipDigits() > 0, bytes[whole] != UInt8(ascii: "0") || at == whole + 1 else {
            throw error("no value is written so")
        }
        var isWhole = true
        if next == UInt8(ascii: ".") {
            isWhole = false
            at += 1
            guard skipDigits() > 0 else { throw error("a digit is due") }
        }
        if next == UInt8(ascii: "e") || next == UInt8(ascii: "E") {
            isWhole = false
            at += 1
            if next == UInt8(ascii: "+") || next == UInt8(ascii: "-") { at += 1 }
            guard skipDigits() > 0 else { throw error("a digit is due") }
        }
        let text = String(decoding: bytes[start..<at], as: UTF8.self)
        if isWhole, let value = Int64(text) { return .int(value) }
        guard let value = Double(text), value.isFinite else { throw error("a number past any double") }
        return .double(value)
    }

    private mutating func skipDigits() -> Int {
        let start = at
        while let byte = next, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { at += 1 }
        return at - start
    }
}
