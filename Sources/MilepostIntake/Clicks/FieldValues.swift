// SPDX-License-Identifier: Apache-2.0

import MilepostModel

/// Turns scanned nodes into values of the types a field may have. Each fault names the field.
struct FieldValues {
    let tape: JSONTape

    /// Any text; empty means absent.
    func text(_ node: JSONTape.Node?, _ name: StaticString, _ bytes: Span<UInt8>) throws(LineFault) -> String? {
        guard let node else { return nil }
        guard node.kind == .string else {
            throw LineFault(code: "wrong_type", message: "\(name): \(node.kind.words) where text belongs")
        }
        return node.start == node.end ? nil : tape.text(node, bytes)
    }

    /// Text that describes: cut at its limit.
    func cutText(
        _ node: JSONTape.Node?, _ name: StaticString, _ limit: Int, _ bytes: Span<UInt8>
    ) throws(LineFault) -> String? {
        guard let text = try text(node, name, bytes) else { return nil }
        return text.utf8.count <= limit ? text : text.cut(toBytes: limit)
    }

    /// Text that names something: refused past its limit, and with control characters in it.
    func key(
        _ node: JSONTape.Node?, _ name: StaticString, _ limit: Int, _ bytes: Span<UInt8>
    ) throws(LineFault) -> String? {
        guard let text = try text(node, name, bytes) else { return nil }
        guard text.utf8.count <= limit else {
            throw LineFault(
                code: "\(name)_too_long", message: "\(name): \(text.utf8.count) bytes, at most \(limit) are taken")
        }
        guard !text.utf8.contains(where: { $0 < 0x20 || $0 == 0x7f }) else {
            throw LineFault(
                code: "control_character", message: "\(name): \(LineFault.quoted(text)) holds a control character")
        }
        return text
    }

    /// A key that many shorteners send as a number: a whole one counts as its digits.
    func identifier(_ node: JSONTape.Node?, _ name: StaticString, _ bytes: Span<UInt8>) throws(LineFault) -> String? {
        guard let node, node.kind == .number else { return try key(node, name, FieldLimits.identifier, bytes) }
        let literal = bytes.extracting(node.range)
        guard literal.count <= 20, literal.indices.allSatisfy({ literal[$0] &- 0x30 < 10 }) else {
            throw LineFault(
                code: "wrong_type",
                message:
                    "\(name): the number \(LineFault.quoted(String(utf8: literal))) where text or a whole number belongs"
            )
        }
        return String(utf8: literal)
    }

    /// Two letters are ISO 3166-1 and written large.
    func country(_ node: JSONTape.Node?, _ name: StaticString, _ bytes: Span<UInt8>) throws(LineFault) -> String? {
        guard let text = try cutText(node, name, FieldLimits.country, bytes) else { return nil }
        return text.utf8.count == 2 && text.utf8.contains(where: { (0x61...0x7a).contains($0) })
            ? text.uppercased() : text
    }

    func bool(_ node: JSONTape.Node?, _ name: StaticString) throws(LineFault) -> Bool? {
        switch node?.kind {
        case nil: return nil
        case .yes: return true
        case .no: return false
        case .some(let other):
            throw LineFault(code: "wrong_type", message: "\(name): \(other.words) where true or false belongs")
        }
    }

    /// A moment: RFC 3339, or unix time as `UnixTime` reads it, as a number or as text.
    func time(_ node: JSONTape.Node, _ name: StaticString, _ bytes: Span<UInt8>) throws(LineFault) -> Timestamp {
        var found: Timestamp?
        switch node.kind {
        case .string where node.hasEscapes:
            let text = tape.decoded(node, bytes)
            found = Timestamp(rfc3339: text.span) ?? UnixTime.parse(text.span)
        case .string:
            let text = bytes.extracting(node.range)
            found = Timestamp(rfc3339: text) ?? UnixTime.parse(text)
        case .number:
            found = UnixTime.parse(bytes.extracting(node.range))
        case .object, .array, .key, .yes, .no, .null:
            throw LineFault(code: "wrong_type", message: "\(name): \(node.kind.words) where a time belongs")
        }
        guard let found else {
            throw LineFault(
                code: "ts_invalid",
                message: "\(name): \(LineFault.quoted(tape.text(node, bytes))) is neither RFC 3339 nor unix seconds or "
                    + "milliseconds")
        }
        guard found >= UnixTime.earliest else {
            throw LineFault(
                code: "ts_too_early", message: "\(name): \(found) is before \(UnixTime.earliest); no click is that old")
        }
        return found
    }
}

/// Unix time in the unit its size betrays.
///
/// Below 100,000,000,000 it is seconds (until the year 5138), from there to below 100,000,000,000,000 milliseconds
/// (from March 1973, likewise until 5138). Clicks before 1990 are refused, so no number can mean either. Larger numbers
/// are microseconds or worse and refused rather than guessed. A fraction is cut to whole milliseconds.
enum UnixTime {
    /// Before the first web page there was no link to click; such a time is a zero or a wrong unit.
    static let earliest = Timestamp(seconds: 631_152_000)  // 1990-01-01T00:00:00Z

    /// Digits with an optional sign and fraction; an exponent too, since some writers of JSON make one.
    static func parse(_ text: Span<UInt8>) -> Timestamp? {
        var index = 0
        let isNegative = !text.isEmpty && text[0] == 0x2d
        if isNegative { index = 1 }
        var whole: Int64 = 0
        let start = index
        while index < text.count, text[index] &- 0x30 < 10 {
            guard index - start < 16 else { return nil }
            whole = whole * 10 + Int64(text[index] - 0x30)
            index += 1
        }
        guard index > start else { return nil }
        var thousandths: Int64 = 0
        if index < text.count, text[index] == 0x2e {
            let first = index + 1
            var digit = first
            while digit < text.count, text[digit] &- 0x30 < 10 {
                if digit - first < 3 { thousandths = thousandths * 10 + Int64(text[digit] - 0x30) }
                digit += 1
            }
            guard digit > first else { return nil }
            for _ in min(digit - first, 3)..<3 { thousandths *= 10 }
            index = digit
        }
        if index < text.count { return withExponent(text, from: index) }
        return moment(whole, thousandths, isNegative: isNegative)
    }

    private static func withExponent(_ text: Span<UInt8>, from index: Int) -> Timestamp? {
        guard text[index] | 0x20 == 0x65, let value = Double(String(utf8: text)), value.magnitude < 1e14 else {
            return nil
        }
        let whole = value.magnitude.rounded(.down)
        return moment(Int64(whole), Int64((value.magnitude - whole) * 1000), isNegative: value < 0)
    }

    private static func moment(_ whole: Int64, _ thousandths: Int64, isNegative: Bool) -> Timestamp? {
        let milliseconds: Int64
        switch whole {
        case ..<100_000_000_000: milliseconds = whole * 1000 + thousandths
        case ..<100_000_000_000_000: milliseconds = whole
        default: return nil
        }
        return Timestamp(milliseconds: isNegative ? -milliseconds : milliseconds)
    }
}
