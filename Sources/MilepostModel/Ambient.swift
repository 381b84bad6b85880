// SPDX-License-Identifier: Apache-2.0

/// The daemon's clock, passed in so that a test or a simulator can drive it.
public protocol DaemonClock: Sendable {
    /// Wall-clock time now.
    var now: Timestamp { get }
    /// Suspends until `duration` has passed on this clock. Throws `CancellationError` when the task is cancelled.
    func sleep(for duration: Duration) async throws
}

/// The system's clock.
public struct SystemClock: DaemonClock {
    public init() {}

    public var now: Timestamp {
        // The suspending clocks have no epoch; the kernel's wall clock does.
        var time = timespec()
        unsafe clock_gettime(CLOCK_REALTIME, &time)
        return Timestamp(milliseconds: Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000)
    }

    public func sleep(for duration: Duration) async throws { try await Task.sleep(for: duration) }
}

/// A source of random bytes, passed in so that a run can be replayed from a seed.
public protocol RandomSource: Sendable {
    /// `count` bytes; unpredictable in the daemon, seeded in tests.
    func bytes(_ count: Int) -> [UInt8]
}

extension RandomSource {
    /// Uniform in `0..<1`, from 53 bits.
    public func unit() -> Double {
        let value = bytes(8).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        return Double(value >> 11) / Double(UInt64(1) << 53)
    }

    /// A new identifier: the prefix, an underscore and 26 characters of Crockford's base 32 (48 bits of time, 80 random
    /// ones, as ULID lays them out), so that identifiers sort by age.
    public func identifier(prefix: String, at time: Timestamp) -> String {
        let alphabet = Array("0123456789abcdefghjkmnpqrstvwxyz")
        var text = prefix + "_"
        let stamp = UInt64(max(0, time.milliseconds))
        for shift in stride(from: 45, through: 0, by: -5) { text.append(alphabet[Int(stamp >> UInt64(shift) & 31)]) }
        for byte in bytes(16) { text.append(alphabet[Int(byte & 31)]) }
        return text
    }
}

/// The system's generator.
public struct SystemRandom: RandomSource {
    public init() {}
    public func bytes(_ count: Int) -> [UInt8] {
        var generator = SystemRandomNumberGenerator()
        return (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
    }
}

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif
