// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
public import MilepostStore

/// Brings a connection's due deliveries to their plugin: claims, reconciles what is open, delivers, tries again within
/// the tick, settles. All decisions are `DeliveryMachine`'s; this is the shell that carries them out.
///
/// Several dispatchers may work on one store: a claim belongs to one of them.
public struct Dispatcher: Sendable {
    let store: any Store
    let plugins: any PluginPort
    let clock: any DaemonClock
    let random: any RandomSource
    let owner: String
    let limits: DeliveryMachine.Limits
    let backoff: Backoff
    let reporter: any EngineReporter
    let watch: EndpointWatch

    public init(
        store: any Store, plugins: any PluginPort, clock: any DaemonClock, random: any RandomSource, owner: String,
        limits: DeliveryMachine.Limits, backoff: Backoff, reporter: any EngineReporter
    ) {
        self.store = store
        self.plugins = plugins
        self.clock = clock
        self.random = random
        self.owner = owner
        self.limits = limits
        self.backoff = backoff
        self.reporter = reporter
        watch = EndpointWatch(store: store, clock: clock, reporter: reporter)
    }

    /// Rounds of claims in one drain; a bound against a store that hands out the same work for ever.
    static let maximumRounds = 100_000

    /// Delivers everything of the connection that was due at `asOf`.
    ///
    /// What is put off during the drain is due after `asOf`, so each delivery is claimed at most once per drain.
    public func drain(_ connection: Connection, asOf: Timestamp) async throws -> DeliveryTally {
        var tally = DeliveryTally()
        let plugin = connection.integration.plugin
        let clickActions = plugins.clickActions(of: plugin).map(\.name)
        // No more at once than one operation takes: what it finds out about the connection holds for the rest too.
        let atOnce = plugins.thresholdAction(of: plugin).flatMap { plugins.traits(of: plugin, action: $0) }?
            .maximumBatch
        let judges = Judges(store: store, plugins: plugins, clock: clock, owner: owner, reporter: reporter)
        let asked = try await judges.judges(of: connection)
        let isThere = plugins.obstacle(for: plugin) == nil
        // Without its plugin nobody knows which actions are the click stream's.
        if isThere { try await takeBack(connection) { !clickActions.contains($0) } }
        if connection.state == .active, isThere {
            try await judges.judgeDue(on: connection, by: asked, excluding: clickActions, asOf: asOf)
        }
        // What may still leave when the connection was enabled again: one that has just come back is not met by its
        // whole queue at once (EXT-08).
        var quota: Int?
        for round in 0..<Self.maximumRounds {
            try Task.checkCancellation()
            guard let current = try await store.connection(id: connection.id) else { return tally }
            guard current.state == .active else {
                tally.held = try await store.heldDeliveries(of: current.id)
                return tally
            }
            guard plugins.obstacle(for: current.integration.plugin) == nil else { return tally }
            if round == 0 {
                quota = current.health.resumeQuota
            } else if let left = quota, left <= 0 || current.health.failures > 0 {
                if current.health.failures == 0 { try await watch.passed(current) }
                return tally
            }
            let limit = min(max(1, atOnce ?? 1), quota ?? .max)
            let claims =
                asked.isEmpty
                ? try await store.claimDue(
                    connection: current.id, owner: owner, now: asOf, limit: limit, excluding: clickActions)
                : try await store.claimJudged(
                    connection: current.id, owner: owner, now: asOf, limit: limit, excluding: clickActions)
            quota = quota.map { $0 - claims.count }
            if claims.isEmpty {
                try await watch.passed(current)
                return tally
            }
            try await workByAction(claims, on: current, tally: &tally)
        }
        return tally
    }

