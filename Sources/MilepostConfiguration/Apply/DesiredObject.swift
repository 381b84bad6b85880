// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// One thing that a file for `milepost apply` wants to exist (EXT-15).
public struct DesiredObject: Sendable, Hashable {
    public var kind: ManagedObject.Kind
    /// Empty for what belongs to the whole daemon.
    public var workspace: String
    /// A connection's integration; empty where a workspace has one of the kind.
    public var name: String
    /// The file's absolute path, symbolic links followed: by this name the daemon remembers it.
    public var source: String
    /// Where it begins.
    public var line: Int?
    /// Its place in the file, such as `workspaces.acme.connections.pipedrive`.
    public var place: String
    /// The members that REST takes, without credentials.
    public var document: [String: JSONValue]
    public var secrets: [String: SecretReference] = [:]
    /// Whether a new connection fires for what its totals have reached already. Counts while connecting only.
    public var firesForCurrentState: Bool?
    /// Where each member stands, by its JSON pointer in REST's terms.
    public var fields: [String: Field] = [:]

    public struct Field: Sendable, Hashable {
        public var line: Int?
        /// Its place in the file, such as `workspaces.acme.connections.pipedrive.settings.stage_id`.
        public var place: String

        public init(line: Int? = nil, place: String) {
            self.line = line
            self.place = place
        }
    }

    public init(
        kind: ManagedObject.Kind, workspace: String, name: String, source: String, line: Int? = nil, place: String,
        document: [String: JSONValue]
    ) {
        self.kind = kind
        self.workspace = workspace
        self.name = name
        self.source = source
        self.line = line
        self.place = place
        self.document = document
    }

    /// Where the member stands that a pointer names, or the nearest one around it.
    public func field(at pointer: String) -> Field {
        var pointer = pointer[...]
        while !pointer.isEmpty {
            if let found = fields[String(pointer)] { return found }
            pointer = pointer.lastIndex(of: "/").map { pointer[..<$0] } ?? ""
        }
        return Field(line: line, place: place)
    }
}

/// Where a secret is; never the secret itself.
public struct SecretReference: Sendable, Hashable {
    public enum Kind: Sendable, Hashable {
        case environment(String)
        /// An absolute path, or one beside the file that names it.
        case file(String)
    }
    public var kind: Kind
    public var field: DesiredObject.Field

    public init(kind: Kind, field: DesiredObject.Field) {
        self.kind = kind
        self.field = field
    }
}

/// Everything that the given files want.
public struct DesiredState: Sendable, Equatable {
    /// In the order of the files.
    public var objects: [DesiredObject] = []
    public var files: [String] = []
    /// Folders that were given: what came from a file in one of them is judged too, when that file is gone.
    public var folders: [String] = []

    public init(objects: [DesiredObject] = [], files: [String] = [], folders: [String] = []) {
        self.objects = objects
        self.files = files
        self.folders = folders
    }

    /// Whether this run speaks for what came from `source`.
    public func covers(_ source: String) -> Bool {
        if files.contains(source) { return true }
        guard let slash = source.lastIndex(of: "/") else { return false }
        return folders.contains(String(source[..<slash]))
    }
}
