// SPDX-License-Identifier: Apache-2.0

/// One contact, deal, note or company.
struct HubSpotRecord: Sendable {
    let id: String
    /// Values that are set; a cleared property is gone.
    var properties: [String: String] = [:]
    /// Every change of a property, oldest first.
    var history: [HubSpotChange] = []
    let createdAt: Instant
    var updatedAt: Instant
    var archivedAt: Instant?

    init(id: String, at now: Instant) {
        self.id = id
        createdAt = now
        updatedAt = now
    }

    /// Sets a property, or clears it with an empty text, as the vendor does.
    mutating func set(_ name: String, _ value: String, source: String, at now: Instant) {
        properties[name] = value.isEmpty ? nil : value
        history.append(HubSpotChange(name: name, value: value, at: now, source: source))
    }

    /// The record as the API answers it, with `names` beside what is set by the system.
    /// - Parameter nulls: whether a name without value is shown as null; an answer of upsert may not.
    func json(names: [String], history wanted: [String] = [], nulls: Bool = true, trace: String? = nil) -> JSONObject {
        var values = JSONObject()
        for name in names.sorted() where values[name] == nil {
            if let value = properties[name] { values[name] = .string(value) } else if nulls { values[name] = .null }
        }
        var json = JSONObject([
            ("id", .string(id)), ("properties", .object(values)), ("createdAt", .string(createdAt.rfc3339Milliseconds)),
            ("updatedAt", .string(updatedAt.rfc3339Milliseconds)), ("archived", .bool(archivedAt != nil)),
        ])
        if let archivedAt { json["archivedAt"] = .string(archivedAt.rfc3339Milliseconds) }
        if !wanted.isEmpty {
            json["propertiesWithHistory"] = .object(
                wanted.map { name in (name, .array(history.filter { $0.name == name }.reversed().map(\.json))) })
        }
        if let trace { json["objectWriteTraceId"] = .string(trace) }
        return json
    }
}

struct HubSpotChange: Hashable, Sendable {
    let name: String
    let value: String
    let at: Instant
    /// `INTEGRATION` for writes over the API, `CRM_UI` for a person's, `TIMELINE` for an event's token.
    let source: String

    var json: JSONValue {
        .object([
            ("value", .string(value)), ("timestamp", .string(at.rfc3339Milliseconds)), ("sourceType", .string(source)),
        ])
    }
}

/// Records of one type by id, in the order of creation.
struct HubSpotTable: Sendable {
    private(set) var rows: [String: HubSpotRecord] = [:]
    private(set) var order: [String] = []
    /// Ids that were merged away, to the survivor's.
    private(set) var aliases: [String: String] = [:]
    private var byEmail: [String: String] = [:]
    private var nextID: Int

    init(nextID: Int) { self.nextID = nextID }

    mutating func takeID() -> String {
        defer { nextID += 1 }
        return String(nextID)
    }

    /// The id under which a record lives now: its own, or the survivor's of a merge.
    func resolve(_ id: String) -> String {
        var id = id
        while let next = aliases[id] { id = next }
        return id
    }

    /// The record that lives under an id; an archived one is gone.
    subscript(id: String) -> HubSpotRecord? {
        guard let row = rows[resolve(id)], row.archivedAt == nil else { return nil }
        return row
    }

    func id(ofEmail email: String) -> String? { byEmail[email.lowercased()] }

    /// All that are not archived, oldest first.
    var all: [HubSpotRecord] { order.compactMap { rows[$0] }.filter { $0.archivedAt == nil } }

    /// Stores a record under its id, new or not.
    mutating func put(_ row: HubSpotRecord) {
        if let old = rows[row.id]?.properties["email"], byEmail[old.lowercased()] == row.id {
            byEmail[old.lowercased()] = nil
        }
        if rows.updateValue(row, forKey: row.id) == nil { order.append(row.id) }
        if let email = row.properties["email"], row.archivedAt == nil { byEmail[email.lowercased()] = row.id }
        if let id = Int(row.id), id < 1 << 53 { nextID = max(nextID, id + 1) }
    }

    /// Removes a record without a trace, as a deletion under privacy law does.
    mutating func erase(_ id: String) {
        guard let row = rows.removeValue(forKey: id) else { return }
        order.removeAll { $0 == id }
        if let email = row.properties["email"] { byEmail[email.lowercased()] = nil }
    }

    mutating func alias(_ old: String, to id: String) { aliases[old] = id }
}

/// What search sees: each record as it stood one lag ago.
struct HubSpotIndex: Sendable {
    private struct Pending: Sendable {
        let type: String
        let row: HubSpotRecord
        let committed: Instant
        let isErased: Bool
    }

    private var tables: [String: HubSpotTable] = [:]
    private var pending: [Pending] = []

    /// Commits that search does not see yet.
    var waiting: Int { pending.count }

    mutating func note(_ type: String, _ row: HubSpotRecord, at now: Instant, isErased: Bool = false) {
        pending.append(Pending(type: type, row: row, committed: now, isErased: isErased))
    }

    /// Lets in what has waited long enough, in the order of the commits.
    mutating func settle(lagMilliseconds: Int64, now: Instant) {
        let due = pending.prefix { $0.committed.adding(milliseconds: lagMilliseconds) <= now }
        for entry in due {
            if entry.isErased {
                tables[entry.type]?.erase(entry.row.id)
            } else {
                tables[entry.type, default: HubSpotTable(nextID: 1)].put(entry.row)
            }
        }
        pending.removeFirst(due.count)
    }

    func all(_ type: String) -> [HubSpotRecord] { tables[type]?.all ?? [] }

    /// The record of an e-mail address, for the most frequent search of all.
    func record(_ type: String, email: String) -> HubSpotRecord? {
        tables[type].flatMap { table in table.id(ofEmail: email).flatMap { table[$0] } }
    }
}