    /// Delivers what is due of one action, for the click stream, which looks after its own retries.
    ///
    /// - Parameters:
    ///   - prepare: what a claim becomes before it is sent; nil when nothing of it is left to do.
    ///   - after: hears of each batch when it is settled.
    func drain(
        _ connection: Connection, action: ClickAction, asOf: Timestamp,
        prepare: @Sendable (ClaimedDelivery) async throws -> ClaimedDelivery?,
        after: @Sendable ([ClaimedDelivery]) async throws -> Void
    ) async throws -> DeliveryTally {
        var tally = DeliveryTally()
        guard let traits = plugins.traits(of: connection.integration.plugin, action: action.name) else { return tally }
        let machine = DeliveryMachine(limits: limits, readLag: traits.readLag)
        try await takeBack(connection) { $0 == action.name }
        for _ in 0..<Self.maximumRounds {
            try Task.checkCancellation()
            guard let current = try await store.connection(id: connection.id), current.state == .active,
                plugins.obstacle(for: current.integration.plugin) == nil
            else { return tally }
            let claims = try await store.claimDue(
                connection: current.id, action: action.name, owner: owner, now: asOf,
                limit: max(1, min(traits.maximumBatch, current.health.resumeQuota ?? .max)))
            if claims.isEmpty { return tally }
            var ready: [ClaimedDelivery] = []
            for claim in claims {
                if let prepared = try await prepare(claim) {
                    ready.append(prepared)
                } else {
                    let outcome = DeliveryOutcome(
                        delivery: claim.delivery.id, state: .dropped,
                        reason: Reason(
                            code: "superseded", message: "Later clicks of the contact have written all of its values."),
                        at: clock.now)
                    try await store.settle([outcome])
                    reporter.settled(outcome, on: current)
                }
            }
            if !ready.isEmpty {
                try await work(
                    ready, on: current, machine: machine, canReconcile: traits.canReconcile, tally: &tally)
                try await after(ready)
            }
            // One that was enabled again gets one batch at a time (EXT-08).
            if current.health.resumeQuota != nil {
                if try await store.connection(id: current.id)?.health.failures == 0 { try await watch.passed(current) }
                return tally
            }
        }
        return tally
    }

    /// What an earlier drain claimed and did not settle, because the disk was full or it was cancelled, is due again: it
    /// would wait for the next start of the daemon.
    private func takeBack(_ connection: Connection, where delivers: @escaping @Sendable (String) -> Bool) async throws {
        _ = try await store.recoverClaims(of: connection.id, owner: owner, at: clock.now, where: delivers)
    }

    /// One operation of a plugin is about one action, and each action has its own batch.
    private func workByAction(
        _ claims: [ClaimedDelivery], on connection: Connection, tally: inout DeliveryTally
    ) async throws {
        let groups = Dictionary(grouping: claims, by: \.delivery.action).sorted { $0.key < $1.key }
        for (action, members) in groups {
            let traits = plugins.traits(of: connection.integration.plugin, action: action) ?? ActionTraits()
            let machine = DeliveryMachine(limits: limits, readLag: traits.readLag)
            let size = max(1, traits.maximumBatch)
            for start in stride(from: 0, to: members.count, by: size) {
                try await work(
                    Array(members[start..<min(start + size, members.count)]), on: connection, machine: machine,
                    canReconcile: traits.canReconcile, tally: &tally)
            }
        }
    }

    // MARK: One batch

    private func work(
        _ claims: [ClaimedDelivery], on connection: Connection, machine: DeliveryMachine, canReconcile: Bool,
        tally: inout DeliveryTally
    ) async throws {
        // A record whose worker died is tried alone, so that a crash is charged to nobody else (decisions 20).
        for batch in Self.batches(of: claims, suspects: try await suspects(among: claims)) {
            var waiting = batch.map { Attempting(claim: $0) }
            while !waiting.isEmpty {
                var ready: [Attempting] = []
                var open: [Attempting] = []
                for item in waiting { if item.openStep == nil { ready.append(item) } else { open.append(item) } }
                waiting = []
                if !open.isEmpty {
                    waiting += try await reconcile(
                        open, on: connection, machine: machine, canReconcile: canReconcile, tally: &tally)
                }
                if !ready.isEmpty {
                    waiting += try await deliver(ready, on: connection, machine: machine, tally: &tally)
                }
                if let pause = waiting.compactMap(\.pause).max() { try await clock.sleep(for: pause) }
            }
        }
    }

