// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
import MilepostStore
import MilepostVault

// What comes from a file is changed only through it (decisions 32). `file` is the one that asks, nil for a person.

extension ConnectionService {
    func refuseManaged(_ connection: Connection?, by file: String?) async throws {
        guard let connection, connection.isManaged, file == nil else { return }
        let managed = try await store.managedObject(
            .connection, workspace: connection.workspace, name: connection.integration.description)
        throw EngineError.managed("\(connection.integration)", by: managed)
    }

    /// Marks a connection as coming from `file` and keeps what the file said; no file leaves it as it is.
    func marked(_ connection: Connection, _ request: ConnectionRequest, by file: String?) async throws -> Connection {
        guard let file else { return connection }
        let name = connection.integration.description
        let before = try await store.managedObject(.connection, workspace: connection.workspace, name: name)
        let document = ConnectionRequest.merged(request.given, over: before?.document.object ?? [:])
        try await store.manage(
            ManagedObject(
                kind: .connection, workspace: connection.workspace, name: name, source: file,
                document: .object(document), appliedAt: clock.now))
        var connection = connection
        connection.isManaged = true
        return connection
    }

    /// Names of the given credentials that are not what is stored. Asks no vendor and stores nothing.
    public func differingCredentials(
        _ request: ConnectionRequest, _ integration: IntegrationName, workspace: WorkspaceID
    ) async throws -> [String] {
        let existing = try await existing(integration, workspace: workspace)
        var different: [String] = []
        for (name, secret) in request.credentials.sorted(by: { $0.key < $1.key }) {
            let reference = CredentialReference(connection: existing.id, name: name)
            var bytes = Array(secret.utf8)
            let given = try SecretBytes(wiping: &bytes)
            guard try await store.credential(reference) != nil, try await vault.open(reference).isEqual(to: given)
            else {
                different.append(name)
                continue
            }
        }
        return different
    }
}

extension EngineError {
    /// Says which file to change.
    public static func managed(_ what: String, by object: ManagedObject?) -> EngineError {
        let file = object.map { "the file \($0.source)" } ?? "a file"
        return EngineError(
            code: .managed,
            detail: "\(what) comes from \(file): change it there and run milepost apply.")
    }
}
