// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostRules
import MilepostStore
import Synchronization

/// A workspace's rules, read once and found by tag and link from then on.
final class RuleCache: Sendable {
    struct Lane: Sendable {
        var index: RuleIndex
        /// Beside `index.rules`.
        var stored: [StoredRule]
        /// Where these rules are in the log while their windows are filled; nil: they follow the workspace's cursor.
        var filling: RuleCursor?
    }
    struct Compiled: Sendable {
        var following: Lane
        var filling: [Lane]
    }

    private struct State {
        var compiled: [WorkspaceID: Compiled] = [:]
        /// Grows with every change, so that what was read before one is not kept after it.
        var generation: UInt64 = 0
    }
    private let store: any Store
    private let state = Mutex(State())

    init(store: any Store) { self.store = store }

    /// To be called after every change of a workspace's rules.
    func forget(_ workspace: WorkspaceID) {
        state.withLock { state in
            state.generation += 1
            state.compiled[workspace] = nil
        }
    }

    /// Notes how far rules that are being filled have come, which is cheaper than reading them anew for every page.
    func note(_ workspace: WorkspaceID, filling numbers: [Int64], at cursor: RuleCursor) {
        state.withLock { state in
            let lane = state.compiled[workspace]?.filling.firstIndex { $0.stored.map(\.number) == numbers }
            if let lane { state.compiled[workspace]?.filling[lane].filling = cursor }
        }
    }

    func rules(of workspace: WorkspaceID) async throws -> Compiled {
        let (known, generation) = state.withLock { ($0.compiled[workspace], $0.generation) }
        if let known { return known }
        let stored = try await store.rules(workspace: workspace)
        let groups = Dictionary(grouping: stored, by: \.filled)
        let compiled = Compiled(
            following: Self.lane(groups[nil] ?? [], nil),
            filling: groups.compactMap { filled, members in filled == nil ? nil : Self.lane(members, filled) }.sorted {
                ($0.filling?.position.rawValue ?? 0) < ($1.filling?.position.rawValue ?? 0)
            })
        state.withLock { state in
            if state.generation == generation { state.compiled[workspace] = compiled }
        }
        return compiled
    }

    private static func lane(_ stored: [StoredRule], _ filling: RuleCursor?) -> Lane {
        let read = stored.compactMap { item in
            RollingRuleReader.read(item.document).rules.first.map { (item, $0) }
        }
        let index = RuleIndex(read.map(\.1))
        let byID = Dictionary(read.map { ($0.1.id, $0.0) }, uniquingKeysWith: { first, _ in first })
        return Lane(index: index, stored: index.rules.compactMap { byID[$0.id] }, filling: filling)
    }
}
