// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import MilepostEgress
import MilepostModel
import Synchronization
import Testing

/// A clock that moves when the test says so.
final class ManualClock: DaemonClock {
    private struct State {
        var now = Timestamp(rfc3339: "2026-11-21T12:00:00Z")!
        var sleepers: [Int: (until: Timestamp, continuation: CheckedContinuation<Void, any Error>)] = [:]
        var cancelled: Set<Int> = []
        var last = 0
    }
    private let state = Mutex(State())

    var now: Timestamp { state.withLock { $0.now } }

    func sleep(for duration: Duration) async throws {
        let id = state.withLock { state in
            state.last += 1
            return state.last
        }
        try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let isCancelled = state.withLock { state in
                    if state.cancelled.remove(id) != nil { return true }
                    state.sleepers[id] = (state.now + duration, continuation)
                    return false
                }
                if isCancelled { continuation.resume(throwing: CancellationError()) }
            }
        } onCancel: {
            let sleeper = state.withLock { state in
                let sleeper = state.sleepers.removeValue(forKey: id)
                if sleeper == nil { state.cancelled.insert(id) }
                return sleeper
            }
            sleeper?.continuation.resume(throwing: CancellationError())
        }
    }

    /// Moves on, once somebody sleeps (so that nobody misses the move).
    func advance(_ duration: Duration) async {
        while state.withLock({ $0.sleepers.isEmpty }) { await Task.yield() }
        let due = state.withLock { state in
            state.now = state.now + duration
            let due = state.sleepers.filter { $0.value.until <= state.now }
            for id in due.keys { state.sleepers[id] = nil }
            return due.values.map(\.continuation)
        }
        for continuation in due { continuation.resume() }
    }
}

@Suite("Rate limiter", .timeLimit(.minutes(10)))
struct RateLimiterTests {
    @Test("a request waits exactly as long as its budget needs, and the metrics say so")
    func waits() async throws {
        let clock = ManualClock()
        let limiter = RateLimiter(clock: clock)
        limiter.define(RateBucket(key: "k", capacity: 1, period: .rolling(.seconds(2))))
        let first = try await limiter.acquire([.init(key: "k")])
        #expect(first.waited == .zero)
        limiter.finish(first, wasSent: true)
        let second = Task { try await limiter.acquire([.init(key: "k")]) }
        await clock.advance(.milliseconds(1999))
        #expect(limiter.snapshot().first?.waiting == 1)
        #expect(limiter.snapshot().first?.waits == 1)
        await clock.advance(.milliseconds(1))
        let permit = try await second.value
        #expect(permit.waited == .seconds(2))
        limiter.finish(permit, wasSent: true)
        #expect(limiter.snapshot().first?.waiting == 0)
    }

    @Test("cancelling a waiting task gives its place to the next")
    func cancellation() async throws {
        let clock = ManualClock()
        let limiter = RateLimiter(clock: clock)
        limiter.define(RateBucket(key: "k", capacity: 1, period: .rolling(.seconds(2)), concurrency: 1))
        let first = try await limiter.acquire([.init(key: "k")])
        let cancelled = Task { try await limiter.acquire([.init(key: "k")]) }
        while limiter.snapshot().first?.waiting != 1 { await Task.yield() }
        cancelled.cancel()
        await #expect(throws: CancellationError.self) { try await cancelled.value }
        let next = Task { try await limiter.acquire([.init(key: "k")]) }
        while limiter.snapshot().first?.waiting != 1 { await Task.yield() }
        limiter.finish(first, wasSent: false)
        limiter.finish(try await next.value, wasSent: true)
        #expect(limiter.snapshot().first?.inFlight == 0)
    }

    @Test("many tasks on one key leak no permit, with a third of them cancelled")
    func stress() async {
        let limiter = RateLimiter(clock: SystemClock())
        limiter.define(RateBucket(key: "k", capacity: 100_000, period: .rolling(.seconds(1)), concurrency: 3))
        await withTaskGroup(of: Void.self) { group in
            for index in 0..<600 {
                group.addTask {
                    let task = Task {
                        let permit = try await limiter.acquire([.init(key: "k")])
                        await Task.yield()
                        limiter.finish(permit, wasSent: true)
                    }
                    if index % 3 == 0 { task.cancel() }
                    _ = await task.result
                }
            }
        }
        let bucket = limiter.snapshot().first
        #expect(bucket?.inFlight == 0 && bucket?.waiting == 0)
    }

