// SPDX-License-Identifier: Apache-2.0

internal import MilepostModel

/// What the mock vendor answers, and what a connection to it holds: `<name>.vendor.json` of a plugin's project. Described
/// in docs/plugin-guide.md.
public struct VendorScript: Sendable, Equatable {
    struct Route: Sendable, Equatable {
        let method: String
        /// Segments of the path; `*` stands for any one.
        let path: [String]
        let query: [String: String]
        let status: Int32
        let headers: [(name: String, value: String)]
        let body: JSONValue?
        /// Collection that a request adds its body to.
        let creates: String?
        /// Members that the vendor adds to what it creates.
        let with: [String: JSONValue]
        /// Where the vendor finds a key that makes a repeated request one: `path`, `header:NAME` or `body:NAME`.
        let upserts: String?
        /// Collection whose items are `{{items}}` in the body.
        let lists: String?
        /// Member of an item, and the query parameter that it must equal (`path` for the last segment).
        let filter: [String: String]
        /// Shows what was created only after the vendor's lag.
        let lags: Bool

        static func == (left: Self, right: Self) -> Bool {
            left.method == right.method && left.path == right.path && left.query == right.query
        }
    }

    /// Settings of a connection that works; generated from `config_schema` when left out.
    let settings: JSONValue?
    /// By action.
    let payloads: [String: JSONValue]
    let routes: [Route]
    /// False for the vendor that answers anything with something plausible.
    public var isGiven: Bool { !routes.isEmpty }

    /// A vendor for a plugin that has no script: changes are stored, look-ups answer with all of it.
    public static let anything = VendorScript(settings: nil, payloads: [:], routes: [])

    init(settings: JSONValue?, payloads: [String: JSONValue], routes: [Route]) {
        self.settings = settings
        self.payloads = payloads
        self.routes = routes
    }

    /// - Throws: a sentence that names the route or member.
    public init(parsing bytes: [UInt8]) throws(ScriptError) {
        let json: JSONValue
        do { json = try JSONValue(parsing: bytes) } catch {
            throw ScriptError(description: "the vendor's script cannot be read: \(error.detail)")
        }
        for key in (json.object ?? [:]).keys.sorted() where !["settings", "payloads", "routes", "about"].contains(key) {
            throw ScriptError(description: "the vendor's script has an unknown member '\(key)'")
        }
        guard let routes = json["routes"]?.array, !routes.isEmpty else {
            throw ScriptError(description: "the vendor's script has no routes")
        }
        settings = json["settings"]
        payloads = json["payloads"]?.object ?? [:]
        var parsed: [Route] = []
        for (index, route) in routes.enumerated() { parsed.append(try Route(route, index: index)) }
        self.routes = parsed
    }
}

public struct ScriptError: Error, Hashable, Sendable, CustomStringConvertible {
    public let description: String
}

extension VendorScript.Route {
    private static let members = [
        "match", "query", "status", "headers", "body", "creates", "with", "upserts", "lists", "filter", "lags",
    ]

    fileprivate init(_ json: JSONValue, index: Int) throws(ScriptError) {
        func refuse(_ text: String) -> ScriptError {
            ScriptError(description: "route \(index + 1) of the vendor's script \(text)")
        }
        for key in (json.object ?? [:]).keys.sorted() where !Self.members.contains(key) {
            throw refuse("has an unknown member '\(key)'")
        }
        let words = (json["match"]?.string ?? "").split(separator: " ")
        guard words.count == 2, words[1].hasPrefix("/") else { throw refuse("needs a match such as \"GET /v1/me\"") }
        method = String(words[0])
        path = words[1].split(separator: "/").map(String.init)
        query = (json["query"]?.object ?? [:]).compactMapValues { $0.string }
        let number = json["status"]?.integer ?? 200
        guard (200...599).contains(number) else { throw refuse("has an impossible status") }
        status = Int32(number)
        headers = (json["headers"]?.object ?? [:]).sorted { $0.key < $1.key }.map { ($0.key, $0.value.string ?? "") }
        body = json["body"]
        creates = json["creates"]?.string
        with = json["with"]?.object ?? [:]
        upserts = json["upserts"]?.string
        lists = json["lists"]?.string
        filter = (json["filter"]?.object ?? [:]).compactMapValues { $0.string }
        lags = json["lags"]?.bool ?? false
    }

    /// Whether a request is this route's.
    func matches(method: String, segments: [String], query given: [String: String]) -> Bool {
        guard self.method == method, path.count == segments.count else { return false }
        for (pattern, segment) in zip(path, segments) where pattern != "*" && pattern != segment { return false }
        return query.allSatisfy { given[$0.key] == $0.value }
    }
}

/// Method, path and query of a request, taken apart.
struct Address {
    let host: String
    let segments: [String]
    let query: [String: String]

    init?(_ url: String) {
        guard url.hasPrefix("https://") || url.hasPrefix("http://"), let host = HostPattern.host(of: url),
            let start = url.firstRange(of: "://")
        else { return nil }
        self.host = host
        let rest = url[start.upperBound...].drop { $0 != "/" && $0 != "?" }.prefix { $0 != "#" }
        let parts = rest.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        segments = (parts.first ?? "").split(separator: "/").map { Self.decoded($0) }
        var query: [String: String] = [:]
        if parts.count == 2 {
            for pair in parts[1].split(separator: "&") {
                let sides = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
                query[Self.decoded(sides[0])] = sides.count == 2 ? Self.decoded(sides[1]) : ""
            }
        }
        self.query = query
    }

    /// Percent-decoding; a broken escape stands for itself.
    private static func decoded(_ text: Substring) -> String {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            let digits = rest.prefix(2)
            if byte == UInt8(ascii: "%"), digits.count == 2,
                let value = UInt8(String(decoding: digits, as: UTF8.self), radix: 16)
            {
                bytes.append(value)
                rest = rest.dropFirst(2)
            } else {
                bytes.append(byte == UInt8(ascii: "+") ? 0x20 : byte)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
