// SPDX-License-Identifier: Apache-2.0

import MilepostModel

/// Turns one file's nodes into desired objects and gathers what is wrong.
///
/// Values are the daemon's to judge, which knows the plugins; here keys, shapes and references to secrets are, and what can
/// be said of a rule without the vendor. A further kind of thing in a workspace is a case of `ManagedObject.Kind` and a key in `workspace(_:)`.
struct DesiredStateReader {
    let file: String
    var objects: [DesiredObject] = []
    var issues: [ConfigurationIssue] = []

    init(file: String) { self.file = file }

    mutating func read(_ root: ConfigurationNode) {
        for entry in entries(of: root, at: "the file", known: ["plans", "workspaces"]) {
            switch entry.key {
            case "plans": plans(entry)
            default:
                for workspace in entries(of: entry.value, at: "workspaces") { self.workspace(workspace) }
            }
        }
    }

    private mutating func plans(_ entry: ConfigurationNode.Entry) {
        var reader = SchemaReader()
        var plans: [String: Configuration.Plan] = [:]
        reader.named(entry, into: &plans, Configuration.Plan(), Configuration.Plan.settings)
        issues += reader.issues
        var object = object(.plans, workspace: "", name: "", entry, place: "plans")
        for plan in entry.value.entries(at: []) {
            object.document[plan.key] = plan.value.json
            object.fields["/plans/\(plan.key)"] = field(plan, "plans.\(plan.key)")
            for member in plan.value.entries(at: []) {
                object.fields["/plans/\(plan.key)/\(member.key)"] = field(member, "plans.\(plan.key).\(member.key)")
            }
            if case .null = plan.value.content { object.document[plan.key] = [:] }
        }
        objects.append(object)
    }

