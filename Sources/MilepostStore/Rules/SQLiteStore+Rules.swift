// SPDX-License-Identifier: Apache-2.0

import GRDB
public import MilepostModel

extension SQLiteStore {
    public func rules(workspace: WorkspaceID) async throws -> [StoredRule] {
        try await read("reading the rules of '\(workspace)'") { db in
            try Row.fetchAll(
                db.cachedStatement(sql: "SELECT * FROM rules WHERE workspace = ? ORDER BY id"),
                arguments: [workspace.rawValue]
            ).map(RuleRow.rule(from:))
        }
    }

    public func rule(_ id: String, workspace: WorkspaceID) async throws -> StoredRule? {
        try await read("reading rule '\(id)'") { db in
            try Row.fetchOne(
                db.cachedStatement(sql: "SELECT * FROM rules WHERE workspace = ? AND id = ?"),
                arguments: [workspace.rawValue, id]
            ).map(RuleRow.rule(from:))
        }
    }

    public func ruleWorkspaces() async throws -> [WorkspaceID] {
        try await read("listing workspaces with rules") { db in
            try String.fetchAll(
                db,
                sql: """
                    SELECT workspace FROM rules UNION SELECT workspace FROM rule_firings WHERE state = 'waiting'
                    """
            ).map { WorkspaceID($0) }
        }
    }

    public func saveRules(
        _ drafts: [RuleDraft], workspace: WorkspaceID, at: Timestamp
    ) async throws -> [StoredRule] {
        try await write { context in
            _ = try context.workspaceRow(workspace)
            let isFirst =
                try Bool.fetchOne(
                    context.db, sql: "SELECT NOT EXISTS (SELECT 1 FROM rules WHERE workspace = ?)",
                    arguments: [workspace.rawValue]) ?? true
            if isFirst { try context.openRuleCursor(workspace) }
            return try drafts.map { try context.save($0, workspace: workspace, at: at) }
        }
    }

    public func deleteRule(_ id: String, workspace: WorkspaceID, at: Timestamp) async throws -> Bool {
        try await write { context in
            let number = try Int64.fetchOne(
                context.db, sql: "SELECT number FROM rules WHERE workspace = ? AND id = ?",
                arguments: [workspace.rawValue, id])
            guard let number else { return false }
            try context.dropRule(
                number, Reason(code: "rule_removed", message: "The rule was removed before it could act."), at: at)
            return true
        }
    }

    public func setWarnings(rule number: Int64, _ warnings: [Reason], checkedAt: Timestamp) async throws {
        try await write { context in
            try context.db.execute(
                sql: "UPDATE rules SET warnings = ?, checked_at = ? WHERE number = ?",
                arguments: [RuleRow.text(of: warnings), checkedAt.milliseconds, number])
        }
    }
}

extension WriteContext {
    /// A workspace's first rule reads the log from its end on: nobody asked about what came before.
    fileprivate func openRuleCursor(_ workspace: WorkspaceID) throws {
        try db.execute(
            sql: """
                INSERT INTO rule_cursors (workspace, position, form, now)
                VALUES (?1, ?2, (SELECT value FROM counters WHERE name = 'forms'), 0)
                ON CONFLICT (workspace) DO UPDATE SET position = excluded.position, form = excluded.form
                """, arguments: [workspace.rawValue, state.clickPosition])
    }

    fileprivate func save(_ draft: RuleDraft, workspace: WorkspaceID, at: Timestamp) throws -> StoredRule {
        let existing = try Row.fetchOne(
            db, sql: "SELECT number, created_at FROM rules WHERE workspace = ? AND id = ?",
            arguments: [workspace.rawValue, draft.id])
        let number: Int64
        if let existing, draft.keepsWindows {
            number = existing["number"]
            try db.execute(
                sql: """
                    UPDATE rules SET document = ?, is_managed = ?, warnings = ?, changed_at = ?, checked_at = ?
                    WHERE number = ?
                    """,
                arguments: [
                    draft.document.description, draft.isManaged, RuleRow.text(of: draft.warnings), at.milliseconds,
                    at.milliseconds, number,
                ])
        } else {
            if let existing {
                try dropRule(
                    existing["number"],
                    Reason(code: "rule_changed", message: "The rule's trigger was changed before it could act."), at: at
                )
            }
            let start = try logStart(lookingBack: draft.window, at: at)
            try db.execute(
                sql: """
                    INSERT INTO rules (workspace, id, document, is_managed, warnings, counts_from, filled_through,
                        filled_now, created_at, changed_at, checked_at) VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?)
                    """,
                arguments: [
                    workspace.rawValue, draft.id, draft.document.description, draft.isManaged,
                    RuleRow.text(of: draft.warnings), state.clickPosition, start,
                    (existing?["created_at"] as Int64?) ?? at.milliseconds, at.milliseconds, at.milliseconds,
                ])
            number = db.lastInsertedRowID
        }
        guard let row = try Row.fetchOne(db, sql: "SELECT * FROM rules WHERE number = ?", arguments: [number]) else {
            throw StoreError(code: .failed, detail: "rule '\(draft.id)' is not there right after it was stored")
        }
        return RuleRow.rule(from: row)
    }

    /// The windows and firings of a dropped rule go with retention, some at a time.
    fileprivate func dropRule(_ number: Int64, _ reason: Reason, at: Timestamp) throws {
        try db.execute(
            sql: """
                UPDATE rule_firings SET state = 'done', reason_code = ?, reason_message = ?, changed_at = ?
                WHERE rule = ? AND state = 'waiting'
                """, arguments: [reason.code, reason.message, at.milliseconds, number])
        try db.execute(sql: "DELETE FROM rules WHERE number = ?", arguments: [number])
    }

    /// The position before the first day that may hold a click of a window that ends now. Days are days of receipt, and a
    /// click is received after it happened, or minutes before.
    private func logStart(lookingBack window: Int64, at: Timestamp) throws -> Int64 {
        let first = (at - .milliseconds(window) - .seconds(600)).day
        return try Int64.fetchOne(
            db, sql: "SELECT min(base) FROM click_days WHERE day >= ?", arguments: [first])
            ?? state.clickPosition
    }
}
