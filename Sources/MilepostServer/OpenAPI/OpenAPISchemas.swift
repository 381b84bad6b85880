// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostStore

/// The shapes of bodies, by component name and by operation.
enum OpenAPISchemas {
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
    private static let time: JSONValue = ["type": "string", "format": "date-time"]
    private static let optionalTime: JSONValue = ["type": ["string", "null"], "format": "date-time"]
    private static let flag: JSONValue = ["type": "boolean"]
    private static let flagName: JSONValue = ["type": "string", "enum": ["test", "internal"]]
    private static let plansByName: JSONValue = ["type": "object", "additionalProperties": reference("Plan")]
    private static let credentials = object(
        ["credentials": ["type": "object", "additionalProperties": text]], required: ["credentials"])

    static let all: [String: JSONValue] = [
        "Problem": object(
            [
                "type": text, "title": text, "status": number, "code": text, "detail": text,
                "errors": list(object(["pointer": text, "code": text, "message": text])),
            ], required: ["type", "title", "status", "code", "detail"]),
        "Event": object(
            [
                "id": text, "link": text, "ts": ["type": ["string", "number"]], "url": optionalText,
                "contact_id": optionalText,
                "gclid": optionalText, "fbclid": optionalText, "referrer": optionalText, "country": optionalText,
                "device": optionalText, "user_agent": optionalText, "ip": optionalText, "request_url": optionalText,
                "method": optionalText, "purpose": optionalText, "bot": ["type": ["boolean", "null"]],
                "utm": object([
                    "source": optionalText, "medium": optionalText, "campaign": optionalText, "term": optionalText,
                    "content": optionalText,
                ]),
            ], required: ["link", "ts"]),
        "Form": object(
            [
                "id": text, "ts": time, "contact_id": optionalText, "email": optionalText, "gclid": optionalText,
                "fbclid": optionalText, "fields": ["type": "object"],
            ], required: ["ts"]),
        "EventsAnswer": object(
            [
                "accepted": number, "duplicate": number, "rejected": number,
                "rejections": list(
                    object(["line": number, "code": text, "message": text], required: ["line", "code", "message"])),
                "rejections_omitted": number,
            ], required: ["accepted", "duplicate", "rejected", "rejections"]),
        "Totals": object(["all": number, "people": number], required: ["all", "people"]),
        "LinkFacts": object([
            "slug": optionalText, "short_url": optionalText, "destination": optionalText, "title": optionalText,
            "folder": optionalText, "tags": list(text),
            "flags": list(flagName), "owner": optionalText,
        ]),
        "LinkFactsOfOne": object(
            [
                "id": ["type": "string", "minLength": 1, "maxLength": 256], "slug": optionalText,
                "short_url": optionalText, "destination": optionalText, "title": optionalText, "folder": optionalText,
                "tags": list(text), "flags": list(flagName), "owner": optionalText,
            ], required: ["id"]),
        "Plan": [
            "type": "object", "additionalProperties": false,
            "properties": [
                "fires": flag, "integrations": ["type": ["array", "null"], "items": text],
                "trial_days": ["type": ["integer", "null"], "minimum": 0, "maximum": 36_500],
            ],
        ],
        "Managed": object(
            [
                "kind": ["type": "string", "enum": .array(ManagedObject.Kind.allCases.map { .string($0.rawValue) })],
                "workspace": optionalText, "name": text, "source": text, "document": ["type": "object"],
                "applied_at": time,
            ], required: ["kind", "workspace", "name", "source", "document", "applied_at"]),
        "Link": object(
            [
                "id": text, "slug": optionalText, "short_url": optionalText, "destination": optionalText,
                "title": optionalText,
                "folder": optionalText, "tags": list(text), "flags": list(text), "owner": optionalText,
                "totals": reference("Totals"), "highest_threshold": ["type": "object"],
            ], required: ["id", "totals"]),
        "Connect": object([
            "credentials": ["type": "object", "additionalProperties": text],
            "thresholds": ["type": ["array", "null"], "items": number],
            "aggregation": ["type": ["string", "null"], "enum": ["link", "folder", .null]],
            "count": ["type": ["string", "null"], "enum": ["all", "people", .null]], "fire_current": flag,
            "bots": ["type": ["string", "null"], "enum": ["exclude", "include", .null]],
            "unknown_contact": ["type": ["string", "null"], "enum": ["hold", "dead", .null]],
            "excluded_links": ["type": ["string", "null"], "enum": ["skip", "send", .null]],
            "anonymous_clicks": ["type": ["string", "null"], "enum": ["hold", "send", .null]],
            "only_tags": ["type": ["array", "null"], "items": text],
            "only_folders": ["type": ["array", "null"], "items": text],
            "disable_after": ["type": ["string", "null"], "pattern": "^(0|[0-9]{1,10}[smhd])$"],
            "disable_after_failures": ["type": ["integer", "null"], "minimum": 1, "maximum": 1_000_000],
            "intercept": ["type": ["boolean", "null"]],
            "intercept_on_failure": ["type": ["string", "null"], "enum": ["proceed", "hold", .null]],
            "intercept_budget_ms": ["type": ["integer", "null"], "minimum": 100, "maximum": 30_000],
            "intercept_for": ["type": ["array", "null"], "items": text],
            "intercept_order": ["type": ["integer", "null"], "minimum": -1000, "maximum": 1000],
        ]),
        "Connection": object(
            [
                "integration": text, "id": text, "plugin": text, "name": text, "workspace": text, "state": text,
                "state_since": time, "reason": ["type": ["object", "null"]],
                "failing": ["oneOf": [reference("Failing"), ["type": "null"]]],
                "account": ["type": ["object", "null"]],
                "settings": ["type": "object"], "thresholds": list(number), "warnings": list(["type": "object"]),
                "maturity": optionalText, "connected_at": time, "managed": flag,
                "managed_by": optionalText, "queue": ["type": "object"],
                "credential": optionalText, "oauth": ["oneOf": [reference("Tokens"), ["type": "null"]]],
            ], required: ["integration", "id", "state", "settings"]),
        "Failing": object(
            ["since": time, "failures": number, "last": ["type": "object"], "disables_at": optionalTime],
            required: ["since", "failures", "last", "disables_at"]),
        "Tokens": object(
            [
                "state": [
                    "type": "string", "enum": .array(TokenChain.State.allCases.map { .string($0.rawValue) }),
                ],
                "reason": ["type": ["object", "null"]], "scopes": list(text), "token_version": number,
                "expires_at": time, "last_refresh_at": optionalTime, "last_refresh_age": optionalText,
                "refreshes": number, "failures": number, "resent": number, "next_attempt_at": optionalTime,
                "stale": flag, "dormant": flag,
            ], required: ["state", "scopes", "token_version", "expires_at"]),
        "App": object(
            [
                "plugin": text, "client_id": text, "app_id": optionalText, "secrets": list(text), "redirect_uri": text,
                "updated_at": time,
            ], required: ["plugin", "client_id", "secrets", "redirect_uri"]),
        "Delivery": object(
            [
                "id": text,
                "state": [
                    "type": "string",
                    "enum": .array(Delivery.State.allCases.map { .string($0.rawValue) }),
                ],
                "integration": text, "action": text, "link": optionalText, "folder": optionalText, "rule": optionalText,
                "event": optionalText, "threshold": number,
                "attempts": number, "reason": optionalText, "reason_code": optionalText, "remote_id": optionalText,
                "remote_url": optionalText, "created_at": time, "updated_at": time, "next_attempt_at": optionalTime,
                "journal": list(["type": "object"]), "history": list(["type": "object"]), "payload": ["type": "object"],
                "decisions": list(reference("HookDecision")),
            ], required: ["id", "state", "integration", "action", "threshold", "attempts"]),
        "HookDecision": object(
            [
                "hook": text, "point": text, "ask": number,
                "verdict": [
                    "type": "string",
                    "enum": .array(InterceptDecision.Verdict.allCases.map { .string($0.rawValue) }),
                ],
                "effect": [
                    "type": "string",
                    "enum": .array(InterceptDecision.Effect.allCases.map { .string($0.rawValue) }),
                ],
                "asked_at": time, "duration_ms": number, "code": optionalText, "reason": optionalText,
                "until": optionalTime, "changes": ["type": ["object", "null"]], "text": text,
            ], required: ["hook", "point", "ask", "verdict", "effect", "asked_at", "duration_ms", "text"]),
        "HeldClick": object(
            [
                "event": optionalText, "link": optionalText, "ts": optionalTime, "integration": optionalText,
                "state": [
                    "type": "string",
                    "enum": .array(HeldClick.State.allCases.map { .string($0.rawValue) }),
                ],
                "reason": text, "held_at": time, "until": time, "changed_at": time, "age_seconds": number,
            ], required: ["event", "integration", "state", "reason", "held_at", "until", "age_seconds"]),
        "EventExplanation": object(
            [
                "integration": text, "action": optionalText, "outcome": text, "reason_code": text, "reason": text,
                "delivery": optionalText,
            ], required: ["integration", "action", "outcome", "reason_code", "reason"]),
        "Tick": object(
            [
                "started_at": time, "finished_at": time, "duration_ms": number, "workspaces": number,
                "links_examined": number,
                "crossings": number, "delivered": number, "retrying": number, "uncertain": number, "held": number,
                "dead": number, "errors": list(["type": "object"]),
            ], required: ["crossings", "delivered", "errors"]),
    ]

