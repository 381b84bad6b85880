// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostStore

extension ConnectionStream {
    /// Calls of one action that are under way at once.
    static let parallelCalls = 4
    /// Failures in a row of a single click before it becomes a delivery of its own, so that the others can pass.
    static let triesOfOne = 3
    static let firstPause: Duration = .seconds(1)
    static let longestPause: Duration = .seconds(20)
    /// Between the batches, each larger than the one before, of a connection that was enabled again.
    static let resumePause: Duration = .seconds(2)

    /// Sends a batch and stores what came of it with `commit`.
    ///
    /// - Parameter held: where the clicks come from, when they were held.
    /// - Returns: false when nothing got through: then nothing was stored, and `state` says when to try again.
    func deliver(
        _ clicks: [ResolvedClick], held: [ClickPosition: HeldClick], _ connection: Connection,
        _ actions: [ClickAction], _ commit: StreamCommit, _ state: inout State
    ) async throws -> Bool {
        var commit = commit
        let records = try await self.records(of: actions, clicks, connection, &commit)
        let sent = try await attempt(records, on: connection)
        let isStuck = isStuck(clicks, sent.fates, state)
        if !sent.isProgress, !isStuck {
            if let (to, reason) = sent.move {
                try await self.move(connection, to: to, reason)
            } else if !sent.hasDisabled {
                putOff(sent.fates, clicks: clicks.count, &state)
            }
            return false
        }
        try await conclude([sent], held: held, connection, commit, isStuck: isStuck, &state)
        return true
    }

    /// Stores what came of records with `commit`, all in one transaction.
    func conclude(
        _ batches: [SentRecords], held: [ClickPosition: HeldClick], _ connection: Connection, _ commit: StreamCommit,
        isStuck: Bool, _ state: inout State
    ) async throws {
        var commit = commit
        for batch in batches {
            for (index, record) in batch.records.enumerated() {
                let verdict = batch.verdicts[index]
                settle(record, batch.fates[index], verdict, batch, held, connection, &commit)
                for warning in verdict.warnings {
                    reporter.warned(warning, delivery: record.delivery.id, on: connection)
                }
            }
        }
        CrashPoint.reach("before_stream_commit")
        commit.at = clock.now
        try await store.commitStream(commit)
        CrashPoint.reach("after_stream_commit")
        report(commit, batches, on: connection)
        state.failures = 0
        if !isStuck {
            state.pauses = 0
            state.batchLimit = state.batchLimit.flatMap { $0 >= 1024 ? nil : $0 * 8 }
        }
        if connection.health.resumeQuota != nil, batches.contains(where: \.hasSuccess) {
            try await dispatcher.watch.passed(connection)
            state.blockedUntil = clock.now + Self.resumePause
        }
        if !commit.failures.isEmpty {
            let soon = clock.now + Self.drainPause
            state.drainAt = min(state.drainAt ?? soon, soon)
        }
        if let (to, reason) = batches.lazy.compactMap(\.move).first { try await move(connection, to: to, reason) }
    }

    /// Hands records to the plugin, waits for what it says of them, and tells whoever watches the endpoint.
    func attempt(_ records: [StreamRecord], on connection: Connection) async throws -> SentRecords {
        let startedAt = clock.now
        let verdicts = await send(records, on: connection)
        let finishedAt = clock.now
        let hasDisabled = try await dispatcher.watch.observe(verdicts, on: connection)
        return SentRecords(
            records: records, verdicts: verdicts, startedAt: startedAt, finishedAt: finishedAt, hasDisabled: hasDisabled
        )
    }

    func records(
        of actions: [ClickAction], _ clicks: [ResolvedClick], _ connection: Connection, _ commit: inout StreamCommit
    ) async throws -> [StreamRecord] {
        var records: [StreamRecord] = []
        for action in actions where !clicks.isEmpty {
            records += try await self.records(of: action, clicks, connection, &commit)
        }
        return records
    }

