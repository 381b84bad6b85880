// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostRules
import MilepostStore
import Synchronization

/// One history of a workspace from one seed: clicks, ticks, changes of mind, outages, deaths of the daemon.
///
/// Beside the product runs a model of what should fire, written from the requirements alone.
struct Simulation {
    let seed: UInt64
    let world: World
    let vendor: SimulatedVendor
    private let random: SeededRandom
    private var ticker: Ticker
    private var lives = 1
    private(set) var deaths = 0
    private var clicks = 0
    private var isConnected = false
    private var isSettling = false
    private var policy = ThresholdPolicy(thresholds: [3, 6, 12])
    private var model = Model()

    private static let links = 6
    private static let folders = ["spring", "autumn"]
    private static let choices: [[Int64]] = [[3, 6, 12], [2, 5], [3, 4, 5, 9], [6, 20], [1, 3]]

    /// What should fire, by link (under folder aggregation nothing is predicted).
    private struct Model {
        var totals: [LinkID: Int64] = [:]
        var reached: [LinkID: Set<Int64>] = [:]
        var fired: Set<SimulatedVendor.Deal> = []

        mutating func pass(_ thresholds: [Int64], fires: Bool) {
            for (link, total) in totals {
                for threshold in thresholds where threshold <= total {
                    guard reached[link, default: []].insert(threshold).inserted, fires else { continue }
                    fired.insert(.init(scope: Scope(kind: .link, id: link.rawValue), threshold: threshold))
                }
            }
        }
    }

    init(seed: UInt64) async throws {
        self.seed = seed
        world = try await World()
        vendor = SimulatedVendor(store: world.store, clock: world.clock, seed: seed &* 2 + 1)
        random = SeededRandom(seed: seed)
        if seed % 3 == 0 { policy.aggregation = .folder }
        ticker = Self.ticker(world, vendor, life: 1, seed: seed)
        _ = try await world.store.ensureWorkspace(world.workspace, at: world.clock.now)
    }

    private static func ticker(_ world: World, _ vendor: SimulatedVendor, life: Int, seed: UInt64) -> Ticker {
        let random = SeededRandom(seed: seed &* 1000 &+ UInt64(life))
        let owner = "run_\(life)"
        return Ticker(
            store: world.store, plugins: vendor, clock: world.clock,
            evaluator: Evaluator(
                store: world.store, clock: world.clock, random: random, plans: PlanMatrix(), analyticsURLTemplate: nil),
            dispatcher: Dispatcher(
                store: world.store, plugins: vendor, clock: world.clock, random: random, owner: owner, limits: .init(),
                backoff: Backoff(), reporter: SilentReporter()),
            owner: owner, reporter: SilentReporter())
    }

    mutating func run(steps: Int) async throws {
        try await connect()
        for _ in 0..<steps { try await step() }
        vendor.recover()
        isSettling = true
        if !isConnected { try await connect() }
        // Uncertain ones wait for the request's time-out and the vendor's lag; a few ticks settle all that can be settled.
        for _ in 0..<12 {
            try await tick()
            if try await world.deliveries().allSatisfy({ $0.state == .delivered || $0.state == .dead }) { break }
        }
    }

    private mutating func step() async throws {
        switch random.below(20) {
        case 0..<8: try await click()
        case 8..<14: try await tick()
        case 14: try await move()
        case 15: try await changeThresholds()
        case 16:
            if isConnected {
                guard random.below(3) == 0 else { return }
                isConnected = false
                _ = try await world.store.setState(
                    id: world.connection, .disconnected, reason: nil, at: world.clock.now)
            } else {
                try await connect()
            }
        case 17: try await die()
        default: world.clock.advance(by: .milliseconds(Int64(random.below(90_000))))
        }
    }

    private mutating func connect() async throws {
        try await world.connect(policy)
        isConnected = true
        model.pass(policy.thresholds, fires: false)
    }

    /// New clicks, and some of the last ones again, as a client does that lost the answer (invariant 2).
    private mutating func click() async throws {
        let link = LinkID("l\(random.below(Self.links))")
        let count = 1 + random.below(7)
        let again = random.below(3)
        let first = max(0, clicks - again)
        let batch = (first..<(clicks + count)).map { number -> IdentifiedClick in
            var identity = [UInt8](repeating: 0, count: 16)
            for byte in 0..<8 { identity[byte] = UInt8(truncatingIfNeeded: number >> (byte * 8)) }
            return IdentifiedClick(
                click: Click(id: EventID("e\(number)"), link: link, time: world.clock.now), identity: identity)
        }
        _ = try await world.store.append(batch, workspace: world.workspace, receivedAt: world.clock.now)
        clicks += count
        model.totals[link, default: 0] += Int64(count)
    }

    private func move() async throws {
        var change = LinkChange()
        change.folder = random.below(4) == 0 ? .some(nil) : Self.folders[random.below(Self.folders.count)]
        _ = try await world.store.changeLink(
            LinkID("l\(random.below(Self.links))"), workspace: world.workspace, change: change, at: world.clock.now)
    }

    private mutating func changeThresholds() async throws {
        let old = policy.thresholds
        policy.thresholds = Self.choices[random.below(Self.choices.count)]
        guard isConnected else { return }
        _ = try await world.store.changeConnection(
            id: world.connection, policy: policy, settings: nil, warnings: nil, account: nil, credentials: [],
            baseline: Reason(code: "threshold_added", message: "new"), at: world.clock.now)
        model.pass(policy.thresholds.filter { !old.contains($0) }, fires: false)
    }

