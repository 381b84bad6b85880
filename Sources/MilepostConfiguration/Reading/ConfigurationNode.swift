// SPDX-License-Identifier: Apache-2.0

/// Where a value was written.
struct Origin: Sendable, Equatable {
    var file: String
    var line: Int?

    func issue(_ code: ConfigurationIssue.Code, _ message: String) -> ConfigurationIssue {
        ConfigurationIssue(code: code, file: file, line: line, message: message)
    }
}

/// A YAML value that knows where it came from, free of anchors and duplicate keys; tags are passed over.
struct ConfigurationNode: Sendable {
    indirect enum Content: Sendable {
        case null
        /// `isQuoted` tells `"5"`, which is text, from `5`.
        case scalar(String, isQuoted: Bool)
        case list([ConfigurationNode])
        case map([Entry])
    }
    struct Entry: Sendable {
        var key: String
        var origin: Origin
        var value: ConfigurationNode
    }
    var content: Content
    var origin: Origin

    /// The value as an error message shows it; never more than a line.
    var summary: String {
        switch content {
        case .null: "nothing"
        case .scalar(let text, _): "'\(text.prefix(60))\(text.count > 60 ? "…" : "")'"
        case .list: "a list"
        case .map: "a map"
        }
    }

    /// Puts `other` over this value: maps merge key by key, everything else is replaced.
    mutating func merge(_ other: ConfigurationNode) {
        guard case .map(var entries) = content, case .map(let newer) = other.content else {
            self = other
            return
        }
        for entry in newer {
            if let index = entries.firstIndex(where: { $0.key == entry.key }) {
                entries[index].value.merge(entry.value)
                entries[index].origin = entry.origin
            } else {
                entries.append(entry)
            }
        }
        content = .map(entries)
    }

    /// Puts `value` at `path`, making the maps on the way.
    mutating func set(_ value: ConfigurationNode, at path: ArraySlice<String>) {
        guard let key = path.first else {
            self = value
            return
        }
        var entries: [Entry] = if case .map(let existing) = content { existing } else { [] }
        if let index = entries.firstIndex(where: { $0.key == key }) {
            entries[index].value.set(value, at: path.dropFirst())
        } else {
            var child = ConfigurationNode(content: .map([]), origin: value.origin)
            child.set(value, at: path.dropFirst())
            entries.append(Entry(key: key, origin: value.origin, value: child))
        }
        content = .map(entries)
    }

    /// The entries of the map at `path`, empty where there is none.
    func entries(at path: [String]) -> [Entry] {
        guard case .map(let entries) = content else { return [] }
        guard let key = path.first else { return entries }
        return entries.first { $0.key == key }?.value.entries(at: Array(path.dropFirst())) ?? []
    }
}