    private func deliver(
        _ items: [Attempting], on connection: Connection, machine: DeliveryMachine, tally: inout DeliveryTally
    ) async throws -> [Attempting] {
        let startedAt = clock.now
        let verdicts = await plugins.deliver(items.map(\.claim), on: connection)
        let isDisabled = try await watch.observe(verdicts, on: connection)
        var again: [Attempting] = []
        for (var item, verdict) in zip(items, verdicts) {
            item.tries += 1
            item.claim.journal = try await store.journal(of: item.claim.delivery.id)
            let now = clock.now
            var decision = machine.decide(verdict, in: try await situation(of: item, now: now), now: now)
            if isDisabled, case .tryAgainNow = decision { decision = .tryLater(notBefore: nil) }
            let record = AttemptRecord(
                delivery: item.claim.delivery.id, attempt: item.claim.delivery.attempts, startedAt: startedAt,
                finishedAt: now, verb: "deliver", verdict: verdict.kind.rawValue, code: verdict.code,
                message: verdict.message, httpStatus: verdict.httpStatus)
            reporter.attempted(record, on: connection)
            if let next = try await carryOut(
                decision, for: item, verdict: verdict, record: record, on: connection, &tally)
            {
                again.append(next)
            }
        }
        return again
    }

    private func reconcile(
        _ items: [Attempting], on connection: Connection, machine: DeliveryMachine, canReconcile: Bool,
        tally: inout DeliveryTally
    ) async throws -> [Attempting] {
        let startedAt = clock.now
        let findings =
            canReconcile
            ? await plugins.reconcile(items.map(\.claim), on: connection)
            : items.map {
                Finding(answer: .unknown, step: $0.openStep?.name ?? "", message: "The plugin cannot look it up.")
            }
        var again: [Attempting] = []
        for (var item, finding) in zip(items, findings) {
            guard let open = item.openStep else { continue }
            let now = clock.now
            let delivery = item.claim.delivery.id
            item.lookUps += 1
            let decision = machine.decide(finding, about: open, in: try await situation(of: item, now: now), now: now)
            let record = AttemptRecord(
                delivery: delivery, attempt: item.claim.delivery.attempts, startedAt: startedAt, finishedAt: now,
                verb: "reconcile", verdict: finding.failure?.rawValue ?? finding.answer.rawValue,
                message: finding.message)
            reporter.attempted(record, on: connection)
            if decision == .tryAgainNow(atLeastAfter: nil) {
                switch finding.answer {
                case .applied:
                    var result = finding.result.object ?? [:]
                    if let id = finding.remoteID { result["remote_id"] = .string(id) }
                    try await store.storeStep(delivery: delivery, step: open.name, result: .object(result), at: now)
                case .notApplied: try await store.clearStep(delivery: delivery, step: open.name)
                case .unknown: break
                }
                item.claim.journal = try await store.journal(of: delivery)
                item.pause = nil
                again.append(item)
                continue
            }
            let verdict = Verdict(kind: .uncertain, message: finding.message)
            if let next = try await carryOut(
                decision, for: item, verdict: verdict, record: record, on: connection, &tally)
            {
                again.append(next)
            }
        }
        return again
    }

    // MARK: Carrying out a decision

    private func carryOut(
        _ decision: DeliveryMachine.Decision, for item: Attempting, verdict: Verdict, record: AttemptRecord,
        on connection: Connection, _ tally: inout DeliveryTally
    ) async throws -> Attempting? {
        let now = clock.now
        var outcome = DeliveryOutcome(delivery: item.claim.delivery.id, state: .retrying, attempt: record, at: now)
        switch decision {
        case .delivered:
            outcome.state = .delivered
            outcome.remoteID = verdict.remoteID
            outcome.remoteURL = verdict.remoteURL
            outcome.reason = verdict.warnings.first
            tally.delivered += 1
        case .tryAgainNow(let atLeast):
            var next = item
            let pause = backoff.delay(attempt: max(1, item.tries), unit: random.unit())
            next.pause = max(pause, atLeast ?? .zero)
            return next
        case .tryLater(let notBefore):
            outcome.reason = verdict.reason
            outcome.refundsAttempt = verdict.wasHeldBack
            outcome.nextAttemptAt = max(notBefore ?? now, now + .milliseconds(1))
            tally.retrying += 1
        case .reconcile(let notBefore):
            let mayLookNow = item.lookUps == 0 && (notBefore ?? now) <= now
            if mayLookNow, item.openStep != nil { return item.withoutPause }
            outcome.state = .uncertain
            outcome.reason = Reason(
                code: "uncertain",
                message: "Uncertain: \(verdict.reason.message) Nothing is sent again before a look-up answers.")
            outcome.nextAttemptAt = max(notBefore ?? now, now + .milliseconds(1))
            tally.uncertain += 1
        case .waitForPlugin:
            outcome.state = item.openStep == nil ? .retrying : .uncertain
            outcome.reason = verdict.reason
            outcome.refundsAttempt = true
            outcome.nextAttemptAt = now + .milliseconds(1)
            tally.retrying += 1
        case .waitForConnection(let state):
            outcome.reason = verdict.reason
            outcome.refundsAttempt = true
            outcome.nextAttemptAt = nil
            // Before the delivery is given back: the store then holds it with the connection.
            if try await store.setState(id: connection.id, state, reason: verdict.reason, at: now) {
                reporter.connectionMoved(connection, to: state, reason: verdict.reason)
            }
        case .dropped(let reason):
            outcome.state = .dropped
            outcome.reason = reason
        case .dead(let reason):
            outcome.state = .dead
            outcome.reason = reason
            tally.dead += 1
        }
        for warning in verdict.warnings { reporter.warned(warning, delivery: item.claim.delivery.id, on: connection) }
        if !verdict.notices.isEmpty { try await store.noteWarnings(id: connection.id, verdict.notices) }
        try await store.settle([outcome])
        CrashPoint.reach("after_settle")
        if case .waitForConnection = decision { outcome.state = .held }
        reporter.settled(outcome, on: connection)
        return nil
    }

