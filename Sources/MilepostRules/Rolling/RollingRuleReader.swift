// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// Reads rules from a document: a `rules` list, a bare list or a single rule, as files and REST bodies hold them.
public enum RollingRuleReader {
    /// What a document holds: rules, or everything that is wrong with it.
    public struct Result: Sendable {
        public var rules: [RollingRule] = []
        /// Empty when the document can be taken. Pointers are JSON pointers into the document as it was given.
        public var errors: [SettingError] = []
    }

    public static func read(_ document: JSONValue) -> Result {
        var result = Result()
        var fallback: IntegrationName?
        var items: [(pointer: String, value: JSONValue)] = []
        switch document {
        case .array(let list): items = list.enumerated().map { ("/\($0.offset)", $0.element) }
        case .object(let members) where members["rules"] != nil:
            var reader = FieldReader(members, at: "", known: ["rules", "integration"])
            fallback = integration(&reader)
            if let list = members["rules"]?.array {
                items = list.enumerated().map { ("/rules/\($0.offset)", $0.element) }
            } else {
                reader.fail("rules", "wrong_type", "rules must be a list")
            }
            result.errors += reader.errors
        case .object: items = [("", document)]
        default:
            result.errors.append(
                SettingError(
                    pointer: "", code: "wrong_type", message: "a rule is an object, and rules are a list of them"))
        }
        guard items.count <= RollingRule.maximumCount else {
            result.errors.append(
                SettingError(
                    pointer: "", code: "wrong_count",
                    message: "\(items.count) rules are more than the \(RollingRule.maximumCount) a workspace may have"))
            return result
        }
        if items.isEmpty, result.errors.isEmpty {
            result.errors.append(SettingError(pointer: "", code: "missing", message: "the document holds no rule"))
        }
        var pointers: [String: String] = [:]
        for (pointer, value) in items {
            let (rule, errors) = rule(value, at: pointer, integration: fallback)
            result.errors += errors
            guard let rule else { continue }
            if let first = pointers.updateValue(pointer, forKey: rule.id) {
                result.errors.append(
                    SettingError(
                        pointer: pointer + "/id", code: "repeated",
                        message:
                            "the id \(rule.id) is also that of the rule at \(first.isEmpty ? "/" : first); give one "
                            + "of them another id"))
            }
            result.rules.append(rule)
        }
        return result
    }

    private static let keys: Set<String> = [
        "id", "name", "trigger", "action", "guard", "mode", "rearm", "deals", "count", "force", "integration",
    ]

    private static func rule(
        _ value: JSONValue, at pointer: String, integration fallback: IntegrationName?
    ) -> (RollingRule?, [SettingError]) {
        guard let members = value.object else {
            return (nil, [SettingError(pointer: pointer, code: "wrong_type", message: "a rule must be an object")])
        }
        var reader = FieldReader(members, at: pointer, known: keys)
        let given = integration(&reader) ?? fallback
        let trigger = trigger(&reader)
        let action = action(&reader, integration: given)
        let guards = guards(&reader)
        let mode: RollingRule.Mode = reader.choice("mode") ?? .act
        let rearm: RollingRule.Rearm = reader.choice("rearm") ?? .onRecross
        let deals: RollingRule.DealPolicy = reader.choice("deals") ?? .all
        let audience: Audience = reader.choice("count") ?? .people
        let isForced = reader.flag("force") ?? false
        let name = reader.word("name", limit: 200) ?? trigger.map(described)
        let id = id(&reader, name: name)
        guard reader.errors.isEmpty, let trigger, let action, let name, let id else {
            return (nil, reader.errors)
        }
        return (
            RollingRule(
                id: id, name: name, trigger: trigger, integration: action.integration, action: action.action,
                guards: guards, mode: mode, rearm: rearm, deals: deals, audience: audience, isForced: isForced), []
        )
    }

    /// A rule without a name is called by what it waits for.
    private static func described(_ trigger: RollingRule.Trigger) -> String {
        "\(trigger.threshold) clicks on \(trigger.scope.kind) \(trigger.scope.id) in \(WindowLength.text(trigger.window))"
    }

    // MARK: Parts

    private static func integration(_ reader: inout FieldReader) -> IntegrationName? {
        guard let text = reader.text("integration", limit: 129) else { return nil }
        if let name = IntegrationName(text) { return name }
        reader.fail("integration", "wrong_type", "'\(text)' is not plugin or plugin@name in lower case")
        return nil
    }

    private static func trigger(_ reader: inout FieldReader) -> RollingRule.Trigger? {
        guard
            var fields = reader.object(
                "trigger", known: ["link_tag", "link", "link_id", "contact_window", "click_threshold"])
        else { return nil }
        let before = fields.errors.count
        let tag = fields.word("link_tag", limit: 256)
        let link = fields.word("link", limit: 256)
        let linkID = fields.word("link_id", limit: 256)
        let scopes =
            [tag.map { RollingRule.Scope.tag($0) }, (link ?? linkID).map { RollingRule.Scope.link(LinkID($0)) }]
            .compactMap(\.self)
        if fields.errors.count == before, scopes.count != 1 || (link != nil && linkID != nil) {
            fields.fail(
                nil, scopes.isEmpty ? "missing" : "contradiction",
                "a trigger has either link_tag or link, \(scopes.isEmpty ? "this one has neither" : "not both")")
        }
        var window: Int64?
        if let text = fields.required("contact_window", limit: 64) {
            window = WindowLength.milliseconds(text)
            if window == nil {
                fields.fail(
                    "contact_window", "wrong_value",
                    "'\(text)' is no window: write a length from 1m to 400d, like 30d rolling or 72h")
            }
        }
        var threshold: Int?
        if let value = fields.value("click_threshold") {
            if let number = value.integer, (1...Int64(RollingRule.maximumThreshold)).contains(number) {
                threshold = Int(number)
            } else {
                fields.fail(
                    "click_threshold", "wrong_value",
                    "\(value) is not a whole number from 1 to \(RollingRule.maximumThreshold)")
            }
        } else {
            fields.fail("click_threshold", "missing", "click_threshold is missing: how many clicks make the rule fire")
        }
        reader.errors += fields.errors
        guard fields.errors.isEmpty, let scope = scopes.first, let window, let threshold else { return nil }
        return RollingRule.Trigger(scope: scope, window: window, threshold: threshold)
    }

