// SPDX-License-Identifier: Apache-2.0

import GRDB
public import MilepostModel

extension SQLiteStore {
    public func ruleWaiting(
        rules: [Int64], workspace: WorkspaceID, carrying ids: AdvertisementClicks
    ) async throws -> [RuleWaiting] {
        guard !rules.isEmpty, !ids.google.isEmpty || !ids.facebook.isEmpty else { return [] }
        return try await read("reading clicks that wait for their contact") { db in
            guard let row = try Self.workspaceRow(workspace, db) else { return [] }
            var found: Set<RuleWaiting> = []
            for (column, values) in [("gclid", ids.google), ("fbclid", ids.facebook)] where !values.isEmpty {
                let rows = try Row.fetchCursor(
                    db.cachedStatement(
                        sql: """
                            SELECT * FROM rule_waiting WHERE workspace = ? AND \(column) IN (
                                SELECT value FROM json_each(?)) AND rule IN (SELECT value FROM json_each(?))
                            """),
                    arguments: [
                        row, PersonNames.list(values), JSONValue.array(rules.map(JSONValue.integer)).description,
                    ])
                while let row = try rows.next() {
                    found.insert(
                        RuleWaiting(
                            rule: row["rule"], position: ClickPosition(row["position"]),
                            until: Timestamp(milliseconds: row["until"]), googleClickID: row["gclid"],
                            facebookClickID: row["fbclid"]))
                }
            }
            return found.sorted { ($0.position, $0.rule) < ($1.position, $1.rule) }
        }
    }
}

extension WriteContext {
    /// A rule that went while its clicks were evaluated waits for nobody.
    func storeWaiting(_ evaluation: RuleEvaluation) throws {
        if !evaluation.identified.isEmpty {
            let delete = try RawStatement(db, "DELETE FROM rule_waiting WHERE rule = ? AND position = ?")
            for item in evaluation.identified {
                delete.bind(item.rule, at: 1)
                delete.bind(item.position.rawValue, at: 2)
                try delete.run()
            }
        }
        guard !evaluation.waiting.isEmpty else { return }
        let insert = try RawStatement(
            db,
            """
            INSERT OR REPLACE INTO rule_waiting (rule, position, workspace, until, gclid, fbclid)
            SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE EXISTS (SELECT 1 FROM rules WHERE number = ?1)
            """)
        insert.bind(try workspaceRow(evaluation.workspace), at: 3)
        for item in evaluation.waiting {
            insert.bind(item.rule, at: 1)
            insert.bind(item.position.rawValue, at: 2)
            insert.bind(item.until.milliseconds, at: 4)
            insert.bind(item.googleClickID, at: 5)
            insert.bind(item.facebookClickID, at: 6)
            try insert.run()
        }
    }

    /// Clicks whose time to be named is over. For a rule whose windows are filled from the log, time is that of the log.
    ///
    /// - Returns: how many went; as many as `rows`: there may be more.
    func pruneWaiting(rows: Int) throws -> Int {
        try db.execute(
            sql: """
                DELETE FROM rule_waiting WHERE (rule, position) IN (
                    SELECT w.rule, w.position FROM rule_waiting w LEFT JOIN rules r ON r.number = w.rule
                    LEFT JOIN rule_cursors c ON c.workspace = r.workspace
                    WHERE w.until < (SELECT max(now) FROM rule_cursors)
                        AND (r.number IS NULL OR (r.filled_through IS NULL AND w.until < c.now)) LIMIT ?)
                """, arguments: [rows])
        return db.changesCount
    }

    /// Forgets clicks of whom only the advertisement is known (PRV-02).
    func eraseWaiting(of names: PersonNames, workspace: Int64) throws {
        try db.execute(
            sql: """
                DELETE FROM rule_waiting WHERE workspace = ?1 AND (gclid IN (SELECT value FROM json_each(?2))
                    OR fbclid IN (SELECT value FROM json_each(?3)))
                """,
            arguments: [workspace, PersonNames.list(names.google), PersonNames.list(names.facebook)])
    }
}
