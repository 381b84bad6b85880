// SPDX-License-Identifier: Apache-2.0

internal import CMilepostProbe
internal import MilepostPluginHost

/// A limit on what a plugin takes, fair on a busy machine: time for which threads of this process or of its workers stood
/// ready and got no processor is not the plugin's. At most nine tenths are left out, so that a plugin which spins ends too.
///
/// Asked now and then (`isOver`), because threads that have ended take their account with them.
struct Patience {
    private let limit: UInt64
    private let clock: @Sendable () -> UInt64
    private var last: UInt64
    private var queued: UInt64
    private(set) var spentNanoseconds: UInt64 = 0

    init(_ limit: Duration, _ bench: Bench) {
        let (seconds, attoseconds) = limit.components
        self.limit = UInt64(max(0, seconds)) * 1_000_000_000 + UInt64(max(0, attoseconds)) / 1_000_000_000
        clock = bench.wall.clock.monotonicNanoseconds
        last = clock()
        queued = mp_waited_ns(0)
    }

    var isOver: Bool {
        mutating get {
            let now = clock()
            let waited = mp_waited_ns(0)
            let passed = now &- last
            spentNanoseconds += passed - min(waited > queued ? waited - queued : 0, passed / 10 * 9)
            last = now
            queued = waited
            return spentNanoseconds >= limit
        }
    }

    /// Looks every few milliseconds until something is so. False when the limit came first.
    mutating func wait(_ bench: Bench, until isSo: () -> Bool) async throws -> Bool {
        while !isSo() {
            if isOver { return isSo() }
            try await bench.wall.clock.sleep(.milliseconds(5))
        }
        return true
    }
}