    @Test("egress charges its buckets, follows the vendor's 429 and gives up for the impatient (RATE-06)")
    func throughEgress() async {
        let server = LoopbackServer { _, _ in
            .reply(status: 429, headers: [("Retry-After", "120"), ("X-RateLimit-Limit", "7")])
        }
        defer { server.close() }
        let clock = ManualClock()
        let limiter = RateLimiter(clock: clock)
        limiter.define(
            RateBucket(
                key: "con_1/default", capacity: 20, period: .rolling(.seconds(2)),
                headers: .init(limit: "x-ratelimit-limit")))
        let egress = CurlEgress(secrets: FixedSecrets(), limiter: limiter, clock: clock)
        let request = EgressRequest.post(server).with {
            $0.charges = [.init(key: "con_1/default")]
            $0.limiterPatience = .seconds(60)
        }
        let first = await egress.send(request) {}
        #expect(first.response?.status == 429)
        #expect(limiter.snapshot().first?.capacity == 7)
        let second = await egress.send(request) {}
        #expect(second.wire == .neverSent)
        #expect(second.failure?.code == .rateLimited)
        #expect(second.failure?.opensAt == clock.now + .seconds(120))
        #expect(server.requests.count == 1)
        let patient = Task { await egress.send(request.with { $0.limiterPatience = nil }) {} }
        await clock.advance(.seconds(119))
        #expect(server.requests.count == 1, "sent before the vendor's time")
        await clock.advance(.seconds(1))
        #expect(await patient.value.response?.status == 429)
        await egress.shutdown()
    }

    @Test("a request that fails before it leaves gives its charge back")
    func refund() async {
        struct DiskFull: Error {}
        let server = LoopbackServer { _, _ in .reply() }
        defer { server.close() }
        let limiter = RateLimiter(clock: ManualClock())
        limiter.define(RateBucket(key: "k", capacity: 3, period: .rolling(.seconds(2))))
        let egress = makeEgress(limiter: limiter)
        let request = EgressRequest.post(server).with { $0.charges = [.init(key: "k")] }
        _ = await egress.send(request) { throw DiskFull() }
        #expect(limiter.snapshot().first?.available == 3)
        _ = await egress.send(request) {}
        #expect(limiter.snapshot().first?.available == 2)
        await egress.shutdown()
    }

    @Test("the manifest's entries become buckets, with presets and the administrator's number (RATE-03, Z-01)")
    func declarations() throws {
        let json = """
            [{"bucket":"default","scope":"credential","capacity":20,"period_ms":2000,"unit":"requests",
              "presets":{"lite":20,"growth":40,"power_2024":{"capacity":200,"period_ms":10000}},
              "headers":{"limit":"x-ratelimit-limit","remaining":"x-ratelimit-remaining","reset_seconds":"x-ratelimit-reset"}},
             {"bucket":"daily","scope":"account","unit":"cost","capacity":30000,"period":"day",
              "headers":{"remaining":"x-daily-ratelimit-token-remaining"}}]
            """
        let declared = try JSONDecoder().decode([RateLimitDeclaration].self, from: Data(json.utf8))
        let plain = try #require(declared[0].makeBucket(key: "con_1/default"))
        #expect(plain.capacity == 20 && plain.period == .rolling(.seconds(2)))
        #expect(plain.headers.resetSeconds == "x-ratelimit-reset")
        #expect(declared[0].makeBucket(key: "k", preset: "growth")?.capacity == 40)
        let older = try #require(declared[0].makeBucket(key: "k", preset: "power_2024"))
        #expect(older.capacity == 200 && older.period == .rolling(.seconds(10)))
        #expect(declared[0].makeBucket(key: "k", preset: "growth", capacity: 33)?.capacity == 33)
        #expect(declared[0].makeBucket(key: "k", preset: "nope") == nil)
        #expect(declared[0].makeBucket(key: "k", capacity: 0) == nil)
        let daily = try #require(declared[1].makeBucket(key: "acc/daily"))
        #expect(daily.period == .day && daily.unit == .cost)
        #expect(try roundTrip(declared) == declared)
    }
}
