// SPDX-License-Identifier: Apache-2.0

import MilepostModel

/// The parameters of a URL's query, looked up one by one: of a name that repeats the first value counts, as browsers and
/// analytics tools have it.
struct QueryString {
    private let bytes: [UInt8]

    init(of url: String) {
        let text = Array(url.utf8)
        guard let mark = text.firstIndex(of: 0x3f) else {
            bytes = []
            return
        }
        bytes = Array(text[(mark + 1)...].prefix { $0 != 0x23 })
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
        guard !bytes.isEmpty else { return nil }
        for pair in bytes.split(separator: 0x26) {
            let parts = pair.split(separator: 0x3d, maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2, Self.decode(parts[0]).elementsEqual(name.utf8) else { continue }
            let value = Self.decode(parts[1])
            guard !value.isEmpty, !value.contains(where: { $0 < 0x20 || $0 == 0x7f }) else { return nil }
            return String(validating: value, as: UTF8.self)
        }
        return nil
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
