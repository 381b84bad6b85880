// SPDX-License-Identifier: Apache-2.0

/// The two ways in which the vendor hands out long lists.
extension Pipedrive {
    /// Most rows in one answer, both generations.
    static let maximumPage = 500
    static let defaultPage = 100

    /// One page of rows that are already filtered and sorted.
    ///
    /// - Parameter limit: the most rows the endpoint gives; itemSearch has less than the others.
    static func page(
        _ rows: [JSONValue], of call: PipedriveCall, limit maximum: Int = maximumPage
    ) throws(PipedriveFailure) -> (rows: [JSONValue], additional: JSONValue) {
        let asked = try call.integer("limit") ?? defaultPage
        guard asked >= 1 else { throw .schema("limit", "must be greater than 0") }
        let limit = min(asked, maximum)
        switch call.generation {
        case .v1:
            let start = max(try call.integer("start") ?? 0, 0)
            let part = Array(rows.dropFirst(start).prefix(limit))
            let hasMore = start + part.count < rows.count
            var pagination: [(String, JSONValue)] = [
                ("start", .integer(start)), ("limit", .integer(limit)), ("more_items_in_collection", .bool(hasMore)),
            ]
            if hasMore { pagination.append(("next_start", .integer(start + limit))) }
            return (part, .object([("pagination", .object(pagination))]))
        case .v2:
            let start = try offset(ofCursor: call.request.queryValue("cursor"))
            let part = Array(rows.dropFirst(start).prefix(limit))
            let next = start + part.count
            return (part, .object([("next_cursor", next < rows.count ? .string(cursor(offset: next)) : .null)]))
        }
    }

    /// A list answer.
    static func list(
        _ rows: [JSONValue], of call: PipedriveCall, limit: Int = maximumPage
    ) throws(PipedriveFailure) -> VendorResponse {
        let page = try page(rows, of: call, limit: limit)
        return success(.array(page.rows), more: [("additional_data", page.additional)])
    }

    /// Cursors are opaque to clients. This one is scrambled, so that no client is tempted to count with it.
    private static func cursor(offset: Int) -> String { "c" + String((offset << 8 | 0x5A) ^ 0x5EED_C0DE, radix: 36) }

    private static func offset(ofCursor cursor: String?) throws(PipedriveFailure) -> Int {
        guard let cursor, !cursor.isEmpty else { return 0 }
        guard cursor.hasPrefix("c"), let scrambled = Int(cursor.dropFirst(), radix: 36) else {
            throw .schema("cursor", "is invalid")
        }
        let plain = scrambled ^ 0x5EED_C0DE
        guard plain & 0xFF == 0x5A, plain >= 0 else { throw .schema("cursor", "is invalid") }
        return plain >> 8
    }
}
