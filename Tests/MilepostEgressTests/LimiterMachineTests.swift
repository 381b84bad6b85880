// SPDX-License-Identifier: Apache-2.0

import MilepostEgress
import MilepostModel
import Testing

/// Requests through a limiter to a vendor, in virtual time: nothing sleeps, one seed is one history.
struct LimiterSimulation {
    struct Vendor {
        var capacity: Int
        var period: Int64
        var arrivals: [Int64] = []
        var oldest = 0
        var refused = 0
        /// What others have used of a fixed window that ends at `foreignUntil`.
        var foreign = 0
        var foreignUntil: Int64 = 0

        mutating func answer(at now: Int64) -> (status: Int, remaining: Int) {
            while oldest < arrivals.count, arrivals[oldest] <= now - period { oldest += 1 }
            let recent = arrivals.count - oldest + (now < foreignUntil ? foreign : 0)
            if recent >= capacity {
                refused += 1
                return (429, 0)
            }
            arrivals.append(now)
            return (200, capacity - recent - 1)
        }
    }

    enum Event { case arrive(UInt64), answered(UInt64, Int, Int) }

    var machine = LimiterMachine()
    var vendor: Vendor
    var seed: UInt64
    var now: Int64 = 1_000_000_000_000
    /// Latest first.
    var events: [(at: Int64, event: Event)] = []
    var grants: [(ticket: UInt64, at: Int64)] = []
    let start: Int64 = 1_000_000_000_000
    let headersOn: Bool

    init(_ bucket: RateBucket, vendor: Vendor, seed: UInt64, headersOn: Bool = false) {
        self.vendor = vendor
        self.seed = seed
        self.headersOn = headersOn
        machine.define(bucket)
    }

    mutating func random(_ below: UInt64) -> Int64 {
        seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return Int64((seed >> 33) % below)
    }

    mutating func schedule(_ event: Event, after delay: Int64) {
        let at = now + delay
        let place = events.lastIndex { $0.at > at }.map { $0 + 1 } ?? 0
        events.insert((at, event), at: place)
    }

    mutating func apply(_ decisions: [LimiterMachine.Decision]) {
        for case .granted(let ticket) in decisions {
            grants.append((ticket, now))
            schedule(.arrive(ticket), after: random(80))
        }
    }

    mutating func run(jobs: Int, key: String) {
        for _ in 0..<jobs {
            let ticket = machine.nextTicket()
            apply(machine.enqueue(ticket, charges: [.init(key: key)], patience: nil, at: time))
        }
        while true {
            let wake = machine.nextWake()?.milliseconds ?? .max
            let next = events.last?.at ?? .max
            if wake == .max, next == .max { break }
            now = max(now, min(wake, next))
            guard next <= wake, let event = events.popLast()?.event else {
                apply(machine.pumpAll(at: time))
                continue
            }
            switch event {
            case .arrive(let ticket):
                let (status, remaining) = vendor.answer(at: now)
                schedule(.answered(ticket, status, remaining), after: random(150))
            case .answered(let ticket, let status, let remaining):
                apply(machine.finish(ticket, wasSent: true, at: time))
                let headers = headersOn ? ["x-remaining": "\(remaining)", "x-reset": "2"] : [:]
                apply(machine.observe(keys: [key], status: status, header: { headers[$0] }, at: time))
            }
        }
    }

    var time: Timestamp { Timestamp(milliseconds: now) }
}

@Suite("Budgets", .timeLimit(.minutes(10)))
struct LimiterMachineTests {
    static let noon = Timestamp(rfc3339: "2026-11-21T12:00:00Z")!

    /// Grants as (ticket, seconds since noon).
    private func drain(_ machine: inout LimiterMachine, until limit: Duration) -> [(UInt64, Duration)] {
        var grants: [(UInt64, Duration)] = []
        while let wake = machine.nextWake(), wake <= Self.noon + limit {
            for case .granted(let ticket) in machine.pumpAll(at: wake) {
                grants.append((ticket, wake - Self.noon))
                for case .granted(let more) in machine.finish(ticket, wasSent: true, at: wake) {
                    grants.append((more, wake - Self.noon))
                }
            }
        }
        return grants
    }

