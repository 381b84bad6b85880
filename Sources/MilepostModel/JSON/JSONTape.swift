// SPDX-License-Identifier: Apache-2.0

/// One JSON value, scanned into a flat list of nodes that point back into the bytes.
///
/// Our own because no fast JSON library is in reach (decisions 29); `JSONTapeFuzzTests` holds it against
/// FoundationEssentials, which takes commas before a closing bracket and guesses UTF-16 from NULs. Reading goes through
/// `Span`, so every access is bounds-checked; a tape is reused from text to text and then allocates nothing.
package struct JSONTape {
    package struct Limits: Hashable, Sendable {
        /// Containers inside each other; the outermost is level 1. The scanner recurses as deep.
        package var depth: Int
        package var members: Int
        package var stringBytes: Int
        /// Takes keys that repeat and NUL characters: for texts that are not ours to refuse.
        package var isLenient: Bool

        package init(depth: Int, members: Int, stringBytes: Int, isLenient: Bool = false) {
            self.depth = depth
            self.members = members
            self.stringBytes = stringBytes
            self.isLenient = isLenient
        }
    }

    package enum Kind: UInt8, Sendable { case object, array, key, string, number, yes, no, null }

    package struct Node: Sendable {
        package let kind: Kind
        /// Whether the text between the quotes must be decoded.
        package let hasEscapes: Bool
        /// Of a key's decoded bytes, FNV-1a; 0 for other nodes.
        package let hash: UInt32
        /// Bytes of the value: between the quotes for text, the literal for a number.
        package let start: Int32
        package var end: Int32
        /// Index of the node after this one and all below it; for a key, after its value.
        package var next: Int32

        package var range: Range<Int> { Int(start)..<Int(end) }
    }

    package private(set) var nodes: [Node] = []
    private let limits: Limits
    private var position = 0

    package init(limits: Limits) {
        self.limits = limits
        nodes.reserveCapacity(64)
    }

    /// Scans the value at the start of `bytes`, white space before it included; what follows is left to the caller.
    /// - Returns: the offset after the value. `nodes[0]` is the value.
    package mutating func scanValue(_ bytes: Span<UInt8>) throws(JSONFault) -> Int {
        precondition(bytes.count <= Int(Int32.max), "\(bytes.count) bytes of JSON: callers limit texts far below 2 GiB")
        nodes.removeAll(keepingCapacity: true)
        position = 0
        skipSpace(bytes)
        try value(bytes, depth: 0)
        return position
    }

    /// Scans a text that must hold one value and white space.
    package mutating func scanText(_ bytes: Span<UInt8>) throws(JSONFault) {
        position = try scanValue(bytes)
        skipSpace(bytes)
        guard position == bytes.count else { throw JSONFault(.trailingData, at: position) }
    }

    // MARK: - Values

    private mutating func skipSpace(_ bytes: Span<UInt8>) {
        while position < bytes.count {
            let byte = bytes[position]
            guard byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 else { return }
            position += 1
        }
    }

    private func byte(_ bytes: Span<UInt8>) throws(JSONFault) -> UInt8 {
        guard position < bytes.count else { throw JSONFault(.endOfInput, at: position) }
        return bytes[position]
    }

    private mutating func value(_ bytes: Span<UInt8>, depth: Int) throws(JSONFault) {
        let first = try byte(bytes)
        switch first {
        case 0x7b: try object(bytes, depth: depth + 1)
        case 0x5b: try array(bytes, depth: depth + 1)
        case 0x22: try string(bytes, isKey: false)
        case 0x2d, 0x30...0x39: try number(bytes)
        case 0x74: try literal(bytes, "true", .yes)
        case 0x66: try literal(bytes, "false", .no)
        case 0x6e: try literal(bytes, "null", .null)
        default: throw JSONFault(.unexpectedByte(first), at: position)
        }
    }

    private mutating func open(_ kind: Kind, depth: Int) throws(JSONFault) -> Int {
        guard depth <= limits.depth else { throw JSONFault(.tooDeep(limits.depth), at: position) }
        append(kind, start: position, end: position)
        position += 1
        return nodes.count - 1
    }

    private mutating func close(_ index: Int) {
        position += 1
        nodes[index].end = Int32(truncatingIfNeeded: position)
        nodes[index].next = Int32(truncatingIfNeeded: nodes.count)
    }

    private mutating func object(_ bytes: Span<UInt8>, depth: Int) throws(JSONFault) {
        let index = try open(.object, depth: depth)
        skipSpace(bytes)
        if try byte(bytes) == 0x7d { return close(index) }
        var members = 0
        while true {
            members += 1
            guard members <= limits.members else { throw JSONFault(.tooManyMembers(limits.members), at: position) }
            let first = try byte(bytes)
            guard first == 0x22 else { throw JSONFault(.unexpectedByte(first), at: position) }
            let key = nodes.count
            try string(bytes, isKey: true)
            if !limits.isLenient { try refuseRepetition(ofKeyAt: key, firstKey: index + 1, bytes) }
            skipSpace(bytes)
            let colon = try byte(bytes)
            guard colon == 0x3a else { throw JSONFault(.unexpectedByte(colon), at: position) }
            position += 1
            skipSpace(bytes)
            try value(bytes, depth: depth)
            nodes[key].next = Int32(truncatingIfNeeded: nodes.count)
            skipSpace(bytes)
            switch try byte(bytes) {
            case 0x2c: position += 1
            case 0x7d: return close(index)
            case let other: throw JSONFault(.unexpectedByte(other), at: position)
            }
            skipSpace(bytes)
        }
    }

    private mutating func array(_ bytes: Span<UInt8>, depth: Int) throws(JSONFault) {
        let index = try open(.array, depth: depth)
        skipSpace(bytes)
        if try byte(bytes) == 0x5d { return close(index) }
        while true {
            try value(bytes, depth: depth)
            skipSpace(bytes)
            switch try byte(bytes) {
            case 0x2c: position += 1
            case 0x5d: return close(index)
            case let other: throw JSONFault(.unexpectedByte(other), at: position)
            }
            skipSpace(bytes)
        }
    }

    private mutating func literal(_ bytes: Span<UInt8>, _ word: StaticString, _ kind: Kind) throws(JSONFault) {
        let start = position
        var matches = true
        let count = word.utf8CodeUnitCount
        word.withUTF8Buffer { letters in
            for index in 0..<count where start + index >= bytes.count || bytes[start + index] != (unsafe letters[index])
            {
                matches = false
            }
        }
        guard matches else {
            // An end inside the word and a wrong letter are both just a wrong word.
            throw JSONFault(.unexpectedByte(bytes[start]), at: start)
        }
        position += count
        append(kind, start: start, end: position)
    }

    private mutating func append(
        _ kind: Kind, start: Int, end: Int, hasEscapes: Bool = false, hash: UInt32 = 0
    ) {
        nodes.append(
            Node(
                kind: kind, hasEscapes: hasEscapes, hash: hash, start: Int32(truncatingIfNeeded: start),
                end: Int32(truncatingIfNeeded: end), next: Int32(truncatingIfNeeded: nodes.count + 1)))
    }

    // MARK: - Numbers

    private mutating func number(_ bytes: Span<UInt8>) throws(JSONFault) {
        let start = position
        if bytes[position] == 0x2d { position += 1 }
        let whole = digits(bytes)
        guard whole > 0 else { throw JSONFault(.invalidNumber, at: position) }
        if whole > 1, bytes[position - whole] == 0x30 { throw JSONFault(.invalidNumber, at: position - whole) }
        if position < bytes.count, bytes[position] == 0x2e {
            position += 1
            guard digits(bytes) > 0 else { throw JSONFault(.invalidNumber, at: position) }
        }
        var mayOverflow = whole > 300
        if position < bytes.count, bytes[position] | 0x20 == 0x65 {
            position += 1
            if position < bytes.count, bytes[position] == 0x2b || bytes[position] == 0x2d { position += 1 }
            guard digits(bytes) > 0 else { throw JSONFault(.invalidNumber, at: position) }
            mayOverflow = true
        }
        if mayOverflow {
            let value = Double(String(utf8: bytes.extracting(start..<position)))
            guard let value, value.isFinite else { throw JSONFault(.numberOutOfRange, at: start) }
        }
        append(.number, start: start, end: position)
    }

    private mutating func digits(_ bytes: Span<UInt8>) -> Int {
        let start = position
        while position < bytes.count, bytes[position] &- 0x30 < 10 { position += 1 }
        return position - start
    }

    // MARK: - Text

    private mutating func string(_ bytes: Span<UInt8>, isKey: Bool) throws(JSONFault) {
        let start = position + 1
        var index = start
        var hasEscapes = false
        let end = bytes.count
        while index < end {
            let byte = bytes[index]
            if byte == 0x22 {
                guard index - start <= limits.stringBytes else {
                    throw JSONFault(.stringTooLong(limits.stringBytes), at: start - 1)
                }
                position = index + 1
                let hash = isKey ? Self.hash(bytes, start..<index, hasEscapes: hasEscapes) : 0
                return append(isKey ? .key : .string, start: start, end: index, hasEscapes: hasEscapes, hash: hash)
            }
            if byte == 0x5c {
                hasEscapes = true
                let escape = try Self.escape(bytes, at: index)
                if escape.scalar == 0, !limits.isLenient { throw JSONFault(.nulCharacter, at: index) }
                index = escape.end
            } else if byte < 0x20 {
                throw JSONFault(byte == 0 && !limits.isLenient ? .nulCharacter : .controlCharacter, at: index)
            } else if byte < 0x80 {
                index += 1
            } else {
                index += try UTF8Sequence.length(bytes, at: index)
            }
        }
        throw JSONFault(.endOfInput, at: end)
    }

    /// Decodes the escape whose backslash is at `index`.
    private static func escape(
        _ bytes: Span<UInt8>, at index: Int
    ) throws(JSONFault) -> (scalar: UInt32, end: Int) {
        guard index + 1 < bytes.count else { throw JSONFault(.endOfInput, at: bytes.count) }
        switch bytes[index + 1] {
        case 0x22: return (0x22, index + 2)
        case 0x5c: return (0x5c, index + 2)
        case 0x2f: return (0x2f, index + 2)
        case 0x62: return (0x08, index + 2)
        case 0x66: return (0x0c, index + 2)
        case 0x6e: return (0x0a, index + 2)
        case 0x72: return (0x0d, index + 2)
        case 0x74: return (0x09, index + 2)
        case 0x75: break
        default: throw JSONFault(.invalidEscape, at: index)
        }
        let unit = try hexUnit(bytes, at: index + 2, escape: index)
        switch unit {
        case 0xdc00...0xdfff: throw JSONFault(.loneSurrogate, at: index)
        case 0xd800...0xdbff:
            guard index + 7 < bytes.count, bytes[index + 6] == 0x5c, bytes[index + 7] == 0x75 else {
                throw JSONFault(.loneSurrogate, at: index)
            }
            let low = try hexUnit(bytes, at: index + 8, escape: index + 6)
            guard (0xdc00...0xdfff).contains(low) else { throw JSONFault(.loneSurrogate, at: index) }
            return (0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00), index + 12)
        default: return (unit, index + 6)
        }
    }

    private static func hexUnit(_ bytes: Span<UInt8>, at start: Int, escape: Int) throws(JSONFault) -> UInt32 {
        guard start + 4 <= bytes.count else { throw JSONFault(.endOfInput, at: bytes.count) }
        var unit: UInt32 = 0
        for index in start..<start + 4 {
            guard let digit = hexDigit(bytes[index]) else { throw JSONFault(.invalidEscape, at: escape) }
            unit = unit << 4 | UInt32(digit)
        }
        return unit
    }

    // MARK: - Keys

    private static func hash(_ bytes: Span<UInt8>, _ range: Range<Int>, hasEscapes: Bool) -> UInt32 {
        if hasEscapes { return FNV.hash(decode(bytes, range).span) }
        return FNV.hash(bytes.extracting(range))
    }

    private func refuseRepetition(ofKeyAt key: Int, firstKey: Int, _ bytes: Span<UInt8>) throws(JSONFault) {
        let hash = nodes[key].hash
        var other = firstKey
        while other < key {
            if nodes[other].hash == hash, decoded(nodes[other], bytes) == decoded(nodes[key], bytes) {
                throw JSONFault(.duplicateKey, at: Int(nodes[key].start) - 1)
            }
            other = Int(nodes[other].next)
        }
    }

    // MARK: - Decoding

    /// The text's bytes with its escapes decoded.
    package func decoded(_ node: Node, _ bytes: Span<UInt8>) -> [UInt8] {
        if node.hasEscapes { return Self.decode(bytes, node.range) }
        return Array(copying: bytes.extracting(node.range))
    }

    package func text(_ node: Node, _ bytes: Span<UInt8>) -> String {
        if node.hasEscapes { return String(utf8: Self.decode(bytes, node.range).span) }
        return String(utf8: bytes.extracting(node.range))
    }

    private static func decode(_ bytes: Span<UInt8>, _ range: Range<Int>) -> [UInt8] {
        var output: [UInt8] = []
        output.reserveCapacity(range.count)
        var index = range.lowerBound
        while index < range.upperBound {
            let byte = bytes[index]
            if byte != 0x5c {
                output.append(byte)
                index += 1
            } else if let (scalar, end) = try? escape(bytes, at: index), let letter = Unicode.Scalar(scalar) {
                output.append(contentsOf: UTF8.encode(letter)!)
                index = end
            } else {
                preconditionFailure("a scanned text holds a bad escape at \(index)")
            }
        }
        return output
    }
}
