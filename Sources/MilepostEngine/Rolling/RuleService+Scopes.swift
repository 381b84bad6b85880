// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
import MilepostRules
import MilepostStore

// A rule that acts needs scopes that its connection may have been installed without (Z-05). Read whenever it is shown and
// never stored: the installation that cures it tells nobody of rules.

extension RuleService {
    /// The feature's name in manifests.
    static let feature = "rules"

    /// Adds to each rule's warnings which scope its connection lacks.
    func withScopeWarnings(_ rules: [StoredRule]) async throws -> [StoredRule] {
        var known: [IntegrationName: Reason?] = [:]
        var result: [StoredRule] = []
        for var rule in rules {
            if let integration = Self.actsThrough(rule) {
                if known[integration] == nil {
                    let connection = try await store.connection(integration, workspace: rule.workspace)
                    known[integration] = .some(try await missingScopes(of: connection))
                }
                if let reason = known[integration] ?? nil { rule.warnings.append(reason) }
            }
            result.append(rule)
        }
        return result
    }

    /// Connections that rules act through without the scopes for it, for status and doctor.
    public func connectionsWithoutScopes() async throws -> [(connection: Connection, reason: Reason)] {
        var found: [(connection: Connection, reason: Reason)] = []
        for workspace in try await store.ruleWorkspaces() {
            let used = Set(try await store.rules(workspace: workspace).compactMap(Self.actsThrough))
            for integration in used.sorted(by: { $0.description < $1.description }) {
                guard let connection = try await store.connection(integration, workspace: workspace),
                    let reason = try await missingScopes(of: connection)
                else { continue }
                found.append((connection, reason))
            }
        }
        return found
    }

    /// Whether the workspace has a rule that acts through the integration; one that only observes needs no right.
    static func hasActingRules(
        _ integration: IntegrationName, workspace: WorkspaceID, in store: any Store
    ) async throws -> Bool {
        try await store.rules(workspace: workspace).contains { actsThrough($0) == integration }
    }

    private static func actsThrough(_ rule: StoredRule) -> IntegrationName? {
        guard let read = RollingRuleReader.read(rule.document).rules.first, read.mode == .act else { return nil }
        return read.integration
    }

    private func missingScopes(of connection: Connection?) async throws -> Reason? {
        guard let connection, connection.state != .disconnected else { return nil }
        let wanted = port.scopes(for: Self.feature, on: connection)
        guard !wanted.isEmpty, let chain = try await store.chain(connection.id) else { return nil }
        let missing = wanted.filter { !chain.scopes.contains($0.scope) }
        guard !missing.isEmpty else { return nil }
        let named = missing.map { "\($0.scope) (\($0.reason))" }.joined(separator: ", ")
        return Reason(
            code: "rule_scope_missing",
            message:
                "\(connection.integration) was installed without \(named), so rules cannot act through it. Install it "
                + "again, the history stays, and it is asked for: milepost connect \(connection.integration) --oauth "
                + "-w \(connection.workspace).")
    }
}
