// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// What the host can ask of a plugin; the numbers are those of `include/milepost/types.h`.
public enum PluginVerb: Int32, Sendable, CaseIterable {
    case configure = 1
    case connect, provision, deprovision, query, options, catalog, deliver, reconcile, intercept, webhook, pull, ping
    case shutdown
}

/// How an operation ended. Those from `deadline` on are made by the host only.
public enum PluginStatus: Int32, Sendable, CaseIterable {
    case ok = 0
    case rejected, retry, rateLimited, authExpired, authRevoked, config, uncertain, cancelled
    case deadline = 32
    case pluginBug, crashed, unsupported
}

/// Whether a host call itself worked: `MP_CALL_…`.
public enum PluginCallStatus {
    public static let ok: Int32 = 0
    public static let busy: Int32 = 1
    public static let stale: Int32 = 2
    public static let invalid: Int32 = 3
    public static let unsupported: Int32 = 4
    public static let tooLarge: Int32 = 5
    public static let denied: Int32 = 6
    public static let notFound: Int32 = 7
}

/// Where a plugin runs; the same file either way.
public enum PluginIsolation: String, Sendable, Codable, CaseIterable {
    /// Own process, no network, no files, killed when hung. The default.
    case worker
    /// Own threads inside the daemon: faster, and trusted with its life.
    case inline
}

/// The end of one operation.
public struct OperationResult: Sendable, Hashable {
    public let status: PluginStatus
    /// JSON as the plugin gave it, unparsed: the verb's result when `status` is ok, else an error object, perhaps empty.
    public let body: [UInt8]
    /// Per-record results reported before the end, oldest first.
    public let partials: [[UInt8]]
    /// True once an HTTP call was handed to the services. After a crash: false means safe to run again.
    public let touchedNetwork: Bool
    /// Broken rules seen while the operation ran, one sentence each.
    public let misbehaviour: [String]

    public init(
        status: PluginStatus, body: [UInt8] = [], partials: [[UInt8]] = [], touchedNetwork: Bool = false,
        misbehaviour: [String] = []
    ) {
        self.status = status
        self.body = body
        self.partials = partials
        self.touchedNetwork = touchedNetwork
        self.misbehaviour = misbehaviour
    }
}

/// A request that a plugin asks the daemon to send. All text is valid UTF-8; sizes and counts are checked.
public struct PluginHTTPCall: Sendable, Hashable {
    public let plugin: PluginName
    public let operation: UInt64
    /// Chosen by the plugin; comes back in the event.
    public let token: UInt64
    public let isIdempotent: Bool
    public let followsRedirects: Bool
    public let method: String
    public let url: String
    public let headers: [(name: String, value: String)]
    public let body: [UInt8]
    public let credential: String?
    public let placement: String?
    public let step: String?
    public let records: [UInt32]
    /// Bytes of body to keep; 0 means the host's default.
    public let responseCap: UInt64
    /// Nil means the host's default.
    public let timeout: Duration?
    public let cost: UInt32
    public let bucket: String?

    public static func == (left: Self, right: Self) -> Bool {
        left.operation == right.operation && left.token == right.token && left.url == right.url
            && left.method == right.method && left.body == right.body
    }
    public func hash(into hasher: inout Hasher) {
        hasher.combine(operation)
        hasher.combine(token)
    }
}

public struct PluginHTTPResult: Sendable, Hashable {
    /// `PluginCallStatus`: whether the call itself was accepted (denied, invalid, …).
    public let callStatus: Int32
    /// How far it got: 0 never sent, 1 maybe sent, 2 answered.
    public let wire: Int32
    /// 100 to 599, or 0 without an answer.
    public let httpStatus: Int32
    /// schemas/http.event.json
    public let json: [UInt8]
    public let body: [UInt8]

    public init(callStatus: Int32, wire: Int32, httpStatus: Int32, json: [UInt8], body: [UInt8]) {
        self.callStatus = callStatus
        self.wire = wire
        self.httpStatus = httpStatus
        self.json = json
        self.body = body
    }
}

public enum KeyValueRequest: Sendable, Hashable {
    case get(key: [UInt8])
    /// `version` 0 writes whatever is there; `timeToLive` nil keeps it.
    case put(key: [UInt8], value: [UInt8], version: UInt64, timeToLive: Duration?)
    case delete(key: [UInt8], version: UInt64)
    case list(prefix: [UInt8])
}

public struct KeyValueResult: Sendable, Hashable {
    public let callStatus: Int32
    /// `{"version":n}` or `{"keys":[…]}`.
    public let json: [UInt8]
    public let value: [UInt8]?

    public init(callStatus: Int32, json: [UInt8], value: [UInt8]? = nil) {
        self.callStatus = callStatus
        self.json = json
        self.value = value
    }
}

public struct PluginSignatureRequest: Sendable, Hashable {
    public let credential: String
    public let scheme: String
    public let bytes: [UInt8]
}

public struct PluginSignatureResult: Sendable, Hashable {
    public let callStatus: Int32
    public let signature: [UInt8]

    public init(callStatus: Int32, signature: [UInt8]) {
        self.callStatus = callStatus
        self.signature = signature
    }
}

/// A line from a plugin or about one.
public struct PluginLogLine: Sendable, Hashable {
    public enum Source: String, Sendable { case plugin, standardOutput, standardError, host }
    public let plugin: PluginName
    public let connection: ConnectionID?
    public let operation: UInt64?
    /// 0 trace to 4 error.
    public let level: Int32
    public let source: Source
    public let message: String
    /// Flat JSON object, unparsed, or nil.
    public let fields: [UInt8]?
}

public enum PluginMetric: Sendable, Hashable {
    /// By index into the manifest's `metrics`; labels are indexes into its label values.
    case add(plugin: PluginName, connection: ConnectionID, metric: UInt32, value: Int64, labels: [UInt32])
    case observe(plugin: PluginName, connection: ConnectionID, metric: UInt32, value: Int64, labels: [UInt32])
    /// The host's own counters: `refused`, `crash`, `hang`, `quarantine`, `misbehaviour`, `slow_call`, `log_dropped`.
    case host(plugin: PluginName, event: String, code: String)
}
