// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// Remembers what comes from files (decisions 32).
public protocol ManagedBook: Sendable {
    func managedObject(
        _ kind: ManagedObject.Kind, workspace: WorkspaceID?, name: String
    ) async throws -> ManagedObject?
    /// All of them, in order of kind, workspace and name.
    func managedObjects() async throws -> [ManagedObject]
    /// Puts it in the place of an earlier one of the same kind, workspace and name; a connection is marked, too.
    func manage(_ object: ManagedObject) async throws
    /// Gives it back to REST and command line; nothing happens when it was not managed.
    func release(_ kind: ManagedObject.Kind, workspace: WorkspaceID?, name: String) async throws
}
