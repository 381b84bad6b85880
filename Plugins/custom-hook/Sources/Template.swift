// SPDX-License-Identifier: Apache-2.0

import MilepostKit

/// A JSON document with placeholders: `{"who":"{{data.contact.email}}"}`.
///
/// The template is parsed as JSON *before* anything is filled in, so that no value from outside can change its shape.
struct Template: Sendable, Equatable {
    let document: JSONValue

    /// - Throws: `Malformed` when it is no JSON of at most 32 levels.
    init(_ text: String) throws(Malformed) {
        do { document = try JSONValue(parsing: Array(text.utf8)) } catch {
            throw Malformed(reason: "it is no JSON text (placeholders stand inside quotes)")
        }
        guard Self.depth(document) <= 32 else { throw Malformed(reason: "it nests deeper than 32 levels") }
    }

    struct Malformed: Error { let reason: String }

    func filled(_ view: JSONValue) -> JSONValue { Self.fill(document, view) }

    private static func fill(_ value: JSONValue, _ view: JSONValue) -> JSONValue {
        switch value {
        case .string(let text):
            // A placeholder alone keeps the type of what it stands for.
            if let path = wholePlaceholder(text) { return find(path, view) ?? .null }
            return .string(filled(text, view))
        case .array(let elements): return .array(elements.map { fill($0, view) })
        case .object(let members):
            return .object(members.mapValues { fill($0, view) })
        case .null, .bool, .int, .double: return value
        }
    }

    /// Text with `{{path}}` replaced; what is not there becomes nothing.
    static func filled(_ text: String, _ view: JSONValue) -> String {
        var result = ""
        var rest = text[...]
        while let open = start(of: "{{", in: rest) {
            result += rest[..<open]
            let inner = rest[rest.index(open, offsetBy: 2)...]
            guard let close = start(of: "}}", in: inner) else {
                rest = rest[open...]
                return result + rest
            }
            result += plain(find(path(inner[..<close]), view))
            rest = inner[inner.index(close, offsetBy: 2)...]
        }
        return result + rest
    }

    private static func wholePlaceholder(_ text: String) -> [Substring]? {
        guard text.hasPrefix("{{"), text.hasSuffix("}}"), text.count > 4 else { return nil }
        let inner = text.dropFirst(2).dropLast(2)
        return inner.contains("{") || inner.contains("}") ? nil : path(inner)
    }

    private static func path(_ text: Substring) -> [Substring] {
        text.split(separator: ".").map { part in
            var part = part
            while part.first == " " { part.removeFirst() }
            while part.last == " " { part.removeLast() }
            return part
        }
    }

    private static func find(_ path: [Substring], _ view: JSONValue) -> JSONValue? {
        var value: JSONValue? = view
        for part in path { value = Int(part).flatMap { value?[$0] } ?? value?[String(part)] }
        return value
    }

    private static func plain(_ value: JSONValue?) -> String {
        switch value {
        case nil, .null: ""
        case .string(let text): text
        case .some(let other): String(decoding: other.bytes, as: UTF8.self)
        }
    }

    private static func start(of mark: String, in text: Substring) -> Substring.Index? {
        var index = text.startIndex
        while index < text.endIndex {
            if text[index...].hasPrefix(mark) { return index }
            index = text.index(after: index)
        }
        return nil
    }

    private static func depth(_ value: JSONValue) -> Int {
        switch value {
        case .array(let elements): 1 + (elements.map(depth).max() ?? 0)
        case .object(let members): 1 + (members.values.map(depth).max() ?? 0)
        case .null, .bool, .int, .double, .string: 0
        }
    }
}
