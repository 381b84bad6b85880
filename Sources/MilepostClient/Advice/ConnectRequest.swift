// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
public import MilepostModel

/// Builds the bodies of connect and of changes from what was typed.
public enum ConnectRequest {
    /// `key=value` pairs as settings: a value that is JSON keeps its type (`1`, `true`, `["a"]`), any other is text.
    public static func settings(_ pairs: [String]) throws(ClientError) -> [String: JSONValue] {
        var result: [String: JSONValue] = [:]
        for pair in pairs {
            let (name, value) = try split(pair)
            result[name] = (try? JSONValue(parsing: value)) ?? .string(value)
        }
        return result
    }

    /// `name=value` pairs as link facts: only lists and `null` are read as JSON, so that a title `2026` stays text.
    public static func facts(_ pairs: [String]) throws(ClientError) -> [String: JSONValue] {
        var result: [String: JSONValue] = [:]
        for pair in pairs {
            let (name, value) = try split(pair)
            if value == "null" {
                result[name] = .null
            } else if value.hasPrefix("["), let list = try? JSONValue(parsing: value) {
                result[name] = list
            } else if name == "tags" || name == "flags" {
                result[name] = .array(value.split(separator: ",").map { .string(String($0)) })
            } else {
                result[name] = .string(value)
            }
        }
        return result
    }

    /// `name=value`, or `name=@file` so that a secret appears in no process list.
    public static func credentials(_ pairs: [String]) throws(ClientError) -> [String: JSONValue] {
        var result: [String: JSONValue] = [:]
        for pair in pairs {
            guard let (name, value) = parts(pair) else {
                // Perhaps the secret itself without its name: not repeated.
                throw ClientError(
                    code: "bad_input", detail: "a credential has no name: write it as name=value or name=@file")
            }
            guard value.hasPrefix("@") else {
                result[name] = .string(value)
                continue
            }
            let file = String(value.dropFirst())
            guard let data = FileManager.default.contents(atPath: file), data.count <= 65_536 else {
                throw ClientError(code: "bad_file", detail: "\(file) cannot be read, or is larger than 64 KiB")
            }
            result[name] = .string(trimmed(String(decoding: data, as: UTF8.self)))
        }
        return result
    }

    /// `100,1000` as a list of numbers.
    public static func thresholds(_ text: String) throws(ClientError) -> JSONValue {
        let numbers = text.split(separator: ",").map { Int64(trimmed(String($0))) }
        guard !numbers.isEmpty, numbers.allSatisfy({ ($0 ?? 0) > 0 }) else {
            throw ClientError(
                code: "bad_input", detail: "--thresholds '\(text)': write whole numbers above 0, such as 100,1000")
        }
        return .array(numbers.compactMap { $0.map(JSONValue.integer) })
    }

    public static func trimmed(_ text: String) -> String {
        var text = text[...]
        while let last = text.last, last.isWhitespace { text.removeLast() }
        return String(text.drop(while: \.isWhitespace))
    }

    private static func split(_ pair: String) throws(ClientError) -> (String, String) {
        guard let parts = parts(pair) else {
            throw ClientError(code: "bad_input", detail: "'\(pair.prefix(40))': write it as name=value")
        }
        return parts
    }

    /// Nil without a name.
    private static func parts(_ pair: String) -> (String, String)? {
        guard let equals = pair.firstIndex(of: "="), equals != pair.startIndex else { return nil }
        return (String(pair[..<equals]), String(pair[pair.index(after: equals)...]))
    }
}
