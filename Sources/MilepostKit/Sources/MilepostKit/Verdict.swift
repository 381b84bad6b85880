// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin

/// Why a record or an operation did not succeed, and what the host is to do about it. Throw it from any verb.
///
/// `code` is stable (it appears in the API, in logs, in metrics); `message` is for the operator: what happened, to
/// which thing, why, what to do. Neither may hold a secret.
public struct Verdict: Error, Hashable, Sendable {
    /// The classes of the contract. A struct, so that a later minor adds one without breaking anybody's switch.
    public struct Status: Hashable, Sendable {
        public let rawValue: Int32
        /// The word for it in `records[].class`.
        public let name: String

        /// Permanent: the record goes to the dead letters.
        public static let rejected = Status(rawValue: MP_REJECTED, name: "rejected")
        /// Not applied, may succeed later.
        public static let retry = Status(rawValue: MP_RETRY, name: "retry")
        /// Not applied, the vendor asks to wait.
        public static let rateLimited = Status(rawValue: MP_RATE_LIMITED, name: "rate_limited")
        /// The credential needs a refresh; the host refreshes and runs the operation again.
        public static let authExpired = Status(rawValue: MP_AUTH_EXPIRED, name: "auth_expired")
        /// The credential is dead until an administrator replaces it.
        public static let authRevoked = Status(rawValue: MP_AUTH_REVOKED, name: "auth_revoked")
        /// The connection's settings do not fit.
        public static let config = Status(rawValue: MP_CONFIG, name: "config")
        /// May have been applied: nothing is sent again before `reconcile` has answered.
        public static let uncertain = Status(rawValue: MP_UNCERTAIN, name: "uncertain")
        /// Given up on request.
        public static let cancelled = Status(rawValue: MP_CANCELLED, name: "cancelled")
    }

    public var status: Status
    public var code: String
    public var message: String
    /// Internal detail for the log; never a secret, never a whole vendor body.
    public var detail: String?
    public var retryAfter: Duration?
    /// What a rate limit covers: "account", "token" or "endpoint".
    public var scope: String?
    public var httpStatus: Int?
    public var vendorCode: String?
    /// JSON pointer into the settings, such as "/pipeline_id".
    public var pointer: String?

    public init(
        _ status: Status, code: String, message: String, detail: String? = nil, retryAfter: Duration? = nil,
        scope: String? = nil, httpStatus: Int? = nil, vendorCode: String? = nil, pointer: String? = nil
    ) {
        self.status = status
        self.code = code
        self.message = message
        self.detail = detail
        self.retryAfter = retryAfter
        self.scope = scope
        self.httpStatus = httpStatus
        self.vendorCode = vendorCode
        self.pointer = pointer
    }

    public static func rejected(code: String, message: String, pointer: String? = nil) -> Verdict {
        Verdict(.rejected, code: code, message: message, pointer: pointer)
    }
    public static func retry(code: String, message: String, after: Duration? = nil) -> Verdict {
        Verdict(.retry, code: code, message: message, retryAfter: after)
    }
    public static func rateLimited(code: String, message: String, after: Duration?, scope: String) -> Verdict {
        Verdict(.rateLimited, code: code, message: message, retryAfter: after, scope: scope)
    }
    public static func authRevoked(code: String, message: String) -> Verdict {
        Verdict(.authRevoked, code: code, message: message)
    }
    public static func config(code: String, message: String, pointer: String? = nil) -> Verdict {
        Verdict(.config, code: code, message: message, pointer: pointer)
    }
    public static func uncertain(code: String, message: String) -> Verdict {
        Verdict(.uncertain, code: code, message: message)
    }
}

extension Verdict {
    /// schemas/error.json
    var wire: WireError {
        WireError(
            code: code, message: message, detail: detail, retry_after_ms: retryAfter?.milliseconds, scope: scope,
            http_status: httpStatus, vendor_code: vendorCode, pointer: pointer)
    }

    /// Whether the next record of a batch would meet the same wall, so that asking the vendor again is rude or worse.
    var holdsForTheWholeBatch: Bool {
        [.rateLimited, .authExpired, .authRevoked, .config].contains(status)
    }
}

struct WireError: Codable {
    var code: String
    var message: String
    var detail: String?
    var retry_after_ms: Int64?
    var scope: String?
    var http_status: Int?
    var vendor_code: String?
    var pointer: String?
}

extension Duration {
    /// Whole milliseconds, rounded down; saturates.
    public var milliseconds: Int64 {
        let (seconds, attoseconds) = components
        let (whole, overflow) = seconds.multipliedReportingOverflow(by: 1000)
        return overflow ? (seconds < 0 ? .min : .max) : whole + attoseconds / 1_000_000_000_000_000
    }
}
