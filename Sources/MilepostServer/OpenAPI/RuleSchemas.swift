// SPDX-License-Identifier: Apache-2.0

import MilepostModel

/// The shapes of what the routes of rolling rules take and answer.
enum RuleSchemas {
    private static func object(_ properties: [String: JSONValue], required: [String] = []) -> JSONValue {
        [
            "type": "object", "properties": .object(properties), "required": .array(required.map(JSONValue.string)),
        ]
    }
    private static func list(_ items: JSONValue) -> JSONValue { ["type": "array", "items": items] }
    private static func reference(_ name: String) -> JSONValue { ["$ref": .string("#/components/schemas/\(name)")] }
    private static let text: JSONValue = ["type": "string"]
    private static let optionalText: JSONValue = ["type": ["string", "null"]]
    private static let number: JSONValue = ["type": "integer"]
    private static let optionalNumber: JSONValue = ["type": ["integer", "null"]]
    private static let flag: JSONValue = ["type": "boolean"]
    private static let time: JSONValue = ["type": "string", "format": "date-time"]
    private static let optionalTime: JSONValue = ["type": ["string", "null"], "format": "date-time"]
    private static let word: JSONValue = ["type": ["string", "integer"]]
    private static func choice(_ names: JSONValue...) -> JSONValue { ["type": "string", "enum": .array(names)] }

    private static let ruleMembers: [String: JSONValue] = [
        "id": text, "name": text, "integration": text,
        "trigger": object(
            [
                "link_tag": word, "link": word, "link_id": word, "contact_window": text,
                "click_threshold": ["type": "integer", "minimum": 1, "maximum": 10_000],
            ], required: ["contact_window", "click_threshold"]),
        "action": object(
            ["type": text, "pipeline": word, "from_stage": word, "to_stage": word],
            required: ["type", "from_stage", "to_stage"]),
        "guard": object([
            "require_associated_contact": flag, "deal_amount_min": ["type": ["string", "number", "null"]],
        ]),
        "mode": choice("act", "observe"), "rearm": choice("once", "on_recross"),
        "deals": choice("all", "primary", "newest", "largest"), "count": choice("people", "all"), "force": flag,
    ]

    private static let counts: [String: JSONValue] = [
        "counted": number, "bots": number, "anonymous": number, "excluded": number, "late": number,
    ]

    static let all: [String: JSONValue] = [
        "Rule": object(ruleMembers, required: ["trigger", "action"]),
        "StoredRule": object(
            ruleMembers.merging([
                "managed": flag, "managed_by": optionalText, "state": choice("active", "filling"),
                "warnings": list(["type": "object"]),
                "created_at": time, "changed_at": time, "checked_at": time, "clicks": object(counts),
            ]) { $1 }, required: ["id", "name", "trigger", "action", "managed", "state", "warnings", "clicks"]),
        "Rules": object(["rules": list(reference("StoredRule"))], required: ["rules"]),
        "Firing": object(
            [
                "id": number, "rule": text, "contact": text, "state": choice("waiting", "done", "observed", "baseline"),
                "at": time, "click": text, "click_at": time, "link": text, "count": number, "threshold": number,
                "arming": number, "targets": list(["type": "object"]), "attempts": number,
                "next_attempt_at": optionalTime, "reason_code": optionalText, "reason": optionalText,
            ], required: ["id", "rule", "contact", "state", "at", "click", "targets"]),
        "RuleExplanation": object(
            [
                "rule": text, "contact": optionalText, "outcome": text, "reason_code": text, "reason": text,
                "count": optionalNumber, "threshold": number, "missing": optionalNumber, "bot_clicks": number,
                "firing": ["oneOf": [reference("Firing"), ["type": "null"]]],
            ], required: ["rule", "outcome", "reason_code", "reason", "threshold"]),
        "Simulation": object(
            [
                "clock": choice("click", "received"), "from": optionalText, "to": optionalText, "clicks": number,
                "rules": list(object(counts.merging(["id": text, "name": text, "firings": number]) { $1 })),
                "firings": list(
                    object([
                        "rule": text, "contact": text, "click": text, "link": text, "at": time, "count": number,
                        "arming": number,
                    ])), "firings_omitted": number,
            ], required: ["clock", "clicks", "rules", "firings", "firings_omitted"]),
    ]

    static let request: [String: JSONValue] = [
        "rules.create": [
            "oneOf": [
                reference("Rule"), list(reference("Rule")),
                object(["rules": list(reference("Rule")), "integration": text], required: ["rules"]),
            ]
        ],
        "rules.apply": object(["rules": list(reference("Rule")), "integration": text], required: ["rules"]),
        "rules.put": reference("Rule"),
        "rules.simulate": object([
            "rules": list(reference("Rule")), "integration": text, "from": optionalTime, "to": optionalTime,
            "clock": choice("click", "received"),
        ]),
    ]

    static let answer: [String: JSONValue] = [
        "rules.list": reference("Rules"),
        "rules.create": ["oneOf": [reference("StoredRule"), reference("Rules")]],
        "rules.apply": reference("Rules"),
        "rules.get": reference("StoredRule"),
        "rules.put": reference("StoredRule"),
        "rules.remove": object(["id": text, "removed": flag], required: ["id", "removed"]),
        "rules.simulate": reference("Simulation"),
        "rules.explain": object(
            ["contact": optionalText, "event": optionalText, "explanations": list(reference("RuleExplanation"))],
            required: ["explanations"]),
        "rules.explain.one": object(
            [
                "rule": reference("StoredRule"), "explanations": list(reference("RuleExplanation")),
                "firings": list(reference("Firing")), "notes": list(["type": "object"]),
                "decisions": list(
                    object(
                        [
                            "firing": number, "contact": text, "target": text, "delivery": text,
                            "decisions": list(reference("HookDecision")),
                        ], required: ["firing", "delivery", "decisions"])),
            ], required: ["rule", "explanations", "firings", "decisions"]),
        "rules.firings": object(
            ["firings": list(reference("Firing")), "next": optionalText], required: ["firings", "next"]),
    ]
}
