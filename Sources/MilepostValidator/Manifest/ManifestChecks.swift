// SPDX-License-Identifier: Apache-2.0

internal import CMilepostLinux
internal import Glibc
internal import MilepostModel
internal import MilepostPluginHost

/// Checks 7 to 12: what the manifest says, with no code of the plugin running (8 asks `describe`).
enum ManifestChecks {
    static let all = [
        Check(
            number: 7, title: "manifest parses and fits its schema",
            proves: "the host reads it, it fits schemas/manifest.json, and no key is unknown",
            cure: "Compare it with include/milepost/schemas/manifest.json.", level: 1, run: { try fits($0) }),
        Check(
            number: 8, title: "describe tells what the file says",
            proves: "the host loads the plugin: describe equals the shipped manifest up to white space",
            cure: "Embed the very file at build time, and install file and manifest of one build.", level: 1,
            run: { try await agrees($0) }),
        Check(
            number: 9, title: "says who made it and where to read on",
            proves: "reverse-DNS id, semantic version, licence and documentation link are there",
            cure: "Add id, version, license (SPDX) and documentation (https) to the manifest.", level: 2,
            run: { try identity($0) }),
        Check(
            number: 10, title: "settings can be shown and checked",
            proves:
                "config_schema keeps to the supported subset, defaults fit it, pickers and settings that it names exist",
            cure: "See the manifest chapter of docs/plugin-guide.md.", level: 2, run: { try settings($0) }),
        Check(
            number: 11, title: "asks for no more network than it needs",
            proves: "no pattern is a wildcard only, an IP address or a private name; endpoints lie within the patterns",
            cure: "Name the vendor's hosts. An address that an administrator sets is a setting with format uri.",
            level: 2,
            run: { try egress($0) }),
        Check(
            number: 12, title: "files can be trusted by a host",
            proves: "regular files, not writable by group or others, of root or this user; names agree",
            cure: "chmod go-w, chown root, install copies and not links.", level: 1, run: { try files($0) }),
    ]

    private static func fits(_ subject: Subject) throws -> Outcome {
        guard let bytes = subject.manifestBytes else {
            return .failed("there is no \(subject.name).json beside \(subject.name).so")
        }
        if let problem = Schemas.problem(bytes, "manifest.json") { return .failed(problem) }
        do { _ = try PluginManifest(parsing: bytes, name: subject.name) } catch { return .failed(error.detail) }
        let manifest = try subject.manifest()
        let known = Schemas.named("manifest.json")?["properties"]?.object ?? [:]
        let unknown = (manifest.object ?? [:]).keys.filter { known[$0] == nil && !$0.hasPrefix("x-") }.sorted()
        return unknown.isEmpty
            ? .passed("")
            : .failed("it has keys that no host reads: \(unknown.joined(separator: ", "))")
    }

    private static func agrees(_ subject: Subject) async throws -> Outcome {
        let bench = try Bench(subject, .worker)
        let plugin: LoadedPlugin
        do { plugin = try await bench.host.load(subject.name, isolation: .worker) } catch {
            await bench.close()
            return .failed(error.detail)
        }
        let reserved = ReservedVerb.all.filter { plugin.supports($0) }.map { "\($0)" }
        await bench.close()
        return .passed(reserved.isEmpty ? "" : "it has \(reserved.joined(separator: ", ")): \(ReservedVerb.note)")
    }

