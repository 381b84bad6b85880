// SPDX-License-Identifier: Apache-2.0

import GRDB
public import MilepostModel

/// What the click stream keeps about a person, beside clicks and forms (PRV-01).
public struct StreamExport: Sendable {
    public struct Touch: Sendable {
        public var connection: ConnectionID
        public var contact: String
        public var touchedAt: Timestamp
    }
    public var held: [HeldClick] = []
    public var deliveries: [Delivery] = []
    public var touches: [Touch] = []

    public var isEmpty: Bool { held.isEmpty && deliveries.isEmpty && touches.isEmpty }
}

/// Under which names a person may be stored: the ids and addresses of forms, and the advertisement click ids that they and
/// clicks carried.
struct PersonNames: Sendable {
    var contacts: Set<String>
    /// Addresses as forms gave them: a payload may carry one without the id, and in other letters.
    var addresses: Set<String> = []
    var google: Set<String> = []
    var facebook: Set<String> = []

    init(_ contact: String, workspace: Int64, _ db: Database) throws {
        contacts = [contact, contact.lowercased()]
        let forms = try Row.fetchAll(
            db,
            sql: """
                SELECT contact, email, gclid, fbclid FROM forms WHERE id IN (
                    SELECT id FROM forms WHERE workspace = ?1 AND contact = ?2
                    UNION SELECT id FROM forms WHERE workspace = ?1 AND lower(email) = lower(?2))
                """, arguments: [workspace, contact])
        for form in forms {
            if let id: String = form["contact"] { contacts.insert(id) }
            if let email: String = form["email"] {
                contacts.insert(email.lowercased())
                addresses.insert(email)
            }
            take(form)
        }
        for table in try DayTable.all(db) {
            let clicks = try Row.fetchAll(
                db,
                sql: """
                    SELECT gclid, fbclid FROM \(table.name)
                    WHERE contact = ? AND link IN (SELECT id FROM links WHERE workspace = ?)
                    """, arguments: [contact, workspace])
            for click in clicks { take(click) }
        }
    }

    private mutating func take(_ row: Row) {
        if let id: String = row["gclid"] { google.insert(id) }
        if let id: String = row["fbclid"] { facebook.insert(id) }
    }

    var hasAdvertisements: Bool { !google.isEmpty || !facebook.isEmpty }

    static func list(_ names: Set<String>) -> String {
        JSONValue.array(names.sorted().map(JSONValue.string)).description
    }
}

extension SQLiteStore {
    /// Held clicks, deliveries and last-touch records that name the contact.
    public func streamExport(workspace: WorkspaceID, contact: String) async throws -> StreamExport {
        var export = try await read("reading what is held of a contact") { db -> StreamExport in
            var export = StreamExport()
            guard let row = try Self.workspaceRow(workspace, db) else { return export }
            let names = try PersonNames(contact, workspace: row, db)
            var found: [Row] = []
            for (column, ids) in [("gclid", names.google), ("fbclid", names.facebook)] where !ids.isEmpty {
                found += try Row.fetchAll(
                    db,
                    sql: """
                        SELECT h.*, c.id AS connection_id
                        FROM held_clicks h JOIN connections c ON c.number = h.connection
                        WHERE h.workspace = ? AND h.\(column) IN (SELECT value FROM json_each(?))
                        """, arguments: [row, PersonNames.list(ids)])
            }
            for table in try DayTable.all(db) {
                found += try Row.fetchAll(
                    db,
                    sql: """
                        SELECT h.*, n.id AS connection_id
                        FROM \(table.name) c JOIN connections n ON n.workspace = ?
                        JOIN held_clicks h ON h.connection = n.number AND h.position = c.id + ?
                        WHERE c.contact = ?
                        """, arguments: [workspace.rawValue, table.base, contact])
            }
            var seen: Set<String> = []
            export.held = found.map(HeldRow.held(from:)).filter {
                seen.insert("\($0.connection) \($0.position)").inserted
            }
            export.touches = try Row.fetchAll(
                db,
                sql: """
                    SELECT c.id, t.contact, t.touched_at
                    FROM contact_touches t JOIN connections c ON c.number = t.connection
                    WHERE c.workspace = ? AND t.contact IN (SELECT value FROM json_each(?))
                    """, arguments: [workspace.rawValue, PersonNames.list(names.contacts)]
            ).map {
                StreamExport.Touch(
                    connection: ConnectionID($0["id"]), contact: $0["contact"],
                    touchedAt: Timestamp(milliseconds: $0["touched_at"]))
            }
            return export
        }
        let eraser = ContactEraser(contact: contact)
        var after: Int64? = 0
        while let start = after {
            let (deliveries, next) = try await read("reading the deliveries of a contact") { db in
                let rows = try Row.fetchAll(
                    db,
                    sql: "SELECT * FROM deliveries WHERE workspace = ? AND number > ? ORDER BY number LIMIT 500",
                    arguments: [workspace.rawValue, start])
                let found = try rows.filter {
                    eraser.mayBeIn(StoredJSON.value($0["payload"])) && eraser.cleaned(json: $0["payload"]) != nil
                }.map(DeliveryRow.delivery(from:))
                return (found, rows.count == 500 ? rows.last?["number"] as Int64? : nil)
            }
            export.deliveries += deliveries
            after = next
        }
        return export
    }
}

