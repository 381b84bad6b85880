// SPDX-License-Identifier: Apache-2.0

import GRDB
public import MilepostModel

extension SQLiteStore {
    public func claimUnjudged(
        connection: ConnectionID, owner: String, now: Timestamp, limit: Int, excluding actions: [String]
    ) async throws -> [ClaimedDelivery] {
        try await claim(
            "AND judged_at IS NULL AND action NOT IN (SELECT value FROM json_each(?5))", actions,
            connection: connection, owner: owner, now: now, limit: limit)
    }

    public func claimJudged(
        connection: ConnectionID, owner: String, now: Timestamp, limit: Int, excluding actions: [String]
    ) async throws -> [ClaimedDelivery] {
        try await claim(
            "AND judged_at IS NOT NULL AND action NOT IN (SELECT value FROM json_each(?5))", actions,
            connection: connection, owner: owner, now: now, limit: limit)
    }

    public func storeJudgement(_ judgement: Judgement, at: Timestamp) async throws {
        try await write { context in
            try context.db.cachedStatement(
                sql: """
                    UPDATE deliveries SET state = coalesce(:state, came_from), judged_at = :judged,
                        reason_code = iif(:code IS NULL, reason_code, :code),
                        reason_message = iif(:code IS NULL, reason_message, :message),
                        payload = coalesce(:payload, payload), next_attempt_at = :next,
                        attempts = max(0, attempts - 1), updated_at = :at, owner = NULL, came_from = NULL
                    WHERE id = :id AND state = 'in_flight'
                    """
            ).execute(arguments: [
                "state": judgement.fate.state?.rawValue, "judged": judgement.fate == .passed ? at.milliseconds : nil,
                "code": judgement.fate.reason?.code, "message": judgement.fate.reason?.message,
                "payload": judgement.payload?.description, "next": judgement.fate.next?.milliseconds,
                "at": at.milliseconds, "id": judgement.delivery.rawValue,
            ])
            guard context.db.changesCount == 1 else {
                throw StoreError(
                    code: .conflict,
                    detail: "delivery '\(judgement.delivery)' is not in flight any more, so its judgement is not stored"
                )
            }
            for decision in judgement.decisions { try context.insert(decision) }
            if judgement.fate.state == nil { try context.holdIfConnectionWaits(judgement.delivery) }
        }
    }

    public func releaseJudged(connection: ConnectionID, due: Timestamp, at: Timestamp) async throws -> Int {
        let condition = """
            connection_id = ? AND state = 'held' AND came_from IS NULL AND next_attempt_at <= ?
            AND reason_code IN ('\(Judgement.holdCodes.joined(separator: "', '"))')
            """
        // Asked first: most connections hold nothing, and a write would cost each tick a commit.
        let isDue = try await read("looking for what judges hold of '\(connection)'") { db in
            try Bool.fetchOne(
                db.cachedStatement(sql: "SELECT EXISTS (SELECT 1 FROM deliveries WHERE \(condition))"),
                arguments: [connection.rawValue, due.milliseconds]) ?? false
        }
        guard isDue else { return 0 }
        return try await write { context in
            try context.db.cachedStatement(
                sql: """
                    UPDATE deliveries SET state = 'pending', next_attempt_at = NULL,
                        waited = waited + max(0, ? - updated_at), updated_at = ? WHERE \(condition)
                    """
            ).execute(arguments: [at.milliseconds, at.milliseconds, connection.rawValue, due.milliseconds])
            return context.db.changesCount
        }
    }

