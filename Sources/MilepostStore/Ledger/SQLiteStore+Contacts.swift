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
    /// that is the contact (or, from six characters on, contains it) becomes `[erased]`; the same in journals and logs,
    /// and in what plugins keep. Days that retention dropped left their pages as they were (decisions 24), so free pages
    /// are overwritten; the log is then cut, so that no file holds an older copy.
    public func eraseContact(workspace: WorkspaceID, contact: String) async throws -> ErasureResult {
        guard !contact.isEmpty else { return ErasureResult() }
        await longWork.enter()
        do {
            let result = try await erase(contact, workspace)
            // What is remembered of forms may be of one that is gone.
            arrivals.raise(workspace) { $0.forms[workspace, default: AdvertisementClicks()].addEverything() }
            await longWork.leave()
            return result
        } catch {
            await longWork.leave()
            throw error
        }
    }

    private func erase(_ contact: String, _ workspace: WorkspaceID) async throws -> ErasureResult {
        let (days, names) = try await read("listing days of clicks") { db in
            let row = try Self.workspaceRow(workspace, db) ?? 0
            return (try DayTable.all(db), try PersonNames(contact, workspace: row, db))
        }
        var result = ErasureResult()
        for table in days {
            let erased = try await write {
                try $0.eraseClicks(of: contact, names, workspace: workspace, in: table)
            }
            result.clicks += erased.clicks
            result.held += erased.held
        }
        result.held += try await write { try $0.eraseStream(of: names, workspace: workspace) }
        var deliveries: Set<String> = []
        for name in names.addresses.union([contact]).sorted() {
            deliveries.formUnion(try await eraseDeliveries(of: name, workspace: workspace))
            try await eraseVendorEvents(of: name, workspace: workspace)
            try await write { try $0.eraseRules(of: name, workspace: workspace) }
            try await eraseAudit(of: name)
            try await erasePluginValues(of: name, workspace: workspace)
        }
        result.deliveries = deliveries.count
        // Last: an erasure that is repeated because it broke off still finds the names.
        result.forms = try await write { context in
            try context.db.execute(
                sql: "DELETE FROM forms WHERE workspace = ?1 AND (contact = ?2 OR lower(email) = lower(?2))",
                arguments: [try context.workspaceRow(workspace), contact])
            return context.db.changesCount
        }
        try await overwriteFreePages()
        _ = try await writer.outside { db, _ in try? db.checkpoint(.truncate) }
        return result
    }

    /// Rows about an export or an erasure name the contact in their target.
    private func eraseAudit(of contact: String) async throws {
        guard contact.count >= ContactEraser.shortestPart else { return }
        try await write { context in
            try context.db.execute(
                sql: """
                    UPDATE audit SET target = '[erased]', detail = '{}'
                    WHERE instr(target, ?1) OR instr(detail, ?1) OR instr(target, ?2)
                    """, arguments: [contact, contact.percentEncoded])
        }
    }

    /// Keys that name the contact go; values lose it, where they are JSON, and go where they are not.
    private func erasePluginValues(of contact: String, workspace: WorkspaceID) async throws {
        for connection in try await connections(workspace: workspace) {
            var position: String? = ""
            while let start = position {
                position = try await write {
                    try $0.erasePluginValues(of: contact, connection: connection.id, after: start)
                }
            }
        }
    }

    /// Fills the free pages with zeros and frees them again, some megabytes at a time.
    private func overwriteFreePages() async throws {
        while try await write({ try $0.fillFreePages() }) { try Task.checkCancellation() }
        while try await write({ try $0.freeZeros() }) { try Task.checkCancellation() }
    }

    /// - Returns: the ids of those that named the contact.
    private func eraseDeliveries(of contact: String, workspace: WorkspaceID) async throws -> [String] {
        var position: Int64 = 0
        var erased: [String] = []
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
    /// Clicks that carry the contact, and those that only an advertisement's click id ties to it.
    fileprivate func eraseClicks(
        of contact: String, _ names: PersonNames, workspace: WorkspaceID, in table: DayTable
    ) throws -> (clicks: Int, held: Int) {
        guard state.base(of: table.day) != nil else { return (0, 0) }  // retention was faster
        var condition = "contact = ?1"
        // Days have no index over these ids: only who has any pays for the search.
        if names.hasAdvertisements {
            condition += """
                 OR gclid IN (SELECT value FROM json_each(?3)) OR fbclid IN (SELECT value FROM json_each(?4))
                """
        }
        condition = "(\(condition)) AND link IN (SELECT id FROM links WHERE workspace = ?2)"
        let arguments: StatementArguments =
            [contact, try workspaceRow(workspace)]
            + (names.hasAdvertisements
                ? [PersonNames.list(names.google), PersonNames.list(names.facebook)] : [])
        let ids = try Int64.fetchAll(db, sql: "SELECT id FROM \(table.name) WHERE \(condition)", arguments: arguments)
        guard !ids.isEmpty else { return (0, 0) }
        let held = try eraseHeld(
            """
            connection IN (SELECT number FROM connections WHERE workspace = ?1)
                AND position IN (SELECT value + ?2 FROM json_each(?3))
            """,
            [
                workspace.rawValue, table.base,
                JSONValue.array(ids.map(JSONValue.integer)).description,
            ])
        try db.execute(
            sql: """
                UPDATE \(table.name) SET event = 'erased-' || id, contact = NULL, gclid = NULL, fbclid = NULL,
                    url = NULL, referrer = NULL, user_agent = NULL, term = NULL, content = NULL
                WHERE \(condition)
                """, arguments: arguments)
        return (db.changesCount, held)
    }

    fileprivate func erasePluginValues(
        of contact: String, connection: ConnectionID, after: String
    ) throws -> String? {
        let rows = try Row.fetchAll(
            db, sql: "SELECT key, value FROM plugin_kv WHERE connection_id = ? AND key > ? ORDER BY key LIMIT 500",
            arguments: [connection.rawValue, after])
        let eraser = ContactEraser(contact: contact)
        for row in rows {
            let key: String = row["key"]
            guard eraser.cleaned(plain: key) == nil else {
                try db.execute(
                    sql: "DELETE FROM plugin_kv WHERE connection_id = ? AND key = ?",
                    arguments: [connection.rawValue, key])
                continue
            }
            guard let text = String(validating: [UInt8](blob: row["value"]), as: UTF8.self),
                let cleaned = eraser.cleaned(text: text)
            else { continue }
            try db.execute(
                sql: "UPDATE plugin_kv SET value = ?, version = version + 1 WHERE connection_id = ? AND key = ?",
                arguments: [Array(cleaned.utf8).blob, connection.rawValue, key])
        }
        return rows.count == 500 ? rows.last?["key"] : nil
    }

    /// Pages that one step overwrites: 4 MiB.
    private static let pagesPerStep = 1024

    /// False when no page is free.
    fileprivate func fillFreePages() throws -> Bool {
        let free = try Int.fetchOne(db, sql: "PRAGMA freelist_count") ?? 0
        guard free > 0 else { return false }
        // An overflow page carries 4 bytes of its own, and the table's own page takes a part of the row.
        let pages = min(free, Self.pagesPerStep)
        let bytes = pages == 1 ? 3000 : (pages - 1) * (Int(SQLiteStore.pageBytes) - 4)
        try db.execute(sql: "INSERT INTO zeros (bytes) VALUES (zeroblob(?))", arguments: [bytes])
        return try Int.fetchOne(db, sql: "PRAGMA freelist_count") ?? 0 > 0
    }

    /// False when all are free again.
    fileprivate func freeZeros() throws -> Bool {
        try withoutOverwriting {
            try db.execute(sql: "DELETE FROM zeros WHERE number = (SELECT max(number) FROM zeros)")
            return db.changesCount > 0
        }
    }

    fileprivate func eraseDeliveries(
        of contact: String, workspace: WorkspaceID, after: Int64
    ) throws -> (erased: [String], next: Int64?) {
        let rows = try Row.fetchAll(
            db,
            sql: """
                SELECT number, id, payload FROM deliveries WHERE workspace = ? AND number > ? ORDER BY number LIMIT 500
                """, arguments: [workspace.rawValue, after])
        let eraser = ContactEraser(contact: contact)
        var erased: [String] = []
        for row in rows {
            guard eraser.mayBeIn(StoredJSON.value(row["payload"])) else { continue }
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
                """
                interceptions SET message = '[erased]', changes = NULL
                WHERE delivery = ?1 AND (instr(message, ?2) OR instr(changes, ?2))
                """,
                "deliveries SET reason_message = '[erased]' WHERE id = ?1 AND instr(reason_message, ?2)",
            ]
            where contact.count >= ContactEraser.shortestPart {
                try db.execute(sql: "UPDATE \(table)", arguments: [id, contact])
                if db.changesCount > 0 { found = true }
            }
            if found { erased.append(id) }
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

    /// Whether what a delivery or an event carries can be about the contact. A short id is also the number of a stage, a
    /// threshold or a count: it is looked for only beside the person's own name.
    func mayBeIn(_ value: JSONValue) -> Bool {
        guard contact.count < Self.shortestPart else { return true }
        let person = value["contact"]
        let names = [
            person?.string, person?["id"]?.string, person?["email"]?.string, value["personId"]?.string,
            value["data"]?["personId"]?.string,
        ]
        return names.contains(contact)
    }

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
        return cleaned(plain: text)
    }

    /// Text that is no JSON.
    func cleaned(plain text: String) -> String? {
        let cleaned = clean(text)
        return cleaned == text ? nil : cleaned
    }

    private func clean(_ value: JSONValue) -> JSONValue {
        switch value {
        case .null, .bool, .number: value
        case .integer(let number): String(number) == contact ? .string(Self.mark) : value
        case .string(let text): .string(clean(text))
        case .array(let items): .array(items.map(clean))
        case .object(let members):
            .object(
                Dictionary(members.map { (clean($0.key), clean($0.value)) }, uniquingKeysWith: { first, _ in first }))
        }
    }

    private func clean(_ text: String) -> String {
        if text == contact { return Self.mark }
        guard contact.count >= Self.shortestPart else { return text }
        let parts = text.split(separator: contact, omittingEmptySubsequences: false)
        guard var cleaned = parts.first.map(String.init) else { return text }
        for (before, after) in zip(parts, parts.dropFirst()) {
            cleaned += isPartOfNumber(before, after) ? contact : Self.mark
            cleaned += after
        }
        return cleaned
    }

    /// Vendors number people: within a longer number it is somebody else's id.
    private func isPartOfNumber(_ before: Substring, _ after: Substring) -> Bool {
        func isDigit(_ character: Character?) -> Bool { character?.isWholeNumber ?? false }
        return (isDigit(contact.first) && isDigit(before.last)) || (isDigit(contact.last) && isDigit(after.first))
    }
}

extension String {
    /// As a URL's path carries it.
    fileprivate var percentEncoded: String {
        let hex = Array("0123456789ABCDEF")
        return utf8.reduce(into: "") { text, byte in
            switch byte {
            case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, 0x2d, 0x2e, 0x5f, 0x7e:
                text.unicodeScalars.append(Unicode.Scalar(byte))
            default: text += "%\(hex[Int(byte >> 4)])\(hex[Int(byte & 15)])"
            }
        }
    }
}
