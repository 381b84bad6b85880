// SPDX-License-Identifier: Apache-2.0

import MilepostModel

/// The parameters of a URL's query, looked up one by one: of a name that repeats the first value counts, as browsers and
/// analytics tools have it.
struct QueryString {
    /// Where a parameter stands in `query`, still encoded.
    private struct Pair {
        var name: Range<Int>
        var value: Range<Int>
        /// Whether the name must be decoded before it can be compared.
        var isEncoded: Bool
    }
    private var query: [UInt8] = []
    private var pairs: [Pair] = []

    /// Browsers and servers end far below; past it the query is whoever-clicked's attempt at our time.
    private static let mostBytes = 8 * 1024
    private static let mostPairs = 128

    init(of url: String) {
        guard let mark = url.utf8.firstIndex(of: 0x3f) else { return }
        query = Array(url.utf8[url.utf8.index(after: mark)...].prefix(Self.mostBytes))
        var start = 0
        var equals: Int?
        var isEncoded = false
        pairs.reserveCapacity(16)
        for index in 0...query.count {
            let byte: UInt8 = index < query.count ? query[index] : 0x23
            switch byte {
            case 0x26, 0x23:
                if let middle = equals {
                    pairs.append(Pair(name: start..<middle, value: middle + 1..<index, isEncoded: isEncoded))
                }
                guard byte == 0x26, pairs.count < Self.mostPairs else { return }
                (start, equals, isEncoded) = (index + 1, nil, false)
            case 0x3d where equals == nil: equals = index
            case 0x25, 0x2b: if equals == nil { isEncoded = true }
            default: break
            }
        }
    }

    /// The decoded value; nil when absent, empty, not UTF-8, with control characters, or too long. The text comes from
    /// whoever clicked, so a bad one is left out rather than costing the shortener its click.
    func value(_ name: String, atMost limit: Int) -> String? {
        guard let decoded = decodedValue(name), decoded.utf8.count <= limit else { return nil }
        return decoded
    }

    /// As `value`, but cut: a campaign's name may be long.
    func campaign(_ name: String) -> String? {
        decodedValue(name).map { $0.cut(toBytes: FieldLimits.campaign) }
    }

    var campaign: UTM {
        UTM(
            source: campaign("utm_source"), medium: campaign("utm_medium"), campaign: campaign("utm_campaign"),
            term: campaign("utm_term"), content: campaign("utm_content"))
    }

    private func decodedValue(_ name: String) -> String? {
        guard let pair = pairs.first(where: { matches($0, name) }) else { return nil }
        let value = Self.decode(query[pair.value])
        guard !value.isEmpty, !value.contains(where: { $0 < 0x20 || $0 == 0x7f }) else { return nil }
        return String(validating: value, as: UTF8.self)
    }

    private func matches(_ pair: Pair, _ name: String) -> Bool {
        if pair.isEncoded { return Self.decode(query[pair.name]).elementsEqual(name.utf8) }
        return pair.name.count == name.utf8.count && query[pair.name].elementsEqual(name.utf8)
    }

    /// Percent decoding, `+` for a space; a `%` without two digits stands for itself.
    private static func decode(_ text: ArraySlice<UInt8>) -> [UInt8] {
        var output: [UInt8] = []
        output.reserveCapacity(text.count)
        var index = text.startIndex
        while index < text.endIndex {
            let byte = text[index]
            if byte == 0x25, index + 2 < text.endIndex, let high = hexDigit(text[index + 1]),
                let low = hexDigit(text[index + 2])
            {
                output.append(high << 4 | low)
                index += 3
            } else {
                output.append(byte == 0x2b ? 0x20 : byte)
                index += 1
            }
        }
        return output
    }
}

extension String {
    /// The longest beginning of at most `limit` bytes that ends between two Unicode scalars. Not between two characters:
    /// one with thousands of accents would leave nothing.
    func cut(toBytes limit: Int) -> String {
        guard utf8.count > limit else { return self }
        var index = utf8.index(startIndex, offsetBy: limit)
        while index > startIndex, index.samePosition(in: unicodeScalars) == nil { index = utf8.index(before: index) }
        return String(self[..<index])
    }
}
