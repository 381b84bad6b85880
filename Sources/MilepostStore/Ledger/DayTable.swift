// SPDX-License-Identifier: Apache-2.0

import GRDB
import MilepostModel

/// The clicks received on one day (ING-08): dropping a day touches no other.
struct DayTable {
    /// `YYYYMMDD`, UTC.
    let day: Int32
    /// What a row's id is counted from: base plus id is the click's position in the log.
    let base: Int64

    var name: String { "clicks_\(day)" }

    static func all(_ db: Database) throws -> [DayTable] {
        try Row.fetchAll(db.cachedStatement(sql: "SELECT day, base FROM click_days ORDER BY day")).map {
            DayTable(day: $0["day"], base: $0["base"])
        }
    }

    func create(_ db: Database) throws {
        try db.execute(
            sql: """
                CREATE TABLE \(name) (
                    id INTEGER PRIMARY KEY, link INTEGER NOT NULL, at INTEGER NOT NULL, is_bot INTEGER NOT NULL,
                    event TEXT NOT NULL, url TEXT, contact TEXT, gclid TEXT, fbclid TEXT, source TEXT, medium TEXT,
                    campaign TEXT, term TEXT, content TEXT, referrer TEXT, country TEXT, device TEXT, user_agent TEXT,
                    received_at INTEGER NOT NULL
                );
                CREATE INDEX \(name)_contact ON \(name) (contact) WHERE contact IS NOT NULL;
                """)
        try db.execute(sql: "INSERT INTO click_days (day, base) VALUES (?, ?)", arguments: [day, base])
    }

    /// Binds and runs the insert of one click; prepared once per append.
    struct Insert {
        private let statement: RawStatement
        private let base: Int64

        init(_ db: Database, _ table: DayTable) throws {
            base = table.base
            statement = try RawStatement(
                db,
                """
                INSERT INTO \(table.name) (link, at, is_bot, event, url, contact, gclid, fbclid, source, medium,
                campaign, term, content, referrer, country, device, user_agent, received_at, id)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
                """)
        }

        func bind(receivedAt: Timestamp) { statement.bind(receivedAt.milliseconds, at: 18) }

        func run(_ click: Click, link: Int64, position: Int64) throws {
            statement.bind(position - base, at: 19)
            statement.bind(link, at: 1)
            statement.bind(click.time.milliseconds, at: 2)
            statement.bind(click.isBot ? 1 : 0, at: 3)
            statement.bind(click.id.rawValue, at: 4)
            statement.bind(click.url, at: 5)
            statement.bind(click.contactID, at: 6)
            statement.bind(click.googleClickID, at: 7)
            statement.bind(click.facebookClickID, at: 8)
            statement.bind(click.utm.source, at: 9)
            statement.bind(click.utm.medium, at: 10)
            statement.bind(click.utm.campaign, at: 11)
            statement.bind(click.utm.term, at: 12)
            statement.bind(click.utm.content, at: 13)
            statement.bind(click.referrer, at: 14)
            statement.bind(click.country, at: 15)
            statement.bind(click.device, at: 16)
            statement.bind(click.userAgent, at: 17)
            try statement.run()
        }
    }

    /// The columns that `click(from:)` reads, of a day's table `c` joined with `links l`.
    static let columns = """
        c.id, l.name AS link_name, c.at, c.is_bot, c.event, c.url, c.contact, c.gclid, c.fbclid, c.source, c.medium,
        c.campaign, c.term, c.content, c.referrer, c.country, c.device, c.user_agent
        """

    static func click(from row: Row) -> Click {
        Click(
            id: EventID(row["event"]), link: LinkID(row["link_name"]), time: Timestamp(milliseconds: row["at"]),
            isBot: row["is_bot"], url: row["url"], contactID: row["contact"], googleClickID: row["gclid"],
            facebookClickID: row["fbclid"],
            utm: UTM(
                source: row["source"], medium: row["medium"], campaign: row["campaign"], term: row["term"],
                content: row["content"]),
            referrer: row["referrer"], country: row["country"], device: row["device"], userAgent: row["user_agent"])
    }
}
