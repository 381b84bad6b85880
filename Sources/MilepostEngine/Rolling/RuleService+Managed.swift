// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
import MilepostStore

// A rule that comes from a file is changed only through it (decisions 32). `file` is the one that asks, nil for a person.

extension RuleService {
    func refuseManaged(_ rule: StoredRule?, by file: String?) async throws {
        guard let rule, rule.isManaged, file == nil else { return }
        if let object = try await store.managedObject(.rule, workspace: rule.workspace, name: rule.id) {
            throw EngineError.managed("The rule \(rule.id)", by: object)
        }
        throw EngineError(
            code: .managed,
            detail: "The rule \(rule.id) comes from a file: change the file and run milepost rules apply.")
    }

    /// Keeps what the file said beside the rule that was made of it.
    func manage(_ id: String, _ document: JSONValue, workspace: WorkspaceID, by file: String) async throws {
        try await store.manage(
            ManagedObject(
                kind: .rule, workspace: workspace, name: id, source: file, document: document, appliedAt: clock.now))
    }

    /// The workspace's rules that `milepost apply` made, by id.
    public func filesOfRules(_ workspace: WorkspaceID) async throws -> [String: ManagedObject] {
        let objects = try await store.managedObjects().filter { $0.kind == .rule && $0.workspace == workspace }
        return Dictionary(objects.map { ($0.name, $0) }, uniquingKeysWith: { first, _ in first })
    }
}
