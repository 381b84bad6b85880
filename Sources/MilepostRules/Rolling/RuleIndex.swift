// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// Finds the rules that a link's clicks count towards, without looking at the others.
public struct RuleIndex: Sendable {
    /// In the order of their ids, by byte.
    public let rules: [RollingRule]
    private var byTag: [String: [Int]] = [:]
    private var byLink: [LinkID: [Int]] = [:]

    public init(_ rules: [RollingRule]) {
        self.rules = rules.sorted { RuleIndex.comesFirst($0.id, $1.id) }
        for (index, rule) in self.rules.enumerated() {
            switch rule.trigger.scope {
            case .tag(let name): byTag[name, default: []].append(index)
            case .link(let id): byLink[id, default: []].append(index)
            }
        }
    }

    public var isEmpty: Bool { rules.isEmpty }

    /// Indexes into `rules`, ascending: the order in which rules take turns (Z-12).
    public func matches(link: LinkID, tags: [String]) -> [Int] {
        var found = byLink[link] ?? []
        for tag in Set(tags) { if let more = byTag[tag] { found += more } }
        return found.count > 1 ? found.sorted() : found
    }

    public static func comesFirst(_ left: String, _ right: String) -> Bool {
        left.utf8.lexicographicallyPrecedes(right.utf8)
    }
}
