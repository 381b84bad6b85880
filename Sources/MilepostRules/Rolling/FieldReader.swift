// SPDX-License-Identifier: Apache-2.0

import MilepostModel

/// Reads the members of one object and collects what is wrong with them, each with its JSON pointer.
struct FieldReader {
    private let members: [String: JSONValue]
    private let pointer: String
    var errors: [SettingError] = []

    /// Refuses members that nobody knows, naming the nearest known one: a mistyped key must not be taken for an absent one.
    init(_ members: [String: JSONValue], at pointer: String, known: Set<String>) {
        self.members = members
        self.pointer = pointer
        for key in members.keys.sorted() where !known.contains(key) {
            let hint =
                Nearest.match(for: key, among: known).map { "did you mean \($0)?" }
                ?? "known are \(known.sorted().joined(separator: ", "))"
            fail(String(key.prefix(64)), "unknown", "\(key.prefix(64)) is unknown here; \(hint)")
        }
    }

    func has(_ key: String) -> Bool { value(key) != nil }

    /// Null is absent.
    func value(_ key: String) -> JSONValue? {
        // The literal nil would be JSON's null here.
        guard let value = members[key], value != .null else { return Optional.none }
        return value
    }

    mutating func fail(_ key: String?, _ code: String, _ message: String) {
        errors.append(
            SettingError(pointer: pointer + (key.map { "/\(Self.escaped($0))" } ?? ""), code: code, message: message))
    }

    /// Text of 1 to `limit` bytes without control characters; nil when absent or wrong.
    mutating func text(_ key: String, limit: Int) -> String? {
        guard let value = value(key) else { return nil }
        guard let text = value.string, isFit(text, limit) else {
            fail(key, "wrong_type", "\(key) must be text of 1 to \(limit) bytes")
            return nil
        }
        return text
    }

    /// As `text`; a whole number is taken too, for vendors that number their pipelines and stages.
    mutating func word(_ key: String, limit: Int) -> String? {
        if let number = value(key)?.integer { return String(number) }
        return text(key, limit: limit)
    }

    mutating func required(_ key: String, limit: Int) -> String? {
        guard has(key) else {
            fail(key, "missing", "\(key) is missing")
            return nil
        }
        return word(key, limit: limit)
    }

    mutating func flag(_ key: String) -> Bool? {
        guard let value = value(key) else { return nil }
        if let flag = value.bool { return flag }
        fail(key, "wrong_type", "\(key) must be true or false")
        return nil
    }

    mutating func choice<Value: RawRepresentable & CaseIterable>(_ key: String) -> Value?
    where Value.RawValue == String {
        guard let value = value(key) else { return nil }
        if let choice = value.string.flatMap(Value.init(rawValue:)) { return choice }
        let allowed = Value.allCases.map(\.rawValue)
        let hint = value.string.flatMap { Nearest.match(for: $0, among: allowed) }.map { "; did you mean \($0)?" } ?? ""
        fail(key, "unknown_value", "\(key) must be \(allowed.joined(separator: " or "))\(hint)")
        return nil
    }

    /// The member `key`, which must be an object of its own.
    mutating func object(_ key: String, known: Set<String>) -> FieldReader? {
        guard let value = value(key) else {
            fail(key, "missing", "\(key) is missing")
            return nil
        }
        guard let members = value.object else {
            fail(key, "wrong_type", "\(key) must be an object")
            return nil
        }
        return FieldReader(members, at: "\(pointer)/\(key)", known: known)
    }

    private func isFit(_ text: String, _ limit: Int) -> Bool {
        (1...limit).contains(text.utf8.count) && text.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7f }
    }

    private static func escaped(_ key: String) -> String {
        key.replacing("~", with: "~0").replacing("/", with: "~1")
    }
}
