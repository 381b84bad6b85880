// SPDX-License-Identifier: Apache-2.0

import MilepostModel

/// What one body or line of click events may cost. Past a limit the line is rejected, never the daemon slowed.
public struct IntakeLimits: Hashable, Sendable {
    /// One event: a line of NDJSON, an element of an array, the object itself.
    public var lineBytes: Int
    /// Objects and arrays inside each other, the event itself included.
    public var depth: Int
    /// Members of one object.
    public var members: Int
    /// One text, before its escapes are decoded.
    public var stringBytes: Int
    /// Rejections that are described; the others are counted.
    public var describedRejections: Int

    public init(
        lineBytes: Int = 64 * 1024, depth: Int = 16, members: Int = 128, stringBytes: Int = 32 * 1024,
        describedRejections: Int = 1000
    ) {
        self.lineBytes = lineBytes
        self.depth = depth
        self.members = members
        self.stringBytes = stringBytes
        self.describedRejections = describedRejections
    }

    var scan: JSONTape.Limits { JSONTape.Limits(depth: depth, members: members, stringBytes: stringBytes) }
}

/// Longest values of the single fields, in bytes of UTF-8.
///
/// A key that is cut no longer names anything, so keys past their limit reject the event; a description that is cut still
/// describes, so it is cut, on a character's border.
enum FieldLimits {
    static let identifier = 256
    /// Google's and Facebook's click ids stay below 300 today and have no stated limit.
    static let adClickID = 512
    static let url = 4096
    static let description = 1024
    static let campaign = 256
    static let country = 64
    static let device = 256
}

/// A line that was not taken.
public struct Rejection: Sendable, Equatable, Codable {
    /// 1-based: the line of NDJSON, the element of an array, 1 for an object.
    public var line: Int
    /// Stable, e.g. `ts_invalid`.
    public var code: String
    /// For the sender: the field and what is wrong with it.
    public var message: String

    public init(line: Int, code: String, message: String) {
        self.line = line
        self.code = code
        self.message = message
    }
}

/// Why one event was not taken.
struct LineFault: Error, Hashable {
    var code: String
    var message: String

    init(code: String, message: String) {
        self.code = code
        self.message = message
    }

    init(_ fault: JSONFault) { self.init(code: fault.code, message: fault.message) }

    static func lineTooLong(_ limit: Int) -> Self {
        Self(code: "line_too_long", message: "an event of more than \(limit) bytes")
    }

    /// A sender's own text for a message: short, on one line, without control characters.
    static func quoted(_ text: String) -> String {
        var shown = ""
        for scalar in text.unicodeScalars.prefix(64) {
            shown.unicodeScalars.append(
                scalar.value < 0x20 || (0x7f...0x9f).contains(scalar.value) ? "\u{fffd}" : scalar)
        }
        return text.unicodeScalars.count > 64 ? "'\(shown)…'" : "'\(shown)'"
    }
}
