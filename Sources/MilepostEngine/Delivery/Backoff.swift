// SPDX-License-Identifier: Apache-2.0

import MilepostModel

/// Time to wait before the next try: jitter over the upper half below a ceiling that doubles with each attempt, so that
/// gaps really grow (THR-14) and still spread (EXT-06).
public struct Backoff: Sendable, Equatable {
    public var base: Duration
    public var cap: Duration

    public init(base: Duration = .milliseconds(500), cap: Duration = .seconds(60)) {
        self.base = base
        self.cap = cap
    }

    /// - Parameters:
    ///   - attempt: 1 for the first retry; smaller values are a caller's bug and trap.
    ///   - unit: uniform in `0..<1`, from the engine's seeded source.
    /// - Returns: from half the ceiling up to the ceiling; whole milliseconds.
    public func delay(attempt: Int, unit: Double) -> Duration {
        precondition(attempt >= 1, "attempt \(attempt) is not a retry")
        let doubled = base.wholeMilliseconds << min(Int64(attempt - 1), 30)
        let ceiling = min(doubled, cap.wholeMilliseconds)
        return .milliseconds(ceiling / 2 + Int64(Double(ceiling - ceiling / 2) * unit))
    }
}
