// SPDX-License-Identifier: Apache-2.0

import GRDB
import MilepostModel

/// How a link's facts lie in `links` and `link_totals`.
enum LinkRow {
    static let columns = """
        l.name, l.slug, l.short_url, l.destination, l.title, l.folder, l.tags, l.flags, l.owner, t.clicks, t.people
        """

    /// Links that fire something: neither flagged, nor of an owner who opted out (EXC-04).
    static let takesPart = """
        l.flags = '' AND NOT EXISTS (
            SELECT 1 FROM opted_out_members m WHERE m.workspace = l.workspace AND m.member = l.owner)
        """

    static func link(from row: Row, workspace: WorkspaceID) -> Link {
        let flags: String = row["flags"]
        return Link(
            workspace: workspace, id: LinkID(row["name"]), slug: row["slug"], shortURL: row["short_url"],
            destination: row["destination"], title: row["title"], folder: row["folder"], tags: tags(row["tags"]),
            flags: Set(flags.split(separator: " ").compactMap { Link.Flag(rawValue: String($0)) }), owner: row["owner"],
            totals: ClickTotals(all: row["clicks"], people: row["people"]))
    }

    static func text(of flags: Set<Link.Flag>) -> String {
        flags.map(\.rawValue).sorted().joined(separator: " ")
    }

    static func text(of tags: [String]) -> String { JSONValue.array(tags.map(JSONValue.string)).description }

    private static func tags(_ text: String) -> [String] {
        guard text != "[]" else { return [] }
        return StoredJSON.value(text).array?.compactMap(\.string) ?? []
    }
}

/// JSON that we wrote ourselves.
enum StoredJSON {
    static let limits = JSONLimits(bytes: 64 << 20, depth: 512)

    /// What cannot be read any more becomes null: a list must not fail because of one damaged row, and the row says so.
    static func value(_ text: String) -> JSONValue {
        (try? JSONValue(parsing: text, limits: limits)) ?? .null
    }
}
