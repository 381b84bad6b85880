// SPDX-License-Identifier: Apache-2.0

/// A thing that comes from a file: only the file changes it, by `milepost apply` (decisions 32).
public struct ManagedObject: Hashable, Sendable {
    public enum Kind: String, Sendable, CaseIterable {
        case connection
        /// The matrix of plans, whole.
        case plans
        /// What a workspace is on.
        case workspace
        /// A rolling rule, by its id.
        case rule
    }
    public var kind: Kind
    /// Nil for what belongs to the whole daemon.
    public var workspace: WorkspaceID?
    /// Unique within kind and workspace, such as a connection's integration.
    public var name: String
    /// The file, as the one who applied it names it.
    public var source: String
    /// What the file said, an object, without any secret. Kept beside what came of it, because a plugin may store a setting
    /// in another form than it was given: only like compared with like makes a second apply empty.
    public var document: JSONValue
    public var appliedAt: Timestamp

    public init(
        kind: Kind, workspace: WorkspaceID?, name: String, source: String, document: JSONValue, appliedAt: Timestamp
    ) {
        self.kind = kind
        self.workspace = workspace
        self.name = name
        self.source = source
        self.document = document
        self.appliedAt = appliedAt
    }
}
