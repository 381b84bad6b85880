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
