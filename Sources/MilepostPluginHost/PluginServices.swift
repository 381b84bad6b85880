// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// What the engine does for plugins. Called off any lock, from host-owned threads and tasks; an asynchronous call may
/// take as long as it needs, and is cancelled by task cancellation (`http_cancel`, the operation's deadline).
public protocol PluginServices: Sendable {
    /// Sends one request, with intent and outcome on disk around it, and never twice when it is not idempotent. Keeps
    /// going when the plugin crashes meanwhile: the outcome is wanted all the more then.
    func submitHTTP(_ call: PluginHTTPCall, for connection: ConnectionID) async -> PluginHTTPResult

    /// Returns a `PluginCallStatus` once the step's result is on disk.
    func storeJournal(
        connection: ConnectionID, op: UInt64, record: UInt32, step: String, result: [UInt8]
    ) async -> Int32

    func keyValue(_ request: KeyValueRequest, for connection: ConnectionID) async -> KeyValueResult

    func sign(_ request: PluginSignatureRequest, for connection: ConnectionID) async -> PluginSignatureResult

    /// Public facts of a credential as JSON, from memory; nil when the connection has none of that name.
    func credentialInfo(_ name: String, for connection: ConnectionID) -> [UInt8]?

    func credentialRejected(_ name: String, reason: String, op: UInt64, for connection: ConnectionID)

    func log(_ line: PluginLogLine)

    func metric(_ metric: PluginMetric)
}

/// Time, sleep and randomness as the host uses them. `monotonic` must be the clock that plugins see (CLOCK_MONOTONIC)
/// wherever a real worker runs, because deadlines cross to it.
public struct PluginClock: Sendable {
    public let monotonicNanoseconds: @Sendable () -> UInt64
    public let wallNanoseconds: @Sendable () -> UInt64
    public let sleep: @Sendable (Duration) async throws -> Void

    public init(
        monotonicNanoseconds: @escaping @Sendable () -> UInt64, wallNanoseconds: @escaping @Sendable () -> UInt64,
        sleep: @escaping @Sendable (Duration) async throws -> Void
    ) {
        self.monotonicNanoseconds = monotonicNanoseconds
        self.wallNanoseconds = wallNanoseconds
        self.sleep = sleep
    }
}
