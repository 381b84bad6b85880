// SPDX-License-Identifier: Apache-2.0

import GRDB
import MilepostModel

extension SQLiteStore {
    /// Reads one snapshot of the totals and of how far each day goes, then counts the days piece by piece: days only
    /// grow at their end, so the pieces add up to the snapshot although writes go on, and no read lasts long.
    public func auditTotals() async throws -> [TotalMismatch] {
        await longWork.enter()
        do {
            let result = try await recount()
            await longWork.leave()
            return result
        } catch {
            await longWork.leave()
            throw error
        }
    }

    private struct Audited: Sendable {
        var workspace: String
        var name: String
        var stored: ClickTotals
        var recounted: ClickTotals
    }

    /// Rows counted in one read: a tenth of a second.
    private static let auditedRows: Int64 = 200_000

    private func recount() async throws -> [TotalMismatch] {
        var (links, ends) = try await read("reading totals to recount") { db in
            var links: [Int64: Audited] = [:]
            let rows = try Row.fetchCursor(
                db,
                sql: """
                    SELECT t.link, w.name AS workspace, l.name, t.clicks, t.people, t.carried_clicks, t.carried_people
                    FROM link_totals t JOIN links l ON l.id = t.link JOIN workspaces w ON w.id = t.workspace
                    """)
            while let row = try rows.next() {
                links[row["link"]] = Audited(
                    workspace: row["workspace"], name: row["name"],
                    stored: ClickTotals(all: row["clicks"], people: row["people"]),
                    recounted: ClickTotals(all: row["carried_clicks"], people: row["carried_people"]))
            }
            let ends = try DayTable.all(db).map { table in
                (table, try Int64.fetchOne(db, sql: "SELECT max(id) FROM \(table.name)") ?? 0)
            }
            return (links, ends)
        }
        for (table, end) in ends {
            var start: Int64 = 0
            while start < end {
                try Task.checkCancellation()
                let (after, upTo) = (start, min(end, start + Self.auditedRows))
                let counted = try await read("recounting \(table.name)") { db in
                    try Row.fetchAll(
                        db,
                        sql: """
                            SELECT link, count(*) AS clicks, sum(1 - is_bot) AS people FROM \(table.name)
                            WHERE id > ? AND id <= ? GROUP BY link
                            """, arguments: [after, upTo]
                    ).map { (link: $0["link"] as Int64, all: $0["clicks"] as Int64, people: $0["people"] as Int64) }
                }
                for piece in counted {
                    links[piece.link]?.recounted.all += piece.all
                    links[piece.link]?.recounted.people += piece.people
                }
                start = upTo
            }
        }
        return links.values.filter { $0.stored != $0.recounted }
            .map {
                TotalMismatch(
                    workspace: WorkspaceID($0.workspace), link: LinkID($0.name), stored: $0.stored,
                    recounted: $0.recounted)
            }
            .sorted { ($0.workspace, $0.link) < ($1.workspace, $1.link) }
    }
}
