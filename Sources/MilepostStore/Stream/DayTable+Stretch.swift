// SPDX-License-Identifier: Apache-2.0

import GRDB
import MilepostModel

extension DayTable {
    /// Clicks at positions after `after` up to `end`, in order, at most `limit` of those whose links are wanted.
    ///
    /// Readers of the log go through all of it. So this joins nothing, since a page's clicks share their links, and reads
    /// columns by number: looking them up by name costs more than reading them.
    func stretch(
        after: Int64, through end: Int64, limit: Int, _ links: inout LinkFacts, _ db: Database
    ) throws -> [StoredClick] {
        let statement = try db.cachedStatement(
            sql: """
                SELECT id, link, at, is_bot, event, url, contact, gclid, fbclid, source, medium, campaign, term, content,
                    referrer, country, device, user_agent, received_at
                FROM \(name) WHERE id > ? AND id <= ? ORDER BY id
                """)
        let rows = try Row.fetchCursor(statement, arguments: [after - base, end - base])
        var clicks: [StoredClick] = []
        while clicks.count < limit, let row = try rows.next() {
            guard let link = try links.link(row[1], db) else { continue }
            let click = Click(
                id: EventID(row[4]), link: link.id, time: Timestamp(milliseconds: row[2]), isBot: row[3], url: row[5],
                contactID: row[6], googleClickID: row[7], facebookClickID: row[8],
                utm: UTM(source: row[9], medium: row[10], campaign: row[11], term: row[12], content: row[13]),
                referrer: row[14], country: row[15], device: row[16], userAgent: row[17])
            clicks.append(
                StoredClick(
                    position: ClickPosition(base + row[0]), workspace: link.workspace, click: click, link: link,
                    receivedAt: Timestamp(milliseconds: row[18])))
        }
        return clicks
    }
}

/// Links as they are in the database access that made this.
struct LinkFacts {
    /// The row of the only workspace whose links are wanted; nil: all are.
    let workspace: Int64?
    private var known: [Int64: Link?] = [:]

    init(workspace: Int64?) { self.workspace = workspace }

    /// Nil when it is not wanted, or is not there. Its totals are not read: they are zero.
    mutating func link(_ number: Int64, _ db: Database) throws -> Link? {
        if let link = known[number] { return link }
        let row = try Row.fetchOne(
            db.cachedStatement(
                sql: """
                    SELECT l.name, l.slug, l.short_url, l.destination, l.title, l.folder, l.tags, l.flags, l.owner,
                        0 AS clicks, 0 AS people, l.workspace, w.name AS workspace_name
                    FROM links l JOIN workspaces w ON w.id = l.workspace WHERE l.id = ?
                    """), arguments: [number])
        let isWanted = row.map { workspace == nil || workspace == $0["workspace"] } ?? false
        let link = isWanted ? row.map { LinkRow.link(from: $0, workspace: WorkspaceID($0["workspace_name"])) } : nil
        known[number] = .some(link)
        return link
    }
}
