// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// What a plugin, or the host in its place, says became of one record.
public struct Verdict: Sendable, Equatable {
    /// The nine classes of the ABI and the four that only the host makes (`include/milepost/types.h`).
    public enum Class: String, Sendable, CaseIterable {
        case ok, rejected, retry
        case rateLimited = "rate_limited"
        case authExpired = "auth_expired"
        case authRevoked = "auth_revoked"
        case config, uncertain, cancelled
        case deadline
        case pluginBug = "plugin_bug"
        case crashed, unsupported
    }

    public var kind: Class
    public var remoteID: String?
    public var remoteURL: String?
    public var code: String?
    public var message: String?
    public var httpStatus: Int?
    /// The vendor's own wait, when it gave one.
    public var retryAfter: Duration?
    public var warnings: [Reason]
    /// Those of them that are about the connection.
    public var notices: [Reason] = []
    /// Our own limiter held the request back, so that nobody's attempt was spent.
    public var wasHeldBack = false

    public init(
        kind: Class, remoteID: String? = nil, remoteURL: String? = nil, code: String? = nil, message: String? = nil,
        httpStatus: Int? = nil, retryAfter: Duration? = nil, warnings: [Reason] = []
    ) {
        self.kind = kind
        self.remoteID = remoteID
        self.remoteURL = remoteURL
        self.code = code
        self.message = message
        self.httpStatus = httpStatus
        self.retryAfter = retryAfter
        self.warnings = warnings
    }

    /// Whether the plugin was not even asked, because its worker is down or full: nobody's attempt (decisions 9).
    public var neverReachedPlugin: Bool { kind == .retry && code.map(Self.unreachedCodes.contains) == true }

    /// The codes with which the plugin host says so.
    static let unreachedCodes: Set<String> = [
        "plugin_restarting", "plugin_quarantined", "plugin_refused", "plugin_busy", "plugin_closed",
        "plugin_unavailable",
    ]

    /// What it becomes when a budget of ours was closed: a request that did not leave is no failure of the record's.
    func heldBack(until opensAt: Timestamp, isDaily: Bool, now: Timestamp) -> Verdict {
        guard kind == .retry || kind == .rateLimited else { return self }
        var verdict = self
        verdict.kind = .rateLimited
        verdict.code = isDaily ? "daily_budget_spent" : "rate_limited"
        verdict.message =
            isDaily
            ? "The vendor account's daily budget is spent; sending resumes at \(opensAt)."
            : "The vendor's limit leaves no room before \(opensAt)."
        verdict.retryAfter = max(.zero, opensAt - now)
        verdict.wasHeldBack = true
        return verdict
    }

    /// The same for whatever closed the way out: a budget, or a credential that has no living token.
    func heldBack(by closed: ClosedBudget, now: Timestamp) -> Verdict {
        var verdict = heldBack(until: closed.opensAt, isDaily: closed.isDaily, now: now)
        guard verdict.wasHeldBack, let reason = closed.reason else { return verdict }
        verdict.code = closed.ends == .config ? "permission_missing" : reason.code
        verdict.message = reason.message
        if let kind = closed.ends { verdict.kind = kind }
        return verdict
    }

    /// Whether the plugin's code died or hung with the record in flight, which is charged to the record (decisions 20).
    var isPluginFailure: Bool { (kind == .crashed || kind == .deadline) && code != Self.closedCode }

    /// What we closed ourselves, for a reload or a change of settings, is nobody's crash.
    static let closedCode = "plugin_closed"

    /// Code and sentence for the log and the delivery's reason.
    public var reason: Reason {
        Reason(code: code ?? kind.rawValue, message: message ?? kind.sentence)
    }
}

extension Verdict.Class {
    var sentence: String {
        switch self {
        case .ok: "Delivered."
        case .rejected: "The vendor refused it for good."
        case .retry: "Not applied; it is tried again."
        case .rateLimited: "The vendor asked to wait."
        case .authExpired, .authRevoked: "The vendor no longer takes the credential."
        case .config: "The connection's settings do not fit the vendor's account."
        case .uncertain: "The request may have been applied; it is looked up before anything is sent again."
        case .cancelled: "Given up on request; it is tried again."
        case .deadline: "The plugin did not finish in time."
        case .pluginBug: "The plugin broke a rule of the ABI; see the log."
        case .crashed: "The plugin's worker died with it in flight."
        case .unsupported: "The plugin does not offer this."
        }
    }
}

/// What reconcile found out about one step.
public struct Finding: Sendable, Equatable {
    public enum Answer: String, Sendable { case applied, notApplied = "not_applied", unknown }
    public var answer: Answer
    public var step: String
    public var remoteID: String?
    public var remoteURL: String?
    /// What the plugin would have stored as the step's result.
    public var result: JSONValue
    public var askAgain: Duration?
    public var message: String?
    /// How the look-up failed when the plugin died or hung over it; such a finding is always `unknown`.
    public var failure: Verdict.Class?

    public init(
        answer: Answer, step: String, remoteID: String? = nil, remoteURL: String? = nil,
        result: JSONValue = .object([:]),
        askAgain: Duration? = nil, message: String? = nil
    ) {
        self.answer = answer
        self.step = step
        self.remoteID = remoteID
        self.remoteURL = remoteURL
        self.result = result
        self.askAgain = askAgain
        self.message = message
    }
}
