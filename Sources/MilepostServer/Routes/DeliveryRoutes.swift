// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import Hummingbird
import MilepostEngine
import MilepostModel
import MilepostStore

extension MilepostServer {
    private static let base = "/v1/workspaces/{ws}/deliveries"
    private static let filters = ["state", "integration", "link", "since", "code", "search"]

    static var deliveryRoutes: [Route] {
        [
            .get(
                base, "deliveries.list", .scope(.viewer), query: filters + ["limit", "cursor"],
                "Lists deliveries, newest first."
            ) { call in
                let page = try await call.engine.store.deliveries(
                    workspace: call.workspace(), matching: queryFilter(call), cursor: call.cursor(), limit: call.limit()
                )
                return Answer(["deliveries": .array(page.items.map { .object($0.json) }), "next": JSONValue(page.next)])
            },
            .get(
                "\(base)/export", "deliveries.export", .scope(.viewer), query: filters, "Deliveries as NDJSON.", export),
            .change(
                .post, "\(base)/replay", "deliveries.replay.bulk", .scope(.operator),
                "Sends dead letters again, each once, those that match.", bulkReplay),
            .get(
                "\(base)/{id}", "deliveries.get", .scope(.viewer), "A delivery with its journal and attempts.", detail),
            .change(
                .post, "\(base)/{id}/replay", "deliveries.replay", .scope(.operator),
                "Sends a dead or dropped delivery again; finished steps are not repeated.", replay),
            .change(
                .post, "\(base)/{id}/release", "deliveries.release", .scope(.operator),
                "Lets a held delivery go; no hook is asked about it again.", release),
        ]
    }

    private static func queryFilter(_ call: Call) async throws -> DeliveryFilter {
        var members: [String: JSONValue] = [:]
        for name in filters { if let value = call.query(name) { members[name] = .string(value) } }
        return try await filter(members, call)
    }

    /// The same filters from a query and from a body.
    private static func filter(_ members: [String: JSONValue], _ call: Call) async throws -> DeliveryFilter {
        var filter = DeliveryFilter()
        if let text = members["state"]?.string {
            for name in text.split(separator: ",") {
                guard let state = Delivery.State(rawValue: String(name)) else {
                    throw Problem.badRequest(
                        "state \(name) is none of \(Delivery.State.allCases.map(\.rawValue).joined(separator: ", ")).")
                }
                filter.states.insert(state)
            }
        }
        if let text = members["integration"]?.string {
            let workspace = try call.workspace()
            guard let name = IntegrationName(text),
                let connection = try await call.engine.store.connection(name, workspace: workspace)
            else { throw Problem.notFound("Workspace \(workspace) has no connection \(text).") }
            filter.connection = connection.id
        }
        filter.link = members["link"]?.string.map { LinkID($0) }
        filter.reasonCode = members["code"]?.string
        filter.search = members["search"]?.string
        if let text = members["since"]?.string {
            guard let since = Timestamp(rfc3339: text) else {
                throw Problem.badRequest("since must be an RFC 3339 time.")
            }
            filter.since = since
        }
        return filter
    }

    private static func delivery(_ call: Call) async throws -> Delivery {
        let id = DeliveryID(try call.parameter("id"))
        guard let found = try await call.engine.store.delivery(id, workspace: call.workspace()) else {
            throw Problem.notFound("There is no delivery \(id) in this workspace.")
        }
        return found
    }

    private static func detail(_ call: Call) async throws -> Answer {
        let delivery = try await delivery(call)
        var body = delivery.json
        body["journal"] = .array(try await call.engine.store.journal(of: delivery.id).map(\.json))
        body["history"] = .array(try await call.engine.store.attempts(of: delivery.id).map(\.json))
        body["decisions"] = .array(try await call.engine.store.decisions(of: delivery.id).map(\.json))
        body["payload"] = delivery.payload
        return Answer(.object(body))
    }

    private static func replay(_ call: Call) async throws -> Answer {
        let delivery = try await delivery(call)
        let replayed = try await call.engine.store.replay(
            workspace: delivery.workspace, matching: DeliveryFilter(states: [.dead, .dropped], id: delivery.id),
            limit: 1,
            at: call.engine.clock.now)
        guard replayed == 1 else {
            throw Problem(
                status: .conflict, code: "conflict",
                detail: "The delivery is \(delivery.state.rawValue); only dead and dropped ones can be replayed.")
        }
        return Answer(.object(try await Self.delivery(call).json), status: .accepted)
    }

    private static func release(_ call: Call) async throws -> Answer {
        let delivery = try await delivery(call)
        let engine = call.engine
        guard delivery.state == .held else {
            throw Problem(
                status: .conflict, code: "conflict",
                detail: "The delivery is \(delivery.state.rawValue); only held ones can be released.")
        }
        let by = call.principal?.actor ?? "nobody known"
        guard try await engine.store.release(delivery.id, message: "by \(by)", at: engine.clock.now) else {
            throw Problem(
                status: .conflict, code: "conflict",
                detail:
                    "The delivery waits with its connection \(delivery.integration), and leaves by itself once that is "
                    + "active: \(delivery.reason?.message ?? "see milepost status").")
        }
        if let connection = try await engine.store.connection(id: delivery.connection), connection.state == .active {
            // Owned by nobody and ends by itself: what it leaves is on disk, and the next tick's.
            Task { await engine.goOn(connection) }
        }
        return Answer(
            .object(try await Self.delivery(call).json), status: .accepted,
            auditDetail: ["was": JSONValue(delivery.reason?.code), "integration": .string("\(delivery.integration)")])
    }

    private static func bulkReplay(_ call: Call) async throws -> Answer {
        let body = try await call.object(keys: ["state", "integration", "link", "since", "code", "search", "limit"])
        for (key, value) in body where key != "limit" && value.string == nil {
            throw Problem.badRequest("\(key) must be text.")  // a filter left out would replay more than was meant
        }
        var filter = try await filter(body, call)
        if filter.states.isEmpty { filter.states = [.dead] }
        guard filter.states.isSubset(of: [.dead, .dropped]) else {
            throw Problem.badRequest("Only dead and dropped deliveries can be replayed.")
        }
        guard let limit = (body["limit"] ?? 100_000).integer, limit >= 1 else {
            throw Problem.badRequest("limit must be a whole number from 1.")
        }
        let replayed = try await call.engine.store.replay(
            workspace: call.workspace(), matching: filter, limit: Int(clamping: limit), at: call.engine.clock.now)
        return Answer(["replayed": .integer(Int64(replayed))], auditDetail: ["replayed": .integer(Int64(replayed))])
    }

    /// Deliveries in one export; more are fetched with `since`.
    private static let maximumExport = 100_000

    private static func export(_ call: Call) async throws -> Answer {
        let filter = try await queryFilter(call)
        var text = ""
        var cursor: String?
        var count = 0
        repeat {
            let page = try await call.engine.store.deliveries(
                workspace: call.workspace(), matching: filter, cursor: cursor, limit: 500)
            for delivery in page.items { text += JSONValue.object(delivery.json).description + "\n" }
            count += page.items.count
            cursor = page.next
        } while cursor != nil && count < maximumExport
        return Answer(text: text, contentType: "application/x-ndjson")
    }
}
