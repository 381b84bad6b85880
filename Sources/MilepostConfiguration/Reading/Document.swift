// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import Yams

/// Reads one YAML file into nodes that know their line.
enum Document {
    /// Bytes of one file; a configuration with a thousand plugins stays far below.
    static let maximumSize = 1 << 20
    /// Values in one file.
    static let maximumNodes = 20_000

    /// - Throws: one issue: the parser cannot go on after the first.
    static func parse(_ bytes: Data, file: String) throws(ConfigurationError) -> ConfigurationNode {
        let start = Origin(file: file, line: nil)
        func fail(_ code: ConfigurationIssue.Code, line: Int?, _ message: String) -> ConfigurationError {
            ConfigurationError(issues: [Origin(file: file, line: line).issue(code, message)])
        }
        guard bytes.count <= maximumSize else {
            throw fail(.tooLarge, line: nil, "is larger than \(maximumSize >> 10) KiB; split it into conf.d/*.yaml")
        }
        guard let text = String(validating: bytes, as: UTF8.self) else {
            throw fail(.notYAML, line: nil, "is not UTF-8 text")
        }
        switch DocumentScan.firstFinding(in: bytes) {
        case .alias(let line):
            throw fail(
                .alias, line: line,
                "anchors (&) and aliases (*) are not accepted; write the value out, or quote the text")
        case .tooDeep(let line):
            throw fail(.tooDeep, line: line, "is nested more than \(DocumentScan.maximumDepth) deep")
        case nil: break
        }
        let root: Node?
        do {
            root = try Parser(yaml: text, resolver: .basic, encoding: .utf8).singleRoot()
        } catch {
            let (line, problem) = describe(error, in: text)
            throw fail(problem.hasPrefix("key ") ? .duplicateKey : .notYAML, line: line, problem)
        }
        guard let root else { return ConfigurationNode(content: .map([]), origin: start) }
        var remaining = maximumNodes
        return try convert(root, file: file, depth: 0, remaining: &remaining)
    }

    private static func convert(
        _ node: Node, file: String, depth: Int, remaining: inout Int
    ) throws(ConfigurationError) -> ConfigurationNode {
        let origin = Origin(file: file, line: node.mark?.line)
        remaining -= 1
        guard depth <= DocumentScan.maximumDepth, remaining > 0 else {
            throw ConfigurationError(issues: [
                origin.issue(.tooDeep, "is nested more than \(DocumentScan.maximumDepth) deep, or has too many values")
            ])
        }
        switch node {
        case .scalar(let scalar):
            let isQuoted = scalar.style == .singleQuoted || scalar.style == .doubleQuoted
            let isNull = !isQuoted && ["", "~", "null", "Null", "NULL"].contains(scalar.string)
            return ConfigurationNode(
                content: isNull ? .null : .scalar(scalar.string, isQuoted: isQuoted), origin: origin)
        case .sequence(let sequence):
            var items: [ConfigurationNode] = []
            for item in sequence {
                items.append(try convert(item, file: file, depth: depth + 1, remaining: &remaining))
            }
            return ConfigurationNode(content: .list(items), origin: origin)
        case .mapping(let mapping):
            var entries: [ConfigurationNode.Entry] = []
            for (key, value) in mapping {
                entries.append(
                    try entry(key, value, after: entries, file: file, depth: depth, remaining: &remaining))
            }
            return ConfigurationNode(content: .map(entries), origin: origin)
        case .alias:
            throw ConfigurationError(issues: [origin.issue(.alias, "aliases (*) are not accepted; write the value out")]
            )
        }
    }

    private static func entry(
        _ key: Node, _ value: Node, after entries: [ConfigurationNode.Entry], file: String, depth: Int,
        remaining: inout Int
    ) throws(ConfigurationError) -> ConfigurationNode.Entry {
        let origin = Origin(file: file, line: key.mark?.line)
        guard case .scalar(let name) = key else {
            throw ConfigurationError(issues: [origin.issue(.wrongType, "a key must be a plain word")])
        }
        // The parser compares keys with their quotes; `a` and "a" are one key here.
        if entries.contains(where: { $0.key == name.string }) {
            throw ConfigurationError(issues: [origin.issue(.duplicateKey, "key '\(name.string)' stands here twice")])
        }
        return ConfigurationNode.Entry(
            key: name.string, origin: origin,
            value: try convert(value, file: file, depth: depth + 1, remaining: &remaining))
    }

    private static func describe(_ error: any Error, in text: String) -> (line: Int?, problem: String) {
        guard let error = error as? YamlError else { return (nil, "is not YAML: \(error)") }
        switch error {
        case .scanner(_, let problem, let mark, _), .parser(_, let problem, let mark, _),
            .composer(_, let problem, let mark, _):
            return (mark.line, "is not YAML: \(problem)")
        case .reader(let problem, _, _, _):
            return (nil, "is not YAML: \(problem)")
        case .duplicatedKeysInMapping(let names, let context):
            let name = "\(names.first ?? "")"
            return (
                repetition(of: name, in: text, from: context.mark.line) ?? context.mark.line,
                "key '\(name)' stands here twice"
            )
        case .no, .memory, .writer, .emitter, .representer, .dataCouldNotBeDecoded:
            return (nil, "is not YAML: \(error)")
        }
    }

    /// The parser names the map's first line; the one to delete is where the key stands for the second time, at the same
    /// depth as the first.
    private static func repetition(of key: String, in text: String, from start: Int) -> Int? {
        var indentation: Int?
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated()
        where index + 1 >= start {
            let depth = line.prefix { $0 == " " }.count
            guard line.dropFirst(depth).hasPrefix(key + ":") else { continue }
            if indentation == depth { return index + 1 }
            indentation = indentation ?? depth
        }
        return nil
    }
}