    private static func action(
        _ reader: inout FieldReader, integration fallback: IntegrationName?
    ) -> (integration: IntegrationName, action: RollingRule.Action)? {
        guard var fields = reader.object("action", known: ["type", "pipeline", "from_stage", "to_stage"]) else {
            return nil
        }
        var integration = fallback
        var type = fields.required("type", limit: 194)
        if let text = type, let dot = text.lastIndex(of: ".") {
            integration = IntegrationName(String(text[..<dot]))
            type = String(text[text.index(after: dot)...])
            if integration == nil || type?.isEmpty != false {
                fields.fail(
                    "type", "wrong_value", "'\(text)' is not an action of an integration, like plugin.deal_stage")
            } else if let fallback, fallback != integration {
                fields.fail(
                    "type", "contradiction", "'\(text)' names another integration than integration: \(fallback)")
            }
        } else if type != nil, integration == nil {
            fields.fail(
                "type", "missing",
                "'\(type ?? "")' names no integration: write it in front, like plugin.\(type ?? ""), or set integration"
            )
        }
        // What a vendor with named pipelines usually calls the first.
        let pipeline = fields.word("pipeline", limit: 256) ?? "default"
        let from = fields.required("from_stage", limit: 256)
        let to = fields.required("to_stage", limit: 256)
        if let from, from == to {
            fields.fail("to_stage", "wrong_value", "to_stage is from_stage, so the rule would move nothing")
        }
        reader.errors += fields.errors
        guard fields.errors.isEmpty, let integration, let type, let from, let to else { return nil }
        return (integration, RollingRule.Action(type: type, pipeline: pipeline, fromStage: from, toStage: to))
    }

    private static func guards(_ reader: inout FieldReader) -> RollingRule.Guards {
        guard reader.has("guard"),
            var fields = reader.object("guard", known: ["require_associated_contact", "deal_amount_min"])
        else { return RollingRule.Guards() }
        var guards = RollingRule.Guards(requiresContact: fields.flag("require_associated_contact") ?? true)
        if let value = fields.value("deal_amount_min") {
            let text =
                switch value {
                case .integer(let number): String(number)
                // A binary fraction is shown as the shortest text that means it, which up to 15 digits is what was written.
                case .number(let number) where number.magnitude < 1e12: "\(number)"
                case .string(let text): text
                default: ""
                }
            if let amount = DecimalAmount(text), amount >= DecimalAmount.zero {
                guards.minimumAmount = amount
            } else {
                fields.fail("deal_amount_min", "wrong_value", "\(value) is no amount, like 5000 or \"4999.50\"")
            }
        }
        reader.errors += fields.errors
        return guards
    }

    // MARK: Identity

    /// Words that are parts of the API's paths.
    private static let reserved: Set<String> = ["simulate", "explain", "firings", "check"]

    private static func id(_ reader: inout FieldReader, name: String?) -> String? {
        if let text = reader.word("id", limit: 64) {
            guard isValid(id: text) else {
                reader.fail(
                    "id", "wrong_value",
                    "'\(text)' is no id: lower-case letters, digits, '-', '_' and '.', beginning with a letter or digit"
                )
                return nil
            }
            guard !reserved.contains(text) else {
                reader.fail("id", "wrong_value", "'\(text)' is part of the API's paths; choose another id")
                return nil
            }
            return text
        }
        guard let name, !reader.has("id") else { return nil }
        let derived = derivedID(name)
        guard !derived.isEmpty, !reserved.contains(derived) else {
            reader.fail("id", "missing", "no id can be made from the name '\(name)'; write one")
            return nil
        }
        return derived
    }

    public static func isValid(id: String) -> Bool {
        guard (1...64).contains(id.utf8.count), let first = id.utf8.first, isWord(first) else { return false }
        return id.utf8.allSatisfy { isWord($0) || $0 == 0x2d || $0 == 0x5f || $0 == 0x2e }
    }

    /// `Moves the deal on!` becomes `moves-the-deal-on`.
    static func derivedID(_ name: String) -> String {
        var id: [UInt8] = []
        for byte in name.lowercased().utf8 {
            if isWord(byte) { id.append(byte) } else if id.last != 0x2d, !id.isEmpty { id.append(0x2d) }
            if id.count == 64 { break }
        }
        while id.last == 0x2d { id.removeLast() }
        return String(decoding: id, as: UTF8.self)
    }

    private static func isWord(_ byte: UInt8) -> Bool {
        (0x61...0x7a).contains(byte) || (0x30...0x39).contains(byte)
    }
}

extension DecimalAmount {
    static let zero = DecimalAmount("0")!
}
