// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials

/// Reads one YAML file into nodes that know their line.
enum Document {
    /// Bytes of one file; a configuration with a thousand plugins stays far below.
    static let maximumSize = 1 << 20
    /// Values in one file.
    static let maximumNodes = 20_000

    /// - Throws: one issue: the parser cannot go on after the first.
    static func parse(_ bytes: Data, file: String) throws(ConfigurationError) -> ConfigurationNode {
        func fail(_ code: ConfigurationIssue.Code, line: Int?, _ message: String) -> ConfigurationError {
            ConfigurationError(issues: [Origin(file: file, line: line).issue(code, message)])
        }
        guard bytes.count <= maximumSize else {
            throw fail(.tooLarge, line: nil, "is larger than \(maximumSize >> 10) KiB; split it into conf.d/*.yaml")
        }
        guard String(validating: bytes, as: UTF8.self) != nil else {
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
        var reader = try Reader(bytes, file: file)
        return try reader.document()
    }

    /// Makes nodes of what the parser says, within the limits.
    private struct Reader: ~Copyable {
        private let file: String
        private var events: YAMLEvents
        private var remaining = Document.maximumNodes

        init(_ bytes: Data, file: String) throws(ConfigurationError) {
            self.file = file
            do throws(YAMLEvents.Failure) { events = try YAMLEvents([UInt8](bytes)) } catch {
                throw Self.notYAML(error, file: file)
            }
        }

        /// The text's one document; an empty text is an empty map.
        mutating func document() throws(ConfigurationError) -> ConfigurationNode {
            guard case .documentStart = try next() else {
                return ConfigurationNode(content: .map([]), origin: Origin(file: file, line: nil))
            }
            let root = try node(try next(), depth: 0)
            _ = try next()  // the document's end
            if case .documentStart(let line) = try next() {
                throw error(.notYAML, line: line, "is not YAML: but found another document")
            }
            return root
        }

        private mutating func node(
            _ event: YAMLEvents.Event, depth: Int
        ) throws(ConfigurationError) -> ConfigurationNode {
            remaining -= 1
            switch event {
            case .scalar(let text, let isQuoted, let line):
                try check(depth: depth, line: line)
                let isNull = !isQuoted && ["", "~", "null", "Null", "NULL"].contains(text)
                return ConfigurationNode(
                    content: isNull ? .null : .scalar(text, isQuoted: isQuoted), origin: Origin(file: file, line: line))
            case .listStart(let line):
                try check(depth: depth, line: line)
                return ConfigurationNode(
                    content: .list(try items(depth: depth)), origin: Origin(file: file, line: line))
            case .mapStart(let line):
                try check(depth: depth, line: line)
                return ConfigurationNode(
                    content: .map(try entries(depth: depth)), origin: Origin(file: file, line: line))
            case .alias(let line):
                throw error(.alias, line: line, "aliases (*) are not accepted; write the value out")
            case .end, .documentStart, .documentEnd, .textEnd:
                throw error(.notYAML, line: nil, "is not YAML: it ends within a value")
            }
        }

        private mutating func items(depth: Int) throws(ConfigurationError) -> [ConfigurationNode] {
            var items: [ConfigurationNode] = []
            while true {
                let event = try next()
                if case .end = event { return items }
                items.append(try node(event, depth: depth + 1))
            }
        }

        private mutating func entries(depth: Int) throws(ConfigurationError) -> [ConfigurationNode.Entry] {
            var entries: [ConfigurationNode.Entry] = []
            var seen: Set<String> = []
            while true {
                let event = try next()
                if case .end = event { return entries }
                guard case .scalar(let key, _, let line) = event else {
                    throw error(.wrongType, line: event.line, "a key must be a plain word")
                }
                // `a` and "a" are one key.
                guard seen.insert(key).inserted else {
                    throw error(.duplicateKey, line: line, "key '\(key)' stands here twice")
                }
                let value = try node(try next(), depth: depth + 1)
                entries.append(ConfigurationNode.Entry(key: key, origin: Origin(file: file, line: line), value: value))
            }
        }

        private func check(depth: Int, line: Int) throws(ConfigurationError) {
            guard depth <= DocumentScan.maximumDepth, remaining > 0 else {
                throw error(
                    .tooDeep, line: line,
                    "is nested more than \(DocumentScan.maximumDepth) deep, or has too many values")
            }
        }

        private mutating func next() throws(ConfigurationError) -> YAMLEvents.Event {
            do throws(YAMLEvents.Failure) { return try events.next() } catch { throw Self.notYAML(error, file: file) }
        }

        private func error(_ code: ConfigurationIssue.Code, line: Int?, _ message: String) -> ConfigurationError {
            ConfigurationError(issues: [Origin(file: file, line: line).issue(code, message)])
        }

        private static func notYAML(_ failure: YAMLEvents.Failure, file: String) -> ConfigurationError {
            ConfigurationError(issues: [
                Origin(file: file, line: failure.line).issue(.notYAML, "is not YAML: \(failure.problem)")
            ])
        }
    }
}
