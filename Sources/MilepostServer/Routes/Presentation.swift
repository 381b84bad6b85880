// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostStore

// How stored values look in answers. Times are RFC 3339, absent parts are null, secrets are never part of a value.

extension Timestamp {
    var json: JSONValue { .string(description) }
}

extension Optional where Wrapped == Timestamp {
    var json: JSONValue { map(\.json) ?? .null }
}

extension ClickTotals {
    var json: JSONValue { ["all": .integer(all), "people": .integer(people)] }
}

extension Reason {
    var json: JSONValue { ["code": .string(code), "message": .string(message)] }
}

extension Link {
    var json: [String: JSONValue] {
        [
            "id": .string(id.rawValue), "slug": JSONValue(slug), "short_url": JSONValue(shortURL),
            "destination": JSONValue(destination), "title": JSONValue(title), "folder": JSONValue(folder),
            "tags": .array(tags.map(JSONValue.string)),
            "flags": .array(flags.map(\.rawValue).sorted().map(JSONValue.string)),
            "owner": JSONValue(owner), "totals": totals.json,
        ]
    }
}

extension Workspace {
    var json: JSONValue {
        [
            "id": .string(id.rawValue), "plan": JSONValue(plan), "trial_started_at": trialStartedAt.json,
            "created_at": createdAt.json,
        ]
    }
}

extension Connection {
    /// - Parameters:
    ///   - counts: deliveries by state.
    ///   - maturity: the plugin's, nil when it is not loaded.
    func json(counts: [Delivery.State: Int], maturity: String?) -> JSONValue {
        var settings = self.settings.object ?? [:]
        settings["thresholds"] = .array(policy.thresholds.map(JSONValue.integer))
        settings["aggregation"] = .string(policy.aggregation.rawValue)
        settings["count"] = .string(policy.audience.rawValue)
        if let stream = policy.stream {
            settings["bots"] = .string(stream.bots.rawValue)
            settings["unknown_contact"] = .string(stream.unknownContact.rawValue)
            settings["excluded_links"] = .string(stream.excludedLinks.rawValue)
            settings["anonymous_clicks"] = stream.anonymousClicks.map { .string($0.rawValue) }
            settings["only_tags"] = stream.onlyTags.map { .array($0.map(JSONValue.string)) }
            settings["only_folders"] = stream.onlyFolders.map { .array($0.map(JSONValue.string)) }
        }
        if let endpoint = policy.endpoint {
            settings["disable_after"] = .string(endpoint.disableAfterText)
            settings["disable_after_failures"] = .integer(Int64(endpoint.minimumFailures))
        }
        if let judging = policy.intercept { settings.merge(judging.json) { $1 } }
        func count(_ state: Delivery.State) -> JSONValue { .integer(Int64(counts[state] ?? 0)) }
        return [
            "integration": .string(integration.description), "id": .string(id.rawValue),
            "plugin": .string(integration.plugin.rawValue), "name": .string(integration.name),
            "workspace": .string(workspace.rawValue), "state": .string(state.rawValue), "state_since": stateSince.json,
            "reason": stateReason?.json ?? .null, "failing": failingJSON,
            "account": account.map {
                [
                    "id": .string($0.id), "label": JSONValue($0.label), "domain": JSONValue($0.domain),
                    "user_id": JSONValue($0.userID), "user_label": JSONValue($0.userLabel),
                ]
            } ?? .null,
            "settings": .object(settings), "thresholds": settings["thresholds"] ?? [],
            "warnings": .array(warnings.map(\.json)), "maturity": JSONValue(maturity), "connected_at": connectedAt.json,
            "managed": .bool(isManaged),
            "queue": [
                "pending": count(.pending), "held": count(.held), "uncertain": count(.uncertain),
                "retrying": count(.retrying), "dead": count(.dead),
            ],
        ]
    }
}