    private func records(
        of action: ClickAction, _ clicks: [ResolvedClick], _ connection: Connection, _ commit: inout StreamCommit
    ) async throws -> [StreamRecord] {
        let now = clock.now
        guard action.coalesces else {
            var links: [LinkID: JSONValue] = [:]
            return clicks.map { StreamRecord.click($0, action: action, on: connection, at: now, &links) }
        }
        let touches = ContactTouch.coalesced(clicks)
        let written = try await store.touches(
            connection: connection.id, contacts: touches.map(\.last.contact.key))
        return touches.compactMap { touch in
            guard let rest = touch.without(written[touch.last.contact.key]) else {
                commit.count(StreamCount(action: action.name, outcome: "unchanged"), touch.clicks.count)
                return nil
            }
            return StreamRecord.touch(rest, action: action, on: connection, at: now)
        }
    }

    /// Hands the records to the plugin in batches of one action; answers in the records' order.
    private func send(_ records: [StreamRecord], on connection: Connection) async -> [Verdict] {
        var batches: [Range<Int>] = []
        var start = 0
        while start < records.count {
            let action = records[start].action
            var end = start
            while end < records.count, end - start < max(1, action.maximumBatch), records[end].action == action {
                end += 1
            }
            batches.append(start..<end)
            start = end
        }
        var verdicts: [Verdict?] = Array(repeating: nil, count: records.count)
        await withTaskGroup(of: (Range<Int>, [Verdict]).self) { group in
            var rest = batches[...]
            func next() {
                guard let range = rest.popFirst() else { return }
                let claims = records[range].map {
                    ClaimedDelivery(delivery: $0.delivery, cameFrom: .pending, journal: [])
                }
                group.addTask { (range, await plugins.deliver(claims, on: connection)) }
            }
            for _ in 0..<Self.parallelCalls { next() }
            while let (range, answers) = await group.next() {
                for (index, verdict) in zip(range, answers) { verdicts[index] = verdict }
                next()
            }
        }
        return verdicts.map {
            $0 ?? Verdict(kind: .pluginBug, code: "result_missing", message: "The plugin gave no result.")
        }
    }

    // MARK: When nothing got through

    /// Whether a click that fails alone has had its chances: it goes to the outbox, where caps and dead letters are.
    private func isStuck(_ clicks: [ResolvedClick], _ fates: [StreamFate], _ state: State) -> Bool {
        guard clicks.count == 1, state.batchLimit == 1, state.failures >= Self.triesOfOne else { return false }
        return fates.allSatisfy { if case .again = $0 { true } else { false } }
    }

    func putOff(_ fates: [StreamFate], clicks: Int, _ state: inout State) {
        var wait: Duration = .zero
        var isOurs = true
        for fate in fates {
            switch fate {
            case .again(_, let after):
                isOurs = false
                wait = max(wait, after ?? .zero)
            case .heldBack(_, let after): wait = max(wait, after ?? .zero)
            case .delivered, .dead, .contactUnknown, .failed, .connection: break
            }
        }
        // Held back by ourselves is no news of the vendor: the batch stays as large as it was.
        if !isOurs {
            let smaller = max(1, clicks / 2)
            if smaller == 1, clicks == 1 || state.batchLimit == 1 { state.failures += 1 }
            state.batchLimit = smaller
        }
        state.pauses = min(state.pauses + 1, 10)
        let pause = min(Self.firstPause * (1 << (state.pauses - 1)), Self.longestPause)
        state.blockedUntil = clock.now + max(wait, pause)
    }

    func move(_ connection: Connection, to state: Connection.State, _ reason: Reason) async throws {
        if try await store.setState(id: connection.id, state, reason: reason, at: clock.now) {
            reporter.connectionMoved(connection, to: state, reason: reason)
        }
    }

    // MARK: What came of a record

