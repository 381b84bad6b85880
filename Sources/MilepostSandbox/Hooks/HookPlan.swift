// SPDX-License-Identifier: Apache-2.0

/// What the receiver at `/hooks/...` answers: the first rule that fits, else that it was received. So that a test can let
/// a service decide over deals without being one.
struct HookPlan: Hashable, Sendable {
    struct Rule: Hashable, Sendable {
        /// May end with `*`.
        var path: String
        /// Part of the request's body; nil fits all.
        var contains: String?
        /// How often it still answers; nil: without end.
        var left: Int?
        var response: VendorResponse
        var delayMilliseconds: Int

        func fits(_ request: VendorRequest) -> Bool {
            guard left != 0, request.goes(to: path) else { return false }
            guard let contains else { return true }
            return String(decoding: request.body, as: UTF8.self).contains(contains)
        }
    }

    static let limit = 100
    static let longestDelay = 120_000
    private(set) var rules: [Rule] = []

    /// - Returns: the answer, and after how many milliseconds.
    mutating func answer(_ request: VendorRequest) -> (VendorResponse, Int) {
        guard let index = rules.firstIndex(where: { $0.fits(request) }) else {
            return (VendorResponse(status: 200, json: .object([("received", .bool(true))])), 0)
        }
        if let left = rules[index].left { rules[index].left = left - 1 }
        return (rules[index].response, rules[index].delayMilliseconds)
    }

    mutating func replace(_ body: JSONValue) throws(ControlError) {
        var read: [Rule] = []
        for item in body.array ?? [body] { read.append(try Self.rule(item)) }
        guard read.count <= Self.limit else { throw ControlError("at most \(Self.limit) answers can be planned") }
        rules = read
    }

    private static func rule(_ json: JSONValue) throws(ControlError) -> Rule {
        let known = ["path", "contains", "times", "status", "body", "text", "delay_ms"]
        if let unknown = json.object?.keys.first(where: { !known.contains($0) }) {
            throw ControlError("an answer has no \(unknown); known: \(known.joined(separator: ", "))")
        }
        guard let path = json["path"]?.string, path.hasPrefix("/hooks/") else {
            throw ControlError("path must begin with /hooks/")
        }
        let status = json["status"]?.integer ?? 200
        let delay = json["delay_ms"]?.integer ?? 0
        let times = json["times"]?.integer ?? 0
        guard (200...599).contains(status), (0...longestDelay).contains(delay), times >= 0 else {
            throw ControlError(
                "status must be 200 to 599, delay_ms 0 to \(longestDelay), times 0 (without end) or more")
        }
        let response =
            if let text = json["text"]?.string {
                VendorResponse(status: status, headers: [Header("content-type", "text/plain")], body: Array(text.utf8))
            } else {
                VendorResponse(status: status, json: json["body"] ?? .object([("received", .bool(true))]))
            }
        return Rule(
            path: path, contains: json["contains"]?.string, left: times == 0 ? nil : times, response: response,
            delayMilliseconds: delay)
    }

    var json: JSONValue {
        .array(
            rules.map { rule in
                .object([
                    ("path", .string(rule.path)), ("contains", .optional(rule.contains)),
                    ("left", .optional(rule.left)), ("status", .integer(rule.response.status)),
                    ("delay_ms", .integer(rule.delayMilliseconds)),
                    ("body", .string(String(decoding: rule.response.body, as: UTF8.self))),
                ])
            })
    }
}
