// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import GRDB
public import MilepostModel

extension SQLiteStore {
    public func ruleCursor(workspace: WorkspaceID) async throws -> RuleCursor {
        try await read("reading the rules' cursor of '\(workspace)'") { db in
            let row = try Row.fetchOne(
                db.cachedStatement(sql: "SELECT position, form, now FROM rule_cursors WHERE workspace = ?"),
                arguments: [workspace.rawValue])
            return RuleCursor(
                position: ClickPosition(row?["position"] ?? 0), form: row?["form"] ?? 0,
                now: Timestamp(milliseconds: row?["now"] ?? 0))
        }
    }

    public func ruleProgress(_ keys: [RuleContact]) async throws -> [RuleProgress?] {
        guard !keys.isEmpty else { return [] }
        return try await read("reading rules' windows") { db in
            let statement = try RawStatement(
                db, "SELECT times, arming, is_armed, bots FROM rule_contacts WHERE rule = ? AND contact = ?")
            return try keys.map { key in
                statement.bind(key.rule, at: 1)
                statement.bind(key.contact, at: 2)
                return try statement.first { row in
                    RuleProgress(
                        window: row.bytes(0), arming: row.integer(1), isArmed: row.integer(2) != 0,
                        botClicks: row.integer(3))
                }
            }
        }
    }

    public func ruleProgress(
        rule number: Int64, after contact: String?, limit: Int
    ) async throws -> [(contact: String, progress: RuleProgress)] {
        let limit = PageBounds.clamped(limit)
        return try await read("reading a rule's windows") { db in
            try Row.fetchAll(
                db,
                sql: """
                    SELECT contact, times, arming, is_armed, bots FROM rule_contacts WHERE rule = ? AND contact > ?
                    ORDER BY contact LIMIT ?
                    """, arguments: [number, contact ?? "", limit]
            ).map { ($0["contact"], RuleRow.progress(from: $0)) }
        }
    }

    public func commitRules(_ evaluation: RuleEvaluation) async throws {
        let weight = evaluation.progress.count + evaluation.waiting.count + evaluation.identified.count
        try await writer.write(.change, weight: max(1, weight)) { context in
            if let filling = evaluation.filling {
                try context.moveFilling(filling, evaluation)
            } else {
                try context.moveRuleCursor(evaluation)
            }
            try context.storeProgress(evaluation)
            try context.storeCounts(evaluation.counts)
            for firing in evaluation.firings { try context.insert(firing) }
            try context.storeWaiting(evaluation)
        }
    }
}

extension WriteContext {
    fileprivate func moveRuleCursor(_ evaluation: RuleEvaluation) throws {
        try db.cachedStatement(
            sql: """
                UPDATE rule_cursors SET position = ?, form = ?, now = ?
                WHERE workspace = ? AND position = ? AND form = ?
                """
        ).execute(arguments: [
            evaluation.to.position.rawValue, evaluation.to.form, evaluation.to.now.milliseconds,
            evaluation.workspace.rawValue, evaluation.from.position.rawValue, evaluation.from.form,
        ])
        guard db.changesCount == 1 else { throw Self.overtaken(evaluation) }
    }

    /// A rule that has caught up with the workspace's cursor follows it from here on.
    fileprivate func moveFilling(_ rules: [Int64], _ evaluation: RuleEvaluation) throws {
        let update = try RawStatement(
            db,
            """
            UPDATE rules SET filled_now = ?2, filled_form = ?5, filled_through = CASE WHEN EXISTS (
                SELECT 1 FROM rule_cursors c
                WHERE c.workspace = rules.workspace AND c.position <= ?1 AND c.form <= ?5) THEN NULL ELSE ?1 END
            WHERE number = ?3 AND filled_through = ?4 AND filled_form = ?6
            """)
        update.bind(evaluation.to.position.rawValue, at: 1)
        update.bind(evaluation.to.now.milliseconds, at: 2)
        update.bind(evaluation.from.position.rawValue, at: 4)
        update.bind(evaluation.to.form, at: 5)
        update.bind(evaluation.from.form, at: 6)
        for number in rules {
            update.bind(number, at: 3)
            try update.run()
            guard update.changes == 1 else { throw Self.overtaken(evaluation) }
        }
    }

    private static func overtaken(_ evaluation: RuleEvaluation) -> StoreError {
        StoreError(
            code: .conflict,
            detail: "the rules of '\(evaluation.workspace)' moved on from \(evaluation.from.position) meanwhile; "
                + "evaluate again from where they are")
    }

    fileprivate func storeProgress(_ evaluation: RuleEvaluation) throws {
        guard !evaluation.progress.isEmpty else { return }
        // It sets every column, so replacing is updating; a table of nothing but its key is then searched once.
        let statement = try RawStatement(
            db,
            """
            INSERT OR REPLACE INTO rule_contacts (rule, contact, times, arming, is_armed, bots, changed_at)
            VALUES (?, ?, ?, ?, ?, ?, ?)
            """)
        statement.bind(evaluation.to.now.milliseconds, at: 7)
        for (key, progress) in evaluation.progress {
            statement.bind(key.rule, at: 1)
            statement.bind(key.contact, at: 2)
            if progress.window.isEmpty {
                statement.bindEmptyBlob(at: 3)
            } else {
                statement.bind(progress.window, at: 3)
            }
            statement.bind(progress.arming, at: 4)
            statement.bind(progress.isArmed ? 1 : 0, at: 5)
            statement.bind(progress.botClicks, at: 6)
            try statement.run()
        }
    }

    fileprivate func storeCounts(_ counts: [Int64: RuleCounts]) throws {
        let update = try RawStatement(
            db,
            """
            UPDATE rules SET counted = counted + ?, bots = bots + ?, anonymous = anonymous + ?,
                excluded = excluded + ?, late = late + ? WHERE number = ?
            """)
        for (number, count) in counts {
            let values = [count.counted, count.bots, count.anonymous, count.excluded, count.late, number]
            for (index, value) in zip(Int32(1)..., values) { update.bind(value, at: index) }
            try update.run()
        }
    }

    /// A rule that went while its clicks were evaluated fires nothing; a key that is there fires nothing twice
    /// (invariant 3).
    fileprivate func insert(_ firing: RuleFiring) throws {
        try db.cachedStatement(
            sql: """
                INSERT INTO rule_firings (workspace, rule, rule_id, document, integration, contact, person, threshold,
                    arming, counted, position, click, click_at, link, at, state, targets, attempts, reason_code,
                    reason_message, changed_at)
                SELECT ?, ?2, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?
                WHERE EXISTS (SELECT 1 FROM rules WHERE number = ?2) ON CONFLICT DO NOTHING
                """
        ).execute(arguments: [
            firing.workspace.rawValue, firing.rule, firing.ruleID, firing.document.description,
            firing.integration.description, firing.contact, firing.person.description, firing.threshold, firing.arming,
            firing.counted, firing.position.rawValue, firing.click.rawValue, firing.clickTime.milliseconds,
            firing.link.rawValue, firing.at.milliseconds, firing.state.rawValue, firing.targets.description,
            firing.attempts, firing.reason?.code, firing.reason?.message, firing.at.milliseconds,
        ])
    }
}
