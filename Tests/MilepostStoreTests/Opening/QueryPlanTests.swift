// SPDX-License-Identifier: Apache-2.0

import GRDB
import MilepostModel
import MilepostStore
import Testing

/// What SQLite means to do for the statements that run all the time: searches by index, no sorting and no table read
/// from end to end (THR-04, ING-09, invariant 10).
@Suite("Query plans of the hot statements")
struct QueryPlanTests {
    private static let filter = "FROM deliveries WHERE workspace = 'acme' AND number < 9"

    static let statements: [(name: String, sql: String, index: String)] = [
        (
            "changed links",
            """
            SELECT l.*, t.sequence FROM link_totals t JOIN links l ON l.id = t.link
            WHERE t.workspace = 1 AND t.clicks >= 100 AND t.sequence > 5 ORDER BY t.sequence LIMIT 10
            """, "link_totals_changed"
        ),
        (
            "claim",
            """
            SELECT number FROM deliveries INDEXED BY deliveries_due WHERE connection_id = 'c'
            AND state IN ('pending', 'retrying', 'uncertain') AND (next_attempt_at IS NULL OR next_attempt_at <= 1)
            ORDER BY number LIMIT 5
            """, "deliveries_due"
        ),
        (
            "what a connection lets go",
            "SELECT id FROM deliveries WHERE connection_id = 'c' AND state = 'held' AND came_from IS NOT NULL",
            "deliveries_state"
        ),
        (
            "what waits on a connection",
            "SELECT id FROM deliveries WHERE connection_id = 'c' AND state IN ('pending', 'retrying', 'uncertain')",
            "deliveries_"
        ),
        (
            "unreached",
            """
            SELECT threshold FROM crossings WHERE connection_id = 'c' AND scope_kind = 'link' AND scope_id = 'a'
            AND arming = 0
            """, "sqlite_autoindex_crossings"
        ),
        ("token", "SELECT * FROM tokens WHERE hash = x'00'", "sqlite_autoindex_tokens"),
        ("deliveries", "SELECT * \(filter) ORDER BY number DESC LIMIT 5", "deliveries_workspace"),
        (
            "deliveries by state", "SELECT * \(filter) AND state IN ('dead') ORDER BY number DESC LIMIT 5",
            "deliveries_listed"
        ),
        (
            "deliveries of a link",
            "SELECT * \(filter) AND scope_kind = 'link' AND scope_id = 'a' ORDER BY number DESC LIMIT 5",
            "deliveries_scope"
        ),
        (
            "forms by advertisement",
            """
            SELECT * FROM forms WHERE workspace = 1 AND gclid = 'g' AND (contact IS NOT NULL OR email IS NOT NULL)
            ORDER BY at DESC, id DESC LIMIT 5
            """, "forms_gclid"
        ),
        (
            "forms between clicks",
            """
            SELECT * FROM forms WHERE workspace = 1 AND position BETWEEN 1 AND 9 AND number > 5 AND number <= 9
                AND (gclid IS NOT NULL OR fbclid IS NOT NULL) AND (contact IS NOT NULL OR email IS NOT NULL)
            ORDER BY position, number LIMIT 5
            """, "forms_log"
        ),
        (
            "clicks that wait under a rule",
            """
            SELECT * FROM rule_waiting WHERE workspace = 1 AND gclid = 'g' AND rule IN (1, 2)
            """, "rule_waiting_gclid"
        ),
        (
            "held clicks that end",
            """
            SELECT until FROM held_clicks WHERE connection = 1 AND state = 'held' AND until IS NOT NULL
            ORDER BY until LIMIT 1
            """, "held_clicks_ending"
        ),
        (
            "held clicks that are due",
            """
            SELECT * FROM held_clicks INDEXED BY held_clicks_due WHERE connection = 1 AND state = 'due'
            ORDER BY position LIMIT 5
            """,
            "held_clicks_due"
        ),
        (
            "held clicks of a state",
            """
            SELECT * FROM held_clicks h WHERE workspace = 1 AND state = 'held' AND (position, connection) < (5, 5)
            ORDER BY position DESC, connection DESC LIMIT 5
            """, "held_clicks_listed"
        ),
        ("forms to drop", "SELECT id FROM forms WHERE received_at < 5 LIMIT 5", "forms_received"),
        (
            "the highest threshold",
            "SELECT connection_id, threshold FROM crossings WHERE workspace = 'w' AND scope_kind = 'link' AND scope_id = 'a'",
            "crossings_scope"
        ),
        (
            "a contact's window", "SELECT times FROM rule_contacts WHERE rule = 1 AND contact = 'c'",
            "USING PRIMARY KEY"
        ),
        (
            "crossings that wait",
            """
            SELECT * FROM rule_firings f WHERE workspace = 'w' AND state = 'waiting' AND coalesce(next_attempt_at, 0) <= 5
            AND NOT EXISTS (SELECT 1 FROM rule_firings e WHERE e.workspace = f.workspace AND e.state = 'waiting'
                AND e.position = f.position AND e.integration = f.integration AND e.rule_id < f.rule_id)
            ORDER BY position, rule_id LIMIT 5
            """, "rule_firings_waiting"
        ),
        (
            "what a rule did",
            "SELECT * FROM rule_firings WHERE workspace = 'w' AND number < 9 AND rule_id = 'r' ORDER BY number DESC LIMIT 5",
            "rule_firings_listed"
        ),
        (
            "what a click moved", "SELECT target FROM rule_moves WHERE connection_id = 'c' AND position = 5",
            "USING PRIMARY KEY"
        ),
        (
            "a stretch of windows",
            """
            SELECT rule, contact FROM rule_contacts WHERE (rule, contact) > (1, 'c') ORDER BY rule, contact
            LIMIT 1 OFFSET 20
            """, "USING PRIMARY KEY"
        ),
    ]

