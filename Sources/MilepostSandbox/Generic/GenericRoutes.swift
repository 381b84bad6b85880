// SPDX-License-Identifier: Apache-2.0

/// The calls of the generic vendor: who am I, list, read, make, change.
extension Generic {
    static let largestPage = 200
    static let usualPage = 50

    mutating func route(_ request: VendorRequest, now: Instant) throws(GenericFailure) -> VendorResponse {
        let parts = request.path.split(separator: "/", omittingEmptySubsequences: false).dropFirst().map(String.init)
        guard parts.count >= 3, parts[0] == "generic", parts[1] == "v1", parts.count <= 4, Self.isName(parts[2]) else {
            throw GenericFailure(
                status: 404, code: "not_found",
                message: "there is \(Self.mount)/me, \(Self.mount)/COLLECTION and \(Self.mount)/COLLECTION/ID")
        }
        let collection = parts[2]
        switch (request.method, parts.count) {
        case ("GET", 3) where collection == "me":
            return VendorResponse(status: 200, json: .object([("id", "42"), ("name", "Example account")]))
        case ("GET", 3): return try list(collection, request, now: now)
        case ("POST", 3) where collection != "me": return try make(in: collection, request, now: now)
        case ("GET", 4): return Self.answer(try find(collection, parts[3]).record, status: 200)
        case ("PATCH", 4): return try change(collection, parts[3], request)
        default: throw GenericFailure(status: 405, code: "method_not_allowed", message: "GET, POST and PATCH are taken")
        }
    }

    /// A small letter first, then small letters, digits, `-` and `_`, 40 at most.
    private static func isName(_ text: String) -> Bool {
        (1...40).contains(text.utf8.count) && (text.utf8.first.map { (0x61...0x7a).contains($0) } ?? false)
            && text.utf8.allSatisfy {
                (0x61...0x7a).contains($0) || (0x30...0x39).contains($0) || $0 == 0x2d || $0 == 0x5f
            }
    }

    private static func json(_ record: Record) -> JSONValue {
        var members = JSONObject([("id", .integer(record.id))]).merging(record.members)
        members["added_at"] = .string(record.addedAt.rfc3339Milliseconds)
        return .object(members)
    }

    private static func answer(_ record: Record, status: Int) -> VendorResponse {
        VendorResponse(status: status, json: json(record))
    }

    private func find(_ collection: String, _ text: String) throws(GenericFailure) -> (index: Int, record: Record) {
        let records = collections[collection] ?? []
        guard let id = Int(text), let index = records.firstIndex(where: { $0.id == id }) else {
            throw GenericFailure(status: 404, code: "not_found", message: "no \(text) in \(collection)")
        }
        return (index, records[index])
    }

    // MARK: Reading

    /// Oldest first. `limit` and `cursor` page; every other parameter names a member that must be equal, such as `key`.
    private func list(
        _ collection: String, _ request: VendorRequest, now: Instant
    ) throws(GenericFailure) -> VendorResponse {
        var limit = Self.usualPage
        if let text = request.queryValue("limit") {
            guard let number = Int(text), (1...Self.largestPage).contains(number) else {
                throw .invalid("limit is a whole number from 1 to \(Self.largestPage)", status: 400)
            }
            limit = number
        }
        var after = 0
        if let text = request.queryValue("cursor") {
            guard text.hasPrefix("after-"), let id = Int(text.dropFirst("after-".count)) else {
                throw .invalid("cursor is the `next` of an earlier page", status: 400)
            }
            after = id
        }
        let wanted = request.query.filter { $0.name != "limit" && $0.name != "cursor" }
        let found = (collections[collection] ?? []).filter { record in
            record.id > after && record.addedAt.adding(milliseconds: manners.lagMilliseconds) <= now
                && wanted.allSatisfy { Self.equals(record.members[$0.name], $0.value) }
        }
        let page = found.prefix(limit)
        let next = found.count > limit ? page.last.map { "after-\($0.id)" } : nil
        return VendorResponse(
            status: 200, json: .object([("items", .array(page.map(Self.json))), ("next", .optional(next))]))
    }

    private static func equals(_ member: JSONValue?, _ text: String) -> Bool {
        switch member {
        case .string(let string)?: string == text
        case .integer(let integer)?: String(integer) == text
        case .bool(let bool)?: String(bool) == text
        case .number?, .null?, .array?, .object?, nil: false
        }
    }

    // MARK: Changing

    private mutating func make(
        in collection: String, _ request: VendorRequest, now: Instant
    ) throws(GenericFailure) -> VendorResponse {
        let members = try Self.members(request)
        if manners.hasUniqueKeys, let key = members["key"],
            let other = collections[collection]?.first(where: { $0.members["key"] == key })
        {
            throw GenericFailure(status: 409, code: "key_taken", message: "record \(other.id) has this key")
        }
        let record = try add(members, to: collection, idempotencyKey: request.header("idempotency-key"), now: now)
        return Self.answer(record, status: 201)
    }

    /// Members that come take the place of those that are there; null takes one away.
    private mutating func change(
        _ collection: String, _ id: String, _ request: VendorRequest
    ) throws(GenericFailure) -> VendorResponse {
        let index = try find(collection, id).index
        let members = try Self.members(request)
        guard var record = collections[collection]?[index] else { preconditionFailure("record \(id) was just found") }
        for member in members.members {
            record.members[member.key] = member.value.isNull ? nil : member.value
        }
        record.changes += 1
        collections[collection]?[index] = record
        return Self.answer(record, status: 200)
    }

    private static func members(_ request: VendorRequest) throws(GenericFailure) -> JSONObject {
        guard request.header("content-type")?.lowercased().hasPrefix("application/json") == true else {
            throw .invalid("send content-type: application/json", code: "content_type", status: 415)
        }
        let json: JSONValue
        do throws(JSONParseError) {
            json = try JSONValue(parsing: request.body)
        } catch {
            throw .invalid("bad JSON at byte \(error.offset): \(error.detail)", code: "bad_json", status: 400)
        }
        guard let members = json.object else { throw .invalid("a record is a JSON object") }
        if let taken = ["id", "added_at"].first(where: { members[$0] != nil }) {
            throw .invalid("\(taken) is the vendor's own")
        }
        return members
    }
}