    private static func identity(_ subject: Subject) throws -> Outcome {
        let manifest = try subject.manifest()
        func missing(_ key: String, _ pattern: Regex<Substring>) -> String? {
            guard let text = manifest[key]?.string else { return "\(key) is missing" }
            return text.wholeMatch(of: pattern) == nil ? "\(key) is '\(text)'" : nil
        }
        let problems = [
            missing("id", #/[a-z0-9-]+(?:\.[a-z0-9-]+)+/#),
            missing("version", #/\d+\.\d+\.\d+(?:[-+][0-9A-Za-z.+-]+)?/#),
            missing("license", #/[A-Za-z0-9.+() -]{3,128}/#),
            missing("documentation", #/https:\/\/[^\s]+/#),
            missing("title", #/.{1,128}/#),
        ].compactMap { $0 }
        return problems.isEmpty ? .passed("") : .failed(problems.joined(separator: "; "))
    }

    // MARK: Settings

    private static let types = ["string", "integer", "number", "boolean", "array", "object"]
    private static let keywords = [
        "type", "title", "description", "default", "enum", "const", "minimum", "maximum", "minLength", "maxLength",
        "pattern", "format", "items", "properties", "required", "additionalProperties", "examples", "minItems",
        "maxItems",
        "uniqueItems",
    ]

    private static func settings(_ subject: Subject) throws -> Outcome {
        let manifest = try subject.manifest()
        guard let schema = manifest["config_schema"] else { return .passed("it has no settings") }
        guard schema["type"]?.string == "object" else { return .failed("config_schema is not of type object") }
        let properties = schema["properties"]?.object ?? [:]
        for name in schema["required"]?.array ?? [] where properties[name.string ?? ""] == nil {
            return .failed("config_schema requires \(name), which it does not define")
        }
        let pickers = Set((manifest["pickers"]?.array ?? []).compactMap { $0["id"]?.string })
        for (name, property) in properties.sorted(by: { $0.key < $1.key }) {
            if let problem = problem(name, property, properties, pickers) { return .failed(problem) }
        }
        return .passed("\(properties.count) settings, \(pickers.count) pickers")
    }

    private static func problem(
        _ name: String, _ property: JSONValue, _ properties: [String: JSONValue], _ pickers: Set<String>
    ) -> String? {
        guard let type = property["type"]?.string, types.contains(type) else {
            return "setting \(name) has no single type of \(types.joined(separator: ", "))"
        }
        for keyword in (property.object ?? [:]).keys.sorted()
        where !keywords.contains(keyword) && !keyword.hasPrefix("x-mp-") {
            return "setting \(name) uses \(keyword), which no form shows"
        }
        if let standard = property["default"] {
            if let found = JSONSchema(root: property, others: { _ in nil }).problem(of: standard) {
                return "the default of setting \(name) does not fit its own schema: \(found)"
            }
        }
        if let pattern = property["pattern"]?.string, (try? Regex(pattern)) == nil {
            return "setting \(name) has a pattern that is no regular expression"
        }
        if let picker = property["x-mp-picker"]?.string, !pickers.contains(picker) {
            return "setting \(name) names picker \(picker), which the manifest does not declare"
        }
        for field in property["x-mp-depends-on"]?.array ?? [] where properties[field.string ?? ""] == nil {
            return "setting \(name) depends on \(field), which is no setting"
        }
        return nil
    }

    // MARK: Network and files

    private static func egress(_ subject: Subject) throws -> Outcome {
        let manifest = try subject.manifest()
        let settings = (manifest["config_schema"]?["properties"]?.object ?? [:]).values
        // An administrator's own address is judged by the daemon's guard, not by a list of the plugin's.
        let takesAddresses = settings.contains { $0["format"]?.string == "uri" }
        var patterns: [String] = []
        for rule in manifest["egress"]?.array ?? [] { patterns += (rule["hosts"]?.array ?? []).compactMap(\.string) }
        for pattern in patterns {
            if pattern == "*" && takesAddresses { continue }
            if let problem = HostPattern.problem(pattern) { return .failed("egress host '\(pattern)' \(problem)") }
        }
        // Where a person's browser is sent to agree; no request of the plugin goes there.
        let authorize = (manifest["auth"]?.array ?? []).compactMap { $0["authorize"]?["endpoint"]?.string }
        for (name, endpoint) in (manifest["endpoints"]?.object ?? [:]).sorted(by: { $0.key < $1.key }) {
            guard let address = endpoint["default"]?.string else { continue }
            guard let host = HostPattern.host(of: address) else {
                return .failed("endpoint \(name) has no host: \(address)")
            }
            if !authorize.contains(name), !patterns.contains(where: { HostPattern.matches($0, host) }) {
                return .failed("endpoint \(name) is at \(host), which no egress pattern covers")
            }
        }
        return .passed(patterns.isEmpty ? "asks for no network" : patterns.joined(separator: ", "))
    }

    private static func files(_ subject: Subject) throws -> Outcome {
        let stem = String(subject.originalLibrary.dropLast(3))
        for path in [subject.originalLibrary, stem + ".json"] {
            var facts = milepost_file()
            let descriptor = unsafe milepost_file_open(path, &facts)
            if descriptor == -ENOENT { return .failed("there is no \(path)") }
            if descriptor == -ELOOP { return .failed("\(path) is a symbolic link") }
            guard descriptor >= 0 else { return .failed("\(path) cannot be opened (error \(-descriptor))") }
            _ = milepost_descriptor_close(descriptor)
            if facts.mode & S_IFMT != S_IFREG { return .failed("\(path) is no regular file") }
            if facts.mode & 0o022 != 0 { return .failed("\(path) is writable by its group or by others") }
            if facts.owner != 0, facts.owner != geteuid() {
                return .failed("\(path) belongs to uid \(facts.owner), neither root nor this user")
            }
        }
        if let name = (try? subject.manifest())?["name"]?.string, name != subject.name.rawValue {
            return .failed("the manifest says its name is '\(name)', the file is \(subject.name).so")
        }
        return .passed("")
    }
}

/// Host names in the manifest's egress rules.
enum HostPattern {
    /// Why a pattern is refused; nil when it may stand.
    static func problem(_ pattern: String) -> String? {
        let labels = pattern.split(separator: ".", omittingEmptySubsequences: false)
        let fixed = labels.drop { $0 == "*" }
        if pattern.contains(":") || (!labels.isEmpty && labels.allSatisfy { $0.allSatisfy(\.isNumber) }) {
            return "is an IP address"
        }
        if fixed.count < 2 { return labels.contains("*") ? "is a wildcard only" : "is a name of one label" }
        if fixed.contains(where: { $0.isEmpty || $0.contains("*") }) { return "has a wildcard that is not in front" }
        let ends = ["localhost", "local", "internal", "lan", "home", "arpa", "corp", "intranet"]
        if let last = fixed.last, ends.contains(last.lowercased()) { return "is a private name" }
        return nil
    }

    static func matches(_ pattern: String, _ host: String) -> Bool {
        if pattern == "*" || pattern == host { return true }
        return pattern.hasPrefix("*.") && host.hasSuffix(pattern.dropFirst(1))
    }

    /// The host of an absolute address, in small letters, without port and user.
    static func host(of address: String) -> String? {
        guard let start = address.firstRange(of: "://") else { return nil }
        let authority = address[start.upperBound...].prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        let host = authority.split(separator: "@", omittingEmptySubsequences: false).last ?? ""
        let name = host.hasPrefix("[") ? host.prefix { $0 != "]" } + "]" : host.prefix { $0 != ":" }
        return name.isEmpty ? nil : name.lowercased()
    }
}
