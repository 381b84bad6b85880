// SPDX-License-Identifier: Apache-2.0

/// A request that has been let in: who asks, and what.
struct HubSpotCall: Sendable {
    let request: VendorRequest
    /// The path of the v3/v4 generation, in parts; dated paths have been turned into it.
    let segments: [String]
    let hubID: Int
    let scopes: Set<String>
    let isOAuth: Bool
    let now: Instant

    var method: String { request.method }
    var isSearch: Bool { segments.last == "search" }

    func part(_ index: Int) -> String { index < segments.count ? segments[index] : "" }

    /// Refuses the call unless one of the scopes was granted.
    func needs(_ scopes: String...) throws(HubSpotFailure) {
        if !scopes.contains(where: self.scopes.contains) { throw .missingScopes(scopes) }
    }

    // MARK: Query

    /// Refuses parameters that the vendor's document does not name for this call.
    func takes(_ names: String...) throws(HubSpotFailure) {
        for item in request.query where !names.contains(item.name) {
            throw .misfit("query \(item.name) is not in the vendor's document")
        }
    }

    /// A list that may be repeated, separated by commas, or both.
    func words(_ name: String) -> [String] {
        request.query.filter { $0.name == name }.flatMap { $0.value.split(separator: ",").map(String.init) }
    }

    func flag(_ name: String) throws(HubSpotFailure) -> Bool {
        switch request.queryValue(name) {
        case nil, "false": return false
        case "true": return true
        default: throw .misfit("query \(name) must be a boolean")
        }
    }

    func limit(default standard: Int, most: Int) throws(HubSpotFailure) -> Int {
        guard let text = request.queryValue("limit") else { return standard }
        guard let limit = Int(text) else { throw .misfit("query limit must be an integer") }
        guard (1...most).contains(limit) else { throw .invalid("limit must be between 1 and \(most)") }
        return limit
    }

    // MARK: Body

    /// The body, checked against the vendor's document.
    func body(_ shape: HubSpotShape) throws(HubSpotFailure) -> JSONValue {
        let value = try json()
        if let misfit = shape.misfit(value) { throw .misfit(misfit) }
        return value
    }

    func json() throws(HubSpotFailure) -> JSONValue {
        guard request.header("content-type")?.lowercased().hasPrefix("application/json") == true else {
            throw .misfit("the body must be application/json", status: 415)
        }
        do throws(JSONParseError) {
            return try JSONValue(parsing: request.body)
        } catch {
            throw .misfit("bad JSON at byte \(error.offset): \(error.detail)")
        }
    }
}

/// Paths of the generations.
enum HubSpotPath {
    /// The dated generations that the sandbox serves.
    static let dates = ["2026-03", "2026-09"]

    static func owns(_ path: String) -> Bool {
        ["/oauth/", "/crm/", "/integrators/timeline/", "/events/", "/account-info/"].contains { path.hasPrefix($0) }
    }

    /// Turns `/crm/objects/2026-09/contacts` into `crm v3 objects contacts`, and the seed's `/crm/v3/timeline/events` into
    /// `integrators timeline v3 events`. Source: `crm-apis.md` 3.1.
    static func segments(_ path: String) -> [String] {
        var parts = path.split(separator: "/").map(String.init)
        guard parts.count > 2 else { return parts }
        if parts[0] == "crm", parts[1] == "v3", parts[2] == "timeline" {
            return ["integrators", "timeline", "v3"] + parts[3...]
        }
        guard dates.contains(parts[2]) else { return parts }
        switch (parts[0], parts[1]) {
        case ("crm", "objects"):
            let isAssociation = parts.count > 5 && parts[5] == "associations"
            parts.replaceSubrange(1...2, with: [isAssociation ? "v4" : "v3", "objects"])
        case ("crm", "properties"), ("crm", "pipelines"), ("crm", "owners"):
            parts.replaceSubrange(1...2, with: ["v3", parts[1]])
        case ("crm", "associations"): parts.replaceSubrange(1...2, with: ["v4", "associations"])
        case ("events", "custom"): parts.replaceSubrange(1...2, with: ["v3"])
        default: break
        }
        return parts
    }
}
