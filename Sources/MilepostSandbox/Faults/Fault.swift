// SPDX-License-Identifier: Apache-2.0

/// Something that goes wrong on purpose, for the requests it matches.
package struct Fault: Hashable, Sendable {
    package enum Kind: String, CaseIterable, Sendable {
        /// Answers `status` with `headers`. Nothing is committed unless `commit` is true.
        case status
        /// Does the work at once, answers `delay_ms` later.
        case delay
        /// Closes the connection without a byte, and nothing has happened.
        case dropBeforeCommit = "drop_before_commit"
        /// Closes the connection without a byte, after the work is done.
        case dropAfterCommit = "drop_after_commit"
        /// Closes the connection at once and does the work `delay_ms` later.
        case lateCommit = "late_commit"
        /// Does the work (unless `commit` is false) and answers 200 with a body that is no JSON.
        case garbage
        /// Does the work, promises the whole answer and closes the connection in the middle of its body.
        case cutBody = "cut_body"
        /// The HTML page with which the vendor's CDN answers clients that ignored 429.
        case html403 = "html_403"
        /// A 401 whose body repeats the credential, to see whether a client's log does too.
        case echoToken401 = "echo_token_401"
    }

    package var id: Int
    /// Any method when nil.
    package var method: String?
    /// The exact path, or a prefix when it ends with `*`. Any path of a vendor when nil.
    package var path: String?
    /// A text that the request's body must hold.
    package var bodyContains: String?
    package var kind: Kind
    /// Matching requests to let pass first.
    package var after: Int
    /// Matching requests to hit then; 0 means without end.
    package var times: Int
    package var status: Int
    package var delayMilliseconds: Int
    package var headers: [Header]
    package var body: JSONValue?
    package var commits: Bool
    /// How often it has struck.
    package var struck = 0

    package func matches(_ request: VendorRequest) -> Bool {
        if let method, method != request.method { return false }
        if let path, !request.goes(to: path) { return false }
        if let bodyContains, !String(decoding: request.body, as: UTF8.self).contains(bodyContains) { return false }
        return true
    }
}

/// The faults that are set, in the order in which they were set.
package struct FaultBook: Sendable {
    /// Bound of the book: more is a test that forgot to clean up.
    package static let limit = 1000

    package private(set) var faults: [Fault] = []
    private var nextID = 1

    package init() {}

    package mutating func add(_ fault: Fault) -> Fault {
        var fault = fault
        fault.id = nextID
        nextID += 1
        faults.append(fault)
        return fault
    }

    package mutating func removeAll() { faults.removeAll() }
    package mutating func remove(id: Int) { faults.removeAll { $0.id == id } }

    /// The fault that strikes a request, if any, counted. The first that matches and is due wins; every fault that
    /// matches counts the request against its `after`.
    package mutating func strike(_ request: VendorRequest) -> Fault? {
        var chosen: Fault?
        for index in faults.indices where faults[index].matches(request) {
            let fault = faults[index]
            if fault.after > 0 {
                faults[index].after -= 1
            } else if chosen == nil, fault.times == 0 || fault.struck < fault.times {
                faults[index].struck += 1
                chosen = faults[index]
            }
        }
        return chosen
    }
}

// MARK: JSON

extension Fault {
    /// Reads the body of `POST /_sandbox/faults`. Unknown members are refused: a typing error must not become a test
    /// that passes because its fault never struck.
    package init(json: JSONValue) throws(ControlError) {
        guard let object = json.object else { throw ControlError("a fault is an object") }
        let known = ["match", "kind", "times", "after", "status", "delay_ms", "headers", "body", "commit"]
        if let key = object.keys.first(where: { !known.contains($0) }) {
            throw ControlError("unknown member \"\(key)\"; known: \(known.joined(separator: ", "))")
        }
        guard let kind = object["kind"]?.string.flatMap(Kind.init(rawValue:)) else {
            throw ControlError("kind must be one of \(Kind.allCases.map(\.rawValue).joined(separator: ", "))")
        }
        let match = object["match"]?.object ?? JSONObject()
        if let key = match.keys.first(where: { !["method", "path", "body_contains"].contains($0) }) {
            throw ControlError("unknown member \"match.\(key)\"; known: method, path, body_contains")
        }
        func number(_ key: String, _ fallback: Int, _ range: ClosedRange<Int>) throws(ControlError) -> Int {
            guard let value = object[key] else { return fallback }
            guard let number = value.integer, range.contains(number) else {
                throw ControlError("\(key) must be a whole number from \(range.lowerBound) to \(range.upperBound)")
            }
            return number
        }
        self.init(
            id: 0, method: match["method"]?.string?.uppercased(), path: match["path"]?.string,
            bodyContains: match["body_contains"]?.string, kind: kind, after: try number("after", 0, 0...1_000_000),
            times: try number("times", 1, 0...1_000_000), status: try number("status", 503, 200...599),
            delayMilliseconds: try number("delay_ms", 0, 0...600_000),
            headers: (object["headers"]?.object ?? JSONObject()).members.map {
                Header($0.key.lowercased(), $0.value.string ?? $0.value.text)
            },
            body: object["body"], commits: object["commit"]?.bool ?? (kind == .garbage))
    }

    package var json: JSONValue {
        .object([
            ("id", .integer(id)),
            (
                "match",
                .object([
                    ("method", .optional(method)), ("path", .optional(path)),
                    ("body_contains", .optional(bodyContains)),
                ])
            ), ("kind", .string(kind.rawValue)), ("after", .integer(after)), ("times", .integer(times)),
            ("status", .integer(status)), ("delay_ms", .integer(delayMilliseconds)),
            ("headers", .object(headers.map { ($0.name, .string($0.value)) })), ("commit", .bool(commits)),
            ("struck", .integer(struck)),
        ])
    }
}
