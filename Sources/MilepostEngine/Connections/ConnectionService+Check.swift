// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
import MilepostPluginHost
import MilepostStore

extension ConnectionService {
    /// Codes of warnings that `check` gives and takes away begin with this.
    static let checkMark = "setting_"

    /// Asks the vendor once more whether a connection's settings fit: what was right when they were saved may have been
    /// changed there since, as a property that takes no values any more (TRB-09). Changes no setting; what is wrong stands
    /// among the connection's warnings until a later check finds it mended.
    ///
    /// - Returns: what is wrong now.
    public func check(_ integration: IntegrationName, workspace: WorkspaceID) async throws -> [Reason] {
        try await check(existing(integration, workspace: workspace))
    }

    /// As `check`, for all connections that work, one after the other.
    ///
    /// - Returns: what is wrong now that was not known before. A vendor or plugin that cannot be asked leaves what is known.
    public func checkAll() async throws -> [(connection: Connection, reason: Reason)] {
        var news: [(connection: Connection, reason: Reason)] = []
        for connection in try await store.connections(workspace: nil) where connection.state == .active {
            try Task.checkCancellation()
            do {
                for reason in try await check(connection) where !connection.warnings.contains(reason) {
                    news.append((connection, reason))
                }
            } catch is EngineError { continue }
        }
        return news
    }

    private func check(_ connection: Connection) async throws -> [Reason] {
        guard connection.state != .disconnected else {
            throw EngineError(
                code: .conflict,
                detail: "\(connection.integration) is disconnected, so nobody can be asked; connect it first.")
        }
        let result = await plugins.perform(
            .configure, body: ["settings": connection.settings], on: connection)
        var found: [Reason] = []
        if result.status != .unsupported {
            guard result.status == .ok, let answer = VerbBody.parsed(result) else { throw Self.failure(result) }
            found = (answer["errors"]?.array ?? []).map { item in
                let pointer = item["pointer"]?.string ?? ""
                let message = item["message"]?.string ?? "is not accepted by the plugin any more"
                return Reason(
                    code: Self.checkMark + (item["code"]?.string ?? "invalid"),
                    message: pointer.isEmpty ? message : "\(pointer.dropFirst()): \(message)")
            }
        }
        try await store.replaceWarnings(id: connection.id, beginning: Self.checkMark, with: found)
        return found
    }
}
