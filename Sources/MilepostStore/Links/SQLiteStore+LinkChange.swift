// SPDX-License-Identifier: Apache-2.0

import GRDB
public import MilepostModel

extension SQLiteStore {
    public func changeLink(
        _ id: LinkID, workspace: WorkspaceID, change: LinkChange, at: Timestamp
    ) async throws -> Link {
        try await write { context in
            let row = try context.workspaceRow(workspace)
            let linkRow = try context.linkRow(id.rawValue, workspace: row)
            guard let before = try Self.link(named: id.rawValue, row, workspace, context.db) else {
                throw StoreError(code: .failed, detail: "link '\(id)' is in the cache and not in the file")
            }
            var link = before
            link.apply(change)
            guard link != before else { return link }
            let move = FolderMove(from: before, to: link)
            let sumBefore = try move.map { try Self.folderTotals($0.target, row, context.db) }
            try context.db.cachedStatement(
                sql: """
                    UPDATE links SET slug = ?, short_url = ?, destination = ?, title = ?, folder = ?, tags = ?,
                    flags = ?, owner = ? WHERE id = ?
                    """
            ).execute(arguments: [
                link.slug, link.shortURL, link.destination, link.title, link.folder, LinkRow.text(of: link.tags),
                LinkRow.text(of: link.flags), link.owner, linkRow,
            ])
            try context.touch(link: linkRow)
            if let move, let sumBefore {
                let sumAfter = try Self.folderTotals(move.target, row, context.db)
                try context.mark(move, workspace: workspace, from: sumBefore, to: sumAfter, at: at)
            }
            return link
        }
    }
}

extension Link {
    fileprivate mutating func apply(_ change: LinkChange) {
        if let slug = change.slug { self.slug = slug }
        if let shortURL = change.shortURL { self.shortURL = shortURL }
        if let destination = change.destination { self.destination = destination }
        if let title = change.title { self.title = title }
        // Empty text would be a folder without a name, which nothing could be sent about.
        if let folder = change.folder { self.folder = folder.flatMap { $0.isEmpty ? nil : $0 } }
        if let tags = change.tags { self.tags = tags }
        if let flags = change.flags { self.flags = flags }
        if let owner = change.owner { self.owner = owner }
    }
}

/// A link that goes from one folder to another brings clicks that belong to the old one: what they lift the new folder
/// over must not fire (CFG-09); nor must what a link brings that was kept out until now (EXC-04, invariant 9). First
/// filing is no move: those clicks never counted for any folder.
struct FolderMove {
    let link: LinkID
    let target: String
    private let cause: String

    init?(from before: Link, to after: Link) {
        guard let target = after.folder, let source = before.folder else { return nil }
        if source != target {
            cause = "was moved there from '\(source)'"
        } else if before.flags != after.flags || before.owner != after.owner {
            cause = "takes part from now on"
        } else {
            return nil
        }
        link = before.id
        self.target = target
    }

    func reason(threshold: Int64, sum: Int64) -> Reason {
        Reason(
            code: "folder_move",
            message:
                "Folder '\(target)' reached \(threshold) clicks (\(sum)) because link '\(link)' \(cause); "
                + "only new clicks fire.")
    }
}

extension WriteContext {
    /// Marks what the move alone lifts the target folder over, for each connection that adds up folders. What the
    /// folder had reached before the move is left to the next tick.
    fileprivate func mark(
        _ move: FolderMove, workspace: WorkspaceID, from sumBefore: ClickTotals, to sumAfter: ClickTotals, at: Timestamp
    ) throws {
        for connection in try ConnectionRow.all(workspace: workspace, db) where connection.policy.aggregation == .folder
        {
            let audience = connection.policy.audience
            for threshold in connection.policy.thresholds
            where sumBefore.counted(audience) < threshold && threshold <= sumAfter.counted(audience) {
                let key = CrossingKey(
                    connection: connection.id, scope: Scope(kind: .folder, id: move.target), threshold: threshold)
                _ = try insert(
                    Crossing(
                        key: key, workspace: workspace, at: at, totals: sumAfter,
                        reason: move.reason(threshold: threshold, sum: sumAfter.counted(audience))))
            }
        }
    }
}