    private func enqueue(
        _ machine: inout LimiterMachine, _ charges: [BucketCharge], patience: Duration? = nil,
        at now: Timestamp = Self.noon
    ) -> (ticket: UInt64, decisions: [LimiterMachine.Decision]) {
        let ticket = machine.nextTicket()
        return (ticket, machine.enqueue(ticket, charges: charges, patience: patience, at: now))
    }

    @Test(
        "no vendor's window ever overflows, and little of it is wasted (RATE-01, RATE-02, RATE-03, RATE-04, Z-01)",
        arguments: [
            (100, 2), (100, 10), (80, 10), (200, 10), (400, 10), (80, 2), (20, 2), (40, 2), (120, 2), (160, 2),
            (480, 2),
            (10, 2),
        ])
    func windows(_ capacity: Int, _ seconds: Int) {
        for seed in UInt64(1)...4 {
            var simulation = LimiterSimulation(
                RateBucket(key: "k", capacity: capacity, period: .rolling(.seconds(seconds))),
                vendor: .init(capacity: capacity, period: Int64(seconds) * 1000), seed: seed)
            let jobs = capacity * 8
            simulation.run(jobs: jobs, key: "k")
            #expect(simulation.vendor.refused == 0, "seed \(seed)")
            #expect(simulation.vendor.arrivals.count == jobs)
            let ideal = Int64(7 * seconds) * 1000
            #expect(simulation.now - simulation.start < ideal * 13 / 10, "seed \(seed): too slow")
        }
    }

    @Test("a burst of 5,000 requests all leave, in their order (RATE-07)")
    func burst() {
        var simulation = LimiterSimulation(
            RateBucket(key: "k", capacity: 100, period: .rolling(.seconds(2))),
            vendor: .init(capacity: 100, period: 2000), seed: 7)
        simulation.run(jobs: 5000, key: "k")
        #expect(simulation.vendor.arrivals.count == 5000)
        #expect(simulation.vendor.refused == 0)
        #expect(simulation.grants.map(\.ticket) == simulation.grants.map(\.ticket).sorted())
    }

    @Test("what others used, told by the vendor's headers, is left alone: no 429 (RATE-05, RATE-13)")
    func foreign() {
        for seed in UInt64(1)...20 {
            var simulation = LimiterSimulation(
                RateBucket(
                    key: "k", capacity: 40, period: .rolling(.seconds(2)),
                    headers: .init(remaining: "x-remaining", resetSeconds: "x-reset"), concurrency: 4),
                vendor: .init(capacity: 40, period: 2000, foreign: 28, foreignUntil: 1_000_000_002_000),
                seed: seed, headersOn: true)
            simulation.run(jobs: 60, key: "k")
            #expect(simulation.vendor.refused == 0, "seed \(seed)")
            #expect(simulation.vendor.arrivals.count == 60)
        }
    }

    @Test("the vendor's limit header replaces ours")
    func limitHeader() {
        var machine = LimiterMachine()
        machine.define(
            RateBucket(
                key: "k", capacity: 100, period: .rolling(.seconds(2)), headers: .init(limit: "x-limit")))
        for (header, expected) in [
            ("20", 20), ("0", 20), ("-5", 20), ("99999999999999999999", 20), ("abc", 20), ("30", 30),
        ] {
            _ = machine.observe(keys: ["k"], status: 200, header: { $0 == "x-limit" ? header : nil }, at: Self.noon)
            #expect(machine.snapshot(at: Self.noon).first?.capacity == expected)
        }
    }

