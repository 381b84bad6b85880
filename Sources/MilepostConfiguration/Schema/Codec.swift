// SPDX-License-Identifier: Apache-2.0

import MilepostModel

/// Says that a value is not what its key takes.
struct Mismatch: Error {
    var expected: String
    var node: ConfigurationNode
    /// Where `node` lies inside the key's value, such as `.api` or `[2]`; empty when it is the whole of it.
    var place = ""
}

/// Reads one kind of value and writes it back as YAML.
struct Codec<Value: Sendable>: Sendable {
    /// What the key takes, as the end of "expected …".
    let expected: String
    /// Whether an environment variable may hold several values, separated by commas.
    var isList = false
    let read: @Sendable (ConfigurationNode) -> Value?
    /// One line of YAML that reads back as the same value.
    let write: @Sendable (Value) -> String
    /// The first part of a list or map that cannot be read; nil when there is none, or when the whole is of another kind.
    var culprit: @Sendable (ConfigurationNode) -> Mismatch? = { _ in nil }

    func value(of node: ConfigurationNode) throws(Mismatch) -> Value {
        guard let value = read(node) else { throw culprit(node) ?? Mismatch(expected: expected, node: node) }
        return value
    }
}

extension ConfigurationNode {
    var text: String? {
        guard case .scalar(let text, _) = content else { return nil }
        return text
    }
}

extension Codec where Value == String {
    static func text(_ expected: String, where isValid: @escaping @Sendable (String) -> Bool = { !$0.isEmpty }) -> Self
    {
        Codec(
            expected: expected,
            read: { node in node.text.flatMap { $0.utf8.count <= 4096 && isValid($0) ? $0 : nil } },
            write: YAMLText.scalar)
    }

    static let path = text("an absolute path") { $0.hasPrefix("/") && !$0.utf8.contains(0) }
    static let httpURL = text("a URL that begins with https:// or http://") { text in
        ["https://", "http://"].contains { text.hasPrefix($0) && text.utf8.count > $0.utf8.count }
            && text.utf8.allSatisfy { $0 > 0x20 && $0 != 0x7f }
    }
    /// A web address whose braces name only what a crossing has.
    static let linkTemplate = text(
        "a URL that begins with https:// or http://, with {workspace}, {scope}, {link} or {folder} to fill in"
    ) { text in
        let bare = ["{workspace}", "{scope}", "{link}", "{folder}"].reduce(text) { rest, name in
            rest.split(separator: name, omittingEmptySubsequences: false).joined(separator: "x")
        }
        return ["https://", "http://"].contains { bare.hasPrefix($0) && bare.utf8.count > $0.utf8.count }
            && bare.utf8.allSatisfy { $0 > 0x20 && $0 != 0x7f && $0 != 0x7b && $0 != 0x7d }
    }
    static let sha256 = text("a SHA-256 sum: 64 lower-case hexadecimal digits") { text in
        text.utf8.count == 64 && text.utf8.allSatisfy { (0x30...0x39).contains($0) || (0x61...0x66).contains($0) }
    }
    static let network = text("an address or a CIDR block such as 10.0.0.0/8") { text in
        let parts = text.split(separator: "/", omittingEmptySubsequences: false)
        let isAddress =
            !parts[0].isEmpty && parts[0].allSatisfy { $0.isHexDigit || $0 == "." || $0 == ":" }
            && parts[0].contains { $0 == "." || $0 == ":" }
        let prefix = parts.count == 2 ? Int(parts[1]) : 0
        return isAddress && parts.count <= 2 && (0...128).contains(prefix ?? -1)
    }
}

extension Codec where Value == Bool {
    static let boolean = Codec(
        expected: "true or false",
        read: { node in
            guard case .scalar(let text, isQuoted: false) = node.content else { return nil }
            return ["true": true, "false": false][text]
        },
        write: { $0 ? "true" : "false" })
}

extension Codec where Value == Int {
    static func integer(_ range: ClosedRange<Int>) -> Self {
        Codec(
            expected: "a whole number from \(range.lowerBound) to \(range.upperBound)",
            read: { node in node.text.flatMap { Int($0) }.flatMap { range.contains($0) ? $0 : nil } },
            write: { String($0) })
    }

    static func size(_ range: ClosedRange<Int>) -> Self {
        Codec(
            expected: "a size such as 64KiB or 32MiB, from \(Units.text(bytes: range.lowerBound)) "
                + "to \(Units.text(bytes: range.upperBound))",
            read: { node in node.text.flatMap(Units.size).flatMap { range.contains($0) ? $0 : nil } },
            write: Units.text(bytes:))
    }
}

