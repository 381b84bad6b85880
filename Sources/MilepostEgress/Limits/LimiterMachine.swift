// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// Why a request may not wait for its budget. `code` is stable.
public struct RateLimitError: Error, Hashable, Sendable {
    public enum Code: String, Sendable {
        case unknownBucket = "unknown_bucket"
        case queueFull = "queue_full"
        /// The budget is closed for longer than the caller is willing to wait.
        case closed = "rate_limited"
    }

    public let code: Code
    public let key: String
    public let detail: String
    /// When the budget opens again, for `closed`.
    public let opensAt: Timestamp?
}

/// What an operator sees of one bucket.
public struct RateBucketSnapshot: Sendable, Equatable {
    public let key: String
    public let capacity: Int
    public let available: Int
    public let inFlight: Int
    public let waiting: Int
    /// Requests that had to wait, since start.
    public let waits: Int
    /// 429 answers, since start.
    public let refusals: Int
    public let closedUntil: Timestamp?
}

/// The limiter's decisions: pure, no clock, no lock, no continuation.
///
/// Waiters stand in lanes, one per set of buckets, first come first served. A lane whose head lacks room in a bucket
/// holds that bucket against later comers, and only that one: a request waiting for the search budget does not keep the
/// plain ones back, and a dear one is not starved by cheap ones.
package struct LimiterMachine {
    package typealias Ticket = UInt64

    package init() {}

    package enum Decision: Equatable { case granted(Ticket), failed(Ticket, RateLimitError) }

    /// Bound on waiting requests over all keys: some 100 bytes each, and far above what the engine keeps in flight.
    static let maximumWaiting = 100_000
    /// A vendor's wait is believed up to a day: no header may close a budget for good.
    static let longestClosure = Duration.seconds(86_400)
    /// A 429 that names no time, or a shorter one (crm-apis.md 2.4).
    static let shortestClosure = Duration.seconds(2)
    /// Clocks differ: a "spent" this soon after midnight is still yesterday's.
    static let midnightGrace = Duration.seconds(600)

    private struct Bucket {
        var definition: RateBucket
        /// One of the two is there. Optionals and no enum, because their arrays are then changed in place.
        var window: WindowBudget?
        var day: DayBudget?
        var inFlight: Int
        var waits = 0
        var refusals = 0
        var closedUntil: Timestamp?

        init(_ definition: RateBucket, inFlight: Int) {
            self.definition = definition
            self.inFlight = inFlight
            switch definition.period {
            case .rolling(let length): window = WindowBudget(capacity: definition.capacity, period: length)
            case .day: day = DayBudget(capacity: definition.capacity, offset: definition.dayOffset)
            }
        }

        func cost(of charge: BucketCharge) -> Int { definition.unit == .requests ? 1 : charge.cost }

        mutating func earliest(for cost: Int, at now: Timestamp) -> Timestamp? {
            if let limit = definition.concurrency, inFlight >= limit { return nil }
            let fits = window?.earliest(for: cost, at: now) ?? day?.earliest(for: cost, at: now)
            guard let closedUntil else { return fits }
            if closedUntil <= now {
                self.closedUntil = nil
                return fits
            }
            return fits.map { max($0, closedUntil) }
        }
    }

    private struct Waiter {
        let ticket: Ticket
        let charges: [BucketCharge]
        let patience: Duration?
    }

    /// Changed in place only: it may hold thousands, and a copy per step would show.
    private struct Lane {
        private var waiters: [Waiter] = []
        private var first = 0
        private var impatient = 0
        /// When time alone may let the head through; nil when that takes an answer or another lane.
        var wake: Timestamp?
        var head: Waiter? { first < waiters.count ? waiters[first] : nil }
        var count: Int { waiters.count - first }

        mutating func append(_ waiter: Waiter) {
            waiters.append(waiter)
            if waiter.patience != nil { impatient += 1 }
        }

        mutating func removeHead() {
            if waiters[first].patience != nil { impatient -= 1 }
            first += 1
            if first > 64, first * 2 > waiters.count {
                waiters.removeFirst(first)
                first = 0
            }
        }

        mutating func remove(_ ticket: Ticket) { removeAll { $0.ticket == ticket } }

        /// Takes out those who will not wait that long.
        mutating func removeImpatient(of wait: Duration) -> [Ticket] {
            guard impatient > 0 else { return [] }
            var removed: [Ticket] = []
            removeAll { waiter in
                guard let patience = waiter.patience, patience < wait else { return false }
                removed.append(waiter.ticket)
                return true
            }
            return removed
        }

        private mutating func removeAll(_ isWanted: (Waiter) -> Bool) {
            waiters.removeFirst(first)
            first = 0
            waiters.removeAll(where: isWanted)
            impatient = waiters.count { $0.patience != nil }
        }
    }

    private var buckets: [String: Bucket] = [:]
    private var lanes: [[String]: Lane] = [:]
    private var lanesOfKey: [String: Set<[String]>] = [:]
    private var laneOfTicket: [Ticket: [String]] = [:]
    /// What each granted request took, by bucket.
    private var permits: [Ticket: [(key: String, taken: Int)]] = [:]
    private var lastTicket: Ticket = 0

    package mutating func nextTicket() -> Ticket {
        lastTicket += 1
        return lastTicket
    }

    /// Adds the bucket, or changes the numbers of one that exists and keeps what it has counted where the kind is equal.
    package mutating func define(_ definition: RateBucket) {
        let key = definition.key
        let known = buckets[key]?.definition
        if known == definition { return }
        if let known, known.period == definition.period, known.dayOffset == definition.dayOffset {
            buckets[key]?.definition = definition
            buckets[key]?.window?.setCapacity(definition.capacity)
            buckets[key]?.day?.setCapacity(definition.capacity)
        } else {
            buckets[key] = Bucket(definition, inFlight: buckets[key]?.inFlight ?? 0)
        }
    }

    /// Forgets a bucket; who waited for it waits for the others it named only.
    package mutating func remove(_ key: String, at now: Timestamp) -> [Decision] {
        buckets[key] = nil
        return pump(touching: [key], at: now)
    }

    /// Puts a request in line; the decisions may concern it and others.
    package mutating func enqueue(
        _ ticket: Ticket, charges: [BucketCharge], patience: Duration?, at now: Timestamp
    ) -> [Decision] {
        if let unknown = charges.first(where: { buckets[$0.key] == nil }) {
            return [
                .failed(
                    ticket,
                    .init(
                        code: .unknownBucket, key: unknown.key,
                        detail:
                            "no rate limit is defined under \(unknown.key); the connection's limits were not set up",
                        opensAt: nil))
            ]
        }
        guard laneOfTicket.count < Self.maximumWaiting else {
            return [
                .failed(
                    ticket,
                    .init(
                        code: .queueFull, key: charges.first?.key ?? "",
                        detail: "\(Self.maximumWaiting) requests wait for budgets already; try again later",
                        opensAt: nil))
            ]
        }
        // A bucket named twice is charged once, with the sum, or each charge would be judged as if it were alone.
        let costs = Dictionary(charges.map { ($0.key, $0.cost) }, uniquingKeysWith: { $0 &+ $1 })
        let keys = costs.keys.sorted()
        let charges = keys.map { BucketCharge(key: $0, cost: costs[$0] ?? 1) }
        lanes[keys, default: Lane()].append(Waiter(ticket: ticket, charges: charges, patience: patience))
        laneOfTicket[ticket] = keys
        for key in keys { lanesOfKey[key, default: []].insert(keys) }
        let decisions = pump(from: [keys], at: now)
        if laneOfTicket[ticket] != nil { for key in keys { buckets[key]?.waits += 1 } }
        return decisions
    }

    package mutating func cancel(_ ticket: Ticket, at now: Timestamp) -> [Decision] {
        guard let keys = laneOfTicket.removeValue(forKey: ticket) else { return [] }
        lanes[keys]?.remove(ticket)
        dropIfEmpty(keys)
        return pump(from: [keys], at: now)
    }

    /// The answer is in (`wasSent`), or nothing ever left: then the charge is given back.
    package mutating func finish(_ ticket: Ticket, wasSent: Bool, at now: Timestamp) -> [Decision] {
        guard let charges = permits.removeValue(forKey: ticket) else { return [] }
        for (key, taken) in charges {
            buckets[key]?.inFlight -= 1
            if wasSent {
                buckets[key]?.window?.answer(taken, at: now)
                buckets[key]?.day?.answer(taken, at: now)
            } else {
                buckets[key]?.window?.refund(taken)
                buckets[key]?.day?.refund(taken)
            }
        }
        return pump(touching: charges.map(\.key), at: now)
    }

    /// Corrects the buckets of a request by its answer (RATE-05, RATE-06).
    package mutating func observe(
        keys: [String], status: Int, header: (String) -> String?, at now: Timestamp
    ) -> [Decision] {
        func number(_ name: String?) -> Int? { name.flatMap(header).flatMap { RetryAfter.wholeNumber($0) } }
        let retryAfter = header("retry-after").flatMap { RetryAfter.parse($0, now: now) }
        let isRefused = status == 429 || (status == 503 && retryAfter != nil)
        var daySpent: String?
        var resets: [Duration] = []
        for key in keys {
            guard let names = buckets[key]?.definition.headers else { continue }
            let limit = number(names.limit).flatMap { (1...10_000_000).contains($0) ? $0 : nil }
            let remaining = number(names.remaining)
            let reset = number(names.resetSeconds).map { min(.seconds($0), Self.longestClosure) }
            if let reset { resets.append(reset) }
            // A rolling window has room again after its own length at the latest.
            if status == 429, reset == nil, let interval = number(names.intervalMilliseconds) {
                resets.append(min(.milliseconds(interval), Self.longestClosure))
            }
            buckets[key]?.window?.correct(limit: limit, remaining: remaining, reset: reset, at: now)
            buckets[key]?.day?.correct(limit: limit, remaining: remaining, at: now)
            if status == 429 {
                buckets[key]?.refusals += 1
                if remaining == 0, buckets[key]?.day != nil { daySpent = key }
            }
        }
        if isRefused {
            if let daySpent {
                closeForTheDay(daySpent, at: now)
            } else {
                let wait = max(retryAfter ?? resets.max() ?? Self.shortestClosure, Self.shortestClosure)
                let windows = keys.filter { buckets[$0]?.window != nil }
                for key in windows.isEmpty ? keys : windows { close(key, until: now + wait, at: now) }
            }
        }
        return pump(touching: keys, at: now)
    }

    package mutating func close(_ key: String, until: Timestamp, at now: Timestamp) {
        guard let bucket = buckets[key] else { return }
        let bounded = min(until, now + Self.longestClosure)
        buckets[key]?.closedUntil = max(bucket.closedUntil ?? bounded, bounded)
    }

    private mutating func closeForTheDay(_ key: String, at now: Timestamp) {
        guard let day = buckets[key]?.day else { return }
        let isYesterdays = day.sinceMidnight(at: now) < Self.midnightGrace
        close(key, until: isYesterdays ? now + .seconds(60) : day.nextMidnight(after: now), at: now)
    }

    /// When a bucket lets the next request of cost 1 through; nil when it would now, or is unknown.
    package mutating func blockedUntil(_ key: String, at now: Timestamp) -> Timestamp? {
        guard let time = buckets[key]?.earliest(for: 1, at: now), time > now else { return nil }
        return time
    }

    package mutating func snapshot(at now: Timestamp) -> [RateBucketSnapshot] {
        buckets.keys.sorted().map { key in
            guard var bucket = buckets[key] else { preconditionFailure("bucket \(key) vanished under its own key") }
            let available = bucket.window?.available(at: now) ?? bucket.day?.available(at: now) ?? 0
            let capacity = bucket.window?.capacity ?? bucket.day?.capacity ?? 0
            let waiting = lanesOfKey[key, default: []].reduce(0) { $0 + (lanes[$1]?.count ?? 0) }
            _ = bucket.earliest(for: 1, at: now)  // forgets a closure that is over
            return RateBucketSnapshot(
                key: key, capacity: capacity, available: available, inFlight: bucket.inFlight, waiting: waiting,
                waits: bucket.waits, refusals: bucket.refusals, closedUntil: bucket.closedUntil)
        }
    }

    /// The next moment at which time alone may let somebody through.
    package func nextWake() -> Timestamp? { lanes.values.compactMap(\.wake).min() }

    package mutating func pumpAll(at now: Timestamp) -> [Decision] { pump(from: Array(lanes.keys), at: now) }
}