    private static let objectKeys = object(["objects": list(text)])
    private static let provisioned = object(
        [
            "objects": list(
                object(
                    [
                        "key": text, "state": ["type": "string", "enum": ["created", "existing", "absent"]],
                        "remote_id": optionalText,
                    ], required: ["key", "state"]))
        ], required: ["objects"])

    static let request: [String: JSONValue] = [
        "integrations.provision": objectKeys, "integrations.deprovision": objectKeys,
        "apps.provision": objectKeys, "apps.deprovision": objectKeys,
        "events.post": ["oneOf": [reference("Event"), list(reference("Event"))]],
        "links.put": reference("LinkFacts"),
        "links.describe": object(
            [
                "links": ["type": "array", "maxItems": 1000, "items": reference("LinkFactsOfOne")],
                "only_missing": flag,
            ],
            required: ["links"]),
        "plans.put": object(["plans": plansByName], required: ["plans"]),
        "integrations.compare": credentials,
        "members.put": object(["crm_opt_out": flag], required: ["crm_opt_out"]),
        "workspaces.put": object(["plan": optionalText, "trial_started_at": optionalTime]),
        "integrations.connect": reference("Connect"),
        "integrations.change": reference("Connect"),
        "integrations.options.trial": object(["credentials": ["type": "object"], "values": ["type": "object"]]),
        "deliveries.replay.bulk": object([
            "state": text, "integration": text, "link": text, "since": time, "code": text, "limit": number,
        ]),
        "forms.post": ["oneOf": [reference("Form"), list(reference("Form"))]],
        "apps.put": object([
            "client_id": text, "client_secret": optionalText, "developer_key": optionalText,
            "app_id": ["type": ["string", "integer", "null"]],
        ]),
        "integrations.authorize": object([
            "credential": text,
            "features": list(["type": "string", "enum": ["email_match", "provision", "rules", "timeline"]]),
            "thresholds": list(number), "aggregation": ["type": "string", "enum": ["link", "folder"]],
            "count": ["type": "string", "enum": ["all", "people"]], "fire_current": flag,
        ]),
        "integrations.authorize.complete": object([
            "id": text, "code": text, "state": text, "redirect_url": text,
        ]),
        "tokens.create": object(
            [
                "name": text, "workspace": optionalText, "expires_at": optionalTime,
                "scopes": list(["type": "string", "enum": .array(AccessScope.allCases.map { .string($0.rawValue) })]),
            ], required: ["name", "scopes"]),
    ]

