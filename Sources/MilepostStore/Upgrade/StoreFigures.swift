// SPDX-License-Identifier: Apache-2.0

import GRDB
public import MilepostModel

/// What a change of the schema must not change: rows of every table, deliveries and whatever else has a state by it, and the
/// sums that decide what fires and what is sent.
///
/// Made from what tables there are, so that a table that comes later is counted without being named here.
public struct StoreFigures: Sendable, Equatable {
    /// By name: a table, `table.state` or `table:sum of column`; `clicks` are those of all days together.
    public private(set) var values: [String: Int64] = [:]

    /// Bookkeeping of the schema itself, and pages that an erasure overwrites.
    private static let uncounted: Set<String> = ["grdb_migrations", "zeros"]
    private static let sums: [String: [String]] = [
        "link_totals": ["clicks", "people", "carried_clicks", "carried_people"], "link_campaigns": ["clicks"],
        "connections": ["cursor"], "crossings": ["threshold", "clicks"], "deliveries": ["attempts", "threshold"],
        "stream_counters": ["clicks"], "streams": ["position"], "rule_cursors": ["position"],
        "rules": ["counted"], "oauth_chains": ["token_version"],
    ]

    /// Reads every table once: minutes where there are hundreds of millions of clicks.
    ///
    /// - Parameter report: is told the table that is counted next.
    init(_ db: Database, report: (String) -> Void) throws {
        let tables = try String.fetchAll(
            db,
            sql: """
                SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name
                """)
        for table in tables where !Self.uncounted.contains(table) {
            report(table)
            if table == "counters" {
                for row in try Row.fetchAll(db, sql: "SELECT name, value FROM counters") {
                    values["counters:\(row["name"] as String)"] = row["value"]
                }
            } else if table.hasPrefix("clicks_") {
                try add("clicks", Int64.fetchOne(db, sql: "SELECT count(*) FROM \(Self.quoted(table))"))
                try add("clicks:people", Int64.fetchOne(db, sql: "SELECT sum(1 - is_bot) FROM \(Self.quoted(table))"))
            } else {
                try count(table, db)
            }
        }
    }

    private mutating func count(_ table: String, _ db: Database) throws {
        let columns = Set(try db.columns(in: table).map(\.name))
        let sums = (Self.sums[table] ?? []).filter(columns.contains)
        let asked = ["count(*)"] + sums.map { "coalesce(sum(\($0)), 0)" }
        let row = try Row.fetchOne(db, sql: "SELECT \(asked.joined(separator: ", ")) FROM \(Self.quoted(table))")
        values[table] = row?[0]
        for (index, column) in sums.enumerated() { values["\(table):sum of \(column)"] = row?[index + 1] }
        guard columns.contains("state") else { return }
        for row in try Row.fetchAll(db, sql: "SELECT state, count(*) FROM \(Self.quoted(table)) GROUP BY state") {
            values["\(table).\(row[0] as String)"] = row[1]
        }
    }

    private mutating func add(_ name: String, _ value: Int64?) { values[name, default: 0] += value ?? 0 }

    private static func quoted(_ name: String) -> String { "\"\(name.replacing("\"", with: "\"\""))\"" }

    /// What is not as it was; what is only there afterwards is the newer schema's own.
    ///
    /// - Parameter except: figures that may change: a name, or a beginning that ends with a dot.
    func differences(from before: StoreFigures, except: [String]) -> [FigureDifference] {
        before.values.sorted { $0.key < $1.key }.compactMap { name, value in
            let isMeant = except.contains { $0 == name || ($0.hasSuffix(".") && name.hasPrefix($0)) }
            // A state that nothing is in has no row.
            let now = values[name] ?? (name.contains(".") ? 0 : nil)
            return isMeant || now == value ? nil : FigureDifference(name: name, before: value, after: now)
        }
    }

    public var json: JSONValue { .object(values.mapValues(JSONValue.integer)) }
}

/// A figure that is not what it was before.
public struct FigureDifference: Sendable, Equatable, CustomStringConvertible {
    public var name: String
    public var before: Int64
    /// Nil where the table is gone.
    public var after: Int64?

    public var description: String { "\(name) \(before) before, \(after.map(String.init) ?? "none") after" }
}
