// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import GRDB
import MilepostModel

/// How rules and firings lie in the file.
enum RuleRow {
    static func rule(from row: Row) -> StoredRule {
        var counts = RuleCounts()
        counts.counted = row["counted"]
        counts.bots = row["bots"]
        counts.anonymous = row["anonymous"]
        counts.excluded = row["excluded"]
        counts.late = row["late"]
        let filled: Int64? = row["filled_through"]
        return StoredRule(
            number: row["number"], workspace: WorkspaceID(row["workspace"]), id: row["id"],
            document: StoredJSON.value(row["document"]), isManaged: row["is_managed"],
            warnings: warnings(row["warnings"]), countsFrom: ClickPosition(row["counts_from"]),
            filled: filled.map {
                RuleCursor(
                    position: ClickPosition($0), form: row["filled_form"],
                    now: Timestamp(milliseconds: row["filled_now"]))
            }, createdAt: Timestamp(milliseconds: row["created_at"]),
            changedAt: Timestamp(milliseconds: row["changed_at"]),
            checkedAt: Timestamp(milliseconds: row["checked_at"]), counts: counts)
    }

    static func text(of warnings: [Reason]) -> String {
        JSONValue.array(
            warnings.map { ["code": .string($0.code), "message": .string($0.message)] }
        ).description
    }

    private static func warnings(_ text: String) -> [Reason] {
        (StoredJSON.value(text).array ?? []).compactMap { item in
            guard let code = item["code"]?.string, let message = item["message"]?.string else { return nil }
            return Reason(code: code, message: message)
        }
    }

    static func progress(from row: Row) -> RuleProgress {
        RuleProgress(
            window: [UInt8](blob: row["times"]), arming: row["arming"], isArmed: row["is_armed"],
            botClicks: row["bots"])
    }

    static func firing(from row: Row) throws -> RuleFiring {
        let integration: String = row["integration"]
        let state: String = row["state"]
        guard let name = IntegrationName(integration), let known = RuleFiring.State(rawValue: state) else {
            throw StoreError(
                code: .corrupt,
                detail: "firing \(row["number"] as Int64) has integration '\(integration)' and state '\(state)', which "
                    + "this daemon never wrote; restore the newest backup")
        }
        let next: Int64? = row["next_attempt_at"]
        return RuleFiring(
            number: row["number"], workspace: WorkspaceID(row["workspace"]), rule: row["rule"], ruleID: row["rule_id"],
            document: StoredJSON.value(row["document"]), integration: name, contact: row["contact"],
            person: StoredJSON.value(row["person"]), threshold: row["threshold"], arming: row["arming"],
            counted: row["counted"], position: ClickPosition(row["position"]), click: EventID(row["click"]),
            clickTime: Timestamp(milliseconds: row["click_at"]), link: LinkID(row["link"]),
            at: Timestamp(milliseconds: row["at"]), state: known, targets: StoredJSON.value(row["targets"]),
            attempts: row["attempts"], nextAttemptAt: next.map(Timestamp.init(milliseconds:)),
            reason: ConnectionRow.reason(from: row))
    }
}