    public func release(_ id: DeliveryID, message: String, at: Timestamp) async throws -> Bool {
        let workspace = try await write { context -> WorkspaceID? in
            guard let delivery = try DeliveryRow.find(id, context.db), delivery.state == .held else { return nil }
            let isJudges = Judgement.holdCodes.contains(delivery.reason?.code ?? "")
            try context.db.cachedStatement(
                sql: """
                    UPDATE deliveries SET state = 'pending', next_attempt_at = NULL, reason_code = NULL,
                        reason_message = NULL, judged_at = iif(?1, ?2, judged_at),
                        waited = waited + max(0, ?2 - updated_at), updated_at = ?2
                    WHERE id = ?3 AND state = 'held' AND came_from IS NULL
                    """
            ).execute(arguments: [isJudges, at.milliseconds, id.rawValue])
            guard context.db.changesCount == 1 else { return nil }
            if isJudges, let last = try InterceptRow.last(about: id, context.db) {
                try context.insert(
                    InterceptDecision(
                        delivery: id, point: last.point, judge: last.judge, integration: last.integration,
                        ask: last.ask, askedAt: at, answeredAt: at, verdict: .continue, effect: .passed,
                        code: InterceptDecision.releasedByHand, message: message))
            }
            try context.holdIfConnectionWaits(id)
            return delivery.workspace
        }
        guard let workspace else { return false }
        arrivals.raise(workspace) { $0.connections.insert(workspace) }
        return true
    }

    public func decisions(of delivery: DeliveryID) async throws -> [InterceptDecision] {
        try await read("reading what judges said of '\(delivery)'") { db in
            try Row.fetchAll(
                db.cachedStatement(sql: "SELECT * FROM interceptions WHERE delivery = ? ORDER BY number"),
                arguments: [delivery.rawValue]
            ).map(InterceptRow.decision(from:))
        }
    }
}

extension Judgement.Fate {
    /// Nil: where it came from.
    fileprivate var state: Delivery.State? {
        switch self {
        case .passed, .later: nil
        case .held: .held
        case .dropped: .dropped
        case .dead: .dead
        }
    }

    fileprivate var reason: Reason? {
        switch self {
        case .passed: nil
        case .held(_, let reason), .dropped(let reason), .dead(let reason), .later(_, let reason): reason
        }
    }

    fileprivate var next: Timestamp? {
        switch self {
        case .passed, .dropped, .dead: nil
        case .held(let until, _): until
        case .later(let moment, _): moment
        }
    }
}

extension WriteContext {
    fileprivate func insert(_ decision: InterceptDecision) throws {
        try db.cachedStatement(
            sql: """
                INSERT INTO interceptions (delivery, point, judge, integration, ask, asked_at, answered_at, verdict,
                    effect, code, message, until, changes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                """
        ).execute(arguments: [
            decision.delivery.rawValue, decision.point, decision.judge.rawValue, decision.integration.description,
            decision.ask, decision.askedAt.milliseconds, decision.answeredAt.milliseconds, decision.verdict.rawValue,
            decision.effect.rawValue, decision.code, decision.message, decision.until?.milliseconds,
            decision.changes?.description,
        ])
    }
}

/// How a decision lies in `interceptions`.
private enum InterceptRow {
    static func last(about delivery: DeliveryID, _ db: Database) throws -> InterceptDecision? {
        try Row.fetchOne(
            db.cachedStatement(sql: "SELECT * FROM interceptions WHERE delivery = ? ORDER BY number DESC LIMIT 1"),
            arguments: [delivery.rawValue]
        ).map(decision(from:))
    }

    static func decision(from row: Row) throws -> InterceptDecision {
        guard let integration = IntegrationName(row["integration"] as String),
            let verdict = InterceptDecision.Verdict(rawValue: row["verdict"]),
            let effect = InterceptDecision.Effect(rawValue: row["effect"])
        else {
            throw StoreError(
                code: .corrupt,
                detail: "decision \(row["number"] as Int64) is none that this daemon wrote; restore the newest backup")
        }
        return InterceptDecision(
            delivery: DeliveryID(row["delivery"]), point: row["point"], judge: ConnectionID(row["judge"]),
            integration: integration, ask: row["ask"], askedAt: Timestamp(milliseconds: row["asked_at"]),
            answeredAt: Timestamp(milliseconds: row["answered_at"]), verdict: verdict, effect: effect,
            code: row["code"], message: row["message"],
            until: (row["until"] as Int64?).map(Timestamp.init(milliseconds:)),
            changes: (row["changes"] as String?).map(StoredJSON.value))
    }
}
