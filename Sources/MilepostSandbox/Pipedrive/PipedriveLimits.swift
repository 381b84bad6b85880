// SPDX-License-Identifier: Apache-2.0

/// What an account may do. Numbers: Pipedrive's page on rate limiting as of 2026-08, kept in `specs/pipedrive/limits.json`;
/// `Tests/Contract/sandbox_pipedrive_test.py` compares them with that file.
public enum PipedrivePlan: String, CaseIterable, Sendable {
    case lite, growth, premium, ultimate
    /// No limits and no rate headers, for tests that are about something else.
    case off

    /// Requests per token in any two seconds.
    package func burst(isOAuth: Bool) -> Int? {
        switch self {
        case .lite: isOAuth ? 80 : 20
        case .growth: isOAuth ? 160 : 40
        case .premium: isOAuth ? 400 : 100
        case .ultimate: isOAuth ? 480 : 120
        case .off: nil
        }
    }

    /// Cost tokens per company and day, for one seat.
    package var dailyBudget: Int? {
        switch self {
        case .lite: 30_000
        case .growth: 60_000
        case .premium: 150_000
        case .ultimate: 210_000
        case .off: nil
        }
    }
}

/// A rolling window: at most `limit` requests in any two seconds.
package struct BurstWindow: Sendable {
    /// The vendor's window.
    package static let milliseconds: Int64 = 2000
    /// Search requests per window, on every plan.
    package static let searchLimit = 10

    private var arrivals: [Instant] = []

    package init() {}

    /// Counts a request if it fits.
    /// - Returns: whether it fits, how many more would, and the whole seconds until the oldest one leaves the window.
    package mutating func admit(limit: Int, now: Instant) -> (fits: Bool, remaining: Int, resetSeconds: Int) {
        arrivals.removeAll { now.milliseconds - $0.milliseconds >= Self.milliseconds }
        let fits = arrivals.count < limit
        if fits { arrivals.append(now) }
        let oldest = arrivals.first?.milliseconds ?? now.milliseconds
        let left = max(oldest + Self.milliseconds - now.milliseconds, 0)
        return (fits, max(limit - arrivals.count, 0), Int((left + 999) / 1000))
    }
}

/// A credential of one user in one company.
struct PipedriveToken: Sendable {
    let companyID: Int
    let userID: Int
    let isOAuth: Bool
    var isRevoked: Bool
    /// Handed out by the authorisation server, which knows how long it lives.
    var isIssued = false
    var requests = BurstWindow()
    var searches = BurstWindow()
}