extension Codec where Value == Duration {
    static func duration(_ range: ClosedRange<Duration>) -> Self {
        Codec(
            expected: "a duration such as 30s, 5m or 1h30m, from \(Units.text(range.lowerBound)) "
                + "to \(Units.text(range.upperBound))",
            read: { node in node.text.flatMap(Units.duration).flatMap { range.contains($0) ? $0 : nil } },
            write: { Units.text($0) })
    }
}

extension Codec where Value: CaseIterable & RawRepresentable, Value.RawValue == String {
    static var choice: Self {
        let names = Value.allCases.map(\.rawValue)
        return Codec(
            expected: names.count == 1
                ? "'\(names[0])'" : "\(names.dropLast().joined(separator: ", ")) or \(names[names.count - 1])",
            read: { $0.text.flatMap(Value.init(rawValue:)) },
            write: { $0.rawValue })
    }
}

extension Codec where Value == ListenAddress {
    static let address = Codec(
        expected: "host:port, such as 127.0.0.1:8787 or [::1]:8787",
        read: { node in
            guard let text = node.text, let colon = text.lastIndex(of: ":"),
                let port = Int(text[text.index(after: colon)...]), (0...65_535).contains(port)
            else { return nil }
            var host = text[..<colon]
            if host.hasPrefix("["), host.hasSuffix("]") {
                host = host.dropFirst().dropLast()
            } else if host.contains(":") {
                return nil
            }
            let isValid = !host.isEmpty && host.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f && $0 != 0x2f }
            return isValid ? ListenAddress(host: String(host), port: port) : nil
        },
        write: { YAMLText.scalar($0.description) })
}

extension Codec {
    /// A list; a single value stands for a list of one.
    static func list<Element>(_ element: Codec<Element>, _ expected: String, nonEmpty: Bool = false) -> Self
    where Value == [Element] {
        Codec(
            expected: expected, isList: true,
            read: { node in
                guard case .list(let items) = node.content else { return element.read(node).map { [$0] } }
                let values = items.compactMap(element.read)
                return values.count == items.count && values.count <= 1000 && !(nonEmpty && values.isEmpty)
                    ? values : nil
            },
            write: { values in
                nonEmpty && values.count == 1
                    ? element.write(values[0]) : "[\(values.map(element.write).joined(separator: ", "))]"
            },
            culprit: { node in
                guard case .list(let items) = node.content else { return nil }
                guard let index = items.firstIndex(where: { element.read($0) == nil }) else { return nil }
                return Mismatch(expected: element.expected, node: items[index], place: "[\(index + 1)]")
            })
    }

    /// A value that may be absent, written `null`.
    static func optional<Wrapped>(_ wrapped: Codec<Wrapped>) -> Self where Value == Wrapped? {
        Codec(
            expected: wrapped.expected, isList: wrapped.isList,
            read: { node in
                if case .null = node.content { return .some(nil) }
                return wrapped.read(node).map { .some($0) }
            },
            write: { $0.map(wrapped.write) ?? "null" }, culprit: wrapped.culprit)
    }

    /// A map from names to values of one kind.
    static func map<Element>(_ element: Codec<Element>, _ expected: String) -> Self where Value == [String: Element] {
        Codec(
            expected: expected,
            read: { node in
                if case .null = node.content { return [:] }
                guard case .map(let entries) = node.content else { return nil }
                var result: [String: Element] = [:]
                for entry in entries {
                    guard let value = element.read(entry.value) else { return nil }
                    result[entry.key] = value
                }
                return result
            },
            write: { values in
                let pairs = values.sorted { $0.key < $1.key }
                return
                    "{\(pairs.map { "\(YAMLText.scalar($0.key)): \(element.write($0.value))" }.joined(separator: ", "))}"
            },
            culprit: { node in
                guard case .map(let entries) = node.content else { return nil }
                guard let entry = entries.first(where: { element.read($0.value) == nil }) else { return nil }
                return Mismatch(expected: element.expected, node: entry.value, place: ".\(entry.key.prefix(64))")
            })
    }
}

/// Writes YAML scalars.
enum YAMLText {
    /// The text itself where every reader takes it for text, else in double quotes.
    static func scalar(_ text: String) -> String {
        let isPlain = text.utf8.allSatisfy { byte in
            (0x61...0x7a).contains(byte) || (0x41...0x5a).contains(byte) || (0x30...0x39).contains(byte)
                || [0x2f, 0x2e, 0x2d, 0x5f].contains(byte)
        }
        let starts =
            text.utf8.first.map { $0 == 0x2f || (0x61...0x7a).contains($0) || (0x41...0x5a).contains($0) } ?? false
        let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
        return isPlain && starts && !words.contains(text.lowercased()) ? text : JSONValue.string(text).description
    }
}
