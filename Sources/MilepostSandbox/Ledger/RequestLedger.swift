// SPDX-License-Identifier: Apache-2.0

/// Every request a vendor's API has received, without its credentials.
package struct RequestLedger: Sendable {
    /// Entries kept; older ones are dropped and counted. Enough for the longest crash test.
    package static let limit = 50_000
    /// Bytes of bodies kept, so that large requests do not fill a laptop's memory.
    package static let byteLimit = 256 << 20

    package struct Entry: Sendable {
        /// Counts from 1 over the life of the sandbox.
        package let number: Int
        package let at: Instant
        package let request: VendorRequest
        /// Whether the credential was good at that moment.
        package let isTokenGood: Bool
        /// Nil while unanswered, and for ever when the connection was cut.
        package var status: Int?
        package var fault: String?
        /// When a late commit took place, and with which status it would have been answered.
        package var lateCommit: (at: Instant, status: Int)?
        /// What the signature of a webhook is worth; nil where no key is known.
        var hook: HookGuard.Finding?
    }

    package private(set) var entries: [Entry] = []
    package private(set) var dropped = 0
    private var bytes = 0
    /// Requests that do not fit the vendor's documents, and tokens used that must not be.
    package private(set) var violations: [ContractViolation] = []
    private var nextNumber = 1

    package init() {}

    /// Adds a request and returns its number.
    package mutating func add(_ request: VendorRequest, at now: Instant, isTokenGood: Bool) -> Int {
        let entry = Entry(number: nextNumber, at: now, request: Self.masked(request), isTokenGood: isTokenGood)
        // A tenth at once, so that a full ledger does not move its whole length for every request.
        if entries.count >= Self.limit { drop(Self.limit / 10) }
        while !entries.isEmpty, bytes > Self.byteLimit - entry.request.body.count { drop(max(entries.count / 10, 1)) }
        entries.append(entry)
        bytes += entry.request.body.count
        nextNumber += 1
        return entry.number
    }

    private mutating func drop(_ count: Int) {
        for entry in entries.prefix(count) { bytes -= entry.request.body.count }
        entries.removeFirst(count)
        dropped += count
    }

    package mutating func update(_ number: Int, _ change: (inout Entry) -> Void) {
        let index = number - dropped - 1
        guard entries.indices.contains(index), entries[index].number == number else { return }
        change(&entries[index])
    }

    /// Nil once it was dropped.
    package func entry(_ number: Int) -> Entry? {
        let index = number - dropped - 1
        return entries.indices.contains(index) && entries[index].number == number ? entries[index] : nil
    }

    /// Notes a breach, up to the bound of the ledger.
    package mutating func note(_ violation: ContractViolation) {
        if violations.count < Self.limit { violations.append(violation) }
    }

    package mutating func removeAll() {
        violations.removeAll()
        drop(entries.count)
    }

    private static let secretHeaders: Set<String> = [
        "x-api-token", "authorization", "cookie", "proxy-authorization", "api-key",
    ]
    private static let secretParameters: Set<String> = ["api_token", "access_token", "hapikey", "client_secret"]
    private static let secretFields: Set<String> = [
        "client_secret", "refresh_token", "code", "token", "code_verifier", "access_token",
    ]
    private static let secretPaths = ["/oauth/v1/access-tokens/", "/oauth/v1/refresh-tokens/"]

    /// The request with every credential replaced by stars.
    private static func masked(_ request: VendorRequest) -> VendorRequest {
        var masked = request
        masked.headers = request.headers.map { secretHeaders.contains($0.name) ? Header($0.name, "***") : $0 }
        masked.query = request.query.map {
            secretParameters.contains($0.name) ? .init(name: $0.name, value: "***") : $0
        }
        if let path = secretPaths.first(where: request.path.hasPrefix) { masked.path = path + "***" }
        if request.path.hasPrefix("/oauth/"), !request.body.isEmpty {
            let items = PercentCoding.form(String(decoding: request.body, as: UTF8.self))
            let shown = items.map { item in
                "\(item.name)=\(secretFields.contains(item.name) ? "***" : PercentCoding.encode(item.value))"
            }
            masked.body = Array(shown.joined(separator: "&").utf8)
        }
        return masked
    }
}

/// Something that a client did and must not do.
package struct ContractViolation: Hashable, Sendable {
    /// Number of the request.
    package let request: Int
    package let at: Instant
    package let vendor: String
    package let detail: String

    package var json: JSONValue {
        .object([
            ("request", .integer(request)), ("at", .string(at.rfc3339Milliseconds)), ("vendor", .string(vendor)),
            ("detail", .string(detail)),
        ])
    }
}

extension RequestLedger.Entry {
    package var json: JSONValue {
        var members: [(String, JSONValue)] = [
            ("n", .integer(number)), ("at", .string(at.rfc3339)), ("at_ms", .integer(Int(at.milliseconds))),
            ("method", .string(request.method)), ("path", .string(request.path)),
            ("query", Self.json(request.query.map { ($0.name, $0.value) })),
            ("headers", Self.json(request.headers.map { ($0.name, $0.value) })), ("token_ok", .bool(isTokenGood)),
            ("body", body), ("status", .optional(status)), ("fault", .optional(fault)),
        ]
        if let lateCommit {
            members += [
                ("late_commit_at", .string(lateCommit.at.rfc3339)), ("late_commit_status", .integer(lateCommit.status)),
            ]
        }
        if let hook {
            members += [
                ("signature", .string(hook.signature.rawValue)), ("signature_why", .string(hook.why)),
                ("repeats", .integer(hook.repeats)),
            ]
        }
        return .object(members)
    }

    /// The body as JSON when it is JSON, as text otherwise, null when there is none.
    private var body: JSONValue {
        if request.body.isEmpty { return .null }
        do throws(JSONParseError) {
            return try JSONValue(parsing: request.body)
        } catch {
            // Not JSON: the ledger shows what came, the emulator has already refused it.
            return .string(String(decoding: request.body, as: UTF8.self))
        }
    }

    /// An object in which a repeated name has an array of its values.
    private static func json(_ pairs: [(String, String)]) -> JSONValue {
        var object = JSONObject()
        for (name, value) in pairs {
            switch object[name] {
            case nil: object[name] = .string(value)
            case .array(let values)?: object[name] = .array(values + [.string(value)])
            case let first?: object[name] = .array([first, .string(value)])
            }
        }
        return .object(object)
    }
}