    /// Another process on the same data.
    private mutating func die() async throws {
        lives += 1
        ticker = Self.ticker(world, vendor, life: lives, seed: seed)
        _ = try await world.store.recoverClaims(exceptOwner: "run_\(lives)", at: world.clock.now)
    }

    /// A tick, which may be the daemon's last.
    private mutating func tick() async throws {
        if isConnected { model.pass(policy.thresholds, fires: true) }
        // Manual ticks come at any moment, also before the vendor's lag is over.
        world.clock.advance(by: .seconds(isSettling ? 300 : Int64(1 + random.below(60))))
        let ticker = ticker
        let (ends, signal) = AsyncStream<Bool>.makeStream()
        vendor.mayDie { signal.yield(false) }
        // Owned by this step: it ends by itself, or it is the task of a dead daemon and ends when the vendor buries it.
        let running = Task {
            let result = await Result { try await ticker.tick() }
            signal.yield(true)
            return result
        }
        let lived = await ends.first { _ in true } ?? true
        vendor.mustLive()
        if lived {
            let report = try await running.value.get()
            if report.locked > 0 { problems.append("a tick found the workspace locked by a daemon that is dead") }
            for error in report.errors { problems.append("a tick failed: \(error.message)") }
        } else {
            deaths += 1
            try await die()
        }
    }

    private(set) var problems: [String] = []

    // MARK: Judging

    /// Everything that must hold at the end; an empty list is a pass.
    func breaches() async throws -> [String] {
        var found = problems + vendor.breaches
        let deals = vendor.deals
        if Set(deals).count != deals.count { found.append("a deal was made twice") }
        let deliveries = try await world.deliveries()
        for delivery in deliveries {
            let deal = SimulatedVendor.Deal(scope: delivery.scope, threshold: delivery.threshold)
            switch delivery.state {
            case .delivered where !deals.contains(deal):
                found.append("\(deal) is said to be delivered and is not there")
            case .delivered: break
            case .dead where delivery.reason == nil: found.append("\(deal) is dead without a reason")
            case .dead: break
            default: found.append("\(deal) is still \(delivery.state) (\(delivery.reason?.message ?? ""))")
            }
        }
        let fired = Set(deliveries.map { SimulatedVendor.Deal(scope: $0.scope, threshold: $0.threshold) })
        if fired.count != deliveries.count { found.append("a crossing made two deliveries") }
        if !fired.isSuperset(of: deals) { found.append("a deal without a delivery") }
        if policy.aggregation == .link, fired != model.fired {
            found.append(
                "fired and should not: \(fired.subtracting(model.fired)); should have fired: \(model.fired.subtracting(fired))"
            )
        }
        found += try await ledgerBreaches()
        found += try await explanationBreaches(deliveries)
        return found
    }

    private func ledgerBreaches() async throws -> [String] {
        var found = try await world.store.auditTotals().map { "totals of \($0.link) differ from a recount" }
        for (link, total) in model.totals {
            let stored = try await world.store.link(link, workspace: world.workspace)?.totals.all ?? 0
            if stored != total { found.append("\(link) counts \(stored) clicks and had \(total)") }
        }
        return found
    }

    /// Invariant 8: every crossing has its delivery or its reason, and every threshold passed has its crossing.
    private func explanationBreaches(_ deliveries: [Delivery]) async throws -> [String] {
        var found: [String] = []
        let known = Set(deliveries.map(\.id))
        let scopes =
            model.totals.keys.map { Scope(kind: .link, id: $0.rawValue) }
            + Self.folders.map { Scope(kind: .folder, id: $0) }
        for scope in scopes {
            let crossings = try await world.store.crossings(connection: world.connection, scope: scope)
            for crossing in crossings {
                if let delivery = crossing.delivery {
                    if !known.contains(delivery) { found.append("the delivery of \(crossing.key) is gone") }
                } else if crossing.reason == nil {
                    found.append("\(crossing.key) neither fired nor says why")
                }
            }
            guard policy.aggregation == .link, scope.kind == .link else { continue }
            let passed = policy.thresholds.filter { $0 <= model.totals[LinkID(scope.id)] ?? 0 }
            let missing = Set(passed).subtracting(crossings.map(\.key.threshold))
            if !missing.isEmpty { found.append("\(scope) passed \(missing) and nobody knows") }
        }
        return found
    }

    /// The history in one line, the same for the same seed.
    func digest() async throws -> String {
        let deliveries = try await world.deliveries()
        let lines = deliveries.map {
            "\($0.id) \($0.scope) \($0.threshold) \($0.state) \($0.attempts) \($0.reason?.code ?? "")"
        }
        return "clicks \(clicks), deaths \(deaths)\n" + lines.joined(separator: "\n")
            + "\n" + vendor.deals.map { "\($0)" }.joined(separator: "\n")
    }

    func end() async {
        vendor.bury()
        await world.end()
    }
}

extension Result where Failure == any Error {
    fileprivate init(_ body: () async throws -> Success) async {
        do { self = .success(try await body()) } catch { self = .failure(error) }
    }
}
