// SPDX-License-Identifier: Apache-2.0

internal import MilepostModel

/// The rolling window as a value: no clock, no lock, no waiting.
///
/// A charge stays in the window until `period` after its *answer*, not after its departure: the vendor counted it
/// somewhere between the two, and only so can no window of the vendor's hold more than the capacity (RATE-01).
struct WindowBudget {
    private(set) var capacity: Int
    let period: Duration
    private var answered: [(at: Timestamp, cost: Int)] = []
    private var firstAnswered = 0
    private var answeredCost = 0
    private(set) var inFlightCost = 0
    /// What others took from the same key, as far as the vendor's `remaining` tells.
    private var foreign: (cost: Int, until: Timestamp)?

    init(capacity: Int, period: Duration) {
        self.capacity = capacity
        self.period = period
    }

    /// What may leave now. Never negative, never above the capacity.
    mutating func available(at now: Timestamp) -> Int {
        expire(at: now)
        return max(0, capacity - answeredCost - inFlightCost - (foreign?.cost ?? 0))
    }

    /// When `cost` fits, provided nothing else leaves; nil when that hangs on an answer that has not come.
    mutating func earliest(for cost: Int, at now: Timestamp) -> Timestamp? {
        var free = available(at: now)
        let needed = min(cost, capacity)
        if free >= needed { return now }
        var pendingForeign = foreign
        for entry in answered[firstAnswered...] {  // in the order of their leaving
            let leaves = entry.at + period
            if let foreign = pendingForeign, foreign.until <= leaves {
                free += foreign.cost
                if free >= needed { return foreign.until }
                pendingForeign = nil
            }
            free += entry.cost
            if free >= needed { return leaves }
        }
        if let foreign = pendingForeign, free + foreign.cost >= needed { return foreign.until }
        return nil
    }

    /// A cost above the whole capacity passes when the window is empty, for waiting would never end.
    ///
    /// - Returns: what was taken, for `answer` or `refund`: the capacity may change in between.
    mutating func charge(_ cost: Int) -> Int {
        let taken = min(cost, capacity)
        inFlightCost += taken
        return taken
    }

    mutating func answer(_ taken: Int, at now: Timestamp) {
        inFlightCost = max(0, inFlightCost - taken)  // a bucket defined anew has permits it never gave
        answeredCost += taken
        answered.append((at: now, cost: taken))
    }

    mutating func refund(_ taken: Int) { inFlightCost = max(0, inFlightCost - taken) }

    /// Takes the vendor's word: its limit replaces ours, and what it misses in `remaining` somebody else has used.
    ///
    /// Near the end (a quarter left) requests on the wire are taken as not yet counted, so that the last ones do not
    /// overshoot together (RATE-05); farther from it as counted, so that a lone user is not slowed by its own.
    mutating func correct(limit: Int?, remaining: Int?, reset: Duration?, at now: Timestamp) {
        if let limit { capacity = limit }
        guard let remaining else { return }
        let isNearEnd = remaining * 4 <= capacity
        let left = isNearEnd ? remaining - inFlightCost : remaining
        expire(at: now)
        let known = max(0, capacity - answeredCost - inFlightCost)
        let missing = known - max(0, left)
        guard missing > 0 else { return }
        let until = now + (reset ?? period)
        if let old = foreign {  // answers arrive out of order: an older, rosier one frees nothing before its time
            foreign = (cost: max(old.cost, missing), until: max(old.until, until))
        } else {
            foreign = (cost: missing, until: until)
        }
    }

    mutating func setCapacity(_ number: Int) { capacity = number }

    private mutating func expire(at now: Timestamp) {
        while firstAnswered < answered.count {
            // A wall clock set back must not hold a charge for longer than one period.
            if answered[firstAnswered].at > now {
                for index in answered.indices { answered[index].at = min(answered[index].at, now) }
            }
            guard answered[firstAnswered].at + period <= now else { break }
            answeredCost -= answered[firstAnswered].cost
            firstAnswered += 1
        }
        if firstAnswered > 64, firstAnswered * 2 > answered.count {
            answered.removeFirst(firstAnswered)
            firstAnswered = 0
        }
        // The same for the wait after what others used; no vendor's window is longer than a day.
        if let foreign, foreign.until <= now || foreign.until > now + .seconds(86_400) { self.foreign = nil }
    }
}

/// The daily budget as a value: spent since the last midnight of the vendor.
struct DayBudget {
    private(set) var capacity: Int
    let offset: Duration
    private var spent = 0
    private var day: Int64 = .min
    private(set) var inFlightCost = 0

    init(capacity: Int, offset: Duration) {
        self.capacity = capacity
        self.offset = offset
    }

    mutating func available(at now: Timestamp) -> Int {
        roll(to: now)
        return max(0, capacity - spent - inFlightCost)
    }

    mutating func earliest(for cost: Int, at now: Timestamp) -> Timestamp? {
        available(at: now) >= min(cost, capacity) ? now : nextMidnight(after: now)
    }

    mutating func charge(_ cost: Int) -> Int {
        inFlightCost += cost
        return cost
    }

    mutating func answer(_ taken: Int, at now: Timestamp) {
        roll(to: now)
        inFlightCost = max(0, inFlightCost - taken)  // a bucket defined anew has permits it never gave
        spent += taken
    }

    mutating func refund(_ taken: Int) { inFlightCost = max(0, inFlightCost - taken) }

    /// The vendor's count is the company's, ours only this daemon's: it wins in both directions.
    mutating func correct(limit: Int?, remaining: Int?, at now: Timestamp) {
        roll(to: now)
        if let limit { capacity = limit }
        guard let remaining else { return }
        if remaining > capacity { capacity = remaining }
        spent = capacity - remaining
    }

    mutating func setCapacity(_ number: Int) { capacity = number }

    func nextMidnight(after now: Timestamp) -> Timestamp {
        Timestamp(milliseconds: (dayNumber(now) + 1) * Self.dayMilliseconds - offset.wholeMilliseconds)
    }

    func sinceMidnight(at now: Timestamp) -> Duration {
        .milliseconds(now.milliseconds + offset.wholeMilliseconds - dayNumber(now) * Self.dayMilliseconds)
    }

    private static let dayMilliseconds: Int64 = 86_400_000

    private func dayNumber(_ now: Timestamp) -> Int64 {
        let local = now.milliseconds + offset.wholeMilliseconds
        let quotient = local / Self.dayMilliseconds
        return local % Self.dayMilliseconds < 0 ? quotient - 1 : quotient
    }

    private mutating func roll(to now: Timestamp) {
        let today = dayNumber(now)
        guard today > day else { return }  // a clock set back does not give the budget twice
        day = today
        spent = 0
    }
}
