// SPDX-License-Identifier: Apache-2.0

/// `/_sandbox/generic`: how the generic vendor behaves, and what it has.
extension SandboxWorld {
    static let genericHelp = """
        The generic vendor, below /generic/v1 with Authorization: Bearer sandbox-generic-token

        GET    /generic/v1/me                the account
        GET    /generic/v1/COLLECTION        {"items":[…],"next":cursor or null}; ?limit=50 &cursor=… and any member, such as &key=…
        POST   /generic/v1/COLLECTION        makes a record of any members; a new collection is made by its first record
        GET|PATCH /generic/v1/COLLECTION/ID
        GET    /_sandbox/generic             and POST {"lag_ms":500,"unique_keys":false,"idempotency_keys":true,
                                             "revoked":false,"limit":20,"period_ms":1000}; limit null for none

        """

    mutating func genericControl(_ request: VendorRequest) throws(ControlError) -> VendorResponse {
        if request.method == "POST" { try changeManners(Self.body(request)) }
        let manners = generic.manners
        return Self.ok(
            .object([
                ("lag_ms", .integer(Int(manners.lagMilliseconds))), ("unique_keys", .bool(manners.hasUniqueKeys)),
                ("idempotency_keys", .bool(manners.honoursIdempotencyKeys)), ("revoked", .bool(manners.isTokenRevoked)),
                ("limit", .optional(manners.limit)), ("period_ms", .integer(Int(manners.periodMilliseconds))),
            ]))
    }

    private mutating func changeManners(_ body: JSONValue) throws(ControlError) {
        guard let object = body.object else { throw ControlError("the body is an object") }
        var manners = generic.manners
        for member in object.members {
            switch (member.key, member.value) {
            case ("lag_ms", .integer(let lag)) where (0...3_600_000).contains(lag):
                manners.lagMilliseconds = Int64(lag)
            case ("unique_keys", .bool(let bool)): manners.hasUniqueKeys = bool
            case ("idempotency_keys", .bool(let bool)): manners.honoursIdempotencyKeys = bool
            case ("revoked", .bool(let bool)): manners.isTokenRevoked = bool
            case ("limit", .null): manners.limit = nil
            case ("limit", .integer(let limit)) where (0...1_000_000).contains(limit): manners.limit = limit
            case ("period_ms", .integer(let period)) where (1...3_600_000).contains(period):
                manners.periodMilliseconds = Int64(period)
            default:
                throw ControlError(
                    "\"\(member.key)\" cannot be \(member.value.text); known: lag_ms, unique_keys, idempotency_keys, "
                        + "revoked, limit, period_ms")
            }
        }
        generic.manners = manners
    }

    /// The collections with what the vendor's answers leave out.
    func genericLedger() -> JSONValue {
        let collections = generic.collections.sorted { $0.key < $1.key }.map { name, records in
            (name, JSONValue.array(records.map(Self.row)))
        }
        return .object([
            ("collections", .object(collections)), ("replayed", .integer(generic.replayed)),
            ("rate_limited", .integer(generic.limited)),
        ])
    }

    private static func row(_ record: Generic.Record) -> JSONValue {
        var row = JSONObject([("id", .integer(record.id))]).merging(record.members)
        row["added_at"] = .string(record.addedAt.rfc3339Milliseconds)
        row["changes"] = .integer(record.changes)
        row["idempotency_key"] = .optional(record.idempotencyKey)
        return .object(row)
    }

    /// The same for people; empty until somebody has made a record.
    func genericText() -> String {
        let made = generic.collections.filter { $0.value.contains { $0.id > 100 } }.sorted { $0.key < $1.key }
        return made.map { name, records in
            "Generic vendor: \(name)\n\n"
                + Self.table(
                    head: ["id", "key", "title", "changes", "added"],
                    rows: records.map { record in
                        [
                            String(record.id), record.members["key"]?.string ?? "",
                            record.members["title"]?.string ?? record.members["name"]?.string ?? "",
                            String(record.changes), record.addedAt.rfc3339,
                        ]
                    }) + "\n"
        }.joined()
    }
}
