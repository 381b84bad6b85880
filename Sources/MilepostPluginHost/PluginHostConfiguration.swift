// SPDX-License-Identifier: Apache-2.0

internal import CMilepostLinux

/// Limits and policies; every default has its reason beside it.
public struct PluginHostConfiguration: Sendable {
    /// After the deadline a plugin has this long to end its operation (plugin-abi.md rule 17).
    public var grace: Duration = .seconds(2)
    /// A worker whose I/O thread is silent for three of these is killed. It shares no fate with plugin code, so only a
    /// stopped or starved process is silent that long.
    public var heartbeatInterval: Duration = .seconds(5)
    /// A verb returns within 10 ms (header rule 3); one that runs longer is reported, at most once a heartbeat.
    public var verbBudget: Duration = .milliseconds(10)
    /// From spawn to a loaded plugin. A Swift plugin with Foundation takes 6 ms; a loaded machine takes longer.
    public var loadBudget: Duration = .seconds(10)
    /// `describe` is pure and under 50 ms of CPU; the wall may be slower on a busy machine, up to ten times.
    public var describeBudget: Duration = .milliseconds(50)
    /// `create` must not block either, yet a first call may page in megabytes.
    public var createBudget: Duration = .seconds(5)
    public var shutdownBudget: Duration = .seconds(5)
    /// First restart after this long, doubled with each crash up to `backoffCap`, forgotten after `quarantineWindow`.
    public var backoffBase: Duration = .milliseconds(100)
    public var backoffCap: Duration = .seconds(30)
    /// This many crashes within the window: quarantine (plugin-abi.md section (f)).
    public var quarantineCrashes = 5
    public var quarantineWindow: Duration = .seconds(600)
    /// Operations in flight of one instance; more are refused with `retry`.
    public var operationsPerInstance = 1024
    /// Host calls that wait for their event, of one instance; more answer BUSY.
    public var callsPerInstance = 1024
    /// Lines a second of one plugin, with a burst of as many; the rest is counted.
    public var logLinesPerSecond = 100
    /// Lines below this level are not even sent: 0 trace, 2 info, 4 error.
    public var logLevel: Int32 = 2
    /// False only by the administrator's word: a missing Landlock or seccomp refuses the plugin otherwise.
    public var allowsBestEffortSandbox = false

    public init() {}
}

extension PluginClock {
    /// CLOCK_MONOTONIC, CLOCK_REALTIME and the task's own sleep.
    public static let system = PluginClock(
        monotonicNanoseconds: { milepost_monotonic_ns() },
        wallNanoseconds: { milepost_wall_ns() },
        sleep: { try await Task.sleep(for: $0) })
}

extension Duration {
    /// Saturates at zero and at UInt64.max.
    var nanoseconds: UInt64 {
        let (seconds, attoseconds) = components
        guard seconds >= 0, attoseconds >= 0 else { return 0 }
        let (product, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
        return overflow ? .max : product.addingSaturating(UInt64(attoseconds / 1_000_000_000))
    }
}

extension UInt64 {
    func addingSaturating(_ other: UInt64) -> UInt64 {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }
}
