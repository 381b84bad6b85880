// SPDX-License-Identifier: Apache-2.0

/// A vendor that does not exist: the plain REST API that generated connector projects speak, for integrators to try a
/// plugin against before they have an account anywhere.
///
/// Collections of JSON records below `/generic/v1`, made by their first record; a bearer token; look-up by any member,
/// with the lag of a search index; pages; idempotency keys; a limit of requests with `Retry-After`.
package struct Generic: Sendable {
    package static let mount = "/generic/v1"
    package static let token = "sandbox-generic-token"

    /// Bounds: more is a client gone wild.
    static let collectionLimit = 100
    static let recordLimit = 100_000
    static let keyLimit = 100_000

    struct Record: Sendable {
        let id: Int
        var members: JSONObject
        let addedAt: Instant
        /// How often it was changed.
        var changes = 0
        /// The idempotency key it was made with.
        let idempotencyKey: String?
    }

    /// The answer that an idempotency key has had.
    struct Kept: Sendable {
        let method: String
        let path: String
        let body: [UInt8]
        let response: VendorResponse
    }

    /// What may be changed by `POST /_sandbox/generic`.
    struct Manners: Hashable, Sendable {
        /// How long a list leaves out what was just made; a read by id never does.
        var lagMilliseconds: Int64 = 500
        /// Whether a second record of one `key` in a collection is refused with 409.
        var hasUniqueKeys = false
        var honoursIdempotencyKeys = true
        var isTokenRevoked = false
        /// Requests in a period; nil for no limit.
        var limit: Int?
        var periodMilliseconds: Int64 = 1000
    }

    static let usualLimit = 20

    var manners: Manners
    var collections: [String: [Record]] = [:]
    private(set) var keys: [String: Kept] = [:]
    private(set) var replayed = 0
    private(set) var limited = 0
    private var nextID = 1
    private var period: (number: Int64, spent: Int) = (0, 0)
    var violations: [String] = []

    init(isLimited: Bool, now: Instant) {
        manners = Manners()
        manners.limit = isLimited ? Self.usualLimit : nil
        collections["lists"] = ["Leads", "Partners"].enumerated().map { index, name in
            Record(
                id: index + 1, members: JSONObject([("name", .string(name))]),
                addedAt: now.adding(milliseconds: -3_600_000), idempotencyKey: nil)
        }
        nextID = 101
    }

    static func owns(path: String) -> Bool { path == "/generic" || path.hasPrefix("/generic/") }

    func accepts(_ request: VendorRequest) -> Bool {
        request.header("authorization") == "Bearer \(Self.token)" && !manners.isTokenRevoked
    }

    mutating func answer(_ request: VendorRequest, now: Instant) -> VendorResponse {
        do throws(GenericFailure) {
            guard accepts(request) else { throw .unauthorized }
            try spend(now: now)
            return try answerOnce(request, now: now)
        } catch {
            if error.isBreach { violations.append("\(request.method) \(request.path): \(error.message)") }
            return error.response
        }
    }

    // MARK: Limit

    private mutating func spend(now: Instant) throws(GenericFailure) {
        guard let limit = manners.limit else { return }
        let number = now.milliseconds / manners.periodMilliseconds
        if number != period.number { period = (number, 0) }
        guard period.spent < limit else {
            limited += 1
            let left = (number + 1) * manners.periodMilliseconds - now.milliseconds
            throw .overLimit(retryAfterSeconds: Int((left + 999) / 1000), limit: limit)
        }
        period.spent += 1
    }

    // MARK: Idempotency

    /// The same key and the same request get the same answer; the same key with another request is refused. Refusals are
    /// not kept: what was wrong may be put right under the same key.
    private mutating func answerOnce(_ request: VendorRequest, now: Instant) throws(GenericFailure) -> VendorResponse {
        guard request.method != "GET", manners.honoursIdempotencyKeys, let key = request.header("idempotency-key")
        else {
            return try route(request, now: now)
        }
        guard (1...255).contains(key.utf8.count) else {
            throw .invalid("an idempotency key has 1 to 255 bytes", code: "idempotency_key_invalid")
        }
        if let kept = keys[key] {
            guard kept.method == request.method, kept.path == request.path, kept.body == request.body else {
                throw .invalid("this idempotency key came with another request before", code: "idempotency_key_reused")
            }
            replayed += 1
            var response = kept.response
            response.headers.append(Header("idempotency-replayed", "true"))
            return response
        }
        let response = try route(request, now: now)
        if keys.count < Self.keyLimit {
            keys[key] = Kept(method: request.method, path: request.path, body: request.body, response: response)
        }
        return response
    }

    /// Adds a record to a collection that may be new.
    mutating func add(
        _ members: JSONObject, to collection: String, idempotencyKey: String?, now: Instant
    ) throws(GenericFailure) -> Record {
        let known = collections[collection]
        guard known != nil || collections.count < Self.collectionLimit, (known?.count ?? 0) < Self.recordLimit else {
            throw GenericFailure(status: 507, code: "full", message: "the sandbox is full; POST /_sandbox/reset")
        }
        let record = Record(id: nextID, members: members, addedAt: now, idempotencyKey: idempotencyKey)
        nextID += 1
        collections[collection, default: []].append(record)
        return record
    }
}

/// A refusal of the generic vendor.
struct GenericFailure: Error, Hashable, Sendable {
    let status: Int
    let code: String
    let message: String
    var headers: [Header] = []
    /// Whether the client did what no client should: it stands among the violations of the ledger.
    var isBreach = false

    static let unauthorized = GenericFailure(
        status: 401, code: "unauthorized", message: "send Authorization: Bearer with a token that is good")

    static func invalid(_ message: String, code: String = "invalid", status: Int = 422) -> GenericFailure {
        GenericFailure(status: status, code: code, message: message, isBreach: true)
    }

    static func overLimit(retryAfterSeconds: Int, limit: Int) -> GenericFailure {
        GenericFailure(
            status: 429, code: "rate_limited", message: "more than \(limit) requests in the period",
            headers: [
                Header("retry-after", String(retryAfterSeconds)), Header("x-ratelimit-limit", String(limit)),
                Header("x-ratelimit-remaining", "0"),
            ])
    }

    var body: JSONValue {
        .object([("error", .object([("code", .string(code)), ("message", .string(message))]))])
    }

    var response: VendorResponse {
        var response = VendorResponse(status: status, json: body)
        response.headers += headers
        return response
    }
}
