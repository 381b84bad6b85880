// SPDX-License-Identifier: Apache-2.0

/// A request that has been let in: who asks, and what.
struct PipedriveCall {
    enum Generation { case v1, v2 }

    let request: VendorRequest
    let generation: Generation
    /// The path below `/api/v2`, `/api/v1` or `/v1`.
    let segments: [String]
    let companyID: Int
    let userID: Int
    let now: Instant

    init(request: VendorRequest, companyID: Int, userID: Int, now: Instant) {
        self.request = request
        self.companyID = companyID
        self.userID = userID
        self.now = now
        let segments = request.path.split(separator: "/").map(String.init)
        generation = request.path.hasPrefix("/api/v2/") ? .v2 : .v1
        self.segments = Array(segments.dropFirst(segments.first == "api" ? 2 : 1))
    }

    var isSearch: Bool { segments.first == "itemSearch" || segments.last == "search" }

    private var isItem: Bool { segments.count > 1 && !isSearch }

    /// Cost tokens of this call: `x-token-cost` of the vendor's documents (the contract tests compare them).
    var cost: Int {
        let isOld = generation == .v1
        if isSearch { return isOld ? 40 : 20 }
        switch (request.method, segments.first) {
        case ("GET", "users") where segments.last == "me": return 2
        case ("GET", "dealFields") where isItem: return isOld ? 2 : 1
        case ("GET", "dealFields"): return isOld ? 20 : 10
        case ("GET", "pipelines") where isItem, ("GET", "stages") where isItem: return isOld ? 2 : 1
        case ("GET", "pipelines"), ("GET", "stages"): return isOld ? 10 : 5
        case ("GET", "deals") where segments.last == "archived": return isOld ? 40 : 20
        case ("GET", _): return isItem ? (isOld ? 2 : 1) : (isOld ? 20 : 10)
        case ("DELETE", _): return isOld ? 6 : 3
        default: return isOld ? 10 : 5
        }
    }

    // MARK: Query

    func integer(_ name: String) throws(PipedriveFailure) -> Int? {
        guard let text = request.queryValue(name) else { return nil }
        guard let integer = Int(text) else { throw refusal(name, "must be a number") }
        return integer
    }

    func flag(_ name: String) throws(PipedriveFailure) -> Bool? {
        switch request.queryValue(name) {
        case nil: return nil
        case "true", "1": return true
        case "false", "0": return false
        default: throw refusal(name, "must be a boolean")
        }
    }

    func choice(_ name: String, of allowed: [String], default: String) throws(PipedriveFailure) -> String {
        guard let text = request.queryValue(name) else { return `default` }
        guard allowed.contains(text) else { throw refusal(name, "must be one of [\(allowed.joined(separator: ", "))]") }
        return text
    }

    /// A comma-separated list of words out of a closed set; nil when the parameter is missing.
    func choices(_ name: String, of allowed: [String]) throws(PipedriveFailure) -> [String]? {
        guard let text = request.queryValue(name) else { return nil }
        let words = text.split(separator: ",").map(String.init)
        guard !words.isEmpty, words.allSatisfy(allowed.contains) else {
            throw refusal(name, "must be one of [\(allowed.joined(separator: ", "))]")
        }
        return words
    }

    func time(_ name: String) throws(PipedriveFailure) -> Instant? {
        guard let text = request.queryValue(name) else { return nil }
        guard let instant = Instant(rfc3339: text) else {
            throw refusal(name, "must be an RFC 3339 time without fraction")
        }
        return instant
    }

    private func refusal(_ name: String, _ expectation: String) -> PipedriveFailure {
        generation == .v2 ? .schema(name, expectation) : .badRequest("Bad request: \(name) \(expectation)")
    }

    // MARK: Body

    /// The body as an object. v2 takes JSON only; v1 takes a form as well.
    func body() throws(PipedriveFailure) -> JSONObject {
        let type = request.header("content-type")?.lowercased() ?? ""
        if generation == .v1, type.hasPrefix("application/x-www-form-urlencoded") {
            let items = PercentCoding.form(String(decoding: request.body, as: UTF8.self))
            return JSONObject(items.map { ($0.name, .string($0.value)) })
        }
        guard type.hasPrefix("application/json") else { throw .badRequest("The request body must be application/json") }
        let value: JSONValue
        do throws(JSONParseError) {
            value = try JSONValue(parsing: request.body)
        } catch {
            throw .badRequest("Bad JSON at byte \(error.offset): \(error.detail)")
        }
        guard let object = value.object else { throw .schema("body", "must be an object") }
        return object
    }
}
