// SPDX-License-Identifier: Apache-2.0

/// One condition of a search.
struct HubSpotFilter: Sendable {
    static let operators = [
        "EQ", "NEQ", "LT", "LTE", "GT", "GTE", "BETWEEN", "IN", "NOT_IN", "HAS_PROPERTY", "NOT_HAS_PROPERTY",
        "CONTAINS_TOKEN", "NOT_CONTAINS_TOKEN",
    ]

    let property: String
    let operation: String
    let value: String?
    let highValue: String?
    let values: [String]

    init(_ json: JSONValue) {
        property = json["propertyName"]?.string ?? ""
        operation = json["operator"]?.string ?? ""
        value = json["value"]?.string
        highValue = json["highValue"]?.string
        values = (json["values"]?.array ?? []).compactMap(\.string)
    }

    /// What is missing for the operator, or nil.
    var refusal: String? {
        switch operation {
        case "IN", "NOT_IN": values.isEmpty ? "operator \(operation) on \(property) needs values" : nil
        case "BETWEEN":
            value == nil || highValue == nil ? "operator BETWEEN on \(property) needs value and highValue" : nil
        case "HAS_PROPERTY", "NOT_HAS_PROPERTY": nil
        default: value == nil ? "operator \(operation) on \(property) needs a value" : nil
        }
    }

    func matches(_ record: HubSpotRecord) -> Bool {
        guard let text = record.properties[property] else {
            return ["NEQ", "NOT_IN", "NOT_HAS_PROPERTY", "NOT_CONTAINS_TOKEN"].contains(operation)
        }
        switch operation {
        case "HAS_PROPERTY": return true
        case "NOT_HAS_PROPERTY": return false
        case "EQ": return compare(text, value) == 0
        case "NEQ": return compare(text, value) != 0
        case "LT": return compare(text, value) < 0
        case "LTE": return compare(text, value) <= 0
        case "GT": return compare(text, value) > 0
        case "GTE": return compare(text, value) >= 0
        case "BETWEEN": return compare(text, value) >= 0 && compare(text, highValue) <= 0
        // The values of IN are compared as they are, the record's in lower case: this is why they must be sent so.
        case "IN": return values.contains(text.lowercased())
        case "NOT_IN": return !values.contains(text.lowercased())
        case "CONTAINS_TOKEN": return Self.hasToken(text, value ?? "")
        default: return !Self.hasToken(text, value ?? "")
        }
    }

    /// Below, at, or above zero: by number or time when both sides are one, by text without case otherwise.
    private func compare(_ left: String, _ right: String?) -> Int {
        let right = right ?? ""
        if let left = Double(left) ?? Self.time(left), let right = Double(right) ?? Self.time(right) {
            return left < right ? -1 : left > right ? 1 : 0
        }
        let (left, lower) = (left.lowercased(), right.lowercased())
        return left < lower ? -1 : left > lower ? 1 : 0
    }

    private static func time(_ text: String) -> Double? {
        Instant(rfc3339WithFraction: text).map { Double($0.milliseconds) }
    }

    private static func hasToken(_ text: String, _ token: String) -> Bool {
        let words = text.lowercased().split { !$0.isLetter && !$0.isNumber }
        let wanted = token.lowercased().filter { $0 != "*" }
        return token.contains("*")
            ? words.contains { $0.hasPrefix(wanted) } || text.lowercased().contains(wanted)
            : words.contains { $0 == wanted } || text.lowercased() == wanted
    }
}

extension HubSpot {
    mutating func search(_ call: HubSpotCall, _ type: String) throws(HubSpotFailure) -> VendorResponse {
        try call.needs(Self.scope(type, "read"))
        try call.takes()
        let body = try call.body(.search)
        let groups = try Self.groups(body)
        let limit = body["limit"]?.integer ?? 10
        guard (1...HubSpotLimits.searchPage).contains(limit) else {
            throw .invalid("limit must be between 1 and \(HubSpotLimits.searchPage)")
        }
        guard let start = Int(body["after"]?.string ?? "0"), start >= 0 else { throw .invalid("after is not a cursor") }
        guard start <= HubSpotLimits.searchResults - limit else {
            throw .invalid("There was a problem with the request: results beyond 10,000 cannot be read")
        }
        let query = body["query"]?.string?.lowercased() ?? ""
        guard query.unicodeScalars.count <= 3000 else { throw .invalid("query is longer than 3000 characters") }
        portals[call.hubID]?.index.settle(lagMilliseconds: searchLagMilliseconds, now: call.now)
        let index = portal(call).index
        var found = Self.candidates(type, groups, index).filter { record in
            (groups.isEmpty || groups.contains { group in group.allSatisfy { $0.matches(record) } })
                && (query.isEmpty
                    || HubSpotProperty.shown(type).contains {
                        record.properties[$0]?.lowercased().contains(query) == true
                    })
        }
        found = try Self.sorted(found, body["sorts"]?.array ?? [])
        let names = (body["properties"]?.array ?? []).compactMap(\.string)
        let shown = names.isEmpty ? HubSpotProperty.shown(type) : names + Self.always(type)
        let rows = found.map { JSONValue.object($0.json(names: shown)) }
        return Self.ok(Self.page(rows, start: start, limit: limit, total: found.count))
    }

    private static func groups(_ body: JSONValue) throws(HubSpotFailure) -> [[HubSpotFilter]] {
        let groups = (body["filterGroups"]?.array ?? []).map { group in
            (group["filters"]?.array ?? []).map(HubSpotFilter.init)
        }
        guard groups.count <= 5, groups.allSatisfy({ $0.count <= 6 }), groups.joined().count <= 18 else {
            throw .invalid("at most 5 filterGroups with 6 filters each, 18 in all")
        }
        for filter in groups.joined() {
            if let refusal = filter.refusal { throw .invalid(refusal) }
        }
        return groups
    }

    /// The rows that a search must look at: one, when every group asks for one e-mail address.
    private static func candidates(
        _ type: String, _ groups: [[HubSpotFilter]], _ index: HubSpotIndex
    ) -> [HubSpotRecord] {
        var addresses: [String] = []
        for group in groups {
            guard let filter = group.first(where: { $0.property == "email" && $0.operation == "EQ" }) else {
                return index.all(type)
            }
            addresses.append(filter.value ?? "")
        }
        if groups.isEmpty { return index.all(type) }
        var seen: Set<String> = []
        return addresses.compactMap { index.record(type, email: $0) }.filter { seen.insert($0.id).inserted }
    }

    /// One sort at most: `name` or `-name`.
    private static func sorted(_ rows: [HubSpotRecord], _ sorts: [JSONValue]) throws(HubSpotFailure) -> [HubSpotRecord]
    {
        guard sorts.count <= 1 else { throw .invalid("only one sort is supported") }
        guard let text = sorts.first?.string else { return rows }
        let isDescending = text.hasPrefix("-")
        let name = String(isDescending ? text.dropFirst() : text[...])
        let sorted = rows.enumerated().sorted { left, right in
            let (a, b) = (left.element.properties[name] ?? "", right.element.properties[name] ?? "")
            if a == b { return left.offset < right.offset }
            if let a = Double(a), let b = Double(b) { return a < b }
            return a < b
        }.map(\.element)
        return isDescending ? sorted.reversed() : sorted
    }
}
