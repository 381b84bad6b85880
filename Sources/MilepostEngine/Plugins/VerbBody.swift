// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostPluginHost
import MilepostStore

/// The JSON bodies of verbs, as `include/milepost/schemas/` describes them: written by us, read from plugins that may lie.
enum VerbBody {
    /// Answers of plugins are bounded like everything from outside.
    static let limits = JSONLimits(bytes: 8 << 20, depth: 32)

    static func instance(
        _ connection: Connection, declaration: PluginDeclaration, app: JSONValue, facts: CredentialFacts?,
        requestTimeout: Duration
    ) -> JSONValue {
        [
            "plugin": .string(connection.integration.plugin.rawValue), "connection": .string(connection.id.rawValue),
            "workspace": .string(connection.workspace.rawValue), "settings": connection.settings,
            "endpoints": .object(declaration.endpoints.mapValues(JSONValue.string)),
            "credentials": .array(
                declaration.credentials(of: connection).map { auth in
                    .object(
                        CredentialFacts.members(facts, of: auth.credential).merging([
                            "ref": .string(auth.credential), "scheme": .string(auth.scheme),
                            "account": JSONValue(connection.account?.id),
                        ]) { $1 })
                }),
            "app": app,
            "account": connection.account.map {
                ["id": .string($0.id), "label": JSONValue($0.label), "domain": JSONValue($0.domain)]
            } ?? .null,
            "request_timeout_ms": .integer(requestTimeout.wholeMilliseconds),
        ]
    }

    static func records(_ claims: [ClaimedDelivery]) -> JSONValue {
        [
            "action": .string(claims.first?.delivery.action ?? ""),
            "records": .array(
                claims.enumerated().map { index, claim in
                    [
                        "index": .integer(Int64(index)), "delivery_id": .string(claim.delivery.id.rawValue),
                        "idempotency_key": .string(claim.delivery.id.rawValue),
                        "attempt": .integer(Int64(claim.delivery.attempts)),
                        "first_attempt_at": .string(claim.delivery.createdAt.description),
                        "payload": claim.delivery.payload, "journal": .array(claim.journal.map(journal)),
                    ]
                }),
        ]
    }

    private static func journal(_ entry: JournalEntry) -> JSONValue {
        [
            "step": .string(entry.step), "state": .string(entry.state.rawValue),
            "attempt": .integer(Int64(entry.attempt)),
            "intent_at": JSONValue(entry.intentAt?.description), "wire": JSONValue(entry.wire),
            "http_status": entry.httpStatus.map { .integer(Int64($0)) } ?? .null, "body": JSONValue(entry.body),
            "result": entry.result ?? .null,
        ]
    }

    // MARK: Reading

    static func verdicts(of result: OperationResult, count: Int) -> [Verdict] {
        var found: [Int: Verdict] = [:]
        for partial in result.partials {
            if let value = try? JSONValue(parsing: partial, limits: limits), let (index, verdict) = record(value) {
                found[index] = verdict
            }
        }
        var fallback = error(of: result)
        if result.status == .ok {
            for item in parsed(result)?["records"]?.array ?? [] {
                if let (index, verdict) = record(item) { found[index] = verdict }
            }
            // Rule 18 of the ABI: a missing result is never success. Whether it is really uncertain, the journal says.
            fallback = Verdict(
                kind: result.touchedNetwork ? .uncertain : .pluginBug, code: "result_missing",
                message: "The plugin gave no result for the record.")
        }
        return (0..<count).map { found[$0] ?? fallback }
    }

    static func findings(of result: OperationResult, claims: [ClaimedDelivery]) -> [Finding] {
        var found: [Int: Finding] = [:]
        for item in (result.status == .ok ? parsed(result) : nil)?["records"]?.array ?? [] {
            guard let index = item["index"]?.integer, let answer = item["answer"]?.string.flatMap(Finding.Answer.init)
            else {
                continue
            }
            found[Int(clamping: index)] = Finding(
                answer: answer, step: item["step"]?.string ?? "", remoteID: item["remote_id"]?.string,
                remoteURL: item["remote_url"]?.string, result: item["result"] ?? .object([:]),
                askAgain: milliseconds(item["ask_again_ms"]), message: item["message"]?.string)
        }
        let failure = error(of: result)
        return claims.enumerated().map { index, claim in
            let open = claim.journal.first(where: \.leavesOutcomeOpen)?.step ?? ""
            guard var finding = found[index], finding.step.isEmpty || finding.step == open else {
                var unknown = Finding(answer: .unknown, step: open, message: failure.message)
                if failure.isPluginFailure { unknown.failure = failure.kind }
                return unknown
            }
            finding.step = open
            return finding
        }
    }

    static func parsed(_ result: OperationResult) -> JSONValue? { try? JSONValue(parsing: result.body, limits: limits) }

    /// The error of an operation that did not end with ok.
    static func error(of result: OperationResult) -> Verdict {
        verdict(kind(result.status), error: parsed(result))
    }

    private static func record(_ item: JSONValue) -> (Int, Verdict)? {
        guard let index = item["index"]?.integer, let kind = item["class"]?.string.flatMap(Verdict.Class.init) else {
            return nil
        }
        var verdict = verdict(kind, error: item["error"])
        verdict.remoteID = item["remote_id"]?.string
        verdict.remoteURL = item["remote_url"]?.string
        verdict.warnings = reasons(item["warnings"])
        verdict.notices = reasons(
            item["warnings"]?.array.map { .array($0.filter { $0["lasting"]?.bool == true }) })
        return (Int(clamping: index), verdict)
    }

    private static func verdict(_ kind: Verdict.Class, error: JSONValue?) -> Verdict {
        Verdict(
            kind: kind, code: error?["code"]?.string, message: error?["message"]?.string,
            httpStatus: error?["http_status"]?.integer.map { Int(clamping: $0) },
            retryAfter: milliseconds(error?["retry_after_ms"]))
    }

    static func reasons(_ value: JSONValue?) -> [Reason] {
        (value?.array ?? []).compactMap { item in
            guard let code = item["code"]?.string, let message = item["message"]?.string else { return nil }
            return Reason(code: code, message: message)
        }
    }

    private static func milliseconds(_ value: JSONValue?) -> Duration? {
        value?.integer.map { .milliseconds(max(0, min($0, 7 * 86_400_000))) }
    }

    private static func kind(_ status: PluginStatus) -> Verdict.Class {
        switch status {
        case .ok: .ok
        case .rejected: .rejected
        case .retry: .retry
        case .rateLimited: .rateLimited
        case .authExpired: .authExpired
        case .authRevoked: .authRevoked
        case .config: .config
        case .uncertain: .uncertain
        case .cancelled: .cancelled
        case .deadline: .deadline
        case .pluginBug: .pluginBug
        case .crashed: .crashed
        case .unsupported: .unsupported
        }
    }
}

extension [Reason] {
    /// Each reason once, where it stands first.
    var distinct: [Reason] {
        reduce(into: []) { kept, reason in if !kept.contains(reason) { kept.append(reason) } }
    }
}