extension WriteContext {
    /// Forgets what was last written on the contact, and held clicks of whom only the advertisement is known.
    func eraseStream(of names: PersonNames, workspace: WorkspaceID) throws -> Int {
        let row = try workspaceRow(workspace)
        try eraseWaiting(of: names, workspace: row)
        try db.execute(
            sql: """
                DELETE FROM contact_touches WHERE contact IN (SELECT value FROM json_each(?))
                    AND connection IN (SELECT number FROM connections WHERE workspace = ?)
                """, arguments: [PersonNames.list(names.contacts), workspace.rawValue])
        return try eraseHeld(
            """
            workspace = ?1 AND (gclid IN (SELECT value FROM json_each(?2))
                OR fbclid IN (SELECT value FROM json_each(?3)))
            """, [row, PersonNames.list(names.google), PersonNames.list(names.facebook)])
    }

    /// - Parameter condition: over `held_clicks`.
    func eraseHeld(_ condition: String, _ arguments: StatementArguments) throws -> Int {
        let waiting = try Row.fetchAll(
            db,
            sql: """
                SELECT c.id, count(*) AS clicks FROM held_clicks h JOIN connections c ON c.number = h.connection
                WHERE h.state IN ('held', 'due') AND (h.connection, h.position) IN (
                    SELECT connection, position FROM held_clicks WHERE \(condition))
                GROUP BY c.id
                """, arguments: arguments)
        for row in waiting {
            try count([.erased: row["clicks"]], connection: ConnectionID(row["id"]))
        }
        try db.execute(sql: "DELETE FROM held_clicks WHERE \(condition)", arguments: arguments)
        return db.changesCount
    }

    /// Ended holds go with the clicks of their time, touches when nobody clicked for as long.
    func dropStreamHistory(before: Timestamp, rows: Int) throws -> Int {
        try db.execute(
            sql: """
                DELETE FROM contact_touches WHERE (connection, contact) IN (
                    SELECT connection, contact FROM contact_touches WHERE touched_at < ? LIMIT ?)
                """, arguments: [before.milliseconds, rows])
        let touches = db.changesCount
        try db.execute(
            sql: """
                DELETE FROM held_clicks WHERE (connection, position) IN (
                    SELECT connection, position FROM held_clicks INDEXED BY held_clicks_finished
                    WHERE state IN ('released', 'expired') AND changed_at < ? LIMIT ?)
                """, arguments: [before.milliseconds, rows])
        return max(touches, db.changesCount)
    }
}
