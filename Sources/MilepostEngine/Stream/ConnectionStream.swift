// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
public import MilepostRules
public import MilepostStore

/// Brings the click stream to one connection, a batch at a time: reads on from the connection's cursor, finds out who
/// clicked, holds whom nobody knows, hands the rest to the plugin, and moves the cursor together with what came of it.
///
/// The log is the queue: while a vendor cannot be reached the cursor stays, and nothing else is stored. Each pass is
/// complete in itself, so a crash between sending and the cursor's move sends one batch again, which click actions take.
public struct ConnectionStream: Sendable {
    let store: any Store
    let plugins: any PluginPort
    let resolver: ContactResolver
    let dispatcher: Dispatcher
    let clock: any DaemonClock
    let plans: PlanMatrix
    let reporter: any EngineReporter
    /// How long a click waits for its identity (RES-03, RES-06).
    let hold: Duration

    public init(
        store: any Store, plugins: any PluginPort, resolver: ContactResolver, dispatcher: Dispatcher,
        clock: any DaemonClock, plans: PlanMatrix, reporter: any EngineReporter, hold: Duration = .seconds(72 * 3600)
    ) {
        self.store = store
        self.plugins = plugins
        self.resolver = resolver
        self.dispatcher = dispatcher
        self.clock = clock
        self.plans = plans
        self.reporter = reporter
        self.hold = hold
    }

    /// What a connection's stream remembers between passes; lost without harm.
    public struct State: Sendable {
        /// Advertisement click ids that turned up since held clicks were last looked at; at the start all of them.
        var arrived: AdvertisementClicks
        var place: StreamPlace?
        /// The cursor as it is on disk: clicks of other workspaces move it in memory only.
        var stored: ClickPosition = .start
        /// Nothing is sent before.
        var blockedUntil: Timestamp?
        /// Batches in a row of which nothing got through.
        var pauses = 0
        /// Failures in a row of a click that was sent alone.
        var failures = 0
        /// Smaller than a batch may be while the vendor is being tried; nil: as large as it may be.
        var batchLimit: Int?
        /// Clicks a call while calls follow one another; at most the action's batch.
        var flowSize = 1 << 20
        /// When the outbox is looked at again.
        var drainAt: Timestamp?
        var idleDrains = 0

        public init(now: Timestamp) {
            arrived = AdvertisementClicks()
            arrived.addEverything()
            drainAt = now
        }

        /// Takes note of what the signal told.
        public mutating func note(_ arrivals: Arrivals, of workspace: WorkspaceID, now: Timestamp) {
            if let forms = arrivals.forms[workspace] { arrived.add(forms) }
            guard arrivals.connections.contains(workspace) else { return }
            // It may work again, or its settings may be mended, or somebody replayed something: nobody waits for a timer.
            drainAt = now
            blockedUntil = nil
            idleDrains = 0
        }
    }

    /// What follows a pass.
    public enum Next: Sendable, Equatable {
        case again
        /// Nothing to do until something arrives, or until the moment given.
        case wait(until: Timestamp?)
        /// The connection is gone, or its plugin takes no clicks.
        case ended
    }

    /// Clicks of other workspaces that the cursor passes in memory before it is stored.
    static let unstoredStretch: Int64 = 5000
    /// Held clicks dealt with at once.
    static let sweepLimit = 2000

    public func pass(_ id: ConnectionID, _ state: inout State) async throws -> Next {
        guard let connection = try await store.connection(id: id), connection.state != .disconnected else {
            return .ended
        }
        let declared = plugins.clickActions(of: connection.integration.plugin)
        let obstacle = plugins.obstacle(for: connection.integration.plugin)
        if declared.isEmpty, obstacle == nil { return .ended }
        try await release(connection, &state)
        // Identity first: what it released must not expire in the same breath.
        let sweep = try await store.sweepHeld(connection: id, now: clock.now, limit: Self.sweepLimit)
        if sweep.expired + sweep.retried > 0 { return .again }
        guard connection.state == .active, obstacle == nil else { return .wait(until: sweep.nextAt) }

        let actions = declared.filter { $0.isEnabled(on: connection) }
        if let due = state.drainAt, due <= clock.now { try await drain(connection, actions, &state) }
        if let blocked = state.blockedUntil, blocked > clock.now {
            return .wait(until: earliest(blocked, sweep.nextAt, state.drainAt))
        }
        state.blockedUntil = nil
        let size = min(
            state.batchLimit ?? .max, connection.health.resumeQuota ?? .max, Self.batchSize(of: actions))
        if try await sendDue(connection, actions, size, &state) { return .again }

        let place = try await place(of: connection, &state)
        let flows = connection.health.resumeQuota == nil && mayFlow(actions, state)
        let page = try await store.readClicks(
            after: place.position, workspace: connection.workspace, limit: flows ? Self.flowPage : size)
        if !page.clicks.isEmpty {
            if flows {
                try await flow(from: page, place: place, connection, actions, &state)
            } else {
                try await send(page, place: place, connection, actions, &state)
            }
            return .again
        }
        state.place?.position = page.through
        if page.through.rawValue - state.stored.rawValue > Self.unstoredStretch {
            try await store.commitStream(
                StreamCommit(connection: id, workspace: connection.workspace, at: clock.now, position: page.through))
            state.stored = page.through
        }
        return page.hasMore ? .again : .wait(until: earliest(sweep.nextAt, state.drainAt))
    }

