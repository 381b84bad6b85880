// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
import MilepostStore

extension ConnectionService {
    /// Lets a connection that was disabled for its endpoint deliver again (EXT-08). One that is active stays as it is.
    ///
    /// - Throws: `EngineError.conflict` when it waits for something else, saying for what.
    public func enable(_ integration: IntegrationName, workspace: WorkspaceID) async throws -> Connection {
        let existing = try await self.existing(integration, workspace: workspace)
        if existing.state == .active { return existing }
        if try await store.enable(connection: existing.id, at: clock.now) {
            reporter.connectionMoved(existing, to: .active, reason: nil)
            return try await store.connection(id: existing.id) ?? existing
        }
        let cause = existing.stateReason?.message ?? "It waits for something else."
        throw EngineError(
            code: .conflict,
            detail: "\(integration) is \(existing.state.rawValue), which enabling does not end: \(cause)")
    }
}

extension Engine {
    /// Between the drains of a connection that was enabled again.
    static let resumePause: Duration = .seconds(10)

    /// Delivers what waits on a connection that works again: at once; or, where it was disabled for its endpoint, oldest
    /// first and each time more than the time before, until one fails, after which ticks go on.
    public func goOn(_ connection: Connection) async {
        let id = connection.id
        if connection.health.resumeQuota == nil { return await flush(connection) }
        while let connection = try? await store.connection(id: id), connection.state == .active,
            connection.health.resumeQuota != nil
        {
            await flush(connection)
            guard let after = try? await store.connection(id: id), after.health.failures == 0,
                // Cancelled: the daemon ends, and the next one's ticks go on.
                (try? await clock.sleep(for: Self.resumePause)) != nil
            else { return }
        }
    }
}
