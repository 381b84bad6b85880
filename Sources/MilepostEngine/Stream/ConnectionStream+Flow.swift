// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostStore

/// While all goes well, calls follow one another without waiting for the slowest of a batch: several are under way, and
/// the cursor moves over those that have ended, in the order of the log.
///
/// What is stored is the same as without it, and so is what a crash repeats: what was under way. When a call brings
/// nothing through, no further one is begun, and the batches of `deliver`, which find out how much still passes, take over.
extension ConnectionStream {
    /// Calls under way at once.
    static let flowWidth = 8
    /// Clicks read from the log at once.
    static let flowPage = 2000
    /// Then the connection is looked at as a whole again: held clicks, the outbox, what the signal told.
    static let flowTime: Duration = .seconds(2)

    /// Actions that coalesce see a contact's clicks as they are queued, one batch after the other.
    func mayFlow(_ actions: [ClickAction], _ state: State) -> Bool {
        !actions.isEmpty && state.batchLimit == nil && state.pauses == 0 && !actions.contains(where: \.coalesces)
    }

    /// One call's worth of the log.
    private struct Leg: Sendable {
        let number: Int
        let clicks: Int
        let commit: StreamCommit
        let sent: SentRecords
    }

    func flow(
        from first: ClickPage, place: StreamPlace, _ connection: Connection, _ actions: [ClickAction],
        _ state: inout State
    ) async throws {
        let largest = max(1, actions.map(\.maximumBatch).min() ?? 1)
        let end = [clock.now + Self.flowTime, state.drainAt].compactMap(\.self).min() ?? clock.now
        var source = FlowSource(page: first)
        var (begun, stored, takesMore) = (0, 0, true)
        var ended: [Int: Leg] = [:]
        try await withThrowingTaskGroup(of: Leg.self) { group in
            while true {
                while takesMore, begun - stored - ended.count < Self.flowWidth {
                    if source.isEmpty, clock.now < end, source.hasMore {
                        source = try await more(after: source, connection) ?? source
                    }
                    guard let (clicks, through) = source.next(min(largest, state.flowSize)) else {
                        takesMore = false
                        break
                    }
                    let (commit, firing) = try await firing(clicks, through: through, place: place, connection, actions)
                    var whole = commit
                    let records = try await records(of: actions, firing, connection, &whole)
                    group.addTask { [begun, whole] in
                        let sent = try await attempt(records, on: connection)
                        return Leg(number: begun, clicks: firing.count, commit: whole, sent: sent)
                    }
                    begun += 1
                }
                guard let leg = try await group.next() else { break }
                ended[leg.number] = leg
                state.pace(leg.sent.finishedAt - leg.sent.startedAt, for: leg.clicks, largest: largest)
                if !leg.sent.isProgress || leg.sent.move != nil || leg.sent.hasDisabled { takesMore = false }
                var ready: [Leg] = []
                while let next = ended[stored], next.sent.isProgress {
                    ended[stored] = nil
                    stored += 1
                    ready.append(next)
                }
                if !ready.isEmpty { try await conclude(ready, connection, &state) }
            }
        }
        guard let stuck = ended[stored] else { return }
        let rest = ended.values.sorted { $0.number < $1.number }
        if rest.contains(where: \.sent.isProgress) {
            // Some of it passes, so what does not is a matter of the outbox, as within a batch.
            try await conclude(rest, connection, &state)
        } else if let (to, reason) = rest.lazy.compactMap(\.sent.move).first {
            try await move(connection, to: to, reason)
        } else if !rest.contains(where: \.sent.hasDisabled) {
            putOff(stuck.sent.fates, clicks: stuck.clicks, &state)
        }
    }

    /// Nil when the connection is to be looked at first.
    private func more(after source: FlowSource, _ connection: Connection) async throws -> FlowSource? {
        guard let now = try await store.connection(id: connection.id), now == connection else { return nil }
        return FlowSource(
            page: try await store.readClicks(
                after: source.through, workspace: connection.workspace, limit: Self.flowPage))
    }

    private func conclude(_ legs: [Leg], _ connection: Connection, _ state: inout State) async throws {
        var commit = legs[0].commit
        for leg in legs.dropFirst() { commit.take(following: leg.commit) }
        try await conclude(legs.map(\.sent), held: [:], connection, commit, isStuck: false, &state)
        if let position = commit.position { moved(to: position, &state) }
    }
}

extension ConnectionStream.State {
    /// A receiver that takes its time gets fewer records a call, so that a call ends well before its deadline.
    fileprivate mutating func pace(_ spent: Duration, for clicks: Int, largest: Int) {
        if spent > .seconds(5) {
            flowSize = max(1, min(flowSize, clicks) / 2)
        } else if spent < .seconds(1), flowSize < largest {
            flowSize *= 2
        }
    }
}

/// Clicks that were read and not yet sent.
private struct FlowSource {
    private var clicks: ArraySlice<StoredClick>
    /// Where the log was read to.
    let through: ClickPosition
    let hasMore: Bool

    init(page: ClickPage) {
        clicks = page.clicks[...]
        through = page.through
        hasMore = page.hasMore
    }

    var isEmpty: Bool { clicks.isEmpty }

    mutating func next(_ size: Int) -> (clicks: [StoredClick], through: ClickPosition)? {
        let taken = Array(clicks.prefix(size))
        guard let last = taken.last else { return nil }
        clicks = clicks.dropFirst(size)
        return (taken, clicks.isEmpty ? through : last.position)
    }
}

extension StreamCommit {
    /// Takes in what the next stretch of the log brought, which none of the two has stored yet.
    fileprivate mutating func take(following next: StreamCommit) {
        position = next.position ?? position
        holds += next.holds
        links += next.links
        counts.merge(next.counts, uniquingKeysWith: +)
    }
}