    private func earliest(_ moments: Timestamp?...) -> Timestamp? { moments.compactMap(\.self).min() }

    /// Enough to fill the largest batch, and not so little that many small calls each cost a commit.
    static func batchSize(of actions: [ClickAction]) -> Int {
        max(8, actions.map { $0.coalesces ? max(500, $0.maximumBatch) : $0.maximumBatch }.max() ?? 500)
    }

    private func place(of connection: Connection, _ state: inout State) async throws -> StreamPlace {
        if let place = state.place { return place }
        let place = try await store.streamPlace(of: connection.id)
        state.place = place
        state.stored = place.position
        return place
    }

    // MARK: Held clicks

    /// Lets go out whose identity turned up, whatever state the connection is in: it must not expire meanwhile (RES-04).
    private func release(_ connection: Connection, _ state: inout State) async throws {
        let ids = state.arrived
        guard ids.isEverything || !ids.google.isEmpty || !ids.facebook.isEmpty else { return }
        var after = ClickPosition.start
        while true {
            let waiting = try await store.waitingClicks(
                connection: connection.id, carrying: ids, after: after, limit: Self.sweepLimit)
            var known: [ClickPosition] = []
            for stored in try await store.clicks(at: waiting.map(\.position)) {
                if try await resolver.resolve(stored.click, workspace: connection.workspace) != nil {
                    known.append(stored.position)
                }
            }
            try await store.markDue(connection: connection.id, known, at: clock.now)
            guard waiting.count == Self.sweepLimit, let last = waiting.last else { break }
            after = last.position
        }
        state.arrived = AdvertisementClicks()
    }

    /// - Returns: false when none was due.
    private func sendDue(
        _ connection: Connection, _ actions: [ClickAction], _ size: Int, _ state: inout State
    ) async throws -> Bool {
        let due = try await store.dueClicks(connection: connection.id, limit: size)
        guard !due.isEmpty else { return false }
        let stored = try await store.clicks(at: due.map(\.position))
        var commit = StreamCommit(
            connection: connection.id, workspace: connection.workspace, at: clock.now, position: nil)
        // Retention took the click itself: nothing is left to send.
        let there = Set(stored.map(\.position))
        commit.dropped = due.map(\.position).filter { !there.contains($0) }
        let sorted = try await sort(stored, on: connection, actions, place: nil)
        commit.dropped += sorted.excluded.map(\.position)
        let causes = Dictionary(due.map { ($0.position, $0) }, uniquingKeysWith: { first, _ in first })
        for click in sorted.unknown {
            // The form was erased meanwhile, or is too old for the click.
            commit.holds.append(hold(click, .unmatched, until: causes[click.position]?.until))
        }
        let firing = actions.isEmpty ? [] : sorted.resolved
        if actions.isEmpty { commit.dropped += sorted.resolved.map(\.stored.position) }
        commit.released = firing.map(\.stored.position)
        commit.count(.expired, commit.dropped.count)
        commit.count(.released, commit.released.count)
        _ = try await deliver(firing, held: causes, connection, actions, commit, &state)
        return true
    }

    func hold(
        _ click: StoredClick, _ cause: HeldClick.Cause, until: Timestamp?, retryAt: Timestamp? = nil
    ) -> StreamCommit.Hold {
        StreamCommit.Hold(
            position: click.position, reason: cause, until: until ?? clock.now + hold, retryAt: retryAt,
            googleClickID: click.click.googleClickID, facebookClickID: click.click.facebookClickID)
    }

    // MARK: New clicks

    private func send(
        _ page: ClickPage, place: StreamPlace, _ connection: Connection, _ actions: [ClickAction], _ state: inout State
    ) async throws {
        let (commit, clicks) = try await firing(
            page.clicks, through: page.through, place: place, connection, actions)
        // Without an action there is nothing that an identity would be good for.
        if actions.isEmpty {
            try await store.commitStream(commit)
            moved(to: page.through, &state)
            return
        }
        if try await deliver(clicks, held: [:], connection, actions, commit, &state) {
            moved(to: page.through, &state)
        }
    }

    /// Which of the clicks up to a position fire, and the beginning of what is to be stored with what comes of them.
    func firing(
        _ clicks: [StoredClick], through: ClickPosition, place: StreamPlace, _ connection: Connection,
        _ actions: [ClickAction]
    ) async throws -> (StreamCommit, [ResolvedClick]) {
        var commit = StreamCommit(
            connection: connection.id, workspace: connection.workspace, at: clock.now, position: through)
        let sorted = try await sort(clicks, on: connection, actions, place: place)
        commit.count(.skipped, sorted.skipped)
        for (code, clicks) in Dictionary(grouping: sorted.excluded, by: \.code) {
            commit.count(StreamCount(outcome: "excluded:\(code)"), clicks.count)
        }
        commit.links = sorted.links
        if actions.isEmpty {
            commit.count(
                StreamCount(outcome: "excluded:switched_off"), sorted.resolved.count + sorted.unknown.count)
        } else {
            commit.holds = sorted.unknown.map { hold($0, .unmatched, until: nil) }
            commit.count(.held, sorted.unknown.count)
        }
        return (commit, sorted.resolved)
    }

