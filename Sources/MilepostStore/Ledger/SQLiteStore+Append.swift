// SPDX-License-Identifier: Apache-2.0

import GRDB
public import MilepostModel

extension SQLiteStore {
    public func append(
        _ clicks: [IdentifiedClick], workspace: WorkspaceID, receivedAt: Timestamp
    ) async throws -> [Bool] {
        guard !clicks.isEmpty else { return [] }
        let areNew = try await writer.write(.append, weight: clicks.count) { context in
            try context.append(clicks, workspace: workspace, receivedAt: receivedAt)
        }
        if areNew.contains(true) { arrivals.raise(workspace) { $0.clicks.insert(workspace) } }
        return areNew
    }
}

extension WriteContext {
    /// A click is new when its identity is (invariant 2): the identity's row, the click's row and the total are one
    /// transaction, so none is ever there without the others.
    func append(_ clicks: [IdentifiedClick], workspace id: WorkspaceID, receivedAt: Timestamp) throws -> [Bool] {
        let workspace = try workspaceRow(id)
        let (identity, insert) = try clickStatements(receivedAt: receivedAt)
        var areNew: [Bool] = []
        areNew.reserveCapacity(clicks.count)
        for identified in clicks {
            identity.bind(identified.identity, at: 1)
            try identity.run()
            guard identity.changes == 1 else {
                areNew.append(false)
                continue
            }
            let click = identified.click
            let link = try linkRow(click.link.rawValue, workspace: workspace)
            try insert.run(click, link: link, position: state.nextClickPosition())
            totals.add(link: link, isBot: click.isBot)
            if !click.utm.hasNoTriple {
                totals.add(
                    PendingTotals.Campaign(
                        link: link, source: click.utm.source ?? "", medium: click.utm.medium ?? "",
                        campaign: click.utm.campaign ?? ""),
                    isBot: click.isBot)
            }
            areNew.append(true)
        }
        return areNew
    }

    /// What stores a click of the day, prepared once a transaction: looking statements up by their text costs as much as
    /// running one, and a call may bring a single click.
    private func clickStatements(receivedAt: Timestamp) throws -> (identity: RawStatement, insert: DayTable.Insert) {
        let day = receivedAt.day
        if let prepared = state.clickStatements, prepared.day == day {
            prepared.insert.bind(receivedAt: receivedAt)
            return (prepared.identity, prepared.insert)
        }
        let table: DayTable
        if let base = state.base(of: day) {
            table = DayTable(day: day, base: base)
        } else {
            table = DayTable(day: day, base: state.clickPosition)
            try table.create(db)
            state.remember(table)
        }
        let identity = try RawStatement(db, "INSERT INTO event_ids (hash, day) VALUES (?, ?) ON CONFLICT DO NOTHING")
        identity.bind(Int64(day), at: 2)
        let insert = try DayTable.Insert(db, table)
        insert.bind(receivedAt: receivedAt)
        state.clickStatements = (day, identity, insert)
        return (identity, insert)
    }
}
