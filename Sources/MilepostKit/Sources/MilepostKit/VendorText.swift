// SPDX-License-Identifier: Apache-2.0

/// Texts that come from outside, or go there: cleaned, bounded, escaped.
///
/// In the SDK because every plugin shows vendor texts in messages and puts values into addresses and markup.
public enum VendorText {
    /// One line without control, formatting and direction characters, shortened to a count of Unicode scalars.
    public static func line(_ text: String, longest: Int) -> String {
        var scalars = String.UnicodeScalarView()
        var wasSpace = true
        // Read no more than four times what is kept: a megabyte of spaces is not worth looking at.
        for scalar in text.unicodeScalars.prefix(longest * 4) {
            guard scalars.count < longest else { break }
            switch scalar.properties.generalCategory {
            case .control, .lineSeparator, .paragraphSeparator, .spaceSeparator:
                if !wasSpace { scalars.append(" ") }
                wasSpace = true
            case .format where scalar.value != 0x200D:  // the joiner holds emoji together
                continue
            case .surrogate, .privateUse, .unassigned:
                continue
            default:
                scalars.append(scalar)
                wasSpace = false
            }
        }
        if scalars.last == " " { scalars.removeLast() }
        return String(scalars)
    }

    /// Whether a text holds another. The standard library's own search brings its regular expressions along, a
    /// megabyte of the plugin's file.
    public static func text(_ text: String, holds part: String) -> Bool {
        let text = Array(text.utf8), part = Array(part.utf8)
        guard let first = part.first else { return true }
        guard text.count >= part.count else { return false }
        return (0...text.count - part.count).contains { start in
            text[start] == first && text[start..<start + part.count].elementsEqual(part)
        }
    }

    /// For HTML, in text and in attributes.
    public static func escaped(_ text: String) -> String {
        var result = ""
        for character in text.unicodeScalars {
            switch character {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&quot;"
            case "'": result += "&#39;"
            default: result.unicodeScalars.append(character)
            }
        }
        return result
    }

    /// http or https, no white space or control characters, no longer than a browser takes.
    public static func isWebAddress(_ url: String) -> Bool {
        let start = url.prefix(8).lowercased()
        guard start.hasPrefix("https://") || start.hasPrefix("http://"), url.utf8.count <= 2_000 else { return false }
        return url.utf8.allSatisfy { $0 > 0x20 && $0 != 0x7F }
    }

    /// As a part of a path or of a query: everything but unreserved characters is percent-encoded (RFC 3986 2.3).
    public static func urlEncoded(_ text: String) -> String {
        let digits = Array("0123456789ABCDEF".utf8)
        var bytes: [UInt8] = []
        for byte in text.utf8 {
            switch byte {
            case 48...57, 65...90, 97...122, 45, 46, 95, 126: bytes.append(byte)
            default: bytes += [37, digits[Int(byte >> 4)], digits[Int(byte & 15)]]
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

extension HTTPResponse {
    /// `Retry-After` in seconds, a day at most; nil when the vendor gave none, or a date.
    public var retryAfter: Duration? {
        guard let text = header("retry-after"), let seconds = Int64(text), seconds >= 0 else { return nil }
        return .seconds(min(seconds, 86_400))
    }
}