    func moved(to position: ClickPosition, _ state: inout State) {
        state.place?.position = position
        state.stored = position
    }

    // MARK: Which clicks fire

    struct Sorted {
        var resolved: [ResolvedClick] = []
        var unknown: [StoredClick] = []
        var excluded: [(position: ClickPosition, code: String)] = []
        var skipped = 0
        var links: [StreamCommit.LinkTreatment] = []
    }

    private func sort(
        _ clicks: [StoredClick], on connection: Connection, _ actions: [ClickAction], place: StreamPlace?
    ) async throws -> Sorted {
        var sorted = Sorted()
        let policy = connection.policy.stream ?? StreamPolicy()
        let optedOut =
            policy.excludedLinks == .skip ? try await store.optedOutMembers(workspace: connection.workspace) : []
        let gate = try await gate(of: connection)
        // What holds one action up holds up all: a click leaves the log once.
        let takesAnyone =
            policy.anonymousClicks == .send && !actions.isEmpty && actions.allSatisfy(\.takesAnyone)
        var links: [LinkID: StreamCommit.LinkTreatment] = [:]
        for click in clicks {
            guard place?.isSkipped(click.position) != true else {
                sorted.skipped += 1
                continue
            }
            let exclusion =
                gate
                ?? (policy.takes(tags: click.link.tags, folder: click.link.folder) ? nil : ClickExplainer.notMapped)
                ?? (policy.excludedLinks == .skip
                    ? ExclusionRule.reason(for: click.link, optedOutMembers: optedOut) : nil)
            links[
                click.click.link,
                default: StreamCommit.LinkTreatment(
                    link: click.click.link, first: click.position, last: click.position, exclusion: exclusion)
            ].last = click.position
            if let exclusion {
                sorted.excluded.append((click.position, exclusion.code))
            } else if click.click.isBot, policy.bots == .exclude {
                sorted.excluded.append((click.position, ClickExplainer.bot.code))
            } else if let contact = try await resolver.resolve(click.click, workspace: connection.workspace) {
                sorted.resolved.append(ResolvedClick(stored: click, contact: contact))
            } else if takesAnyone {
                sorted.resolved.append(ResolvedClick(stored: click, contact: .nobody))
            } else {
                sorted.unknown.append(click)
            }
        }
        sorted.links = links.values.sorted { $0.first < $1.first }
        return sorted
    }

    private func gate(of connection: Connection) async throws -> Reason? {
        guard let workspace = try await store.workspace(connection.workspace) else { return nil }
        return try await store.planMatrix(configured: plans).obstacle(
            workspace: workspace, plugin: connection.integration.plugin, now: clock.now)
    }

    // MARK: What did not succeed at once

    /// Between two looks at the outbox: doubled while nothing gets through.
    static let drainPause: Duration = .seconds(15)
    static let longestDrainPause: Duration = .seconds(300)

    private func drain(_ connection: Connection, _ actions: [ClickAction], _ state: inout State) async throws {
        let now = clock.now
        var tally = DeliveryTally()
        for action in actions {
            tally += try await dispatcher.drain(
                connection, action: action, asOf: now,
                prepare: { claim in
                    guard action.coalesces else { return claim }
                    let contact = QueuedTouch.contact(claim.delivery.payload)
                    let written = try await store.touches(connection: connection.id, contacts: [contact])
                    return QueuedTouch.without(written[contact], claim.delivery.payload).map { claim.carrying($0) }
                }, after: { try await holdUnknown($0, on: connection) })
        }
        guard
            let due = try await store.nextStreamDue(connection: connection.id, actions: actions.map(\.name))
        else {
            state.drainAt = nil
            state.idleDrains = 0
            return
        }
        state.idleDrains = tally.delivered + tally.dead > 0 ? 0 : min(state.idleDrains + 1, 8)
        let pause = min(Self.drainPause * (1 << state.idleDrains) / 2, Self.longestDrainPause)
        state.drainAt = max(due, clock.now + max(pause, Self.drainPause))
    }
}

extension ClaimedDelivery {
    func carrying(_ payload: JSONValue) -> ClaimedDelivery {
        var copy = self
        let old = delivery
        copy.delivery = Delivery(
            id: old.id, workspace: old.workspace, connection: old.connection, integration: old.integration,
            action: old.action, scope: old.scope, threshold: old.threshold, payload: payload, state: old.state,
            attempts: old.attempts, reason: old.reason, remoteID: old.remoteID, remoteURL: old.remoteURL,
            createdAt: old.createdAt, updatedAt: old.updatedAt, nextAttemptAt: old.nextAttemptAt, waited: old.waited)
        return copy
    }
}