    @Test("each searches by its index", arguments: statements.indices)
    func plan(index: Int) async throws {
        let (name, sql, wanted) = Self.statements[index]
        let directory = try TemporaryDirectory()
        await (try directory.open()).close()
        let queue = try DatabaseQueue(path: directory.database)
        let steps = try await queue.read { db in
            try Row.fetchAll(db, sql: "EXPLAIN QUERY PLAN " + sql).map { $0["detail"] as String }
        }
        try queue.close()
        #expect(steps[0].hasPrefix("SEARCH") && steps[0].contains(wanted), "\(name): \(steps)")
        #expect(!steps.contains { $0.hasPrefix("SCAN") || $0.contains("TEMP B-TREE") }, "\(name): \(steps)")
    }

    @Test("what changed among 50,000 links is found in 200 ms at most (THR-05)")
    func manyLinks() async throws {
        let directory = try TemporaryDirectory()
        let store = try directory.open()
        _ = try await store.ensureWorkspace(.acme, at: .start)
        for part in 0..<25 {
            let clicks = (0..<2000).map { number in
                var one = click("", on: "link\(part * 2000 + number)")
                one.identity = identity("\(part)-\(number)")
                return one
            }
            _ = try await store.append(clicks, workspace: .acme, receivedAt: .start)
        }
        let cursor = try await store.currentSequence()
        let later = (0..<40).map { number in
            var one = click("", on: "link\(number * 1000)")
            one.identity = identity("later-\(number)")
            return one
        }
        _ = try await store.append(later, workspace: .acme, receivedAt: .start)
        let clock = ContinuousClock()
        var changed: [Duration] = []
        var all: [Duration] = []
        for _ in 0..<20 {
            var count = 0
            changed.append(
                try await clock.measure {
                    count = try await store.changedLinks(workspace: .acme, after: cursor, limit: 2000).links.count
                })
            #expect(count == 40)
            all.append(
                try await clock.measure {
                    count = try await store.changedLinks(workspace: .acme, after: 0, limit: 2000).links.count
                })
            #expect(count > 1900)  // a page ends between two transactions
        }
        print("THR-05: 50,000 links; 40 changed \(changed.sorted()[10]), a page of 2,000 \(all.sorted()[10])")
        #expect(changed.sorted()[10] < .milliseconds(200))
        await store.close()
    }
}
