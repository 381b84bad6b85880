// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostRules
import Testing

@Suite("Rolling windows of one contact")
struct ClickWindowTests {
    /// The definition, recounted from scratch: every click so far with a time in `(now - window, now]`.
    private struct NaiveRecount {
        var rule: RollingRule
        var times: [Int64] = []
        var wasReached = false
        var hasFired = false

        mutating func take(_ time: Int64, now: Int64) -> Bool {
            // The count may have fallen below at any moment since the last click; it only falls between clicks.
            if count(at: now) < rule.trigger.threshold { wasReached = false }
            times.append(min(time, now))
            guard count(at: now) >= rule.trigger.threshold else { return false }
            defer { (wasReached, hasFired) = (true, true) }
            return !wasReached && !(rule.rearm == .once && hasFired)
        }

        func count(at now: Int64) -> Int { times.count { $0 > now - rule.trigger.window && $0 <= now } }
    }

    @Test(
        "RULE-04, RULE-14: counts and crossings equal a naive recount, for clicks in and out of order",
        arguments: 0..<200)
    func equalsNaiveRecount(seed: Int) {
        var random = Seeded(state: UInt64(seed))
        let rule = rollingRule(
            window: Int64.random(in: 60_000...600_000, using: &random),
            threshold: Int.random(in: 1...12, using: &random), rearm: Bool.random(using: &random) ? .once : .onRecross)
        var naive = NaiveRecount(rule: rule)
        var progress = ContactProgress()
        var now: Int64 = 1_800_000_000_000
        for _ in 0..<400 {
            now += Int64.random(in: 0...(rule.trigger.window / 4), using: &random)
            // Late by up to two windows, ahead by up to five minutes, and often on a boundary exactly.
            let time =
                switch Int.random(in: 0..<6, using: &random) {
                case 0: now - Int64.random(in: 0...(2 * rule.trigger.window), using: &random)
                case 1: now - rule.trigger.window
                case 2: now - rule.trigger.window + 1
                case 3: now + Int64.random(in: 0...300_000, using: &random)
                default: now
                }
            let effect = progress.take(time: time, isBot: false, now: now, under: rule)
            #expect((effect == .crossed) == naive.take(time, now: now))
            #expect(progress.window.count == min(rule.trigger.threshold, naive.count(at: now)))
            #expect(ClickWindow(encoded: progress.window.encoded) == progress.window)
        }
    }

    @Test("RULE-14: 49 clicks, 31 days, one click: nothing fires")
    func oldClicksLeave() {
        let rule = rollingRule()
        var progress = ContactProgress()
        for click in 0..<49 {
            #expect(progress.take(time: Int64(click), isBot: false, now: Int64(click), under: rule) == .counted)
        }
        #expect(progress.take(time: 31 * day, isBot: false, now: 31 * day, under: rule) == .counted)
        #expect(progress.window.count == 1)
        #expect(progress.missing(under: rule) == 49)
    }

    @Test("RULE-05, RULE-15: the 50th click crosses, clicks 51 to 100 do not, and a fallen count crosses again")
    func onceForEachCrossing() {
        let rule = rollingRule()
        var progress = ContactProgress()
        var crossings: [Int64] = []
        for click in 1...100
        where progress.take(time: Int64(click), isBot: false, now: Int64(click), under: rule) == .crossed {
            crossings.append(Int64(click))
        }
        #expect(crossings == [50])
        let later = 40 * day
        for click in 1...50 {
            let time = later + Int64(click)
            if progress.take(time: time, isBot: false, now: time, under: rule) == .crossed {
                crossings.append(Int64(click))
            }
        }
        #expect(crossings == [50, 50])
        #expect(progress.arming == 1)
    }

    @Test("RULE-15: with rearm once a contact crosses a single time, however the count moves")
    func rearmOnce() {
        let rule = rollingRule(window: 60_000, threshold: 2, rearm: .once)
        var progress = ContactProgress()
        var crossed = 0
        for round in 0..<5 {
            for click in 0..<2 {
                let time = Int64(round) * 1_000_000 + Int64(click)
                if progress.take(time: time, isBot: false, now: time, under: rule) == .crossed { crossed += 1 }
            }
        }
        #expect(crossed == 1)
    }

    @Test("The window is half-open: a click exactly its length ago is gone, one a millisecond younger is there")
    func edges() {
        let rule = rollingRule(window: 60_000, threshold: 3)
        var progress = ContactProgress()
        _ = progress.take(time: 1000, isBot: false, now: 1000, under: rule)
        _ = progress.take(time: 1001, isBot: false, now: 1001, under: rule)
        progress.settle(now: 61_000, under: rule)
        #expect(progress.window.count == 1)
        progress.settle(now: 61_001, under: rule)
        #expect(progress.window.count == 0)
        #expect(progress.take(time: 1001, isBot: false, now: 61_001, under: rule) == .tooOld)
        #expect(progress.take(time: 1002, isBot: false, now: 61_001, under: rule) == .counted)
    }

    @Test("EXC-06: a machine's clicks are counted apart and fire nothing, unless the rule counts all")
    func bots() {
        let people = rollingRule(threshold: 2)
        var progress = ContactProgress()
        for click in 0..<10 {
            #expect(progress.take(time: Int64(click), isBot: true, now: Int64(click), under: people) == .ignoredBot)
        }
        #expect(progress.botClicks == 10)
        #expect(progress.window.count == 0)
        let all = rollingRule(threshold: 2, audience: .all)
        var everybody = ContactProgress()
        _ = everybody.take(time: 1, isBot: true, now: 1, under: all)
        #expect(everybody.take(time: 2, isBot: true, now: 2, under: all) == .crossed)
    }

    @Test("A window keeps the newest clicks only, so that its size is bounded by the threshold")
    func isBounded() {
        let rule = rollingRule(threshold: 50)
        var progress = ContactProgress()
        for click in 0..<10_000 { _ = progress.take(time: Int64(click), isBot: false, now: Int64(click), under: rule) }
        #expect(progress.window.count == 50)
        #expect(progress.window.oldest == 9950)
        #expect(progress.window.encoded.count < 64)
    }

    @Test("Bytes that are no window are refused, whatever they are", arguments: 0..<50)
    func hostileBytes(seed: Int) {
        var random = Seeded(state: UInt64(seed))
        for _ in 0..<200 {
            let bytes = (0..<Int.random(in: 0...40, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            guard let window = ClickWindow(encoded: bytes) else { continue }
            #expect(ClickWindow(encoded: window.encoded) == window)
        }
        #expect(ClickWindow(encoded: [0x80]) == nil)
        #expect(ClickWindow(encoded: Array(repeating: 0xff, count: 12)) == nil)
    }
}
