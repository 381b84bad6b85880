// SPDX-License-Identifier: Apache-2.0

import MilepostIntake
import MilepostModel

/// What a file says about its links, each link once in a run.
///
/// The daemon keeps facts that are there already, so repeating costs time and changes nothing.
struct LinkFactsQueue {
    /// Links remembered; a file with more sends facts of those past it again.
    private static let remembered = 200_000
    /// Links of one request: the daemon's own limit, and about a quarter of its default body limit.
    static let linksPerRequest = 1000
    static let bytesPerRequest = 256 << 10

    private var seen: Set<LinkID> = []
    private(set) var waiting: [JSONValue] = []
    private var bytes = 0

    var isFull: Bool { waiting.count >= Self.linksPerRequest || bytes >= Self.bytesPerRequest }

    mutating func add(_ facts: ImportedLinkFacts) {
        if seen.count >= Self.remembered { seen.removeAll(keepingCapacity: true) }
        guard seen.insert(facts.link).inserted else { return }
        var members: [String: JSONValue] = [:]
        let texts = [
            ("slug", facts.slug), ("short_url", facts.shortURL), ("destination", facts.destination),
            ("title", facts.title), ("folder", facts.folder),
        ]
        // Longer than the daemon takes: the click counts all the same.
        for (name, text) in texts { if let text, text.utf8.count <= 4096 { members[name] = .string(text) } }
        if !facts.tags.isEmpty, facts.tags.count <= 100 { members["tags"] = .array(facts.tags.map(JSONValue.string)) }
        guard !members.isEmpty, (1...256).contains(facts.link.rawValue.utf8.count) else { return }
        members["id"] = .string(facts.link.rawValue)
        let item = JSONValue.object(members)
        bytes += item.description.utf8.count
        waiting.append(item)
    }

    mutating func take() -> [JSONValue] {
        defer {
            waiting.removeAll(keepingCapacity: true)
            bytes = 0
        }
        return waiting
    }
}
