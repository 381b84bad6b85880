// SPDX-License-Identifier: Apache-2.0

public import MilepostConfiguration
public import MilepostModel

/// What would have to change at the daemon for it to be what the files say. Pure: from what is wanted and what is there.
public struct ApplyPlan: Sendable, Equatable {
    /// In the order in which they are carried out: plans, workspaces, connections, rules, then what is taken away.
    public var steps: [ApplyStep] = []
    /// Managed things of files that were not given; nothing happens to them.
    public var elsewhere: [ApplyKey] = []

    /// - Parameter prunes: whether what the files no longer name is taken away, or only named.
    public init(desired: DesiredState, current: CurrentState, prunes: Bool) {
        let order = ManagedObject.Kind.applied
        let wanted = desired.objects.enumerated().sorted { left, right in
            (order.firstIndex(of: left.element.kind) ?? 0, left.offset)
                < (order.firstIndex(of: right.element.kind) ?? 0, right.offset)
        }.map(\.element)
        steps = wanted.compactMap { Self.step(for: $0, current) }
        let named = Set(desired.objects.map(ApplyKey.init))
        for (key, managed) in current.managed.sorted(by: { $0.key < $1.key }) where !named.contains(key) {
            guard desired.covers(managed.source) else {
                elsewhere.append(key)
                continue
            }
            steps.append(
                ApplyStep(
                    action: prunes ? .remove : .leave, key: key, desired: nil, source: managed.source,
                    changes: managed.document.sorted { $0.key < $1.key }.map {
                        ApplyStep.Change(field: $0.key, from: $0.value, to: nil)
                    }))
        }
    }

    /// Whether carrying it out would call for no change.
    public var isEmpty: Bool { steps.allSatisfy { $0.action == .leave } }

    private static func step(for desired: DesiredObject, _ current: CurrentState) -> ApplyStep? {
        let key = ApplyKey(desired)
        let managed = current.managed[key]
        let found = current.found[key]
        // What the file said before is the measure; a thing that no file managed is measured by what it is.
        let before = managed?.document ?? found ?? [:]
        var changes: [ApplyStep.Change] = []
        let gone = managed.map { Set($0.document.keys).subtracting(desired.document.keys) } ?? []
        for field in Set(desired.document.keys).union(gone).sorted() {
            let (from, to) = (before[field], desired.document[field])
            if from != to { changes.append(ApplyStep.Change(field: field, from: from, to: to)) }
        }
        let isNew = found == nil
        let credentials = isNew ? Set(desired.secrets.keys) : current.differentCredentials[key] ?? []
        changes += credentials.sorted().map {
            ApplyStep.Change(field: "credentials.\($0)", from: isNew ? nil : "(stored)", to: "(given)")
        }
        if let managed, managed.source != desired.source {
            changes.append(
                ApplyStep.Change(field: "managed_by", from: .string(managed.source), to: .string(desired.source)))
        }
        let action: ApplyStep.Action = isNew ? .create : managed == nil ? .adopt : .change
        guard action != .change || !changes.isEmpty else { return nil }
        return ApplyStep(
            action: action, key: key, desired: desired, source: desired.source, changes: changes,
            credentials: credentials)
    }
}

/// One thing that is made, changed or taken away.
public struct ApplyStep: Sendable, Hashable {
    public enum Action: String, Sendable {
        case create
        case change
        /// It is there, made by hand; from now on the file manages it.
        case adopt
        case remove
        /// No file names it any more; it stays until a run with `--prune`.
        case leave
    }
    public struct Change: Sendable, Hashable {
        public var field: String
        /// Nil where it was not there.
        public var from: JSONValue?
        /// Nil where it goes away.
        public var to: JSONValue?

        public init(field: String, from: JSONValue?, to: JSONValue?) {
            self.field = field
            self.from = from
            self.to = to
        }
    }
    public var action: Action
    public var key: ApplyKey
    public var desired: DesiredObject?
    public var source: String
    public var changes: [Change]
    /// Names of the secrets that are sent along.
    public var credentials: Set<String> = []

    /// The members to send: all of them when the daemon does not hold the file's word yet, else those that changed; null for
    /// what the file named before and no longer does.
    public var members: [String: JSONValue] {
        guard let desired else { return [:] }
        var members = action == .change ? [:] : desired.document
        for change in changes {
            if let wanted = desired.document[change.field] {
                members[change.field] = wanted
            } else if change.to == nil {
                members[change.field] = .null
            }
        }
        return members
    }
}

/// What a thing is called in plans and answers.
public struct ApplyKey: Hashable, Sendable, Comparable, CustomStringConvertible {
    public var kind: ManagedObject.Kind
    public var workspace: String
    public var name: String

    public init(kind: ManagedObject.Kind, workspace: String, name: String) {
        self.kind = kind
        self.workspace = workspace
        self.name = name
    }

    public init(_ object: DesiredObject) {
        self.init(kind: object.kind, workspace: object.workspace, name: object.name)
    }

    public static func < (left: Self, right: Self) -> Bool {
        (left.kind.rawValue, left.workspace, left.name) < (right.kind.rawValue, right.workspace, right.name)
    }

    public var description: String {
        switch kind {
        case .plans: "plans"
        case .workspace: "plan of workspace \(workspace)"
        case .connection: "connection \(workspace)/\(name)"
        case .rule: "rule \(workspace)/\(name)"
        }
    }
}

/// What is at the daemon, as far as the files are about it.
public struct CurrentState: Sendable, Equatable {
    public struct Managed: Sendable, Equatable {
        public var source: String
        public var document: [String: JSONValue]

        public init(source: String, document: [String: JSONValue]) {
            self.source = source
            self.document = document
        }
    }
    /// Everything that comes from a file.
    public var managed: [ApplyKey: Managed] = [:]
    /// What is there and how it is set; a connection that was disconnected is not there.
    public var found: [ApplyKey: [String: JSONValue]] = [:]
    /// Credentials in the files that are not those the daemon holds.
    public var differentCredentials: [ApplyKey: Set<String>] = [:]

    public init() {}
}

extension ManagedObject.Kind {
    /// The order of making: a connection may need its workspace's plan, and a rule is checked with its connection.
    static let applied: [ManagedObject.Kind] = [.plans, .workspace, .connection, .rule]
}
