// SPDX-License-Identifier: Apache-2.0

import GRDB
public import MilepostModel

extension SQLiteStore {
    public func clicks(
        workspace: WorkspaceID, contact: String, cursor: String?, limit: Int
    ) async throws -> Page<Click> {
        let limit = PageBounds.clamped(limit)
        let parts = (cursor ?? "0-0").split(separator: "-").compactMap { Int64($0) }
        guard parts.count == 2 else {
            throw StoreError(
                code: .notFound, detail: "the cursor '\(cursor?.prefix(40) ?? "")' is not one of this list's")
        }
        return try await read("reading the clicks of a contact") { db in
            guard let row = try Self.workspaceRow(workspace, db) else { return Page(items: []) }
            var clicks: [Click] = []
            for table in try DayTable.all(db) where Int64(table.day) >= parts[0] {
                let after = Int64(table.day) == parts[0] ? parts[1] : 0
                let rows = try Row.fetchAll(
                    db,
                    sql: """
                        SELECT \(DayTable.columns) FROM \(table.name) c JOIN links l ON l.id = c.link
                        WHERE c.contact = ? AND l.workspace = ? AND c.id > ? ORDER BY c.id LIMIT ?
                        """, arguments: [contact, row, after, limit - clicks.count])
                clicks += rows.map(DayTable.click(from:))
                if clicks.count == limit, let last = rows.last {
                    return Page(items: clicks, next: "\(table.day)-\(last["id"] as Int64)")
                }
            }
            return Page(items: clicks)
        }
    }

    /// Clicks keep link, time and campaign, so totals stay; what points at the person goes. In deliveries every text
    /// that is the contact (or, from six characters on, contains it) becomes `[erased]`; the same in journals and logs.
    /// The log is then cut, so that the file holds no older copy.
    public func eraseContact(workspace: WorkspaceID, contact: String) async throws -> ErasureResult {
        guard !contact.isEmpty else { return ErasureResult() }
        let days = try await read("listing days of clicks") { try DayTable.all($0) }
        var result = ErasureResult()
        for table in days {
            result.clicks += try await write { try $0.eraseClicks(of: contact, workspace: workspace, in: table) }
        }
        result.forms = try await write { context in
            try context.db.execute(
                sql: "DELETE FROM forms WHERE workspace = ?1 AND (contact = ?2 OR email = ?2)",
                arguments: [try context.workspaceRow(workspace), contact])
            return context.db.changesCount
        }
        result.deliveries = try await eraseDeliveries(of: contact, workspace: workspace)
        _ = try await writer.outside { db, _ in try? db.checkpoint(.truncate) }
        return result
    }

    private func eraseDeliveries(of contact: String, workspace: WorkspaceID) async throws -> Int {
        var position: Int64 = 0
        var erased = 0
        while true {
            let start = position
            let step = try await write { context in
                try context.eraseDeliveries(of: contact, workspace: workspace, after: start)
            }
            erased += step.erased
            guard let next = step.next else { return erased }
            position = next
        }
    }
}

extension WriteContext {
    fileprivate func eraseClicks(of contact: String, workspace: WorkspaceID, in table: DayTable) throws -> Int {
        guard state.days.contains(table.day) else { return 0 }  // retention was faster
        try db.execute(
            sql: """
                UPDATE \(table.name) SET event = 'erased-' || id, contact = NULL, gclid = NULL, fbclid = NULL,
                    url = NULL, referrer = NULL, user_agent = NULL, term = NULL, content = NULL
                WHERE contact = ? AND link IN (SELECT id FROM links WHERE workspace = ?)
                """, arguments: [contact, try workspaceRow(workspace)])
        return db.changesCount
    }

    fileprivate func eraseDeliveries(
        of contact: String, workspace: WorkspaceID, after: Int64
    ) throws -> (erased: Int, next: Int64?) {
        let rows = try Row.fetchAll(
            db,
            sql: """
                SELECT number, id, payload FROM deliveries WHERE workspace = ? AND number > ? ORDER BY number LIMIT 500
                """, arguments: [workspace.rawValue, after])
        let eraser = ContactEraser(contact: contact)
        var erased = 0
        for row in rows {
            let id: String = row["id"]
            var found = false
            if let payload = eraser.cleaned(json: row["payload"]) {
                found = true
                try db.execute(sql: "UPDATE deliveries SET payload = ? WHERE id = ?", arguments: [payload, id])
            }
            for entry in try DeliveryRow.journal(of: id, db) {
                let result = entry.result.flatMap { eraser.cleaned(json: $0.description) }
                let body = entry.body.flatMap(eraser.cleaned(text:))
                guard result != nil || body != nil else { continue }
                found = true
                try db.execute(
                    sql: """
                        UPDATE delivery_steps SET result = coalesce(?, result), body = coalesce(?, body)
                        WHERE delivery = ? AND step = ?
                        """, arguments: [result, body, id, entry.step])
            }
            for table in [
                "delivery_attempts SET message = '[erased]' WHERE delivery = ?1 AND instr(message, ?2)",
                "deliveries SET reason_message = '[erased]' WHERE id = ?1 AND instr(reason_message, ?2)",
            ]
            where contact.count >= ContactEraser.shortestPart {
                try db.execute(sql: "UPDATE \(table)", arguments: [id, contact])
                if db.changesCount > 0 { found = true }
            }
            if found { erased += 1 }
        }
        return (erased, rows.count == 500 ? rows.last?["number"] : nil)
    }
}

/// Takes a contact out of texts.
struct ContactEraser {
    let contact: String
    /// Shorter ids are too likely to be part of something else.
    static let shortestPart = 6
    private static let mark = "[erased]"

    /// Nil when the contact is not in it.
    func cleaned(json text: String) -> String? {
        let value = StoredJSON.value(text)
        let cleaned = clean(value)
        return cleaned == value ? nil : cleaned.description
    }

    /// A vendor's answer: JSON or anything else.
    func cleaned(text: String) -> String? {
        if let value = try? JSONValue(parsing: text, limits: StoredJSON.limits) {
            let cleaned = clean(value)
            return cleaned == value ? nil : cleaned.description
        }
        let cleaned = clean(text)
        return cleaned == text ? nil : cleaned
    }

    private func clean(_ value: JSONValue) -> JSONValue {
        switch value {
        case .null, .bool, .number: value
        case .integer(let number): String(number) == contact ? .string(Self.mark) : value
        case .string(let text): .string(clean(text))
        case .array(let items): .array(items.map(clean))
        case .object(let members): .object(members.mapValues(clean))
        }
    }

    private func clean(_ text: String) -> String {
        if text == contact { return Self.mark }
        guard contact.count >= Self.shortestPart else { return text }
        return text.split(separator: contact, omittingEmptySubsequences: false).joined(separator: Self.mark)
    }
}