    @Test(
        "after a 429 nothing leaves before the time given, two seconds at least (RATE-06)",
        arguments: [
            ("retry-after", "30", 30), ("retry-after", "1", 2), ("retry-after", "Sat, 21 Nov 2026 12:00:45 GMT", 45),
            ("retry-after", "Sat, 21 Nov 2020 12:00:45 GMT", 2), ("retry-after", "soon", 2), ("x-reset", "7", 7),
            ("x-reset", "0", 2), ("x-none", "9", 2), ("retry-after", "999999999", 86_400),
            ("x-interval-ms", "10000", 10),
            ("x-interval-ms", "500", 2), ("x-interval-ms", "-1", 2),
        ])
    func refused(_ name: String, _ value: String, _ seconds: Int) {
        var machine = LimiterMachine()
        machine.define(
            RateBucket(
                key: "k", capacity: 20, period: .rolling(.seconds(2)),
                headers: .init(resetSeconds: "x-reset", intervalMilliseconds: "x-interval-ms")))
        _ = machine.observe(keys: ["k"], status: 429, header: { $0 == name ? value : nil }, at: Self.noon)
        let (ticket, decisions) = enqueue(&machine, [.init(key: "k")])
        #expect(decisions.isEmpty)
        #expect(machine.blockedUntil("k", at: Self.noon) == Self.noon + .seconds(seconds))
        let early = machine.pumpAll(at: Self.noon + .seconds(seconds) - .milliseconds(1))
        #expect(early.isEmpty)
        #expect(machine.pumpAll(at: Self.noon + .seconds(seconds)) == [.granted(ticket)])
        #expect(machine.snapshot(at: Self.noon).first?.refusals == 1)
    }

    @Test("a 429 with the daily budget spent closes it until the vendor's midnight, not for the seconds of a burst")
    func daily() {
        var machine = LimiterMachine()
        machine.define(RateBucket(key: "k/default", capacity: 20, period: .rolling(.seconds(2))))
        machine.define(
            RateBucket(
                key: "k/daily", capacity: 30_000, period: .day, unit: .cost, headers: .init(remaining: "x-daily")))
        let charges = [BucketCharge(key: "k/default"), BucketCharge(key: "k/daily", cost: 10)]
        _ = machine.observe(
            keys: charges.map(\.key), status: 429, header: { ["x-daily": "0", "retry-after": "1"][$0] }, at: Self.noon)
        let midnight = Timestamp(rfc3339: "2026-11-22T00:00:00Z")!
        #expect(machine.blockedUntil("k/daily", at: Self.noon) == midnight)
        #expect(machine.blockedUntil("k/default", at: Self.noon) == nil)
        let (ticket, decisions) = enqueue(&machine, charges)
        #expect(decisions.isEmpty)
        #expect(machine.nextWake() == midnight)
        #expect(machine.pumpAll(at: midnight) == [.granted(ticket)])
    }

    @Test("a vendor whose clock is behind does not cost a day: shortly after midnight the wait is a minute")
    func midnightSkew() {
        var machine = LimiterMachine()
        machine.define(
            RateBucket(key: "d", capacity: 100, period: .day, unit: .cost, headers: .init(remaining: "x-daily")))
        let early = Timestamp(rfc3339: "2026-11-22T00:00:02Z")!
        _ = machine.observe(keys: ["d"], status: 429, header: { $0 == "x-daily" ? "0" : nil }, at: early)
        #expect(machine.snapshot(at: early).first?.closedUntil == early + .seconds(60))
    }

