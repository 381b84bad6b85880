// SPDX-License-Identifier: Apache-2.0

import GRDB
public import MilepostModel
import Synchronization

extension SQLiteStore {
    /// See `ConnectionBook`. With a nil `baseline` the cursor is the one that `connection` carries: 0 looks at every
    /// link, the cursor of the stored connection goes on where it was.
    public func saveConnection(
        _ connection: Connection, credentials: [SealedCredential], baseline: Reason?, at: Timestamp
    ) async throws -> Connection {
        let saved = try await write { try $0.save(connection, credentials: credentials, baseline: baseline, at: at) }
        arrivals.raise(saved.workspace) { $0.connections.insert(saved.workspace) }
        return saved
    }

    public func connection(_ integration: IntegrationName, workspace: WorkspaceID) async throws -> Connection? {
        try await read("reading connection '\(integration)'") {
            try ConnectionRow.find(integration, workspace: workspace, $0)
        }
    }

    public func connection(id: ConnectionID) async throws -> Connection? {
        try await read("reading connection '\(id)'") { try ConnectionRow.find(id: id, $0) }
    }

    public func connections(workspace: WorkspaceID?) async throws -> [Connection] {
        try await read("listing connections") { try ConnectionRow.all(workspace: workspace, $0) }
    }

    public func changeConnection(
        id: ConnectionID, policy: ThresholdPolicy?, settings: JSONValue?, warnings: [Reason]?,
        account: Connection.Account?, credentials: [SealedCredential], baseline: Reason, at: Timestamp
    ) async throws -> Connection {
        let changed = try await write { context in
            guard var connection = try ConnectionRow.find(id: id, context.db) else { throw StoreError.noConnection(id) }
            if let policy {
                let old = connection.policy
                let looksElsewhere = policy.aggregation != old.aggregation || policy.audience != old.audience
                connection.policy = policy
                let unseen =
                    looksElsewhere ? policy.thresholds : policy.thresholds.filter { !old.thresholds.contains($0) }
                try context.markReached(connection, thresholds: unseen, reason: baseline, at: at)
            }
            if let settings { connection.settings = settings }
            if let warnings { connection.warnings = warnings }
            if let account { connection.account = account }
            if settings != nil || !credentials.isEmpty { try context.forgetHealth(id) }
            try ConnectionRow.store(connection, context.db)
            try context.store(credentials, of: id)
            return try ConnectionRow.find(id: id, context.db) ?? connection
        }
        arrivals.raise(changed.workspace) { $0.connections.insert(changed.workspace) }
        return changed
    }

    public func replaceWarnings(id: ConnectionID, beginning: String, with warnings: [Reason]) async throws {
        try await write { context in
            guard var connection = try ConnectionRow.find(id: id, context.db) else { throw StoreError.noConnection(id) }
            let kept = connection.warnings.filter { !$0.code.hasPrefix(beginning) }
            guard kept + warnings != connection.warnings else { return }
            connection.warnings = (kept + warnings).suffix(Self.maximumWarnings)
            try ConnectionRow.store(connection, context.db)
        }
    }

    public func noteWarnings(id: ConnectionID, _ warnings: [Reason]) async throws {
        try await write { context in
            guard var connection = try ConnectionRow.find(id: id, context.db) else { throw StoreError.noConnection(id) }
            let fresh = warnings.filter { !connection.warnings.contains($0) }
            guard !fresh.isEmpty else { return }
            connection.warnings = (connection.warnings + fresh).suffix(Self.maximumWarnings)
            try ConnectionRow.store(connection, context.db)
        }
    }

    /// A plugin may say much; the newest count.
    private static let maximumWarnings = 50

    /// Time that deliveries spent waiting is added to them when the connection leaves a state that is not `active`, so
    /// that caps stand still (decisions 9).
    public func setState(
        id: ConnectionID, _ state: Connection.State, reason: Reason?, at: Timestamp
    ) async throws -> Bool {
        let moved = try await write { context -> WorkspaceID? in
            guard let connection = try ConnectionRow.find(id: id, context.db) else { throw StoreError.noConnection(id) }
            guard connection.state != state else { return nil }
            // An answer that was on its way when somebody disconnected says nothing any more.
            guard connection.state != .disconnected || state == .active else { return nil }
            try context.move(connection, to: state, reason: reason, at: at)
            return connection.workspace
        }
        guard let moved else { return false }
        arrivals.raise(moved) { $0.connections.insert(moved) }
        return true
    }