extension Delivery {
    var json: [String: JSONValue] {
        [
            "id": .string(id.rawValue), "state": .string(state.rawValue),
            "integration": .string(integration.description),
            "action": .string(action), "link": scope.kind == .link ? .string(scope.id) : .null,
            "folder": scope.kind == .folder ? .string(scope.id) : .null,
            "rule": scope.kind == .rule ? .string(String(scope.id.prefix { $0 != "/" })) : .null,
            "event": scope.kind == .event ? .string(scope.id) : .null,
            "threshold": .integer(threshold),
            "attempts": .integer(Int64(attempts)), "reason": JSONValue(reason?.message),
            "reason_code": JSONValue(reason?.code), "remote_id": JSONValue(remoteID),
            "remote_url": JSONValue(remoteURL),
            "created_at": createdAt.json, "updated_at": updatedAt.json, "next_attempt_at": nextAttemptAt.json,
        ]
    }
}

extension JournalEntry {
    var json: JSONValue {
        [
            "step": .string(step), "state": .string(state.rawValue), "attempt": .integer(Int64(attempt)),
            "intent_at": intentAt.json, "answered_at": answeredAt.json, "wire": JSONValue(wire),
            "http_status": httpStatus.map { .integer(Int64($0)) } ?? .null, "result": result ?? .null,
        ]
    }
}

extension InterceptPolicy {
    /// As settings of the connection; what is left to the plugin's manifest is absent.
    var json: [String: JSONValue] {
        var settings: [String: JSONValue] = ["intercept": .bool(isOn), "intercept_order": .integer(order)]
        settings["intercept_on_failure"] = onFailure.map { .string($0.rawValue) }
        settings["intercept_budget_ms"] = budgetMilliseconds.map(JSONValue.integer)
        settings["intercept_for"] = only.map { .array($0.map(JSONValue.string)) }
        return settings
    }
}

extension InterceptDecision {
    var json: JSONValue {
        [
            "hook": .string(integration.description), "point": .string(point), "ask": .integer(Int64(ask)),
            "verdict": .string(verdict.rawValue), "effect": .string(effect.rawValue), "asked_at": askedAt.json,
            "duration_ms": .integer((answeredAt - askedAt).wholeMilliseconds), "code": JSONValue(code),
            "reason": JSONValue(message), "until": until.json, "changes": changes ?? .null,
            "text": .string(sentence),
        ]
    }
}

extension AttemptRecord {
    var json: JSONValue {
        [
            "attempt": .integer(Int64(attempt)), "verb": .string(verb), "started_at": startedAt.json,
            "finished_at": finishedAt.json, "class": .string(verdict), "code": JSONValue(code),
            "message": JSONValue(message),
            "http_status": httpStatus.map { .integer(Int64($0)) } ?? .null,
        ]
    }
}

extension MilepostModel.AccessToken {
    var json: [String: JSONValue] {
        [
            "id": .string(id), "name": .string(name), "scopes": .array(scopes.map { .string($0.rawValue) }),
            "workspace": JSONValue(workspace?.rawValue), "created_at": createdAt.json, "expires_at": expiresAt.json,
        ]
    }
}

extension AuditEntry {
    var json: JSONValue {
        [
            "id": .integer(id), "at": at.json, "actor": .string(actor), "action": .string(action),
            "target": .string(target),
            "detail": detail,
        ]
    }
}

extension Click {
    var json: JSONValue {
        [
            "id": .string(id.rawValue), "link": .string(link.rawValue), "ts": time.json, "bot": .bool(isBot),
            "url": JSONValue(url), "contact_id": JSONValue(contactID), "gclid": JSONValue(googleClickID),
            "fbclid": JSONValue(facebookClickID), "referrer": JSONValue(referrer), "country": JSONValue(country),
            "device": JSONValue(device), "user_agent": JSONValue(userAgent),
            "utm": [
                "source": JSONValue(utm.source), "medium": JSONValue(utm.medium), "campaign": JSONValue(utm.campaign),
                "term": JSONValue(utm.term), "content": JSONValue(utm.content),
            ],
        ]
    }
}

extension FormSubmission {
    var json: JSONValue {
        [
            "id": .string(id.rawValue), "ts": time.json, "contact_id": JSONValue(contactID), "email": JSONValue(email),
            "gclid": JSONValue(googleClickID), "fbclid": JSONValue(facebookClickID), "fields": fields,
        ]
    }
}