    @Test("the daily budget counts costs, follows the vendor's count and its own midnight")
    func dailyCosts() {
        var machine = LimiterMachine()
        machine.define(
            RateBucket(
                key: "d", capacity: 100, period: .day, unit: .cost, headers: .init(remaining: "x-daily"),
                dayOffset: .seconds(3600)))
        for _ in 0..<10 {
            let (ticket, decisions) = enqueue(&machine, [.init(key: "d", cost: 10)])
            #expect(decisions == [.granted(ticket)])
            _ = machine.finish(ticket, wasSent: true, at: Self.noon)
        }
        let (waiting, decisions) = enqueue(&machine, [.init(key: "d", cost: 10)])
        #expect(decisions.isEmpty)
        #expect(machine.nextWake() == Timestamp(rfc3339: "2026-11-21T23:00:00Z")!)
        // The company bought a bigger plan: the vendor says there is more.
        #expect(
            machine.observe(keys: ["d"], status: 200, header: { $0 == "x-daily" ? "500" : nil }, at: Self.noon)
                == [.granted(waiting)])
    }

    @Test("one limited key does not hold up another (RATE-14)")
    func independence() {
        var machine = LimiterMachine()
        machine.define(RateBucket(key: "slow", capacity: 1, period: .rolling(.seconds(1))))
        machine.define(RateBucket(key: "fast", capacity: 1000, period: .rolling(.seconds(1))))
        for _ in 0..<500 { _ = enqueue(&machine, [.init(key: "slow")]) }
        for _ in 0..<500 {
            let (ticket, decisions) = enqueue(&machine, [.init(key: "fast")])
            #expect(decisions == [.granted(ticket)])
        }
        #expect(drain(&machine, until: .seconds(10)).count <= 11)
    }

    @Test("waiting for the search budget holds up no other request of the same token; search counts for both (RATE-11)")
    func searchLane() {
        var machine = LimiterMachine()
        machine.define(RateBucket(key: "default", capacity: 6, period: .rolling(.seconds(2))))
        machine.define(RateBucket(key: "search", capacity: 2, period: .rolling(.seconds(2))))
        let search = [BucketCharge(key: "default"), BucketCharge(key: "search")]
        for _ in 0..<2 { #expect(enqueue(&machine, search).decisions.count == 1) }
        #expect(enqueue(&machine, search).decisions.isEmpty)
        for _ in 0..<4 { #expect(enqueue(&machine, [.init(key: "default")]).decisions.count == 1) }
        #expect(
            enqueue(&machine, [.init(key: "default")]).decisions.isEmpty, "search did not count in the common budget")
    }

    @Test("a dear request is not starved by cheap ones behind it")
    func noStarvation() {
        var machine = LimiterMachine()
        machine.define(RateBucket(key: "d", capacity: 10, period: .rolling(.seconds(2)), unit: .cost))
        machine.define(RateBucket(key: "other", capacity: 100, period: .rolling(.seconds(2))))
        let (first, _) = enqueue(&machine, [.init(key: "d", cost: 6)])
        let (dear, decisions) = enqueue(&machine, [.init(key: "d", cost: 8), .init(key: "other")])
        #expect(decisions.isEmpty)
        #expect(enqueue(&machine, [.init(key: "d", cost: 1)]).decisions.isEmpty, "a later, cheaper one overtook")
        _ = machine.finish(first, wasSent: true, at: Self.noon)
        #expect(machine.pumpAll(at: Self.noon + .seconds(2)).first == .granted(dear))
    }

    @Test("a cost above the whole capacity passes alone instead of waiting for ever")
    func oversized() {
        var machine = LimiterMachine()
        machine.define(RateBucket(key: "d", capacity: 10, period: .rolling(.seconds(2)), unit: .cost))
        let (ticket, decisions) = enqueue(&machine, [.init(key: "d", cost: 500)])
        #expect(decisions == [.granted(ticket)])
        #expect(enqueue(&machine, [.init(key: "d", cost: 1)]).decisions.isEmpty)
        _ = machine.finish(ticket, wasSent: true, at: Self.noon)
        #expect(machine.pumpAll(at: Self.noon + .seconds(2)).count == 1)
    }

    @Test("a request that never left gives its charge back, and concurrency its place")
    func refund() {
        var machine = LimiterMachine()
        machine.define(RateBucket(key: "k", capacity: 5, period: .rolling(.seconds(60)), concurrency: 1))
        let (first, _) = enqueue(&machine, [.init(key: "k")])
        let (second, decisions) = enqueue(&machine, [.init(key: "k")])
        #expect(decisions.isEmpty)
        #expect(machine.nextWake() == nil, "only an answer can let the second one go")
        #expect(machine.finish(first, wasSent: false, at: Self.noon) == [.granted(second)])
        _ = machine.finish(second, wasSent: true, at: Self.noon)
        #expect(machine.snapshot(at: Self.noon).first?.available == 4)
    }

    @Test("the impatient are told when the budget opens; the patient stay")
    func patience() {
        var machine = LimiterMachine()
        machine.define(RateBucket(key: "k", capacity: 5, period: .rolling(.seconds(2))))
        machine.close("k", until: Self.noon + .seconds(600), at: Self.noon)
        let (patient, _) = enqueue(&machine, [.init(key: "k")])
        let (impatient, decisions) = enqueue(&machine, [.init(key: "k")], patience: .seconds(30))
        guard case .failed(impatient, let error)? = decisions.first else {
            Issue.record("the impatient one waits")
            return
        }
        #expect(error.code == .closed && error.opensAt == Self.noon + .seconds(600))
        #expect(machine.pumpAll(at: Self.noon + .seconds(600)) == [.granted(patient)])
    }

    @Test("an unknown bucket is an error, not a free pass")
    func unknown() {
        var machine = LimiterMachine()
        guard case .failed(_, let error)? = enqueue(&machine, [.init(key: "nobody")]).decisions.first else {
            Issue.record("let through")
            return
        }
        #expect(error.code == .unknownBucket)
    }

    @Test("a bucket named twice is charged with the sum")
    func namedTwice() {
        var machine = LimiterMachine()
        machine.define(RateBucket(key: "d", capacity: 10, period: .rolling(.seconds(2)), unit: .cost))
        let (ticket, _) = enqueue(&machine, [.init(key: "d", cost: 4), .init(key: "d", cost: 4)])
        #expect(machine.snapshot(at: Self.noon).first?.available == 2)
        _ = machine.finish(ticket, wasSent: false, at: Self.noon)
        #expect(machine.snapshot(at: Self.noon).first?.available == 10)
        #expect(machine.snapshot(at: Self.noon).first?.inFlight == 0)
    }

    @Test("a bucket that is removed lets its waiters go and refuses newcomers")
    func removed() {
        var machine = LimiterMachine()
        machine.define(RateBucket(key: "k", capacity: 1, period: .rolling(.seconds(2))))
        _ = enqueue(&machine, [.init(key: "k")])
        let (waiting, _) = enqueue(&machine, [.init(key: "k")])
        #expect(machine.remove("k", at: Self.noon) == [.granted(waiting)])
        guard case .failed? = enqueue(&machine, [.init(key: "k")]).decisions.first else {
            Issue.record("let through")
            return
        }
    }

    @Test("a cancelled waiter frees its place")
    func cancel() {
        var machine = LimiterMachine()
        machine.define(RateBucket(key: "d", capacity: 10, period: .rolling(.seconds(2)), unit: .cost))
        _ = enqueue(&machine, [.init(key: "d", cost: 5)])
        let (dear, _) = enqueue(&machine, [.init(key: "d", cost: 9)])
        let (cheap, decisions) = enqueue(&machine, [.init(key: "d", cost: 1)])
        #expect(decisions.isEmpty)
        #expect(machine.cancel(dear, at: Self.noon) == [.granted(cheap)])
    }

    @Test("a wall clock set back by an hour holds nothing for longer than one window")
    func clockSetBack() {
        var machine = LimiterMachine()
        machine.define(RateBucket(key: "k", capacity: 1, period: .rolling(.seconds(2))))
        let (first, _) = enqueue(&machine, [.init(key: "k")])
        _ = machine.finish(first, wasSent: true, at: Self.noon)
        let back = Self.noon - .seconds(3600)
        let (second, _) = enqueue(&machine, [.init(key: "k")], at: back)
        #expect(machine.pumpAll(at: back + .seconds(2)) == [.granted(second)])
    }
}
