// SPDX-License-Identifier: Apache-2.0

/// How deliveries to a connection's endpoint go (EXT-08), over restarts.
public struct EndpointHealth: Sendable, Equatable {
    /// Failed attempts since the last success.
    public var failures: Int
    /// When the first of them was, moved on by the time in which nothing could be tried; nil without any.
    public var failingSince: Timestamp?
    /// What the latest of them met.
    public var lastFailure: Reason?
    /// After the connection was enabled again: how many deliveries the next drain may send, so that an endpoint that has
    /// just come back is not met by its whole queue at once. Nil: as many as there are.
    public var resumeQuota: Int?

    public init(
        failures: Int = 0, failingSince: Timestamp? = nil, lastFailure: Reason? = nil, resumeQuota: Int? = nil
    ) {
        self.failures = failures
        self.failingSince = failingSince
        self.lastFailure = lastFailure
        self.resumeQuota = resumeQuota
    }

    /// The first drain after enabling sends this many, the next ones each `growth` times as many.
    public static let firstQuota = 1
    static let growth = 8
    /// Beyond this the drain is as it always is.
    static let lastQuota = 5000

    /// The quota that follows a drain in which all went well.
    public var nextQuota: Int? {
        resumeQuota.flatMap { $0 > Self.lastQuota / Self.growth ? nil : max($0, 1) * Self.growth }
    }
}

/// When a connection whose deliveries all fail is disabled (EXT-08).
public struct EndpointPolicy: Hashable, Sendable, Codable {
    /// For how long attempts must have failed without one success, in milliseconds; 0: it is never disabled.
    public var disableAfterMilliseconds: Int64
    /// And how many there must have been, so that an endpoint is not given up for a few.
    public var minimumFailures: Int

    public static let longest: Duration = .seconds(365 * 86_400)
    public static let maximumFailures = 1_000_000

    public init(disableAfterMilliseconds: Int64 = 12 * 3_600_000, minimumFailures: Int = 5) {
        self.disableAfterMilliseconds = disableAfterMilliseconds
        self.minimumFailures = minimumFailures
    }

    enum CodingKeys: String, CodingKey {
        case disableAfterMilliseconds = "disable_after_ms"
        case minimumFailures = "disable_after_failures"
    }

    /// Whether the endpoint is shown as failing.
    public func isFailing(_ health: EndpointHealth) -> Bool { health.failures >= minimumFailures }

    /// When the next failure disables the connection; nil: not before more have failed, or never.
    public func disablesAt(_ health: EndpointHealth) -> Timestamp? {
        guard disableAfterMilliseconds > 0, isFailing(health), let since = health.failingSince else { return nil }
        return since + .milliseconds(disableAfterMilliseconds)
    }
}

extension Connection {
    /// The reasons' codes of `disabled` that somebody ends by enabling: the endpoint failed for too long, or said that it
    /// is gone. (A plugin that is switched off disables, too, and ends that itself.)
    public static let endpointFailing = "endpoint_failing"
    public static let endpointGone = "endpoint_gone"

    /// Whether it waits for somebody to enable it.
    public var isDisabledForEndpoint: Bool {
        state == .disabled && (stateReason?.code == Self.endpointFailing || stateReason?.code == Self.endpointGone)
    }
}
