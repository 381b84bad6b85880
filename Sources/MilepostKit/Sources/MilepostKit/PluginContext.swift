// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin

/// The host's services that belong to the instance and not to an operation: log, clocks, randomness, facts of
/// credentials, metrics, storage, timers, signatures. A plugin may keep it for good.
public struct PluginContext: Sendable {
    let calls: HostCalls
    let metrics: MetricNames
    private var host: Host { calls.host }

    init(calls: HostCalls, metrics: MetricNames) {
        self.calls = calls
        self.metrics = metrics
    }

    /// Whether a line of this level would be kept.
    public func isLogged(_ level: LogLevel) -> Bool { host.logEnabled(level.rawValue) }

    /// Writes a log line. `fields` is flat; no secret belongs in it.
    public func log(_ level: LogLevel, _ message: String, _ fields: [String: JSONValue] = [:]) {
        host.log(
            0, level: level.rawValue, message: message, fields: fields.isEmpty ? nil : JSONValue.object(fields).bytes)
    }

    /// Nanoseconds since 1970 by the host's clock; 0 when the host offers none.
    public var wallNanoseconds: UInt64 { host.now()?.wall ?? 0 }
    /// The clock of every deadline, in nanoseconds; 0 when the host offers none.
    public var monotonicNanoseconds: UInt64 { host.now()?.monotonic ?? 0 }
    /// Random bytes of the host, seeded under the validator; nil when it offers none.
    public func random(_ count: Int) -> [UInt8]? { host.random(count) }
    /// Public facts of a credential (scheme, account, expiry, scopes), never the secret.
    public func credentialFacts(_ credential: String) -> JSONValue? {
        // A host that answers with something else than JSON has told nothing.
        host.credentialFacts(credential).flatMap { try? JSONValue(parsing: $0) }
    }
}

public enum LogLevel: Int32, Sendable {
    case trace = 0
    case debug = 1
    case info = 2
    case warning = 3
    case error = 4
}
