// SPDX-License-Identifier: Apache-2.0

/// A refusal in HubSpot's envelope. Bodies: `specs/hubspot/errors.json` and `crm-apis.md` 3.3.
struct HubSpotFailure: Error, Hashable, Sendable {
    let status: Int
    var message: String
    /// Nil only for 429, whose live bodies carry none.
    var category: String?
    var subCategory: String?
    var context: [String: [String]] = [:]
    /// Entries of `errors`.
    var details: [JSONValue] = []
    /// Members of the envelope beside the usual ones.
    var extra: [String: String] = [:]
    /// What the request did that the vendor's document does not allow; goes to the ledger.
    var violation: String?

    init(
        status: Int, category: String?, _ message: String, subCategory: String? = nil,
        context: [String: [String]] = [:]
    ) {
        self.status = status
        self.category = category
        self.message = message
        self.subCategory = subCategory
        self.context = context
    }

    func body(correlationID: String) -> JSONValue {
        var members: [(String, JSONValue)] = [
            ("status", "error"), ("message", .string(message)), ("correlationId", .string(correlationID)),
        ]
        if let category { members.append(("category", .string(category))) }
        if let subCategory { members.append(("subCategory", .string(subCategory))) }
        if !context.isEmpty { members.append(("context", Self.json(context))) }
        if !details.isEmpty { members.append(("errors", .array(details))) }
        members += extra.sorted { $0.key < $1.key }.map { ($0.key, .string($0.value)) }
        return .object(members)
    }

    /// The same refusal as an entry of `errors` in a batch answer.
    func batchEntry(adding more: [String: [String]] = [:]) -> JSONValue {
        var members: [(String, JSONValue)] = [
            ("status", "error"), ("category", .string(category ?? "VALIDATION_ERROR")), ("message", .string(message)),
            ("context", Self.json(context.merging(more) { _, new in new })), ("links", .object([])),
            ("errors", .array(details)),
        ]
        if let subCategory { members.append(("subCategory", .string(subCategory))) }
        return .object(members)
    }

    private static func json(_ context: [String: [String]]) -> JSONValue {
        .object(context.sorted { $0.key < $1.key }.map { ($0.key, .array($0.value.map { .string($0) })) })
    }

    // MARK: The ones that occur in many places

    static var unauthorized: HubSpotFailure {
        HubSpotFailure(
            status: 401, category: "INVALID_AUTHENTICATION",
            "Authentication credentials not found. This API supports OAuth 2.0 authentication and you can find more "
                + "details at https://developers.hubspot.com/docs/methods/auth/oauth-overview")
    }

    static func expired(at moment: Instant, now: Instant) -> HubSpotFailure {
        HubSpotFailure(
            status: 401, category: "EXPIRED_AUTHENTICATION",
            "The OAuth token used to make this call expired \(max(now.seconds - moment.seconds, 0)) second(s) ago.",
            context: ["expire time": [moment.rfc3339Milliseconds]])
    }

    static func missingScopes(_ scopes: [String]) -> HubSpotFailure {
        var failure = HubSpotFailure(
            status: 403, category: "MISSING_SCOPES",
            "This app hasn't been granted all required scopes to make this call.")
        failure.details = [
            .object([
                ("message", "One or more of the following scopes are required."),
                (
                    "context",
                    .object([("requiredGranularScopes", .array(scopes.map { .string($0) }))])
                ),
            ])
        ]
        return failure
    }

    static var notFound: HubSpotFailure {
        HubSpotFailure(status: 404, category: "OBJECT_NOT_FOUND", "resource not found")
    }

    static func invalid(_ message: String) -> HubSpotFailure {
        HubSpotFailure(status: 400, category: "VALIDATION_ERROR", message)
    }

    /// The request does not fit the vendor's document.
    static func misfit(_ what: String, status: Int = 400) -> HubSpotFailure {
        var failure = HubSpotFailure(status: status, category: "VALIDATION_ERROR", "Invalid input: \(what)")
        failure.violation = what
        return failure
    }

    static func unsupported(_ request: VendorRequest) -> HubSpotFailure {
        var failure = HubSpotFailure(
            status: 404, category: "OBJECT_NOT_FOUND", "no \(request.method) \(request.path) in the sandbox")
        failure.violation = "\(request.method) \(request.path): no such operation"
        return failure
    }

    /// `Property values were not valid: [...]`, with JSON inside the text as the vendor has it.
    static func values(_ refusals: [HubSpotValueRefusal]) -> HubSpotFailure {
        let list = JSONValue.array(refusals.map(\.json))
        return invalid("Property values were not valid: \(list.text)")
    }

    static func conflict(_ message: String) -> HubSpotFailure {
        HubSpotFailure(status: 409, category: "CONFLICT", message)
    }
}

/// Why one property of a write is refused.
struct HubSpotValueRefusal: Hashable, Sendable {
    let name: String
    let code: String
    let message: String

    var json: JSONValue {
        .object([
            ("isValid", .bool(false)), ("message", .string(message)), ("error", .string(code)), ("name", .string(name)),
            ("localizedErrorMessage", .string(message)),
        ])
    }
}
