// SPDX-License-Identifier: Apache-2.0

import MilepostConfiguration

/// What is known of a stable code: which row of the administrator's table of troubles it is (TRB-01 …), what usually is
/// behind it, and which part of the daemon's surroundings it belongs to. The cures are `Advice`'s.
struct Trouble: Sendable {
    var area: Finding.Area
    var reference: String?
    var cause: String?

    private init(_ area: Finding.Area, _ reference: String? = nil, _ cause: String? = nil) {
        self.area = area
        self.reference = reference
        self.cause = cause
    }

    /// - Parameter isInstalled: whether the connection was made by consent; then a 401 has another cause.
    static func of(_ code: String, isInstalled: Bool = false) -> Trouble {
        if code == "needs_reauth" || code == "credential_refused" { return isInstalled ? chain : token }
        if code == "credentials_restored" || code == "credentials_copied" { return restored }
        if let known = table[code] { return known }
        if code.hasPrefix("plugin_") { return Trouble(.plugins) }
        if code.hasPrefix("storage_") { return Trouble(.disk) }
        if code.hasPrefix("setting_property") { return frozen }
        if code.hasPrefix("setting_") {
            return Trouble(
                .connections, nil, "the vendor does not take the setting any more, because something changed there")
        }
        return Trouble(.connections)
    }

    private static let token = Trouble(
        .connections, "TRB-01", "the vendor answers 401: the token is invalid, was revoked, or its user is gone")
    private static let chain = Trouble(
        .connections, "TRB-08",
        "the vendor answers 401 or refuses the refresh token, which nearly always means that the chain of refresh tokens "
            + "is broken")
    private static let restored = Trouble(
        .connections, "TRB-08",
        "the database was restored or copied, and the vendor may have replaced these refresh tokens since; nothing is sent "
            + "with them, because that could end another daemon's access")
    private static let frozen = Trouble(
        .connections, "TRB-09",
        "the vendor does not take the setting any more; a property that became read-only, or that only tells the first "
            + "touch, keeps its old value, so that the last campaign looks frozen")

    private static let right = Trouble(
        .connections, "TRB-02", "the vendor answers 403: the token's user lacks a right in the account")
    private static let allowance = Trouble(
        .connections, "TRB-07", "the vendor answers 429: the account's allowance for the day is used up")

    private static let table: [String: Trouble] = [
        "permission": right,
        "permission_missing": right,
        "email_missing": Trouble(
            .connections, "TRB-03", "without an address or a contact's id nobody can tell who filled the form in"),
        "field_unknown": Trouble(
            .connections, "TRB-04", "the name is neither the key nor the label of a field that the vendor has"),
        "field_ambiguous": Trouble(
            .connections, "TRB-04", "the label is borne by more than one field, and nobody guesses between them"),
        "field_invalid": Trouble(.connections, "TRB-04", "the field does not take values of this kind"),
        "webhook_unreachable": Trouble(.webhooks, "TRB-05"),
        "duplicate_person": Trouble(
            .connections, "TRB-06", "several contacts of the CRM are one person, and each has a part of the history"),
        "rate_limited": Trouble(
            .connections, "TRB-07", "the vendor answers 429: more was asked of it than its plan allows"),
        "daily_budget": allowance,
        "kek_mismatch": Trouble(
            .key, nil, "the ring is another one than the credentials were stored with, or a key was taken out too early"
        ),
        "daily_budget_spent": allowance,
        "disk_low": Trouble(.disk, nil, "clicks are refused once the disk is full"),
        "schedule_overdue": Trouble(.daemon, nil, "the schedule hangs, or the machine slept"),
        "endpoint_gone": Trouble(.webhooks, nil, "the receiver answered 410: it does not want these hooks any more"),
        "endpoint_fails": Trouble(.webhooks, nil, "no attempt succeeded since, so the other side is at fault"),
        "endpoint_failing": Trouble(.webhooks, nil, "no attempt succeeded for `disable_after`"),
    ]
}