    private func settle(
        _ record: StreamRecord, _ fate: StreamFate, _ verdict: Verdict, _ batch: SentRecords,
        _ held: [ClickPosition: HeldClick], _ connection: Connection, _ commit: inout StreamCommit
    ) {
        func count(_ outcome: String) {
            commit.count(StreamCount(action: record.action.name, outcome: outcome), record.clicks.count)
        }
        func fail(_ state: Delivery.State, _ reason: Reason, after: Duration?, attempts: Int) {
            var delivery = record.delivery
            delivery.state = state
            delivery.reason = reason
            delivery.attempts = attempts
            delivery.updatedAt = clock.now
            delivery.nextAttemptAt = state == .dead ? nil : clock.now + (after ?? .milliseconds(1))
            commit.failures.append(
                StreamCommit.Failure(
                    delivery: delivery, key: record.key,
                    attempt: attempts > 0 ? batch.attempt(at: record, verdict) : nil,
                    clicks: record.clicks.map(\.position)))
            count(state == .dead ? "dead" : "retrying")
        }
        switch fate {
        case .delivered: count("delivered")
        case .dead(let reason): fail(.dead, reason, after: nil, attempts: 1)
        case .contactUnknown(let reason):
            guard (connection.policy.stream ?? StreamPolicy()).unknownContact == .hold else {
                fail(.dead, reason, after: nil, attempts: 1)
                break
            }
            count("contact_unknown")
            keep(record, held, &commit)
            return
        case .failed(let reason): fail(.retrying, reason, after: nil, attempts: 1)
        case .again(let reason, let after): fail(.retrying, reason, after: after, attempts: 1)
        case .heldBack(let reason, let after): fail(.retrying, reason, after: after, attempts: 0)
        case .connection(_, let reason): fail(.retrying, reason, after: nil, attempts: 0)
        }
        // Also for what is tried again: what a later click wrote must not be overwritten by it, nor it by an older one.
        if let touch = record.touch {
            commit.touches[record.contact.key, default: TouchTimes()].take(touch)
        }
    }

    /// Holds the clicks of a contact whom the vendor does not know, and tries again ever more rarely.
    private func keep(_ record: StreamRecord, _ held: [ClickPosition: HeldClick], _ commit: inout StreamCommit) {
        let now = clock.now
        for click in record.clicks where !commit.holds.contains(where: { $0.position == click.position }) {
            let before = held[click.position]
            let waited = before.map { now - $0.heldAt } ?? .zero
            commit.holds.append(
                hold(
                    click, .contactUnknown, until: before?.until,
                    retryAt: now + max(Self.firstRetryOfUnknown, waited)))
            if before == nil {
                commit.count(.held)
            } else {
                commit.released.removeAll { $0 == click.position }
                commit.count(.released, -1)
            }
        }
    }

    /// A delivery that ended because the vendor does not know the contact goes back to where its clicks would be, had it
    /// been the first try (RES-07).
    func holdUnknown(_ claims: [ClaimedDelivery], on connection: Connection) async throws {
        guard (connection.policy.stream ?? StreamPolicy()).unknownContact == .hold else { return }
        var commit = StreamCommit(
            connection: connection.id, workspace: connection.workspace, at: clock.now, position: nil)
        for claim in claims {
            let id = claim.delivery.id
            guard let ended = try await store.delivery(id, workspace: connection.workspace), ended.state == .dead,
                ended.reason?.code == "contact_unknown"
            else { continue }
            let clicks = try await store.clicks(at: store.streamClicks(of: id))
            guard !clicks.isEmpty else { continue }
            commit.withdrawn.append(id)
            for click in clicks where !commit.holds.contains(where: { $0.position == click.position }) {
                commit.holds.append(
                    hold(click, .contactUnknown, until: nil, retryAt: clock.now + Self.firstRetryOfUnknown))
                commit.count(.held)
            }
        }
        if !commit.withdrawn.isEmpty { try await store.commitStream(commit) }
    }

    private static let firstRetryOfUnknown: Duration = .seconds(3600)

    private func report(_ commit: StreamCommit, _ batches: [SentRecords], on connection: Connection) {
        let oldest = batches.lazy.flatMap(\.records).compactMap { $0.clicks.first?.receivedAt }.min()
        reporter.streamed(commit.counts, lag: oldest.map { clock.now - $0 }, on: connection)
        for failure in commit.failures {
            if let attempt = failure.attempt { reporter.attempted(attempt, on: connection) }
            reporter.settled(
                DeliveryOutcome(
                    delivery: failure.delivery.id, state: failure.delivery.state, reason: failure.delivery.reason,
                    at: clock.now), on: connection)
        }
    }
}

extension TouchTimes {
    /// The later of each.
    mutating func take(_ other: TouchTimes) {
        for part in ContactTouch.parts.map(\.time) {
            guard let time = other[keyPath: part] else { continue }
            self[keyPath: part] = max(self[keyPath: part] ?? time, time)
        }
    }
}
