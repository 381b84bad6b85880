// SPDX-License-Identifier: Apache-2.0

/// How much an account takes. Numbers: HubSpot's usage guidelines, kept in `specs/hubspot/limits.json`;
/// `Tests/Contract/sandbox_hubspot_test.py` compares them with that file.
struct HubSpotLimits: Hashable, Sendable {
    static let windowMilliseconds: Int64 = 10_000
    static let searchWindowMilliseconds: Int64 = 1000

    /// Requests of an OAuth app per account in any ten seconds; nil for no limit and no headers.
    var oauth: Int? = 110
    /// Requests of a private app in any ten seconds: 100 in the free and starter products, 190 above.
    var privateApp: Int? = 100
    /// Requests of all private apps of an account per day.
    var daily: Int? = 250_000
    /// Searches per account and second, over all apps.
    var search: Int? = 5

    static let off = HubSpotLimits(oauth: nil, privateApp: nil, daily: nil, search: nil)

    // Sizes of batches and pages.
    static let batch = 100
    static let associationReads = 1000
    static let associationWrites = 2000
    static let customEvents = 500
    static let page = 100
    static let searchPage = 200
    static let searchResults = 10_000
    static let templates = 750
}

/// A rolling window: at most `limit` requests within `milliseconds`.
struct RollingWindow: Sendable {
    private var arrivals: [Instant] = []

    /// Counts a request if it fits.
    /// - Returns: whether it fits, and how many more would.
    mutating func admit(limit: Int, within milliseconds: Int64, now: Instant) -> (fits: Bool, remaining: Int) {
        arrivals.removeAll { now.milliseconds - $0.milliseconds >= milliseconds }
        let fits = arrivals.count < limit
        if fits { arrivals.append(now) }
        return (fits, max(limit - arrivals.count, 0))
    }
}

/// What an account has used.
struct HubSpotUsage: Sendable {
    var oauth = RollingWindow()
    var privateApp = RollingWindow()
    var search = RollingWindow()
    var daily = 0
    var day: Int64 = 0
}

extension HubSpot {
    /// Counts a call against the account's limits.
    /// - Parameter headers: gets the rate headers, of refusals too; answers to searches carry none.
    mutating func count(_ call: HubSpotCall, headers: inout [Header]) throws(HubSpotFailure) {
        guard var usage = portals[call.hubID]?.usage else { return }
        defer { portals[call.hubID]?.usage = usage }
        if call.isSearch {
            guard let limit = limits.search else { return }
            let verdict = usage.search.admit(
                limit: limit, within: HubSpotLimits.searchWindowMilliseconds, now: call.now)
            if !verdict.fits { throw Self.overLimit("secondly", policy: "SECONDLY") }
            return
        }
        guard let limit = call.isOAuth ? limits.oauth : limits.privateApp else { return }
        let window = HubSpotLimits.windowMilliseconds
        let verdict =
            call.isOAuth
            ? usage.oauth.admit(limit: limit, within: window, now: call.now)
            : usage.privateApp.admit(limit: limit, within: window, now: call.now)
        headers += [
            Header("x-hubspot-ratelimit-max", String(limit)),
            Header("x-hubspot-ratelimit-remaining", String(verdict.remaining)),
            Header("x-hubspot-ratelimit-interval-milliseconds", String(window)),
        ]
        if !verdict.fits { throw Self.overLimit("ten_secondly_rolling", policy: "TEN_SECONDLY_ROLLING") }
        guard !call.isOAuth, let daily = limits.daily else { return }
        if usage.day != call.now.day {
            usage.day = call.now.day
            usage.daily = 0
        }
        let fits = usage.daily < daily
        if fits { usage.daily += 1 }
        headers += [
            Header("x-hubspot-ratelimit-daily", String(daily)),
            Header("x-hubspot-ratelimit-daily-remaining", String(daily - usage.daily)),
        ]
        if !fits { throw Self.overLimit("daily", policy: "DAILY") }
    }

    /// 429 as seen live: no category, no Retry-After.
    static func overLimit(_ name: String, policy: String) -> HubSpotFailure {
        var failure = HubSpotFailure(status: 429, category: nil, "You have reached your \(name) limit.")
        failure.extra = ["errorType": "RATE_LIMIT", "policyName": policy]
        return failure
    }
}
