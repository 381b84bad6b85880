// SPDX-License-Identifier: Apache-2.0

/// A request for the host to send. The plugin never holds a secret: `credential` names one, the host puts it in.
public struct HTTPRequest: Sendable {
    public var method: String
    /// Absolute.
    public var url: String
    public var headers: [(name: String, value: String)]
    public var body: [UInt8]?
    /// A credential's reference, or nil to send none.
    public var credential: String?
    /// Name of a placement of the manifest; nil is the scheme's first.
    public var placement: String?
    /// Name of the step for the journal. With nil the request is idempotent and may be repeated by the host.
    public var step: String?
    public var followsRedirects = false
    /// nil is the host's default.
    public var timeout: Duration?
    /// Bytes of body kept; 0 is the host's default, 1 MiB.
    public var responseCap: Int = 0
    /// In the unit of the vendor's budget.
    public var cost: UInt32 = 0
    /// A rate-limit bucket of the manifest besides the default one.
    public var bucket: String?

    /// A request that may be repeated with the effect of one.
    public static func idempotent(
        _ method: String, _ url: String, json: JSONValue? = nil, credential: String?, cost: UInt32 = 0
    ) -> HTTPRequest {
        HTTPRequest(
            method: method, url: url, headers: json == nil ? [] : [("content-type", "application/json")],
            body: json?.bytes, credential: credential, step: nil, cost: cost)
    }

    /// A request that changes something each time it arrives: the host writes its intent to disk before it leaves.
    public static func step(
        _ step: String, _ method: String, _ url: String, json: JSONValue, credential: String?, cost: UInt32 = 0
    ) -> HTTPRequest {
        HTTPRequest(
            method: method, url: url, headers: [("content-type", "application/json")], body: json.bytes,
            credential: credential, step: step, cost: cost)
    }

    init(
        method: String, url: String, headers: [(name: String, value: String)], body: [UInt8]?, credential: String?,
        step: String?, cost: UInt32
    ) {
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.credential = credential
        self.step = step
        self.cost = cost
    }
}

/// A complete answer of the vendor, whatever its status.
public struct HTTPResponse: Sendable {
    public var status: Int
    public var headers: [(name: String, value: String)]
    public var body: [UInt8]
    /// The body was longer than the cap and is cut.
    public var isTruncated: Bool

    public init(
        status: Int, headers: [(name: String, value: String)] = [], body: [UInt8] = [], isTruncated: Bool = false
    ) {
        self.status = status
        self.headers = headers
        self.body = body
        self.isTruncated = isTruncated
    }

    public var isSuccess: Bool { (200..<300).contains(status) }

    /// The first header of that name, without regard to case.
    public func header(_ name: String) -> String? {
        let wanted = name.lowercased()
        return headers.first { $0.name.lowercased() == wanted }?.value
    }

    /// The body as JSON; nil when it is cut or no JSON.
    public var json: JSONValue? {
        // Whoever asks learns by nil that the answer is unreadable, and decides what that means for the step.
        isTruncated ? nil : try? JSONValue(parsing: body)
    }
}

/// Why there is no answer.
public struct HTTPFailure: Error, Hashable, Sendable {
    /// How far the request got. The host knows.
    public enum Wire: Int32, Sendable {
        /// Not one byte left: it cannot have been applied.
        case neverSent = 0
        /// Bytes may have left and no complete answer came.
        case maybeSent = 1
        /// A complete answer came and could not be handed over.
        case answered = 2
    }

    public var wire: Wire
    /// "connect_failed", "timeout", "reset", "refused_by_policy", "response_too_large", "cancelled", "tls_failed",
    /// "dns_failed"; "host_call_N" when the host refused the call itself.
    public var code: String
    public var message: String

    public init(wire: Wire, code: String, message: String) {
        self.wire = wire
        self.code = code
        self.message = message
    }
}
