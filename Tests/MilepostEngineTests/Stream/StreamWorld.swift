// SPDX-License-Identifier: Apache-2.0

import Foundation
import MilepostEngine
import MilepostModel
import MilepostRules
import MilepostStore

/// A connection that takes every click, on a real store in a folder of its own, with virtual time. Passes are run by hand,
/// so a test decides what happens between them.
final class StreamWorld {
    let clock = VirtualClock(Timestamp(rfc3339: "2026-11-21T12:00:00Z")!)
    let vendor: ClickVendor
    private(set) var store: SQLiteStore
    private(set) var stream: ConnectionStream
    var state: ConnectionStream.State
    private var subscription: ArrivalSignal.Subscription
    private let folder: TemporaryFolder
    let workspace: WorkspaceID = "acme"
    let connection: ConnectionID = "con_1"
    private var clicks = 0

    static let both = [
        ClickAction(name: "timeline", maximumBatch: 100),
        ClickAction(name: "touch", maximumBatch: 100, coalesces: true, enabledBy: "writes_touch"),
    ]

    init(actions: [ClickAction] = StreamWorld.both, policy: StreamPolicy? = nil, settings: JSONValue = [:]) async throws
    {
        folder = try TemporaryFolder()
        vendor = ClickVendor(actions: actions)
        store = try SQLiteStore.open(directory: folder.path, clock: clock)
        stream = Self.stream(store, vendor, clock)
        state = ConnectionStream.State(now: clock.now)
        subscription = store.arrivals.subscribe(to: .workspace(workspace))
        _ = try await store.ensureWorkspace(workspace, at: clock.now)
        try await connect(policy: policy, settings: settings)
    }

    static func stream(_ store: SQLiteStore, _ vendor: ClickVendor, _ clock: any DaemonClock) -> ConnectionStream {
        let dispatcher = Dispatcher(
            store: store, plugins: vendor, clock: clock, random: SeededRandom(seed: 3), owner: "run_1", limits: .init(),
            backoff: Backoff(), reporter: SilentReporter())
        return ConnectionStream(
            store: store, plugins: vendor, resolver: ContactResolver(store: store, arrivals: store.arrivals),
            dispatcher: dispatcher, clock: clock, plans: PlanMatrix(), reporter: SilentReporter())
    }

    func connect(_ id: ConnectionID? = nil, policy: StreamPolicy? = nil, settings: JSONValue = [:]) async throws {
        let existing = try await store.connection(IntegrationName(plugin: "hub"), workspace: workspace)
        _ = try await store.saveConnection(
            Connection(
                id: connection, workspace: workspace, integration: IntegrationName(plugin: "hub"),
                stateSince: clock.now, policy: ThresholdPolicy(stream: policy), settings: settings,
                connectedAt: clock.now),
            credentials: [],
            baseline: existing == nil || existing?.state == .disconnected
                ? Reason(code: "baseline", message: "baseline") : nil, at: clock.now)
    }

    /// As the daemon's next start would find things.
    func restart() async throws {
        await store.close()
        store = try SQLiteStore.open(directory: folder.path, clock: clock)
        stream = Self.stream(store, vendor, clock)
        state = ConnectionStream.State(now: clock.now)
        subscription = store.arrivals.subscribe(to: .workspace(workspace))
    }

    @discardableResult
    func click(
        _ link: LinkID = "l", contact: String? = nil, gclid: String? = nil, utm: UTM = UTM(), isBot: Bool = false,
        at time: Timestamp? = nil, id: String? = nil
    ) async throws -> EventID {
        clicks += 1
        let id = id ?? "e\(clicks)"
        try await append([
            Click(
                id: EventID(id), link: link, time: time ?? clock.now, isBot: isBot, contactID: contact,
                googleClickID: gclid, utm: utm)
        ])
        return EventID(id)
    }

    func append(_ clicks: [Click]) async throws {
        _ = try await store.append(
            clicks.map { IdentifiedClick(click: $0, identity: Self.identity($0.id)) }, workspace: workspace,
            receivedAt: clock.now)
    }

    static func identity(_ id: EventID) -> [UInt8] {
        func hash(_ seed: UInt64) -> UInt64 {
            id.rawValue.utf8.reduce(seed) { ($0 ^ UInt64($1)) &* 0x0000_0100_0000_01B3 }
        }
        return [hash(0xCBF2_9CE4_8422_2325), hash(0x8422_2325_CBF2_9CE4)].flatMap { part in
            (0..<8).map { UInt8(truncatingIfNeeded: part >> UInt64($0 * 8)) }
        }
    }

    func form(gclid: String, contact: String? = nil, email: String? = nil, at: Timestamp? = nil) async throws {
        clicks += 1
        _ = try await store.appendForms(
            [
                FormSubmission(
                    id: EventID("f\(clicks)"), time: at ?? clock.now, contactID: contact, email: email,
                    googleClickID: gclid)
            ], workspace: workspace, receivedAt: clock.now)
    }

    /// Passes until there is nothing more to do at this moment, and says until when.
    @discardableResult
    func settle() async throws -> Timestamp? {
        for _ in 0..<10_000 {
            state.note(subscription.take(), of: workspace, now: clock.now)
            switch try await stream.pass(connection, &state) {
            case .again: continue
            case .ended: return nil
            case .wait(let until):
                if let until, until <= clock.now { continue }
                return until
            }
        }
        throw StoreError(code: .failed, detail: "the stream never came to rest")
    }

    /// Moves the clock from one moment at which something is to be done to the next.
    func settle(for duration: Duration) async throws {
        let end = clock.now + duration
        while let next = try await settle(), next <= end { clock.advance(by: next - clock.now) }
        clock.advance(by: max(.zero, end - clock.now))
        try await settle()
    }

    func count(_ outcome: String, action: String = "") async throws -> Int64 {
        try await store.streamCounts(connection: connection)[connection]?[
            StreamCount(action: action, outcome: outcome)] ?? 0
    }

    func held(_ states: Set<HeldClick.State> = []) async throws -> [HeldClick] {
        try await store.heldClicks(
            workspace: workspace, connection: nil, states: states, cursor: nil, limit: 500
        ).items
    }

    func deliveries(_ states: Set<Delivery.State> = []) async throws -> [Delivery] {
        try await store.deliveries(
            workspace: workspace, matching: DeliveryFilter(states: states), cursor: nil, limit: 500
        ).items
    }

    /// What explain says about a click: outcome and code of each line.
    func explain(_ id: EventID) async throws -> [String] {
        guard
            let click = try await store.storedClick(id, workspace: workspace, identity: Self.identity(id))
        else { return [] }
        return try await ClickExplainer(store: store, plugins: vendor).explain(click).map {
            "\($0.action.map { "\($0): " } ?? "")\($0.outcome) \($0.reason.code)"
        }
    }

    func end() async {
        await store.close()
        folder.remove()
    }
}

extension Verdict {
    static func failing(_ kind: Verdict.Class, _ code: String? = nil, after: Duration? = nil) -> Verdict {
        Verdict(kind: kind, code: code, message: "as the script says", retryAfter: after)
    }
}