    private mutating func workspace(_ entry: ConfigurationNode.Entry) {
        let place = "workspaces.\(entry.key)"
        guard (1...256).contains(entry.key.utf8.count), entry.key.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7f }) else {
            return wrong(entry.origin, "workspaces: a workspace's name has 1 to 256 bytes without control characters")
        }
        for member in entries(of: entry.value, at: place, known: ["plan", "connections", "rules"]) {
            switch member.key {
            case "plan":
                var object = object(
                    .workspace, workspace: entry.key, name: "", member, place: "\(place).plan")
                guard let plan = member.value.text else {
                    mismatch(member.value, "\(place).plan", "a plan's name")
                    continue
                }
                object.document["plan"] = .string(plan)
                object.fields["/plan"] = field(member, "\(place).plan")
                objects.append(object)
            case "rules": rules(member.value, workspace: entry.key, place: "\(place).rules")
            default:
                for item in entries(of: member.value, at: "\(place).connections") {
                    connection(item, workspace: entry.key, place: "\(place).connections.\(item.key)")
                }
            }
        }
    }

    private mutating func connection(_ entry: ConfigurationNode.Entry, workspace: String, place: String) {
        guard IntegrationName(entry.key) != nil else {
            return wrong(
                entry.origin,
                "\(place): '\(entry.key.prefix(64))' is not plugin or plugin@name: "
                    + "lower-case letters, digits, '-' and '_'")
        }
        var object = object(.connection, workspace: workspace, name: entry.key, entry, place: place)
        let known = ["credentials", "settings", "thresholds", "aggregation", "count", "fire_current"]
        for member in entries(of: entry.value, at: place, known: known) {
            let here = "\(place).\(member.key)"
            object.fields["/\(member.key)"] = field(member, here)
            switch member.key {
            case "credentials":
                if case .scalar = member.value.content {
                    // Perhaps the token itself: `entries` would repeat it.
                    wrong(member.value.origin, "\(here): expected a map of names to { env: NAME } or { file: PATH }")
                    continue
                }
                for credential in entries(of: member.value, at: here) { secret(credential, here, &object) }
            case "settings":
                for setting in entries(of: member.value, at: here) {
                    if known.contains(setting.key) {
                        wrong(setting.origin, "\(here).\(setting.key): '\(setting.key)' belongs beside 'settings'")
                    }
                    object.document[setting.key] = setting.value.json
                    object.fields["/\(setting.key)"] = field(setting, "\(here).\(setting.key)")
                }
            case "thresholds": object.document["thresholds"] = thresholds(member.value, here)
            case "aggregation":
                object.document["aggregation"] = choice(member.value, here, ThresholdPolicy.Aggregation.self)
            case "count": object.document["count"] = choice(member.value, here, Audience.self)
            default:
                object.firesForCurrentState = Codec.boolean.read(member.value)
                if object.firesForCurrentState == nil { mismatch(member.value, here, "true or false") }
            }
        }
        objects.append(object)
    }

    private mutating func thresholds(_ node: ConfigurationNode, _ place: String) -> JSONValue? {
        let numbers = Codec.list(Codec<Int>.integer(1...Int.max), "", nonEmpty: true).read(node)
        if numbers == nil { mismatch(node, place, "a list of whole numbers above 0, such as [100, 1000]") }
        return numbers.map { .array($0.map { .integer(Int64($0)) }) }
    }

    private mutating func choice<Value: CaseIterable & RawRepresentable & Sendable>(
        _ node: ConfigurationNode, _ place: String, _ type: Value.Type
    ) -> JSONValue? where Value.RawValue == String {
        let codec = Codec<Value>.choice
        guard let value = codec.read(node) else {
            mismatch(node, place, codec.expected)
            return nil
        }
        return .string(value.rawValue)
    }

    /// `{ env: NAME }` or `{ file: PATH }`. A value that stands here itself is refused and never repeated in a message.
    private mutating func secret(
        _ entry: ConfigurationNode.Entry, _ parent: String, _ object: inout DesiredObject
    ) {
        let place = "\(parent).\(entry.key)"
        let form = "write { env: NAME } or { file: PATH }"
        guard case .map = entry.value.content else {
            return wrong(
                entry.value.origin,
                "\(place): a secret must not stand in this file, which is copied, mailed and kept in version control; "
                    + form)
        }
        let sources = entries(of: entry.value, at: place, known: ["env", "file"])
        guard sources.count == 1, let source = sources.first, let text = source.value.text, !text.isEmpty else {
            return wrong(entry.value.origin, "\(place): expected one name or one path; \(form)")
        }
        let field = field(entry, place)
        object.fields["/credentials/\(entry.key)"] = field
        guard source.key == "file" else {
            let isName = text.utf8.allSatisfy {
                (0x41...0x5a).contains($0) || (0x61...0x7a).contains($0) || (0x30...0x39).contains($0) || $0 == 0x5f
            }
            guard isName, text.utf8.count <= 256 else {
                // Perhaps the secret itself, put where its variable's name belongs: not repeated.
                return wrong(entry.value.origin, "\(place): env takes the name of a variable, such as CRM_TOKEN")
            }
            object.secrets[entry.key] = SecretReference(kind: .environment(text), field: field)
            return
        }
        let folder = file.lastIndex(of: "/").map { String(file[..<$0]) } ?? "."
        object.secrets[entry.key] = SecretReference(
            kind: .file(text.hasPrefix("/") ? text : "\(folder)/\(text)"), field: field)
    }

    // MARK: Shapes

    private func object(
        _ kind: ManagedObject.Kind, workspace: String, name: String, _ entry: ConfigurationNode.Entry, place: String
    ) -> DesiredObject {
        DesiredObject(
            kind: kind, workspace: workspace, name: name, source: file, line: entry.origin.line, place: place,
            document: [:])
    }

    private func field(_ entry: ConfigurationNode.Entry, _ place: String) -> DesiredObject.Field {
        DesiredObject.Field(line: entry.origin.line, place: place)
    }

    /// A map's entries; unknown keys and other shapes become issues.
    private mutating func entries(
        of node: ConfigurationNode, at place: String, known: [String]? = nil
    ) -> [ConfigurationNode.Entry] {
        switch node.content {
        case .null: return []
        case .scalar, .list:
            mismatch(node, place, "a map")
            return []
        case .map(let entries):
            guard let known else { return entries }
            return entries.filter { entry in
                if known.contains(entry.key) { return true }
                var reader = SchemaReader()
                reader.unknown(entry, in: place == "the file" ? "" : place, known: Set(known))
                issues += reader.issues
                return false
            }
        }
    }

    private mutating func mismatch(_ node: ConfigurationNode, _ place: String, _ expected: String) {
        issues.append(
            node.origin.issue(.wrongType, "\(place): expected \(expected), found \(node.summary)"))
    }

    private mutating func wrong(_ origin: Origin, _ message: String) {
        issues.append(origin.issue(.wrongType, message))
    }
}

extension ConfigurationNode {
    /// The value as JSON: plain `true`, `false` and numbers keep their kind, what is quoted is text.
    var json: JSONValue {
        switch content {
        case .null: return .null
        case .list(let items): return .array(items.map(\.json))
        case .map(let entries):
            return .object(Dictionary(entries.map { ($0.key, $0.value.json) }, uniquingKeysWith: { first, _ in first }))
        case .scalar(let text, isQuoted: true): return .string(text)
        case .scalar(let text, isQuoted: false):
            if text == "true" || text == "false" { return .bool(text == "true") }
            // JSON's own numbers only: 0123 and 1_000 stay text.
            let isNumber = text.utf8.allSatisfy {
                (0x30...0x39).contains($0) || [0x2b, 0x2d, 0x2e, 0x45, 0x65].contains($0)
            }
            return isNumber ? (try? JSONValue(parsing: text)) ?? .string(text) : .string(text)
        }
    }
}
