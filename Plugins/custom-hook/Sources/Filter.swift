// SPDX-License-Identifier: Apache-2.0

import MilepostKit

/// Which events are sent, without code (HOOK-09): for each name a list of values, of which the event must have one.
struct Filter: Sendable, Equatable {
    /// What can be asked for, and where it stands in an event's data.
    static let names = ["country", "folder", "link", "tag", "utm_campaign", "utm_medium", "utm_source"]
    static let longestList = 100

    var lists: [(name: String, values: [String])] = []

    static func == (left: Self, right: Self) -> Bool {
        left.lists.elementsEqual(right.lists) { $0.name == $1.name && $0.values == $1.values }
    }

    /// Reads the setting, keeping what is right and naming what is not.
    static func read(_ value: JSONValue, _ errors: inout [SettingError]) -> Filter {
        guard let members = value.object else {
            errors.append(
                SettingError(pointer: "/only", code: "wrong_type", message: "only must map names to lists of values."))
            return Filter()
        }
        var filter = Filter()
        for (name, list) in members.sorted(by: { $0.key < $1.key }) {
            guard names.contains(name) else {
                errors.append(
                    SettingError(
                        pointer: "/only/\(name)", code: "unknown",
                        message: "\(name) is nothing to filter by; there are \(names.joined(separator: ", "))."))
                continue
            }
            let values = (list.array ?? (list.string.map { [.string($0)] } ?? [])).compactMap(\.string)
            guard !values.isEmpty, values.count <= longestList, values.count == (list.array?.count ?? 1) else {
                errors.append(
                    SettingError(
                        pointer: "/only/\(name)", code: "wrong_type",
                        message: "\(name) must be a list of 1 to \(longestList) texts."))
                continue
            }
            filter.lists.append((name, values))
        }
        return filter
    }

    /// Why the event is not sent; nil when it is.
    func refusal(of event: HookEvent) -> String? {
        if event.isOfVendor { return nil }
        for (name, wanted) in lists {
            let found = Self.values(name, event.data)
            if found.contains(where: { value in wanted.contains { Self.matches($0, value) } }) { continue }
            let shown = found.isEmpty ? "none" : found.prefix(3).map { $0.shortened }.joined(separator: ", ")
            return
                "Not sent: its \(name) is \(shown), and the hook takes only \(wanted.prefix(5).joined(separator: ", "))."
        }
        return nil
    }

    private static func values(_ name: String, _ data: JSONValue) -> [String] {
        func text(_ value: JSONValue?) -> [String] { value?.string.map { [$0] } ?? [] }
        switch name {
        case "utm_source": return text(data["utm"]?["source"])
        case "utm_medium": return text(data["utm"]?["medium"])
        case "utm_campaign": return text(data["utm"]?["campaign"])
        case "country": return text(data["click"]?["country"])
        case "tag": return (data["link"]?["tags"]?.array ?? []).compactMap(\.string)
        case "link":
            return text(data["link"]?["id"]) + text(data["link"]?["slug"])
        case "folder":
            let isFolder = data["scope"]?["kind"]?.string == "folder"
            return isFolder ? text(data["scope"]?["id"]) : text(data["link"]?["folder"])
        default: return []
        }
    }

    /// Without regard to case; a trailing `*` stands for any ending.
    static func matches(_ pattern: String, _ value: String) -> Bool {
        let (pattern, value) = (pattern.lowercased(), value.lowercased())
        return pattern.hasSuffix("*") ? value.hasPrefix(pattern.dropLast()) : value == pattern
    }
}

extension String {
    /// For a sentence: a value from outside may be a page long.
    var shortened: String { count <= 60 ? self : prefix(60) + "…" }
}
