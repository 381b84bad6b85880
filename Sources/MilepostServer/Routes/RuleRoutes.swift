// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import Hummingbird
import MilepostEngine
import MilepostModel
import MilepostRules
import MilepostStore

extension MilepostServer {
    private static let base = "/v1/workspaces/{ws}/rules"

    static var ruleRoutes: [Route] {
        [
            .get(base, "rules.list", .scope(.viewer), "Lists the workspace's rolling rules, by id.") { call in
                let service = call.engine.rules.service
                let files = try await service.filesOfRules(call.workspace())
                let rules = try await service.list(call.workspace())
                return Answer(["rules": .array(rules.map { .object($0.json(managedBy: files[$0.id])) })])
            },
            .change(
                .post, base, "rules.create", .scope(.admin), query: ["dry_run"],
                "Creates one rule or several, all or none, checked against the vendor; dry_run checks only.",
                createRules),
            .change(
                .put, base, "rules.apply", .scope(.admin),
                "Makes the workspace's managed rules those of a file: others that are managed go.", applyRules),
            .change(
                .post, "\(base)/simulate", "rules.simulate", .scope(.operator), audited: false,
                "Runs rules over stored history: what would have fired. Asks no vendor and changes nothing.", simulate),
            .get(
                "\(base)/explain", "rules.explain", .scope(.viewer), query: ["contact", "event"],
                "Why each rule did or did not fire for a contact or a click.", explainRules),
            .get("\(base)/{id}", "rules.get", .scope(.viewer), "A rule with its warnings and counts.") { call in
                let rule = try await rule(call)
                let file = try await call.engine.store.managedObject(
                    .rule, workspace: rule.workspace, name: rule.id)
                return Answer(.object(rule.json(managedBy: file)))
            },
            .change(
                .put, "\(base)/{id}", "rules.put", .scope(.admin), query: ["managed_by"],
                "Replaces or creates a rule. A changed trigger counts anew from history and fires for nothing behind.",
                putRule
            ),
            .change(
                .delete, "\(base)/{id}", "rules.remove", .scope(.admin), query: ["managed_by"],
                "Removes a rule; what it did stays listed."
            ) { call in
                let id = try call.parameter("id")
                try await call.engine.rules.service.remove(
                    id, workspace: call.workspace(), by: call.managedBy())
                return Answer(["id": .string(id), "removed": true])
            },
            .get(
                "\(base)/{id}/explain", "rules.explain.one", .scope(.viewer),
                "The contacts who have come furthest under a rule, and what fired last.", explainRule),
            .get(
                "\(base)/{id}/firings", "rules.firings", .scope(.viewer), query: ["contact", "limit", "cursor"],
                "What a rule did, or would have done while it observes, newest first."
            ) { call in
                let page = try await call.engine.store.firings(
                    workspace: call.workspace(),
                    matching: FiringFilter(rule: call.parameter("id"), contact: call.query("contact")),
                    cursor: call.cursor(), limit: call.limit())
                return Answer(["firings": .array(page.items.map(\.json)), "next": JSONValue(page.next)])
            },
        ]
    }

    private static func rule(_ call: Call) async throws -> StoredRule {
        try await call.engine.rules.service.get(call.parameter("id"), workspace: call.workspace())
    }

    private static func createRules(_ call: Call) async throws -> Answer {
        let document = try await call.json()
        let workspace = try call.workspace()
        if call.query("dry_run") == "true" {
            let checked = try await call.engine.rules.service.check(document, workspace: workspace)
            return Answer([
                "rules": .array(
                    checked.map { item in
                        var json = item.rule.json.object ?? [:]
                        json["warnings"] = .array(item.warnings.map(\.json))
                        return .object(json)
                    })
            ])
        }
        try await requireWorkspace(workspace, call)
        let made = try await call.engine.rules.service.create(document, workspace: workspace)
        let detail: JSONValue = ["rules": .array(made.map { .string($0.id) })]
        let isSingle = document.object != nil && document["rules"] == Optional.none
        if isSingle, let rule = made.first {
            return Answer(.object(rule.json), status: .created, auditDetail: detail)
        }
        return Answer(["rules": .array(made.map { .object($0.json) })], status: .created, auditDetail: detail)
    }

    private static func applyRules(_ call: Call) async throws -> Answer {
        let document = try await call.json()
        let workspace = try call.workspace()
        guard document["rules"]?.array != nil || document.array != nil else {
            throw Problem.badRequest("The body must hold rules, a list; an empty one removes all managed rules.")
        }
        try await requireWorkspace(workspace, call)
        let rules = try await call.engine.rules.service.applyManaged(document, workspace: workspace)
        return Answer(
            ["rules": .array(rules.map { .object($0.json) })],
            auditDetail: ["rules": .array(rules.map { .string($0.id) })])
    }

    private static func putRule(_ call: Call) async throws -> Answer {
        let document = try await call.json()
        let workspace = try call.workspace()
        try await requireWorkspace(workspace, call)
        let (rule, isNew) = try await call.engine.rules.service.put(
            document, id: call.parameter("id"), workspace: workspace, by: call.managedBy())
        return Answer(
            .object(rule.json), status: isNew ? .created : .ok, auditDetail: ["document": rule.document])
    }

