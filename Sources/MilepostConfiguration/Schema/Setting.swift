// SPDX-License-Identifier: Apache-2.0

import MilepostModel

/// One key: its place, its meaning, how it is read and written. Reading, the environment, the reference and the
/// difference of two configurations all go by these, so none can forget a key.
struct Setting<Root: Sendable>: Sendable {
    /// Key by key from the root.
    let path: [String]
    /// One sentence or two for the administrator.
    let help: String
    /// Whether a reload applies a change; else the daemon must be restarted.
    let appliesHot: Bool
    let isList: Bool
    let read: @Sendable (ConfigurationNode, inout Root) throws(Mismatch) -> Void
    let write: @Sendable (Root) -> String
    /// Takes the value of one root into another.
    let copy: @Sendable (_ source: Root, _ target: inout Root) -> Void

    init<Value>(
        _ path: String, _ keyPath: any WritableKeyPath<Root, Value> & Sendable, _ codec: Codec<Value>,
        hot: Bool = false, _ help: String
    ) {
        self.path = path.split(separator: ".").map(String.init)
        self.help = help
        appliesHot = hot
        isList = codec.isList
        read = { node, root throws(Mismatch) in root[keyPath: keyPath] = try codec.value(of: node) }
        write = { codec.write($0[keyPath: keyPath]) }
        copy = { $1[keyPath: keyPath] = $0[keyPath: keyPath] }
    }

    var name: String { path.joined(separator: ".") }
}

/// Reads maps by their settings and gathers what is wrong.
struct SchemaReader {
    var issues: [ConfigurationIssue] = []

    /// - Parameters:
    ///   - node: the map to read.
    ///   - settings: every key the map and the maps inside it may have.
    ///   - open: keys whose maps have names of the administrator's own (`plugins`, `plans`), handled by the caller.
    ///   - prefix: the map's own path from the file's root, for messages.
    ///   - level: how many keys of the settings' paths lead to this map.
    mutating func read<Root>(
        _ node: ConfigurationNode, into root: inout Root, settings: [Setting<Root>], open: [String] = [],
        prefix: String, level: Int = 0
    ) {
        let entries: [ConfigurationNode.Entry]
        switch node.content {
        case .null: return
        case .map(let map): entries = map
        case .scalar, .list:
            mismatch(prefix.isEmpty ? "the file" : prefix, Mismatch(expected: "a map", node: node))
            return
        }
        let known = Set(settings.map { $0.path[level] }).union(level == 0 ? open : [])
        for entry in entries where !(level == 0 && open.contains(entry.key)) {
            let place = prefix.isEmpty ? entry.key : "\(prefix).\(entry.key)"
            let matching = settings.filter { $0.path[level] == entry.key }
            if let setting = matching.first, setting.path.count == level + 1 {
                do throws(Mismatch) { try setting.read(entry.value, &root) } catch { mismatch(place, error) }
            } else if !matching.isEmpty {
                read(entry.value, into: &root, settings: matching, prefix: place, level: level + 1)
            } else {
                unknown(entry, in: prefix, known: known)
            }
        }
    }

    mutating func mismatch(_ place: String, _ mismatch: Mismatch) {
        issues.append(
            mismatch.node.origin.issue(
                .wrongType, "\(place)\(mismatch.place): expected \(mismatch.expected), found \(mismatch.node.summary)"))
    }

    mutating func unknown(_ entry: ConfigurationNode.Entry, in prefix: String, known: Set<String>) {
        let place = prefix.isEmpty ? "" : " in '\(prefix)'"
        let hint =
            Nearest.match(for: entry.key, among: known).map { "did you mean '\($0)'?" }
            ?? "it takes \(known.sorted().joined(separator: ", "))"
        issues.append(entry.origin.issue(.unknownKey, "unknown key '\(entry.key.prefix(128))'\(place); \(hint)"))
    }
}