    static let answer: [String: JSONValue] = [
        "admin.configuration.diff": object(
            [
                "changes": list(
                    object(
                        [
                            "key": text, "running": optionalText, "file": optionalText,
                            "needs": ["type": "string", "enum": ["reload", "restart"]],
                        ], required: ["key", "running", "file", "needs"])), "files": list(text), "errors": list(text),
            ], required: ["changes", "files", "errors"]),
        "links.describe": object(["changed": number, "unchanged": number], required: ["changed", "unchanged"]),
        "plans.get": object(
            ["plans": plansByName, "source": ["type": "string", "enum": ["api", "configuration"]]],
            required: ["plans", "source"]),
        "plans.put": object(
            ["plans": plansByName, "source": ["type": "string", "enum": ["api", "configuration"]]],
            required: ["plans", "source"]),
        "managed.list": object(["managed": list(reference("Managed"))], required: ["managed"]),
        "integrations.compare": object(["different": list(text)], required: ["different"]),
        "integrations.provision": provisioned, "integrations.deprovision": provisioned,
        "apps.provision": provisioned, "apps.deprovision": provisioned,
        "events.post": reference("EventsAnswer"),
        "links.get": reference("Link"),
        "links.put": reference("Link"),
        "links.list": object(["links": list(reference("Link")), "next": optionalText], required: ["links", "next"]),
        "integrations.list": object(["integrations": list(reference("Connection"))], required: ["integrations"]),
        "integrations.get": reference("Connection"),
        "integrations.rollout": object(
            [
                "steps": list(
                    object(
                        [
                            "id": text, "title": text, "text": optionalText,
                            "state": ["type": "string", "enum": ["done", "waiting", "open", "by_hand"]],
                            "due_at": optionalTime,
                        ], required: ["id", "title", "state"]))
            ], required: ["steps"]),
        "integrations.check": object(
            ["problems": list(object(["code": text, "message": text], required: ["code", "message"]))],
            required: ["problems"]),
        "integrations.connect": reference("Connection"),
        "integrations.enable": reference("Connection"),
        "integrations.change": reference("Connection"),
        "integrations.disconnect": reference("Connection"),
        "deliveries.list": object(
            ["deliveries": list(reference("Delivery")), "next": optionalText], required: ["deliveries", "next"]),
        "deliveries.get": reference("Delivery"),
        "deliveries.replay": reference("Delivery"),
        "deliveries.release": reference("Delivery"),
        "admin.tick": reference("Tick"),
        "apps.list": object(["apps": list(reference("App"))], required: ["apps"]),
        "apps.get": reference("App"),
        "apps.put": reference("App"),
        "apps.delete": object(["plugin": text, "removed": flag], required: ["plugin", "removed"]),
        "oauth.adopt": object(["adopted": number], required: ["adopted"]),
        "integrations.authorize": object(
            [
                "id": text, "url": text, "redirect_uri": text, "expires_at": time,
                "scopes": list(
                    object(["scope": text, "feature": optionalText, "reason": text], required: ["scope", "reason"])),
            ], required: ["id", "url", "redirect_uri", "expires_at", "scopes"]),
        "integrations.authorize.status": object(
            [
                "id": text,
                "state": ["type": "string", "enum": ["pending", "used", "done", "failed", "expired"]],
                "reason": ["type": ["object", "null"]], "expires_at": time,
            ], required: ["id", "state"]),
        "integrations.authorize.complete": reference("Connection"),
        "held.list": object(
            [
                "held": list(reference("HeldClick")),
                "counts": object(
                    ["held": number, "released": number, "expired": number],
                    required: ["held", "released", "expired"]),
                "next": optionalText,
            ], required: ["held", "counts", "next"]),
        "events.explain": object(
            [
                "event": text, "link": text, "ts": time, "received_at": time, "bot": flag,
                "explanations": list(reference("EventExplanation")),
            ], required: ["event", "link", "explanations"]),
        "contacts.export": object(
            [
                "contact": text, "clicks": list(["type": "object"]), "forms": list(["type": "object"]),
                "held_clicks": list(["type": "object"]), "events": list(["type": "object"]),
                "deliveries": list(reference("Delivery")),
                "touches": list(["type": "object"]),
            ], required: ["contact", "clicks", "forms", "held_clicks", "events", "deliveries", "touches"]),
    ]
}
