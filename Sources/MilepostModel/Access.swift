// SPDX-License-Identifier: Apache-2.0

/// What a REST token may do. `admin` includes `operator`, which includes `viewer`; `ingest` stands alone.
public enum AccessScope: String, Sendable, Codable, CaseIterable {
    case admin, `operator`, viewer, ingest

    /// Whether a token of this scope may do what asks for `needed`.
    public func grants(_ needed: AccessScope) -> Bool {
        switch self {
        case .admin: true
        case .operator: needed == .operator || needed == .viewer
        case .viewer: needed == .viewer
        case .ingest: needed == .ingest
        }
    }
}

/// A REST token as it is stored: its SHA-256 only.
public struct AccessToken: Sendable, Equatable {
    public var id: String
    public var name: String
    public var hash: [UInt8]
    public var scopes: [AccessScope]
    /// Nil: every workspace.
    public var workspace: WorkspaceID?
    public var createdAt: Timestamp
    public var expiresAt: Timestamp?

    public init(
        id: String, name: String, hash: [UInt8], scopes: [AccessScope], workspace: WorkspaceID? = nil,
        createdAt: Timestamp, expiresAt: Timestamp? = nil
    ) {
        self.id = id
        self.name = name
        self.hash = hash
        self.scopes = scopes
        self.workspace = workspace
        self.createdAt = createdAt
        self.expiresAt = expiresAt
    }
}

/// One line of the audit log (EXT-09). `detail` never holds a secret.
public struct AuditEntry: Sendable, Equatable {
    public var id: Int64
    public var at: Timestamp
    /// The token's name and id, `cli:init`, or `daemon`.
    public var actor: String
    /// Verb and noun: `integration.connect`, `token.create`.
    public var action: String
    public var target: String
    public var detail: JSONValue

    public init(
        id: Int64 = 0, at: Timestamp, actor: String, action: String, target: String, detail: JSONValue = .object([:])
    ) {
        self.id = id
        self.at = at
        self.actor = actor
        self.action = action
        self.target = target
        self.detail = detail
    }
}
