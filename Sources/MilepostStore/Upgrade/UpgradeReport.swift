// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// What a change of the schema is at.
public enum UpgradeProgress: Sendable {
    /// Bytes.
    case copying(done: Int64, of: Int64)
    /// A table's rows, before or after.
    case counting(String)
    case migrating(String)
    /// Still at what was told last.
    case working
    case done(UpgradeReport)
}

/// What a change of the schema, or its rehearsal, found.
public struct UpgradeReport: Sendable {
    public var from: Int
    /// The same as `from` where nothing was to be done.
    public var to: Int
    /// The same before and after.
    public var figures: StoreFigures?
    public var databaseBytes: Int64
    /// What the older version had no place for and was given up.
    public var losses: [String]
    /// The store from before, under its new name; nil after a rehearsal.
    public var kept: String?
    /// Copies from before earlier changes, which went.
    public var removed: [String]

    init(from: Int, to: Int, figures: StoreFigures? = nil, databaseBytes: Int64 = 0, losses: [String] = []) {
        self.from = from
        self.to = to
        self.figures = figures
        self.databaseBytes = databaseBytes
        self.losses = losses
        removed = []
    }

    public var json: JSONValue {
        [
            "schema_from": .integer(Int64(from)), "schema_to": .integer(Int64(to)), "figures": figures?.json ?? .null,
            "database_bytes": .integer(databaseBytes), "given_up": .array(losses.map(JSONValue.string)),
            "kept": JSONValue(kept), "removed": .array(removed.map(JSONValue.string)),
        ]
    }
}