    // MARK: Simulation

    private static func simulate(_ call: Call) async throws -> Answer {
        let body = try await call.object(keys: ["rules", "integration", "from", "to", "clock"])
        let workspace = try call.workspace()
        let rules: [RollingRule]
        if let given = body["rules"] {
            let result = RollingRuleReader.read([
                "rules": given.array == nil ? .array([given]) : given, "integration": body["integration"] ?? .null,
            ])
            guard result.errors.isEmpty else {
                throw EngineError(
                    code: .validationFailed, detail: result.errors.prefix(20).map(\.message).joined(separator: "; "),
                    errors: result.errors)
            }
            rules = result.rules
        } else {
            rules = try await call.engine.rules.service.list(workspace).flatMap {
                RollingRuleReader.read($0.document).rules
            }
        }
        guard let basis = (body["clock"] ?? "click").string.flatMap(RuleSimulator.Basis.init(rawValue:)) else {
            throw Problem.badRequest("clock must be click or received.")
        }
        let request = RuleSimulator.Request(
            rules: rules, from: try time(body, "from"), to: try time(body, "to"), basis: basis)
        return Answer(try await call.engine.rules.simulator.run(request, workspace: workspace))
    }

    private static func time(_ body: [String: JSONValue], _ key: String) throws -> Timestamp? {
        guard let value = body[key], value != .null else { return nil }
        guard let time = value.string.flatMap({ Timestamp(rfc3339: $0) }) else {
            throw Problem.badRequest("\(key) must be an RFC 3339 time such as 2026-11-21T07:00:00Z.")
        }
        return time
    }

    // MARK: Explaining

    private static func explainRules(_ call: Call) async throws -> Answer {
        let explainer = call.engine.rules.explainer
        let workspace = try call.workspace()
        switch (call.query("contact"), call.query("event")) {
        case (let contact?, nil):
            let lines = try await explainer.explain(contact: contact, workspace: workspace)
            return Answer([
                "contact": .string(contact), "event": .null, "explanations": .array(lines.map(\.json)),
            ])
        case (nil, let event?):
            let lines = try await explainer.explain(event: EventID(event), workspace: workspace)
            return Answer(["contact": .null, "event": .string(event), "explanations": .array(lines.map(\.json))])
        default: throw Problem.badRequest("Ask for either contact or event.")
        }
    }

    private static func explainRule(_ call: Call) async throws -> Answer {
        let stored = try await rule(call)
        let (lines, firings, notes) = try await call.engine.rules.explainer.explain(stored)
        let judged = try await call.engine.rules.explainer.judged(firings)
        return Answer([
            "rule": .object(stored.json), "explanations": .array(lines.map(\.json)),
            "firings": .array(firings.map(\.json)), "notes": .array(notes.map(\.json)),
            "decisions": .array(
                judged.map { item in
                    [
                        "firing": .integer(item.firing.number), "contact": .string(item.firing.contact),
                        "target": .string(item.target), "delivery": .string(item.delivery.rawValue),
                        "decisions": .array(item.decisions.map(\.json)),
                    ]
                }),
        ])
    }
}

extension StoredRule {
    func json(managedBy file: ManagedObject?) -> [String: JSONValue] {
        var json = self.json
        if isManaged { json["managed_by"] = JSONValue(file?.source) }
        return json
    }

    var json: [String: JSONValue] {
        var json = document.object ?? [:]
        json["managed"] = .bool(isManaged)
        json["state"] = .string(filled == nil ? "active" : "filling")
        json["warnings"] = .array(warnings.map(\.json))
        json["created_at"] = createdAt.json
        json["changed_at"] = changedAt.json
        json["checked_at"] = checkedAt.json
        json["clicks"] = .object(counts.json)
        return json
    }
}

extension RuleFiring {
    var json: JSONValue {
        [
            "id": .integer(number), "rule": .string(ruleID), "contact": .string(contact),
            "state": .string(state.rawValue),
            "at": at.json, "click": .string(click.rawValue), "click_at": clickTime.json, "link": .string(link.rawValue),
            "count": .integer(counted), "threshold": .integer(threshold), "arming": .integer(arming),
            "targets": targets, "attempts": .integer(Int64(attempts)), "next_attempt_at": nextAttemptAt.json,
            "reason_code": JSONValue(reason?.code), "reason": JSONValue(reason?.message),
        ]
    }
}

extension RuleExplainer.Line {
    var json: JSONValue {
        [
            "rule": .string(rule), "contact": JSONValue(contact), "outcome": .string(outcome),
            "reason_code": .string(reason.code), "reason": .string(reason.message),
            "count": count.map { .integer(Int64($0)) } ?? .null, "threshold": .integer(Int64(threshold)),
            "missing": missing.map { .integer(Int64($0)) } ?? .null, "bot_clicks": .integer(botClicks),
            "firing": firing?.json ?? .null,
        ]
    }
}