    private func situation(of item: Attempting, now: Timestamp) async throws -> DeliveryMachine.Situation {
        let delivery = item.claim.delivery
        return DeliveryMachine.Situation(
            attempts: delivery.attempts, age: (now - delivery.createdAt) - delivery.waited, triesThisTick: item.tries,
            openStep: item.openStep, earlierCrashes: try await crashes(of: delivery))
    }

    /// How often the plugin's worker died or hung with this delivery in flight, since it was replayed: the plugin may have
    /// been mended.
    private func crashes(of delivery: Delivery) async throws -> Int {
        let log = try await store.attempts(of: delivery.id)
        let start = log.lastIndex { $0.verb == AttemptRecord.replay } ?? log.startIndex
        return log[start...].count {
            ($0.verdict == Verdict.Class.crashed.rawValue || $0.verdict == Verdict.Class.deadline.rawValue)
                && $0.code != Verdict.closedCode
        }
    }

    /// The history is asked and not the reason, which a later look-up or a wait has overwritten.
    private func suspects(among claims: [ClaimedDelivery]) async throws -> Set<DeliveryID> {
        var found: Set<DeliveryID> = []
        for claim in claims where claim.delivery.attempts > 1 || claim.delivery.reason != nil {
            if try await crashes(of: claim.delivery) > 0 { found.insert(claim.delivery.id) }
        }
        return found
    }

    /// Records that crashed a worker before go alone, also among connections; the others together.
    static func batches(of claims: [ClaimedDelivery], suspects: Set<DeliveryID>) -> [[ClaimedDelivery]] {
        let others = claims.filter { !suspects.contains($0.delivery.id) }
        let alone = claims.filter { suspects.contains($0.delivery.id) }.map { claim in
            var suspect = claim
            suspect.isSuspect = true
            return [suspect]
        }
        return (others.isEmpty ? [] : [others]) + alone
    }
}

/// A claimed delivery on its way through one tick.
private struct Attempting {
    var claim: ClaimedDelivery
    var tries = 0
    var lookUps = 0
    var pause: Duration?

    init(claim: ClaimedDelivery) { self.claim = claim }

    var withoutPause: Self {
        var copy = self
        copy.pause = nil
        return copy
    }

    var openStep: DeliveryMachine.OpenStep? {
        claim.journal.first(where: \.leavesOutcomeOpen).map {
            DeliveryMachine.OpenStep(name: $0.step, intentAt: $0.intentAt ?? claim.delivery.createdAt)
        }
    }
}

/// What a drain did, for the tick's answer.
public struct DeliveryTally: Sendable, Equatable {
    public var delivered = 0
    public var retrying = 0
    public var uncertain = 0
    /// Waiting on a connection that is not active, after the drain.
    public var held = 0
    public var dead = 0

    public init() {}

    public static func += (left: inout Self, right: Self) {
        left.delivered += right.delivered
        left.retrying += right.retrying
        left.uncertain += right.uncertain
        left.held += right.held
        left.dead += right.dead
    }
}
