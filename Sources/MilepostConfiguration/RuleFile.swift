// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
public import MilepostModel

/// A YAML or JSON file with rules, as the JSON that REST takes, and the line of every value.
public struct RuleFile: Sendable {
    public let document: JSONValue
    private var lines: [String: Int] = [:]
    private let file: String

    /// - Parameter file: the name that errors are given.
    /// - Throws: what is no YAML, with its line.
    public init(_ bytes: [UInt8], file: String) throws(ConfigurationError) {
        self.file = file
        let node = try Document.parse(Data(bytes), file: file)
        var lines: [String: Int] = [:]
        document = Self.value(node, at: "", &lines)
        self.lines = lines
    }

    /// `file:line`, of the value a JSON pointer names or of the nearest one around it.
    public func place(of pointer: String) -> String {
        var rest = pointer[...]
        while true {
            if let line = lines[String(rest)] { return "\(file):\(line)" }
            guard let slash = rest.lastIndex(of: "/") else { return file }
            rest = rest[..<slash]
        }
    }

    /// The value of a node below `pointer`, and the line of everything in it.
    static func value(_ node: ConfigurationNode, at pointer: String, _ lines: inout [String: Int]) -> JSONValue {
        if let line = node.origin.line, lines[pointer] == nil { lines[pointer] = line }
        switch node.content {
        case .null: return .null
        case .scalar(let text, let isQuoted): return isQuoted ? .string(text) : scalar(text)
        case .list(let items):
            return .array(items.enumerated().map { value($1, at: "\(pointer)/\($0)", &lines) })
        case .map(let entries):
            var members: [String: JSONValue] = [:]
            for entry in entries {
                let path = pointer + "/" + entry.key.replacing("~", with: "~0").replacing("/", with: "~1")
                // The key's own line: a map below it begins on the next.
                lines[path] = entry.origin.line
                members[entry.key] = value(entry.value, at: path, &lines)
            }
            return .object(members)
        }
    }

    /// Whole numbers as they are written and no others: a fraction stays text, so that an amount keeps its digits, and so
    /// does what only looks like a number, such as a link called 007.
    private static func scalar(_ text: String) -> JSONValue {
        switch text {
        case "true", "True", "TRUE": .bool(true)
        case "false", "False", "FALSE": .bool(false)
        default:
            if let number = Int64(text), String(number) == text { .integer(number) } else { .string(text) }
        }
    }
}
