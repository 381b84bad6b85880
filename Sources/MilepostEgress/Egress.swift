// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// The way out: sends one request at a time for its callers and tells how far each got.
public protocol Egress: Sendable {
    /// Sends a request.
    ///
    /// Never throws: everything that can happen is an outcome. Cancelling the task aborts the transfer and reports the
    /// wire state it had reached.
    ///
    /// - Parameter beforeSend: runs once, after limits, policy, name look-up and secrets, right before the first byte may
    ///   leave: the place to put the intent on disk (invariant 4). If it throws, nothing is sent.
    func send(_ request: EgressRequest, beforeSend: @Sendable () async throws -> Void) async -> EgressOutcome
}

/// How far a request got; `MP_WIRE_…` of the plugin ABI.
public enum WireState: String, Sendable, Codable {
    /// Not one byte left: it cannot have been applied.
    case neverSent = "never_sent"
    /// Bytes may have left and no complete answer came.
    case maybeSent = "maybe_sent"
    /// A complete answer came, or as much of it as the caller wanted.
    case answered
}

/// One request, without any secret in it.
public struct EgressRequest: Sendable {
    /// GET, POST, PUT, PATCH, DELETE or HEAD.
    public var method: String
    /// Absolute, printable ASCII, without user and password.
    public var url: String
    public var headers: [(name: String, value: String)]
    public var body: [UInt8]
    public var credentials: [CredentialUse]
    /// May be sent any number of times with the effect of one. Otherwise it is sent once, whatever happens.
    public var isIdempotent: Bool
    /// At most five, idempotent requests only, inside the policy only. Otherwise a 3xx is an answer like any other.
    public var followsRedirects: Bool
    /// From the name look-up to the last byte, waits for limits not counted.
    public var timeout: Duration
    /// Bytes of decoded body kept; the rest is cut and `truncated` set.
    public var responseCap: Int
    public var charges: [BucketCharge]
    /// Give up with `rate_limited` when a budget stays closed for longer; nil waits for ever.
    public var limiterPatience: Duration?
    public var policy: EgressPolicy
    /// The answer brings secrets to the core itself, so its body comes as it is; headers and errors are scrubbed all the
    /// same. Never for a plugin's request.
    public var isForSecrets: Bool

    public init(
        method: String, url: String, headers: [(name: String, value: String)] = [], body: [UInt8] = [],
        credentials: [CredentialUse] = [], isIdempotent: Bool, followsRedirects: Bool = false,
        timeout: Duration = .seconds(30), responseCap: Int = 1 << 20, charges: [BucketCharge] = [],
        limiterPatience: Duration? = nil, policy: EgressPolicy, isForSecrets: Bool = false
    ) {
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.credentials = credentials
        self.isIdempotent = isIdempotent
        self.followsRedirects = followsRedirects
        self.timeout = timeout
        self.responseCap = responseCap
        self.charges = charges
        self.limiterPatience = limiterPatience
        self.policy = policy
        self.isForSecrets = isForSecrets
    }
}

/// Where a request's time went.
public struct EgressTimings: Sendable, Equatable {
    /// Between hand-over to the transfer thread and the first byte, connecting not counted.
    public var queued = Duration.zero
    /// In line for budgets.
    public var limiter = Duration.zero
    /// TCP and TLS; zero on a connection used before.
    public var connect = Duration.zero
    /// All of it.
    public var total = Duration.zero

    public init() {}
}

/// A vendor's answer, free of the request's secrets.
public struct EgressResponse: Sendable {
    public let status: Int
    public let headers: [(name: String, value: String)]
    public let body: [UInt8]
    /// The body is longer than the cap.
    public let truncated: Bool
    public let timings: EgressTimings

    public init(
        status: Int, headers: [(name: String, value: String)], body: [UInt8], truncated: Bool = false,
        timings: EgressTimings = EgressTimings()
    ) {
        self.status = status
        self.headers = headers
        self.body = body
        self.truncated = truncated
        self.timings = timings
    }

    /// The first header of that name, compared without case.
    public func header(_ name: String) -> String? {
        headers.first { $0.name.lowercased() == name.lowercased() }?.value
    }
}

/// Why there is no answer. `code` is stable: it reaches plugins, logs and metrics.
public struct EgressFailure: Error, Hashable, Sendable {
    public enum Code: String, Sendable, Codable, CaseIterable {
        case connectFailed = "connect_failed"
        case timeout
        case reset
        case refusedByPolicy = "refused_by_policy"
        case responseTooLarge = "response_too_large"
        case cancelled
        case tlsFailed = "tls_failed"
        case dnsFailed = "dns_failed"
        case secretUnavailable = "secret_unavailable"
        case beforeSendFailed = "before_send_failed"
        /// A budget stays closed for longer than the caller waits; `opensAt` says until when.
        case rateLimited = "rate_limited"
        /// An answer came that is not HTTP, or whose encoding is broken.
        case answerUnreadable = "answer_unreadable"
        /// The request itself breaks a rule: method, header, size.
        case requestInvalid = "request_invalid"
    }

    public let code: Code
    /// For the operator: no secret, no body, no query.
    public let message: String
    public let opensAt: Timestamp?

    public init(code: Code, message: String, opensAt: Timestamp? = nil) {
        self.code = code
        self.message = message
        self.opensAt = opensAt
    }
}

/// What became of a request: exactly one of `response` and `failure` is there.
///
/// `answered` with a failure happens in one case: a redirect came, and following it is not allowed.
public struct EgressOutcome: Sendable {
    public let wire: WireState
    public let result: Result<EgressResponse, EgressFailure>

    public var response: EgressResponse? { try? result.get() }
    public var failure: EgressFailure? {
        if case .failure(let failure) = result { failure } else { nil }
    }

    public init(wire: WireState, response: EgressResponse) {
        self.wire = wire
        result = .success(response)
    }

    public init(wire: WireState, failure: EgressFailure) {
        self.wire = wire
        result = .failure(failure)
    }
}

/// One line per hop for the log: no query, no header, no body.
public struct EgressLogEntry: Sendable {
    public let method: String
    public let origin: String
    public let path: String
    public let status: Int?
    public let wire: WireState
    public let failure: EgressFailure.Code?
    public let timings: EgressTimings
}