// MARK: - Letting through

extension LimiterMachine {
    private mutating func pump(touching keys: [String], at now: Timestamp) -> [Decision] {
        pump(from: keys.flatMap { lanesOfKey[$0] ?? [] }, at: now)
    }

    /// Lets through what fits, oldest first, in the given lanes and all that share buckets with them.
    private mutating func pump(from start: [[String]], at now: Timestamp) -> [Decision] {
        var open = closure(of: start)
        var held: Set<String> = []
        var decisions: [Decision] = []
        while let keys = open.min(by: { (lanes[$0]?.head?.ticket ?? .max) < (lanes[$1]?.head?.ticket ?? .max) }) {
            guard let head = lanes[keys]?.head else {
                open.remove(keys)
                continue
            }
            var wake: Timestamp? = now
            var lacking: [String] = []
            for charge in head.charges {
                guard let cost = buckets[charge.key]?.cost(of: charge) else { continue }
                let earliest = buckets[charge.key]?.earliest(for: cost, at: now)
                if earliest != now { lacking.append(charge.key) }
                if let known = wake, let earliest { wake = max(known, earliest) } else { wake = nil }
            }
            if lacking.isEmpty, held.isDisjoint(with: keys) {
                grant(head)
                lanes[keys]?.removeHead()
                lanes[keys]?.wake = nil
                decisions.append(.granted(head.ticket))
                dropIfEmpty(keys)
                continue
            }
            held.formUnion(lacking)
            open.remove(keys)
            // With room, but behind an older head of another lane: that one's turn is ours too.
            lanes[keys]?.wake = lacking.isEmpty ? nil : wake.map { max($0, now + .milliseconds(1)) }
            decisions += dismissImpatient(keys, at: now)
            dropIfEmpty(keys)
        }
        return decisions
    }

