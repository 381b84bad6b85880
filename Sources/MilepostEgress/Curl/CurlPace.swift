// SPDX-License-Identifier: Apache-2.0

/// Lets work gather while there is much of it, as a network card holds interrupts back.
///
/// Each turn of the transfer thread costs by the requests that are under way: libcurl asks the kernel about every one. At
/// thousands of requests a second a turn for each of them is most of the cost, and half a millisecond brings several. Below
/// that rate nothing waits.
package struct CurlPace {
    /// No two turns begin closer together, while there is much to do.
    private static let leastGap = Duration.microseconds(500)
    /// The same for each request under way, so that looking at them stays a small part of the time.
    private static let gapOfOne = Duration.microseconds(4)
    /// Requests in a window from which on it is much: 3,000 a second.
    private static let much = 15
    private static let window = Duration.milliseconds(5)

    private var turnAt: ContinuousClock.Instant
    private var windowAt: ContinuousClock.Instant
    private var seen = 0
    private var isMuch = false

    package init(now: ContinuousClock.Instant) { (turnAt, windowAt) = (now, now) }

    /// A turn begins, which so many requests waited for.
    package mutating func begin(arrivals: Int, now: ContinuousClock.Instant) {
        turnAt = now
        seen += arrivals
        guard now - windowAt >= Self.window else { return }
        // After a pause the window is old, and what came in it says nothing of the rate.
        isMuch = seen >= Self.much && now - windowAt < Self.window * 4
        seen = 0
        windowAt = now
    }

    /// How long the next turn is to wait; nil when it may begin as soon as anything happens.
    package func pause(underWay: Int, now: ContinuousClock.Instant) -> Duration? {
        guard isMuch else { return nil }
        let left = max(Self.leastGap, Self.gapOfOne * underWay) - (now - turnAt)
        return left > .zero ? left : nil
    }
}
