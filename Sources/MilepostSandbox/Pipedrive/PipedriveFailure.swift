// SPDX-License-Identifier: Apache-2.0

/// A refusal in the vendor's words. Bodies follow `specs/pipedrive/errors.json`; where that page marks a text as a guess,
/// so is the text here, and no client may depend on it.
struct PipedriveFailure: Error {
    var status: Int
    var body: JSONValue
    var headers: [Header] = []

    /// Any refusal in the common envelope.
    init(status: Int, error: String, code: String? = nil) {
        var members: [(String, JSONValue)] = [
            ("success", .bool(false)), ("error", .string(error)),
            ("error_info", .string("Please check developers.pipedrive.com for more information about Pipedrive API.")),
        ]
        if let code { members.append(("code", .string(code))) }
        members += [("data", .null), ("additional_data", .null)]
        self.status = status
        self.body = .object(members)
    }

    private init(status: Int, members: [(String, JSONValue)]) {
        self.status = status
        self.body = .object(members)
    }

    /// An unknown or revoked API token, as seen live.
    static var unauthorized: PipedriveFailure {
        var failure = PipedriveFailure(
            status: 401,
            members: [
                ("success", .bool(false)), ("error", .string("unauthorized access")), ("errorCode", .integer(401)),
                ("error_info", .string("Please check developers.pipedrive.com")),
            ])
        failure.headers = [Header("x-401-by-gw", "true")]
        return failure
    }

    /// An unknown or revoked OAuth access token.
    static var invalidAccessToken: PipedriveFailure {
        PipedriveFailure(
            status: 401,
            members: [("success", .bool(false)), ("error", .string("Invalid token: access_token is invalid"))])
    }

    /// The burst or the daily limit. No Retry-After: the vendor's current pages name none.
    static var overLimit: PipedriveFailure {
        PipedriveFailure(
            status: 429,
            members: [
                ("success", .bool(false)), ("error", .string("Request over limit")), ("errorCode", .integer(429)),
            ])
    }

    /// A field that v2 does not know, or of a type it does not take: `channel: must be a number`.
    static func schema(_ field: String, _ expectation: String) -> PipedriveFailure {
        PipedriveFailure(
            status: 400,
            members: [
                ("success", .bool(false)), ("error", .string("Validation failed: \(field): \(expectation)")),
                ("code", .string("ERR_SCHEMA_VALIDATION_FAILED")),
            ])
    }

    static func badRequest(_ error: String) -> PipedriveFailure { PipedriveFailure(status: 400, error: error) }
    static func notFound(_ what: String) -> PipedriveFailure {
        PipedriveFailure(status: 404, error: "\(what) not found")
    }
}
