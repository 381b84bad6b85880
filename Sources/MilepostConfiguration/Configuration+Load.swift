// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials

/// A configuration and how it came about.
public struct LoadedConfiguration: Sendable {
    public let configuration: Configuration
    /// Files read, in the order in which they were merged.
    public let files: [String]
    /// What looks odd and stops nothing, such as an environment variable that means no key.
    public let warnings: [ConfigurationIssue]
}

extension Configuration {
    /// Files of one `conf.d`; more than that is a mistake, such as a folder that is no configuration.
    static let maximumFiles = 200

    /// Reads `path`, then `conf.d/*.yaml` beside it in name order, then the environment; the later wins. Maps merge key by
    /// key, scalars and lists replace. Blocks on file reads: not for the cooperative pool.
    ///
    /// - Parameters:
    ///   - path: the main file; it must exist.
    ///   - environment: the process's environment. `MILEPOST_` and the key in capitals overrides it, two underscores for
    ///     each dot: `MILEPOST_LISTEN`, `MILEPOST_SCHEDULE__THRESHOLD_INTERVAL`, `MILEPOST_PLUGINS__CUSTOM_HOOK__ENABLED`.
    ///     Lists are separated by commas; a value that begins with `[` or `{` is read as YAML.
    /// - Throws: every issue of every file at once, so that one round of mending is enough.
    public static func load(path: String, environment: [String: String]) throws(ConfigurationError) -> Configuration {
        try examine(path: path, environment: environment).configuration
    }

    /// Like `load(path:environment:)`, and says which files were read and what looks odd.
    public static func examine(
        path: String, environment: [String: String]
    ) throws(ConfigurationError) -> LoadedConfiguration {
        var issues: [ConfigurationIssue] = []
        var warnings: [ConfigurationIssue] = []
        var root = ConfigurationNode(content: .map([]), origin: Origin(file: path, line: nil))
        let files = [path] + fragments(beside: path, issues: &issues)
        for file in files {
            do throws(ConfigurationError) {
                let node = try Document.parse(contents(of: file), file: file)
                guard case .map = node.content else {
                    issues.append(node.origin.issue(.wrongType, "the file: expected a map, found \(node.summary)"))
                    continue
                }
                // Each file is read on its own first, so that a key which a later file replaces is checked too.
                issues += read(node).issues
                root.merge(node)
            } catch { issues += error.issues }
        }
        issues += EnvironmentOverrides(environment).apply(to: &root, warnings: &warnings)
        let merged = read(root)
        issues += merged.issues.filter { !issues.contains($0) }
        var configuration = merged.configuration
        if let directory = environment["CREDENTIALS_DIRECTORY"], directory.hasPrefix("/") {
            configuration.kms.path = directory + "/kek"
        }
        if issues.isEmpty { issues = configuration.inconsistencies(root) }
        guard issues.isEmpty else { throw ConfigurationError(issues: issues) }
        return LoadedConfiguration(configuration: configuration, files: files, warnings: warnings)
    }

    /// Reads one YAML text alone, without files or environment.
    public static func parse(_ yaml: String, file: String = "text") throws(ConfigurationError) -> Configuration {
        let node = try Document.parse(Data(yaml.utf8), file: file)
        let (configuration, issues) = read(node)
        let all = issues.isEmpty ? configuration.inconsistencies(node) : issues
        guard all.isEmpty else { throw ConfigurationError(issues: all) }
        return configuration
    }

    private static func read(_ root: ConfigurationNode) -> (configuration: Configuration, issues: [ConfigurationIssue])
    {
        var reader = SchemaReader()
        var configuration = Configuration()
        reader.read(root, into: &configuration, settings: settings, open: ["plans", "plugins"], prefix: "")
        for section in root.entries(at: []) {
            switch section.key {
            case "plans": reader.named(section, into: &configuration.plans, Plan(), Plan.settings)
            case "plugins": reader.named(section, into: &configuration.plugins, Plugin(), Plugin.settings)
            default: continue
            }
        }
        return (configuration, reader.issues)
    }

    /// `conf.d/*.yaml` beside the main file, by name.
    private static func fragments(beside path: String, issues: inout [ConfigurationIssue]) -> [String] {
        let directory = path.lastIndex(of: "/").map { String(path[...$0]) + "conf.d" } ?? "conf.d"
        // No conf.d is the usual case; one that cannot be listed must not be skipped in silence.
        guard FileManager.default.fileExists(atPath: directory) else { return [] }
        do {
            let names = try FileManager.default.contentsOfDirectory(atPath: directory)
                .filter { $0.hasSuffix(".yaml") && !$0.hasPrefix(".") }.sorted()
            guard names.count <= maximumFiles else {
                issues.append(
                    ConfigurationIssue(
                        code: .tooLarge, file: directory, line: nil,
                        message: "holds \(names.count) files, more than \(maximumFiles)"))
                return []
            }
            return names.map { "\(directory)/\($0)" }
        } catch {
            issues.append(
                ConfigurationIssue(
                    code: .unreadable, file: directory, line: nil,
                    message: "cannot be listed; the daemon's user needs to read and enter it"))
            return []
        }
    }

    static func contents(of file: String) throws(ConfigurationError) -> Data {
        func fail(_ code: ConfigurationIssue.Code, _ message: String) -> ConfigurationError {
            ConfigurationError(issues: [ConfigurationIssue(code: code, file: file, line: nil, message: message)])
        }
        guard let status = FileStatus(path: file) else {
            throw fail(.unreadable, "does not exist or cannot be reached; 'milepost init --config \(file)' makes one")
        }
        guard status.isRegular else { throw fail(.unreadable, "is not a regular file") }
        guard status.size <= Document.maximumSize else {
            throw fail(.tooLarge, "is larger than \(Document.maximumSize >> 10) KiB; split it into conf.d/*.yaml")
        }
        guard let data = FileManager.default.contents(atPath: file) else {
            throw fail(.unreadable, "cannot be read; the daemon's user needs to read it")
        }
        return data
    }
}

extension SchemaReader {
    /// Reads a map whose keys are names of the administrator's own.
    mutating func named<Value>(
        _ section: ConfigurationNode.Entry, into values: inout [String: Value], _ initial: Value,
        _ settings: [Setting<Value>]
    ) {
        guard case .map(let entries) = section.value.content else {
            if case .null = section.value.content { return }
            return mismatch(section.key, Mismatch(expected: "a map", node: section.value))
        }
        for entry in entries {
            let isName =
                (1...64).contains(entry.key.utf8.count)
                && entry.key.utf8.allSatisfy {
                    (0x61...0x7a).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2d || $0 == 0x5f
                }
            guard isName else {
                issues.append(
                    entry.origin.issue(
                        .wrongType,
                        "\(section.key): '\(entry.key.prefix(64))' is not a name: "
                            + "up to 64 lower-case letters, digits, '-' and '_'"))
                continue
            }
            var value = initial
            read(entry.value, into: &value, settings: settings, prefix: "\(section.key).\(entry.key)")
            values[entry.key] = value
        }
    }
}
