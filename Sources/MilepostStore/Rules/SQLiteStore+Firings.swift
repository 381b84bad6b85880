// SPDX-License-Identifier: Apache-2.0

import GRDB
public import MilepostModel

extension SQLiteStore {
    public func waitingFirings(workspace: WorkspaceID, now: Timestamp, limit: Int) async throws -> [RuleFiring] {
        let limit = PageBounds.clamped(limit)
        return try await read("reading crossings that wait for their records") { db in
            try Row.fetchAll(
                db.cachedStatement(
                    sql: """
                        SELECT * FROM rule_firings f WHERE workspace = ? AND state = 'waiting'
                            AND coalesce(next_attempt_at, 0) <= ?
                            AND \(Self.isFirstOfItsClick)
                        ORDER BY position, rule_id LIMIT ?
                        """), arguments: [workspace.rawValue, now.milliseconds, limit]
            ).map(RuleRow.firing(from:))
        }
    }

    /// A rule waits for those with earlier ids, which may move the same records for the same click.
    private static let isFirstOfItsClick = """
        NOT EXISTS (
            SELECT 1 FROM rule_firings e WHERE e.workspace = f.workspace AND e.state = 'waiting'
                AND e.position = f.position AND e.integration = f.integration AND e.rule_id < f.rule_id)
        """

    public func nextFiring() async throws -> Timestamp? {
        try await read("looking for the next crossing to act on") { db in
            try Int64.fetchOne(
                db,
                sql: """
                    SELECT min(coalesce(next_attempt_at, 0)) FROM rule_firings f
                    WHERE state = 'waiting' AND \(Self.isFirstOfItsClick)
                    """
            ).map(Timestamp.init(milliseconds:))
        }
    }

    public func movedTargets(connection: ConnectionID, position: ClickPosition) async throws -> Set<String> {
        try await read("reading what a click moved") { db in
            try Set(
                String.fetchAll(
                    db, sql: "SELECT target FROM rule_moves WHERE connection_id = ? AND position = ?",
                    arguments: [connection.rawValue, position.rawValue]))
        }
    }

