// SPDX-License-Identifier: Apache-2.0

import GRDB
public import MilepostModel

/// Remembers how the endpoints of connections do (EXT-08).
public protocol EndpointBook: Sendable {
    /// Adds attempts that failed without a success among them, and answers how the endpoint does now. A connection that
    /// was resuming begins that again.
    func noteFailures(
        connection: ConnectionID, count: Int, reason: Reason, at: Timestamp
    ) async throws -> EndpointHealth
    /// An attempt succeeded: what failed before counts no longer.
    func noteSuccess(connection: ConnectionID) async throws
    /// How many deliveries the next drain may send; nil: as many as there are.
    func setResumeQuota(connection: ConnectionID, _ quota: Int?) async throws
    /// Makes a connection active that was disabled for its endpoint, with a clean slate and the first quota; false when it
    /// was not disabled for that.
    func enable(connection: ConnectionID, at: Timestamp) async throws -> Bool
}

extension SQLiteStore {
    public func noteFailures(
        connection: ConnectionID, count: Int, reason: Reason, at: Timestamp
    ) async throws -> EndpointHealth {
        try await write { context in
            let row = try Row.fetchOne(
                context.db,
                sql: """
                    UPDATE connections SET failures = failures + ?, failing_since = coalesce(failing_since, ?),
                        failure_code = ?, failure_message = ?,
                        resume_quota = iif(resume_quota IS NULL, NULL, \(EndpointHealth.firstQuota))
                    WHERE id = ? RETURNING failures, failing_since, failure_code, failure_message, resume_quota
                    """,
                arguments: [count, at.milliseconds, reason.code, reason.message, connection.rawValue])
            guard let row else { throw StoreError.noConnection(connection) }
            return ConnectionRow.health(from: row)
        }
    }

    public func noteSuccess(connection: ConnectionID) async throws {
        try await write { context in
            try context.db.cachedStatement(
                sql: """
                    UPDATE connections SET failures = 0, failing_since = NULL, failure_code = NULL,
                        failure_message = NULL WHERE id = ?
                    """
            ).execute(arguments: [connection.rawValue])
        }
    }

    public func setResumeQuota(connection: ConnectionID, _ quota: Int?) async throws {
        try await write { context in
            // Whoever is late must not begin anew what has ended.
            try context.db.cachedStatement(
                sql: "UPDATE connections SET resume_quota = ? WHERE id = ? AND resume_quota IS NOT NULL"
            ).execute(arguments: [quota, connection.rawValue])
        }
    }

    public func enable(connection id: ConnectionID, at: Timestamp) async throws -> Bool {
        let workspace = try await write { context -> WorkspaceID? in
            guard let connection = try ConnectionRow.find(id: id, context.db) else { throw StoreError.noConnection(id) }
            guard connection.isDisabledForEndpoint else { return nil }
            try context.move(connection, to: .active, reason: nil, at: at)
            try context.forgetHealth(id, resuming: true)
            return connection.workspace
        }
        guard let workspace else { return false }
        arrivals.raise(workspace) { $0.connections.insert(workspace) }
        return true
    }
}

extension WriteContext {
    /// Another address or another key may do better: what failed before is no news of it. A connection that was disabled
    /// for its endpoint, and has not sent all of its queue since, begins that again: whoever gives it a new token meanwhile
    /// has not mended the endpoint.
    func forgetHealth(_ id: ConnectionID, resuming: Bool = false) throws {
        try db.cachedStatement(
            sql: """
                UPDATE connections SET failures = 0, failing_since = NULL, failure_code = NULL, failure_message = NULL,
                    resume_quota = iif(?1 OR resume_quota IS NOT NULL, \(EndpointHealth.firstQuota), NULL) WHERE id = ?2
                """
        ).execute(arguments: [resuming, id.rawValue])
    }

    /// Time in which nothing could be tried is none in which it failed.
    ///
    /// - Parameter id: nil for all that were active.
    func putOffFailing(of id: ConnectionID? = nil, since: Timestamp, at: Timestamp) throws {
        try db.cachedStatement(
            sql: """
                UPDATE connections SET failing_since = failing_since + max(0, ?1 - max(failing_since, ?2))
                WHERE failing_since IS NOT NULL AND (id = ?3 OR (?3 IS NULL AND state = 'active'))
                """
        ).execute(arguments: [at.milliseconds, since.milliseconds, id?.rawValue])
    }
}
