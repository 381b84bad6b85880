// SPDX-License-Identifier: Apache-2.0

public import MilepostKit

/// Hostile texts, values and bytes for fuzz tests of a plugin. SplitMix64 (Steele, Lea and Flood, 2014): the same seed,
/// the same run.
public struct HostileSource: Sendable {
    private var state: UInt64
    private let names: [String]

    /// `names` are the members that the plugin looks for in a vendor's answers: objects are made of them, so that a
    /// value reaches the code behind the lookup.
    public init(seed: UInt64, names: [String] = ["id", "data", "x"]) {
        state = seed
        self.names = names
    }

    /// The next 64 bits.
    public mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = state
        word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
        return word ^ (word >> 31)
    }

    /// A number from 0 up to, and without, the bound, which is at least 1.
    public mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }

    /// Markup, quotes, controls, directions, long runs, templates.
    public mutating func text() -> String {
        let pieces = [
            "<", ">", "\"", "'", "&", "&amp;", "</p>", "<script>", "<a href=\"https://evil.test\">", "javascript:",
            "\u{0}",
            "\n", "\u{1B}[2J", "\u{202E}", "\u{200D}", "\u{2028}", "é", "👩‍👩‍👧", "{slug}", "{", "}", "spring", " ", "://",
            "%3C",
            "\u{FFFF}", "\u{E000}", String(repeating: "x", count: 300), String(repeating: "<", count: 90),
        ]
        return (0..<below(8)).map { _ in pieces[below(pieces.count)] }.joined()
    }

    /// A value of at most `depth` levels.
    public mutating func json(depth: Int = 3) -> JSONValue {
        switch below(depth == 0 ? 6 : 8) {
        case 0: .null
        case 1: .bool(below(2) == 0)
        case 2: .int(Int64(bitPattern: next()))
        case 3: .int(Int64(below(600)) - 5)
        case 4: .double(Double(below(1_000)) / 7)
        case 5: .string(text())
        case 6: .array((0..<below(4)).map { _ in json(depth: depth - 1) })
        default:
            .object(
                Dictionary(
                    (0..<below(4)).map { _ in (names[below(names.count)], json(depth: depth - 1)) },
                    uniquingKeysWith: { $1 }))
        }
    }

    /// A value with some node, at any depth, replaced or removed.
    public mutating func mutated(_ value: JSONValue) -> JSONValue {
        if below(4) == 0 { return json() }
        switch value {
        case .object(var members):
            guard let key = members.keys.sorted().dropFirst(below(max(1, members.count))).first else { return json() }
            members[key] = below(5) == 0 ? nil : mutated(members[key] ?? .null)
            return .object(members)
        case .array(var elements):
            guard !elements.isEmpty else { return json() }
            let index = below(elements.count)
            elements[index] = mutated(elements[index])
            return .array(elements)
        default: return json()
        }
    }

    /// Bytes cut, flipped, doubled.
    public mutating func damaged(_ bytes: [UInt8]) -> [UInt8] {
        var bytes = bytes
        for _ in 0...below(3) where !bytes.isEmpty {
            let at = below(bytes.count)
            switch below(4) {
            case 0: bytes = Array(bytes[..<at])
            case 1: bytes[at] ^= UInt8(1 << below(8))
            case 2: bytes.insert(UInt8(below(256)), at: at)
            default: bytes += bytes[at...]
            }
        }
        return bytes
    }
}
