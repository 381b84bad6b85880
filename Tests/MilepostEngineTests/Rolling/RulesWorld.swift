// SPDX-License-Identifier: Apache-2.0

import Foundation
import MilepostEngine
import MilepostIntake
import MilepostModel
import MilepostRules
import MilepostStore
import Synchronization

/// A vendor with deals and stages, and its plugin in one.
final class ScriptedCRM: PluginPort, RulePort {
    struct Deal: Sendable, Equatable {
        var id: String
        var stage = "appointmentscheduled"
        var amount: String? = "10000"
        var isPrimary = false
        var created = "2026-01-01T00:00:00Z"
    }
    private struct State {
        var deals: [String: [Deal]] = [:]
        var stages = ["appointmentscheduled", "qualifiedtobuy", "closedwon"]
        var lookUpFailures: [Verdict] = []
        var lookUps = 0
        var moves: [String] = []
    }
    private let state = Mutex(State())

    /// `deal:stage` for each move that was made.
    var moves: [String] { state.withLock { $0.moves } }
    var lookUps: Int { state.withLock { $0.lookUps } }
    func set(_ deals: [Deal], of contact: String) { state.withLock { $0.deals[contact] = deals } }
    func set(stages: [String]) { state.withLock { $0.stages = stages } }
    /// The next look-ups fail like this, in order.
    func failLookUps(_ verdicts: [Verdict]) { state.withLock { $0.lookUpFailures = verdicts } }
    /// Moves a deal as a person would, between the rule's look and its move.
    func move(_ deal: String, to stage: String) { state.withLock { Self.move(deal, to: stage, &$0) } }

    func traits(of plugin: PluginName, action: String) -> ActionTraits? { ActionTraits() }
    func thresholdAction(of plugin: PluginName) -> String? { nil }
    func obstacle(for plugin: PluginName) -> Reason? { nil }
    func reconcile(_ claims: [ClaimedDelivery], on connection: Connection) async -> [Finding] { [] }

    func deliver(_ claims: [ClaimedDelivery], on connection: Connection) async -> [Verdict] {
        claims.map { claim in
            let payload = claim.delivery.payload
            guard let target = payload["target"]?["id"]?.string, let to = payload["action"]?["to_stage"]?.string,
                let from = payload["action"]?["from_stage"]?.string
            else { return Verdict(kind: .pluginBug, message: "no target") }
            return state.withLock { state in
                guard state.deals.values.joined().first(where: { $0.id == target })?.stage == from else {
                    return Verdict(
                        kind: .rejected, code: "target_moved", message: "The deal is not in \(from) any more.")
                }
                Self.move(target, to: to, &state)
                state.moves.append("\(target):\(to)")
                return Verdict(kind: .ok, remoteID: target)
            }
        }
    }

    private static func move(_ deal: String, to stage: String, _ state: inout State) {
        for (contact, deals) in state.deals {
            state.deals[contact] = deals.map { $0.id == deal ? Deal(id: deal, stage: stage, amount: $0.amount) : $0 }
        }
    }

    func ruleAction(of plugin: PluginName, named type: String) -> String? {
        ["deal_stage", "move_deal"].contains(type) ? "deal_stage" : nil
    }

    func targets(of person: JSONValue, pipeline: String, on connection: Connection) async -> TargetAnswer {
        state.withLock { state in
            state.lookUps += 1
            if !state.lookUpFailures.isEmpty { return .failed(state.lookUpFailures.removeFirst()) }
            return .targets(
                (state.deals[person["id"]?.string ?? ""] ?? []).map { deal in
                    RuleTarget(
                        id: deal.id, pipeline: pipeline, stage: deal.stage,
                        amount: deal.amount.flatMap(DecimalAmount.init), createdAt: Timestamp(rfc3339: deal.created),
                        isPrimary: deal.isPrimary)
                })
        }
    }

    func choices(_ picker: String, under value: JSONValue?, on connection: Connection) async throws -> [PickerChoice]? {
        if picker == "pipelines" { return [PickerChoice(value: "default", label: "Sales Pipeline")] }
        return state.withLock { $0.stages }.map { PickerChoice(value: .string($0), label: $0.uppercased()) }
    }
}

/// Rolling rules on a real store in virtual time. `restart` ends the process's part and begins it anew.
final class RulesWorld {
    let clock = VirtualClock(Timestamp(rfc3339: "2026-11-21T12:00:00Z")!)
    let crm = ScriptedCRM()
    private let folder: TemporaryFolder
    let workspace: WorkspaceID = "acme"
    private(set) var store: SQLiteStore
    private(set) var rules: RollingRooms
    private var clicks = 0
    private var starts: UInt64 = 1