    public func settleFiring(_ settlement: FiringSettlement) async throws -> [Delivery] {
        let deliveries = Dictionary(
            settlement.deliveries.map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
        return try await write { context in
            try context.db.execute(
                sql: """
                    UPDATE rule_firings SET state = 'done', targets = ?, reason_code = ?, reason_message = ?,
                        next_attempt_at = NULL, changed_at = ? WHERE number = ? AND state = 'waiting'
                    """,
                arguments: [
                    settlement.targets.description, settlement.reason?.code, settlement.reason?.message,
                    settlement.at.milliseconds, settlement.firing.number,
                ])
            guard context.db.changesCount == 1 else { return [] }
            var made: [Delivery] = []
            for crossing in settlement.crossings where try context.insert(crossing) {
                guard let id = crossing.delivery, let delivery = deliveries[id] else { continue }
                guard try context.insert(delivery, key: crossing.key) else { continue }
                made.append(delivery)
                // It may have stopped working while it was asked for the records.
                try context.holdIfConnectionWaits(delivery.id)
                try context.db.execute(
                    sql: """
                        INSERT INTO rule_moves (connection_id, position, target, firing) VALUES (?, ?, ?, ?)
                        ON CONFLICT DO NOTHING
                        """,
                    arguments: [
                        crossing.key.connection.rawValue, settlement.firing.position.rawValue, crossing.key.target,
                        settlement.firing.number,
                    ])
            }
            return made
        }
    }

    public func deferFiring(_ number: Int64, until: Timestamp, reason: Reason, at: Timestamp) async throws {
        try await write { context in
            try context.db.execute(
                sql: """
                    UPDATE rule_firings SET attempts = attempts + 1, next_attempt_at = ?, reason_code = ?,
                        reason_message = ?, changed_at = ? WHERE number = ? AND state = 'waiting'
                    """,
                arguments: [until.milliseconds, reason.code, reason.message, at.milliseconds, number])
        }
    }

    public func firings(
        workspace: WorkspaceID, matching filter: FiringFilter, cursor: String?, limit: Int
    ) async throws -> Page<RuleFiring> {
        let limit = PageBounds.clamped(limit)
        let before = try PageBounds.number(cursor, else: .max)
        return try await read("listing what rules did in '\(workspace)'") { db in
            var condition = ""
            var arguments = StatementArguments([workspace.rawValue, before] as [(any DatabaseValueConvertible)?])
            if let rule = filter.rule {
                condition += " AND rule_id = ?"
                arguments += [rule]
            }
            if let contact = filter.contact {
                condition += " AND contact = ?"
                arguments += [contact]
            }
            if let position = filter.position {
                condition += " AND position = ?"
                arguments += [position.rawValue]
            }
            let rows = try Row.fetchAll(
                db,
                sql: """
                    SELECT * FROM rule_firings WHERE workspace = ? AND number < ? \(condition)
                    ORDER BY number DESC LIMIT ?
                    """, arguments: arguments + [limit + 1])
            let items = try rows.prefix(limit).map(RuleRow.firing(from:))
            let next: Int64? = rows.count > limit ? rows[limit - 1]["number"] : nil
            return Page(items: items, next: next.map(String.init))
        }
    }

    // MARK: What time takes

    /// Windows of contacts who crossed stay: they are what keeps a rule from firing for them again.
    public func enforceRuleRetention(windowsBefore: Timestamp, firingsBefore: Timestamp) async throws -> Int {
        let chunk = configuration.retentionChunk
        let steps: [(sql: String, arguments: StatementArguments)] = [
            (
                """
                DELETE FROM rule_moves WHERE (connection_id, position, target) IN (
                    SELECT m.connection_id, m.position, m.target FROM rule_moves m
                    JOIN rule_firings f ON f.number = m.firing
                    WHERE f.state <> 'waiting' AND f.changed_at < ? LIMIT ?)
                """, [firingsBefore.milliseconds, chunk]
            ),
            (
                """
                DELETE FROM rule_firings WHERE number IN (
                    SELECT number FROM rule_firings WHERE state <> 'waiting' AND changed_at < ? LIMIT ?)
                """, [firingsBefore.milliseconds, chunk]
            ),
        ]
        var total = 0
        var position: RuleContact? = RuleContact(rule: 0, contact: "")
        while let start = position {
            try Task.checkCancellation()
            let step = try await write { try $0.pruneWindows(after: start, before: windowsBefore, rows: chunk) }
            total += step.dropped
            position = step.next
        }
        while true {
            try Task.checkCancellation()
            let dropped = try await write { try $0.pruneWaiting(rows: chunk) }
            total += dropped
            if dropped < chunk { break }
        }
        for (sql, arguments) in steps {
            while true {
                try Task.checkCancellation()
                let dropped = try await write { context in
                    try context.db.execute(sql: sql, arguments: arguments)
                    return context.db.changesCount
                }
                total += dropped
                if dropped < chunk { break }
            }
        }
        return total
    }
}

extension WriteContext {
    /// Looks at a stretch of the table, so that the writer is never held for long.
    fileprivate func pruneWindows(
        after start: RuleContact, before: Timestamp, rows: Int
    ) throws -> (dropped: Int, next: RuleContact?) {
        let end = try Row.fetchOne(
            db,
            sql: """
                SELECT rule, contact FROM rule_contacts WHERE (rule, contact) > (?, ?) ORDER BY rule, contact
                LIMIT 1 OFFSET ?
                """, arguments: [start.rule, start.contact, max(0, rows - 1)]
        ).map { RuleContact(rule: $0["rule"], contact: $0["contact"]) }
        let last = end ?? RuleContact(rule: .max, contact: "")
        try db.execute(
            sql: """
                DELETE FROM rule_contacts WHERE (rule, contact) > (?1, ?2) AND (rule, contact) <= (?3, ?4)
                    AND (rule NOT IN (SELECT number FROM rules) OR (changed_at < ?5 AND is_armed = 1 AND arming = 0))
                """, arguments: [start.rule, start.contact, last.rule, last.contact, before.milliseconds])
        return (db.changesCount, end)
    }

    /// Takes a contact out of windows and firings (PRV-02).
    func eraseRules(of contact: String, workspace: WorkspaceID) throws {
        try db.execute(
            sql: """
                DELETE FROM rule_contacts WHERE contact IN (?1, lower(?1))
                    AND rule NOT IN (SELECT number FROM rules WHERE workspace <> ?2)
                """, arguments: [contact, workspace.rawValue])
        let rows = try Row.fetchAll(
            db,
            sql: """
                SELECT number, contact, person FROM rule_firings
                WHERE workspace = ?2 AND (contact IN (?1, lower(?1)) OR instr(person, ?1))
                """, arguments: [contact, workspace.rawValue])
        for row in rows {
            // Where the text only stands in it, it may be a part of somebody else's id.
            let person = StoredJSON.value(row["person"])
            let names = [row["contact"] as String, person["id"]?.string, person["email"]?.string]
            guard names.contains(contact) || row["contact"] == contact.lowercased() else { continue }
            let number: Int64 = row["number"]
            try db.execute(
                sql: """
                    UPDATE rule_firings SET contact = 'erased-' || number, person = '{}', click = 'erased-' || number,
                        reason_message = CASE WHEN reason_code IS NULL THEN NULL ELSE '[erased]' END,
                        state = 'done', changed_at = changed_at
                    WHERE number = ?
                    """, arguments: [number])
        }
    }
}
