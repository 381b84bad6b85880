// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// Which campaign a crossing is labelled with (decisions 12).
public enum CampaignRule {
    /// The campaign parameters in a URL's query; empty values count as absent, the first of a repeated key wins.
    public static func campaign(inURL url: String) -> UTM {
        var utm = UTM()
        guard let question = url.firstIndex(of: "?") else { return utm }
        let query = url[url.index(after: question)...].prefix { $0 != "#" }
        for pair in query.split(separator: "&").prefix(maximumPairs) {
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2, let value = decoded(parts[1]), !value.isEmpty else { continue }
            switch parts[0] {
            case "utm_source": utm.source = utm.source ?? value
            case "utm_medium": utm.medium = utm.medium ?? value
            case "utm_campaign": utm.campaign = utm.campaign ?? value
            case "utm_term": utm.term = utm.term ?? value
            case "utm_content": utm.content = utm.content ?? value
            default: break
            }
        }
        return utm
    }

    /// The destination's own campaign if it has one, else the most frequent among the clicks counted.
    public static func campaign(destination: String?, mostFrequent: UTM?) -> UTM {
        if let destination {
            let own = campaign(inURL: destination)
            if !own.hasNoTriple { return own }
        }
        return mostFrequent ?? UTM()
    }

    /// A URL is cut after this many pairs: nobody labels a campaign behind two hundred others.
    static let maximumPairs = 200

    private static func decoded(_ text: Substring) -> String? {
        var bytes: [UInt8] = []
        var iterator = text.utf8.makeIterator()
        while let byte = iterator.next() {
            switch byte {
            case 0x2b: bytes.append(0x20)
            case 0x25:
                guard let high = iterator.next().flatMap(nibble), let low = iterator.next().flatMap(nibble) else {
                    return nil
                }
                bytes.append(high << 4 | low)
            default: bytes.append(byte)
            }
        }
        return String(validating: bytes, as: UTF8.self)
    }

    private static func nibble(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 0x30...0x39: byte - 0x30
        case 0x41...0x46: byte - 0x41 + 10
        case 0x61...0x66: byte - 0x61 + 10
        default: nil
        }
    }
}
