// SPDX-License-Identifier: Apache-2.0

import GRDB

/// Clicks counted in this transaction and not yet added to the stored totals: a link that is clicked a thousand times
/// in a batch moves its row once.
final class PendingTotals {
    struct Counted {
        var all: Int64 = 0
        var people: Int64 = 0

        mutating func add(isBot: Bool) {
            all += 1
            if !isBot { people += 1 }
        }
    }

    struct Campaign: Hashable {
        var link: Int64
        var source: String
        var medium: String
        var campaign: String
    }

    private var links: [Int64: Counted] = [:]
    private var campaigns: [Campaign: Counted] = [:]
    private let campaignsPerLink: Int

    init(campaignsPerLink: Int) { self.campaignsPerLink = campaignsPerLink }

    func add(link: Int64, isBot: Bool) { links[link, default: Counted()].add(isBot: isBot) }
    func add(_ campaign: Campaign, isBot: Bool) { campaigns[campaign, default: Counted()].add(isBot: isBot) }

    func discard() {
        links.removeAll(keepingCapacity: true)
        campaigns.removeAll(keepingCapacity: true)
    }

    func write(to db: Database, sequence: () -> Int64) throws {
        guard !links.isEmpty else { return }
        let number = sequence()
        let update = try RawStatement(
            db, "UPDATE link_totals SET clicks = clicks + ?, people = people + ?, sequence = ? WHERE link = ?")
        for (link, counted) in links {
            update.bind(counted.all, at: 1)
            update.bind(counted.people, at: 2)
            update.bind(number, at: 3)
            update.bind(link, at: 4)
            try update.run()
        }
        try writeCampaigns(to: db)
        discard()
    }

    private func writeCampaigns(to db: Database) throws {
        guard !campaigns.isEmpty else { return }
        let update = try RawStatement(
            db,
            """
            UPDATE link_campaigns SET clicks = clicks + ?, people = people + ?
            WHERE link = ? AND source = ? AND medium = ? AND campaign = ?
            """)
        let insert = try RawStatement(
            db,
            """
            INSERT INTO link_campaigns (clicks, people, link, source, medium, campaign)
            SELECT ?, ?, ?, ?, ?, ? WHERE (SELECT campaigns FROM link_totals WHERE link = ?3) < ?7
            """)
        let count = try RawStatement(db, "UPDATE link_totals SET campaigns = campaigns + 1 WHERE link = ?")
        func bind(_ statement: RawStatement, _ key: Campaign, _ counted: Counted) {
            statement.bind(counted.all, at: 1)
            statement.bind(counted.people, at: 2)
            statement.bind(key.link, at: 3)
            statement.bind(key.source, at: 4)
            statement.bind(key.medium, at: 5)
            statement.bind(key.campaign, at: 6)
        }
        for (key, counted) in campaigns {
            bind(update, key, counted)
            try update.run()
            guard update.changes == 0 else { continue }
            bind(insert, key, counted)
            insert.bind(Int64(campaignsPerLink), at: 7)
            try insert.run()
            guard insert.changes == 1 else { continue }  // past the bound: counted in the totals, not by campaign
            count.bind(key.link, at: 1)
            try count.run()
        }
    }
}