    // MARK: Evaluation

    public func unreached(
        connection: ConnectionID, scopes: [Scope], thresholds: [Int64]
    ) async throws -> [Scope: [Int64]] {
        try await read("reading crossings") { db in
            let statement = try db.cachedStatement(
                sql: """
                    SELECT threshold FROM crossings
                    WHERE connection_id = ? AND scope_kind = ? AND scope_id = ? AND arming = 0 AND target = ''
                    """)
            var result: [Scope: [Int64]] = [:]
            for scope in scopes {
                let reached = try Set(
                    Int64.fetchAll(statement, arguments: [connection.rawValue, scope.kind.rawValue, scope.id]))
                result[scope] = thresholds.filter { !reached.contains($0) }
            }
            return result
        }
    }

    public func commitEvaluation(
        connection: ConnectionID, crossings: [Crossing], deliveries: [Delivery], cursor: Int64
    ) async throws -> [Delivery] {
        let known = Dictionary(deliveries.map { ($0.id, $0) }, uniquingKeysWith: { first, _ in first })
        return try await write { context in
            try context.db.cachedStatement(sql: "UPDATE connections SET cursor = max(cursor, ?) WHERE id = ?")
                .execute(arguments: [cursor, connection.rawValue])
            guard context.db.changesCount == 1 else { throw StoreError.noConnection(connection) }
            var made: [Delivery] = []
            for crossing in crossings where try context.insert(crossing) {
                guard let id = crossing.delivery, let delivery = known[id] else { continue }
                if try context.insert(delivery, key: crossing.key) { made.append(delivery) }
            }
            for delivery in made { try context.holdIfConnectionWaits(delivery.id) }
            return made
        }
    }

    public func crossings(connection: ConnectionID, scope: Scope) async throws -> [Crossing] {
        try await read("reading crossings") { db in
            try Row.fetchAll(
                db,
                sql: """
                    SELECT * FROM crossings WHERE connection_id = ? AND scope_kind = ? AND scope_id = ?
                    ORDER BY threshold, arming, target LIMIT \(PageBounds.maximum)
                    """, arguments: [connection.rawValue, scope.kind.rawValue, scope.id]
            ).map(CrossingRow.crossing(from:))
        }
    }

    public func highestReached(workspace: WorkspaceID, scope: Scope) async throws -> [ConnectionID: Int64] {
        try await read("reading crossings") { db in
            let rows = try Row.fetchAll(
                db,
                sql: """
                    SELECT connection_id, max(threshold) AS highest FROM crossings
                    WHERE workspace = ? AND scope_kind = ? AND scope_id = ? AND arming = 0 GROUP BY connection_id
                    """, arguments: [workspace.rawValue, scope.kind.rawValue, scope.id])
            return Dictionary(
                rows.map { (ConnectionID($0["connection_id"]), $0["highest"]) }, uniquingKeysWith: { first, _ in first }
            )
        }
    }

    // MARK: The workspace's lock (invariant 3, DUP-01)

    public func lockWorkspace(
        _ workspace: WorkspaceID, owner: String, now: Timestamp, until: Timestamp
    ) async throws -> Bool {
        workspaceLocks.take(workspace, owner: owner, now: now, until: until)
    }

    public func unlockWorkspace(_ workspace: WorkspaceID, owner: String) async throws {
        workspaceLocks.release(workspace, owner: owner)
    }
}

/// Who works on which workspace. In memory: the data directory's lock lets one process in, so a row on disk would say no
/// more, cost two fsyncs a tick, and outlive a killed daemon.
final class WorkspaceLocks: Sendable {
    private struct Holder {
        var owner: String
        var until: Timestamp
    }
    private let holders = Mutex<[WorkspaceID: Holder]>([:])

