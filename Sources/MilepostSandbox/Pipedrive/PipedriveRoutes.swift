// SPDX-License-Identifier: Apache-2.0

extension Pipedrive {
    /// Finds the handler of a call.
    mutating func route(_ call: PipedriveCall) throws(PipedriveFailure) -> VendorResponse {
        let method = call.request.method
        switch (call.segments.first, call.generation) {
        case ("users", .v1) where method == "GET": return try users(call)
        case ("pipelines", _) where method == "GET": return try pipelines(call)
        case ("stages", _) where method == "GET": return try stages(call)
        case ("dealFields", _) where method == "GET": return try dealFields(call)
        case ("itemSearch", _) where method == "GET": return try itemSearch(call)
        case ("deals", _): return try deals(call)
        case ("persons", _): return try persons(call)
        case ("notes", .v1): return try notes(call)
        case ("users", .v1), ("pipelines", _), ("stages", _), ("dealFields", _), ("itemSearch", _):
            throw PipedriveFailure(status: 405, error: "Method not allowed in the sandbox")
        default: throw PipedriveFailure(status: 404, error: "Unknown method .")
        }
    }

    private mutating func deals(_ call: PipedriveCall) throws(PipedriveFailure) -> VendorResponse {
        switch (call.request.method, call.segments.count) {
        case ("GET", 1): return try listDeals(call)
        case ("POST", 1): return try createDeal(call)
        case ("GET", 2) where call.segments[1] == "search": return try searchDeals(call)
        case ("GET", 2) where call.segments[1] == "archived": return try listDeals(call, archived: true)
        case ("GET", 2): return try readDeal(call)
        case ("PATCH", 2) where call.generation == .v2, ("PUT", 2) where call.generation == .v1:
            return try updateDeal(call)
        case ("DELETE", 2): return try deleteDeal(call)
        default: throw PipedriveFailure(status: call.segments.count > 2 ? 404 : 405, error: "Unknown method .")
        }
    }

    private mutating func persons(_ call: PipedriveCall) throws(PipedriveFailure) -> VendorResponse {
        switch (call.request.method, call.segments.count) {
        case ("GET", 1): return try listPersons(call)
        case ("POST", 1): return try createPerson(call)
        case ("GET", 2) where call.segments[1] == "search": return try searchPersons(call)
        case ("GET", 2): return try readPerson(call)
        default: throw PipedriveFailure(status: call.segments.count > 2 ? 404 : 405, error: "Unknown method .")
        }
    }

    private mutating func notes(_ call: PipedriveCall) throws(PipedriveFailure) -> VendorResponse {
        switch (call.request.method, call.segments.count) {
        case ("GET", 1): return try listNotes(call)
        case ("POST", 1): return try createNote(call)
        case ("GET", 2): return try readNote(call)
        case ("PUT", 2): return try updateNote(call)
        case ("DELETE", 2): return try deleteNote(call)
        default: throw PipedriveFailure(status: call.segments.count > 2 ? 404 : 405, error: "Unknown method .")
        }
    }

    /// The account of a call that has been let in.
    func company(of call: PipedriveCall) -> PipedriveCompany {
        guard let company = companies[call.companyID] else {
            preconditionFailure("company \(call.companyID) vanished after admission")
        }
        return company
    }

    /// `{"success":true,"data":...}`.
    static func success(_ data: JSONValue, status: Int = 200, more: [(String, JSONValue)] = []) -> VendorResponse {
        VendorResponse(status: status, json: .object([("success", .bool(true)), ("data", data)] + more))
    }

    /// The id in a path such as `deals/501`.
    static func id(in call: PipedriveCall) throws(PipedriveFailure) -> Int {
        guard let id = Int(call.segments[1]) else { throw .badRequest("Bad request: id must be a number") }
        return id
    }
}
