// SPDX-License-Identifier: Apache-2.0

import Testing

import MilepostEgress

/// How the transfer thread spaces its turns (RATE-07: a burst is queued, and costs little).
@Suite struct PaceTests {
    private let start = ContinuousClock.now

    private func at(_ microseconds: Int) -> ContinuousClock.Instant { start + .microseconds(microseconds) }

    /// Turns half a millisecond apart for 20 ms, each with so many arrivals.
    private func busy(_ arrivals: Int) -> CurlPace {
        var pace = CurlPace(now: start)
        for turn in 1...40 { pace.begin(arrivals: arrivals, now: at(turn * 500)) }
        return pace
    }

    @Test func aRequestNowAndThenWaitsForNothing() {
        var pace = CurlPace(now: start)
        for turn in 1...40 {
            pace.begin(arrivals: turn % 2, now: at(turn * 1000))
            #expect(pace.pause(underWay: 60, now: at(turn * 1000 + 10)) == nil)
        }
    }

    @Test func atThousandsASecondTurnsKeepHalfAMillisecondApart() {
        let pace = busy(4)
        #expect(pace.pause(underWay: 3, now: at(20_100)) == .microseconds(400))
        #expect(pace.pause(underWay: 3, now: at(20_499)) == .microseconds(1))
        #expect(pace.pause(underWay: 3, now: at(20_500)) == nil, "the work itself took as long")
    }

    @Test func manyUnderWayKeepThemFurtherApart() {
        #expect(busy(4).pause(underWay: 256, now: at(20_000)) == .microseconds(1024))
    }

    @Test func theFirstTurnAfterAQuietTimeIsNotHeldBack() {
        var pace = busy(4)
        pace.begin(arrivals: 40, now: at(200_000))
        #expect(pace.pause(underWay: 40, now: at(200_010)) == nil)
    }
}