    func take(_ workspace: WorkspaceID, owner: String, now: Timestamp, until: Timestamp) -> Bool {
        holders.withLock { holders in
            if let holder = holders[workspace], holder.owner != owner, holder.until > now { return false }
            holders[workspace] = Holder(owner: owner, until: until)
            return true
        }
    }

    func releaseAll(exceptOwner owner: String) {
        holders.withLock { holders in holders = holders.filter { $0.value.owner == owner } }
    }

    func release(_ workspace: WorkspaceID, owner: String) {
        holders.withLock { holders in
            if holders[workspace]?.owner == owner { holders[workspace] = nil }
        }
    }
}

extension Connection {
    fileprivate func identified(as id: ConnectionID) -> Connection {
        Connection(
            id: id, workspace: workspace, integration: integration, state: state, stateSince: stateSince,
            stateReason: stateReason, policy: policy, settings: settings, account: account, warnings: warnings,
            cursor: cursor, isManaged: isManaged, connectedAt: connectedAt, credential: credential)
    }
}

extension WriteContext {
    /// Inserts or replaces a connection with its credentials, as `ConnectionBook.saveConnection` says.
    func save(
        _ connection: Connection, credentials: [SealedCredential], baseline: Reason?, at: Timestamp
    ) throws -> Connection {
        _ = try workspaceRow(connection.workspace)
        let existing = try ConnectionRow.find(connection.integration, workspace: connection.workspace, db)
        var saved = connection.identified(as: existing?.id ?? connection.id)
        if let existing {
            try addWaiting(existing, becoming: saved.state, at: at)
            // A state that goes on began when it began, or the waiting so far would be forgotten.
            if existing.state == saved.state { saved.stateSince = existing.stateSince }
        }
        if let baseline {
            try markReached(saved, thresholds: saved.policy.thresholds, reason: baseline, at: at)
            saved.cursor = state.sealedSequence()
        }
        try ConnectionRow.store(saved, db)
        try forgetHealth(saved.id, resuming: existing?.isDisabledForEndpoint == true)
        try followState(of: saved.id, at: at)
        try store(credentials, of: saved.id)
        try openStream(saved.id, after: existing)
        return try ConnectionRow.find(id: saved.id, db) ?? saved
    }

    /// Moves a connection that is in another state, with all that hangs on it.
    func move(_ connection: Connection, to state: Connection.State, reason: Reason?, at: Timestamp) throws {
        try addWaiting(connection, becoming: state, at: at)
        if state == .disconnected { try pauseStream(connection.id) }
        // By whatever way it leaves: also one that is disconnected and connected again sends its queue by and by (EXT-08).
        if connection.isDisabledForEndpoint { try forgetHealth(connection.id, resuming: true) }
        try db.execute(
            sql: "UPDATE connections SET state = ?, state_since = ?, reason_code = ?, reason_message = ? WHERE id = ?",
            arguments: [state.rawValue, at.milliseconds, reason?.code, reason?.message, connection.id.rawValue])
        try followState(of: connection.id, at: at)
    }

    /// Adds the time in the state that ends now to the waiting of the deliveries that sat through it. One with a hold of
    /// its own gets its time when that hold ends.
    fileprivate func addWaiting(_ connection: Connection, becoming state: Connection.State, at: Timestamp) throws {
        guard connection.state != .active, connection.state != state else { return }
        try db.execute(
            sql: """
                UPDATE deliveries SET waited = waited + max(0, ?1 - max(created_at, ?2))
                WHERE connection_id = ?3 AND state NOT IN ('delivered', 'dropped', 'dead')
                    AND NOT (state = 'held' AND came_from IS NULL)
                """, arguments: [at.milliseconds, connection.stateSince.milliseconds, connection.id.rawValue])
        try putOffFailing(of: connection.id, since: connection.stateSince, at: at)
    }

    fileprivate func store(_ credentials: [SealedCredential], of id: ConnectionID) throws {
        for credential in credentials {
            guard credential.connection == id else {
                throw StoreError(
                    code: .conflict,
                    detail:
                        "credential '\(credential.name)' was sealed for '\(credential.connection)', this connection "
                        + "is '\(id)': look the connection up and seal again")
            }
            try CredentialRow.store(credential, db)
        }
    }
}