    private mutating func grant(_ waiter: Waiter) {
        var permit: [(key: String, taken: Int)] = []
        for charge in waiter.charges {
            guard let cost = buckets[charge.key]?.cost(of: charge) else { continue }
            buckets[charge.key]?.inFlight += 1
            let taken = buckets[charge.key]?.window?.charge(cost) ?? buckets[charge.key]?.day?.charge(cost) ?? cost
            permit.append((charge.key, taken))
        }
        permits[waiter.ticket] = permit
        laneOfTicket[waiter.ticket] = nil
    }

    /// Fails the waiters who would rather do something else than wait for a budget closed that long.
    private mutating func dismissImpatient(_ keys: [String], at now: Timestamp) -> [Decision] {
        guard let wake = lanes[keys]?.wake, let removed = lanes[keys]?.removeImpatient(of: wake - now) else {
            return []
        }
        let key = keys.max { closedUntil($0) < closedUntil($1) } ?? ""
        return removed.map { ticket in
            laneOfTicket[ticket] = nil
            return .failed(
                ticket,
                .init(
                    code: .closed, key: key,
                    detail: "the budget \(key) has no room before \(wake); the request was not sent", opensAt: wake))
        }
    }

    private func closedUntil(_ key: String) -> Timestamp { buckets[key]?.closedUntil ?? Timestamp(seconds: 0) }

    private mutating func dropIfEmpty(_ keys: [String]) {
        guard let lane = lanes[keys], lane.head == nil else { return }
        lanes[keys] = nil
        for key in keys {
            lanesOfKey[key]?.remove(keys)
            if lanesOfKey[key]?.isEmpty == true { lanesOfKey[key] = nil }
        }
    }

    private func closure(of start: [[String]]) -> Set<[String]> {
        var found: Set<[String]> = []
        var pending = start
        while let keys = pending.popLast() {
            guard lanes[keys] != nil, found.insert(keys).inserted else { continue }
            for key in keys { pending += (lanesOfKey[key] ?? []).subtracting(found) }
        }
        return found
    }
}
