// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import MilepostModel

/// Turns `MILEPOST_…` variables into values at their keys.
struct EnvironmentOverrides {
    /// Variables that are no keys: the command line's, the tests', and those by which a plugin's build finds headers and kit.
    static let reserved: Set<String> = [
        "MILEPOST_URL", "MILEPOST_TOKEN", "MILEPOST_TOKEN_FILE", "MILEPOST_WORKSPACE", "MILEPOST_CONFIG",
        "MILEPOST_SHARED", "MILEPOST_INCLUDE", "MILEPOST_KIT",
    ]

    private let variables: [(name: String, value: String)]

    init(_ environment: [String: String]) {
        variables = environment.filter { $0.key.hasPrefix("MILEPOST_") && !Self.reserved.contains($0.key) }
            .sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
    }

    /// - Parameter warnings: receives variables that name no section. They stop nothing, because orchestrators set some of
    ///   their own accord (a service called `milepost` brings `MILEPOST_SERVICE_HOST`).
    func apply(to root: inout ConfigurationNode, warnings: inout [ConfigurationIssue]) -> [ConfigurationIssue] {
        var issues: [ConfigurationIssue] = []
        for (name, value) in variables {
            let origin = Origin(file: "environment", line: nil)
            let parts = name.dropFirst("MILEPOST_".count).lowercased().split(separator: "__").map(String.init)
            guard let target = target(of: parts, in: root) else {
                let known = Configuration.settings.map { Self.variable(for: $0.path) }
                let hint = Nearest.match(for: name, among: known).map { "; did you mean \($0)?" } ?? ""
                let issue = origin.issue(.unknownVariable, "\(name) names no key\(hint)")
                if parts.count > 1, Configuration.sections.contains(parts[0]) {
                    issues.append(issue)
                } else {
                    warnings.append(issue)
                }
                continue
            }
            do throws(ConfigurationError) {
                root.set(try node(value, isList: target.isList, origin: origin, name: name), at: target.path[...])
            } catch { issues += error.issues }
        }
        return issues
    }

    /// `schedule.threshold_interval` as `MILEPOST_SCHEDULE__THRESHOLD_INTERVAL`.
    static func variable(for path: [String]) -> String {
        "MILEPOST_" + path.map { $0.uppercased().replacing("-", with: "_") }.joined(separator: "__")
    }

    private func target(of parts: [String], in root: ConfigurationNode) -> (path: [String], isList: Bool)? {
        if let setting = Configuration.settings.first(where: { $0.path == parts }) { return (parts, setting.isList) }
        guard parts.count >= 3 else { return nil }
        // A variable's name cannot hold '-': an existing name that differs only there is meant, else '-' is.
        let named = root.entries(at: [parts[0]]).map(\.key).first { $0.replacing("-", with: "_") == parts[1] }
        let name = named ?? parts[1].replacing("_", with: "-")
        let isOpenMap = parts.count == 4 && ["endpoints", "settings"].contains(parts[2])
        switch parts[0] {
        case "plugins":
            guard let setting = Configuration.Plugin.settings.first(where: { $0.path == [parts[2]] }),
                parts.count == 3 || isOpenMap
            else { return nil }
            return (["plugins", name] + parts[2...], setting.isList)
        case "plans":
            guard parts.count == 3, let setting = Configuration.Plan.settings.first(where: { $0.path == [parts[2]] })
            else { return nil }
            return (["plans", name, parts[2]], setting.isList)
        default: return nil
        }
    }

    private func node(
        _ value: String, isList: Bool, origin: Origin, name: String
    ) throws(ConfigurationError) -> ConfigurationNode {
        if value.hasPrefix("[") || value.hasPrefix("{") {
            var node = try Document.parse(Data(value.utf8), file: "environment \(name)")
            node.origin = Origin(file: "environment \(name)", line: nil)
            return node
        }
        let origin = Origin(file: "environment \(name)", line: nil)
        guard !value.isEmpty, value != "null" else { return ConfigurationNode(content: .null, origin: origin) }
        guard isList, value.contains(",") else {
            return ConfigurationNode(content: .scalar(value, isQuoted: false), origin: origin)
        }
        let items = value.split(separator: ",").map { item in
            ConfigurationNode(
                content: .scalar(String(item.drop { $0 == " " }), isQuoted: false), origin: origin)
        }
        return ConfigurationNode(content: .list(items), origin: origin)
    }
}

extension Configuration {
    /// The keys that hold maps.
    static let sections: Set<String> = Set(settings.filter { $0.path.count > 1 }.map { $0.path[0] })
        .union(["plans", "plugins"])
}