    init() async throws {
        folder = try TemporaryFolder()
        (store, rules) = try Self.open(folder.path, clock, crm, seed: 1)
        _ = try await store.ensureWorkspace(workspace, at: clock.now)
        _ = try await store.saveConnection(
            Connection(
                id: "con_1", workspace: workspace, integration: IntegrationName(plugin: "hubspot"),
                stateSince: clock.now, connectedAt: clock.now),
            credentials: [], baseline: nil, at: clock.now)
    }

    private static func open(
        _ directory: String, _ clock: VirtualClock, _ crm: ScriptedCRM, seed: UInt64
    ) throws -> (SQLiteStore, RollingRooms) {
        let arrivals = ArrivalSignal()
        let store = try SQLiteStore.open(directory: directory, clock: clock, arrivals: arrivals)
        let random = SeededRandom(seed: seed)
        let owner = "run_\(seed)"
        let ticker = Ticker(
            store: store, plugins: crm, clock: clock,
            evaluator: Evaluator(
                store: store, clock: clock, random: random, plans: PlanMatrix(), analyticsURLTemplate: nil),
            dispatcher: Dispatcher(
                store: store, plugins: crm, clock: clock, random: random, owner: owner, limits: .init(),
                backoff: Backoff(), reporter: SilentReporter()),
            owner: owner, reporter: SilentReporter())
        let rules = RollingRooms(
            store: store, port: crm, clock: clock, random: random, plans: PlanMatrix(), ticker: ticker,
            resolver: ContactResolver(store: store, arrivals: arrivals), arrivals: arrivals, reporter: SilentReporter(),
            // Few, so that streams of clicks fall into many pages.
            clicksPerPage: 37)
        return (store, rules)
    }

    func restart() async throws {
        await store.close()
        starts += 1
        (store, rules) = try Self.open(folder.path, clock, crm, seed: starts)
    }

    func end() async {
        await store.close()
        folder.remove()
    }

    // MARK: Doing

    static func document(
        _ id: String, tag: String? = "sales-collateral", link: String? = nil, window: String = "30d rolling",
        threshold: Int = 50, minimum: JSONValue = .null, more: [String: JSONValue] = [:]
    ) -> JSONValue {
        var trigger: [String: JSONValue] = [
            "contact_window": .string(window), "click_threshold": .integer(Int64(threshold)),
        ]
        if let link { trigger["link"] = .string(link) } else { trigger["link_tag"] = JSONValue(tag) }
        var rule: [String: JSONValue] = [
            "id": .string(id), "name": .string(id), "trigger": .object(trigger),
            "action": [
                "type": "hubspot.deal_stage", "pipeline": "default", "from_stage": "appointmentscheduled",
                "to_stage": "qualifiedtobuy",
            ],
            "guard": ["require_associated_contact": true, "deal_amount_min": minimum],
        ]
        rule.merge(more) { $1 }
        return .object(rule)
    }

    @discardableResult
    func make(_ documents: JSONValue...) async throws -> [StoredRule] {
        try await rules.service.create(.array(documents), workspace: workspace)
    }

    func tag(_ link: LinkID, _ tags: [String], flags: Set<Link.Flag> = []) async throws {
        var change = LinkChange()
        change.tags = tags
        change.flags = flags
        _ = try await store.changeLink(link, workspace: workspace, change: change, at: clock.now)
    }

    /// - Returns: the last click's id.
    @discardableResult
    func click(
        _ link: LinkID = "brochure", by contact: String? = "c1", times: Int = 1, isBot: Bool = false,
        at time: Timestamp? = nil
    ) async throws -> EventID {
        var batch: [IdentifiedClick] = []
        var last: EventID = ""
        for _ in 0..<times {
            clicks += 1
            last = EventID("e\(clicks)")
            batch.append(
                IdentifiedClick(
                    click: Click(id: last, link: link, time: time ?? clock.now, isBot: isBot, contactID: contact),
                    identity: ClickIdentity.of(last, workspace: workspace)))
        }
        _ = try await store.append(batch, workspace: workspace, receivedAt: clock.now)
        return last
    }

    /// What the daemon does when clicks were stored.
    func catchUp() async throws { try await rules.engine.catchUp(workspace) }

    func firings(_ rule: String? = nil) async throws -> [RuleFiring] {
        try await store.firings(
            workspace: workspace, matching: FiringFilter(rule: rule), cursor: nil, limit: 1000
        ).items.reversed()
    }

    func deliveries() async throws -> [Delivery] {
        try await store.deliveries(workspace: workspace, matching: DeliveryFilter(), cursor: nil, limit: 500).items
            .reversed()
    }
}
