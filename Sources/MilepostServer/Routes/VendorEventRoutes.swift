// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import Hummingbird
import MilepostEngine
import MilepostModel
import MilepostRules
import MilepostStore

/// Events of vendors: handing them in, and what came of them (HOOK-08).
extension MilepostServer {
    private static let path = "/v1/workspaces/{ws}/integrations/{integration}/events"

    static var vendorEventRoutes: [Route] {
        [
            .change(
                .post, path, "integrations.events.post", .scope(.ingest),
                "Takes an event of the connection's vendor, once, and passes it on to the connections that asked for it. The "
                    + "header Idempotency-Key stands for id.", take),
            .get(
                path, "integrations.events.list", .scope(.viewer), query: ["topic", "limit", "cursor"],
                "Events that were handed in, newest first, with what became of each.", list),
        ]
    }

    private static let idempotencyKey = HTTPField.Name("Idempotency-Key")

    private static func take(_ call: Call) async throws -> Answer {
        // Before anything of the body is said: whoever may not come here learns nothing.
        let (integration, workspace) = (try call.integration(), try call.workspace())
        let key = idempotencyKey.flatMap { call.request.headers[$0] }
        let draft: VendorEventDraft
        switch VendorEventReader.read(try await call.json(), key: key) {
        case .success(let read): draft = read
        case .failure(let rejected):
            throw EngineError(
                code: .validationFailed,
                detail: rejected.errors.prefix(20).map(\.message).joined(separator: "; "), errors: rejected.errors)
        }
        let engine = call.engine
        let taken = try await engine.vendorEvents.take(draft, from: integration, workspace: workspace)
        for id in Set(taken.deliveries.map(\.connection)) {
            guard let connection = try await engine.store.connection(id: id), connection.state == .active else {
                continue
            }
            // Owned by nobody and ends by itself: what it leaves is on disk, and the next tick's.
            Task { await engine.goOn(connection) }
        }
        let event = try await present([taken.event], call)[0]
        return Answer(
            .object(event.merging(["duplicate": .bool(!taken.isNew)]) { $1 }), status: taken.isNew ? .created : .ok,
            auditDetail: [
                "event": .string(taken.event.id), "topic": .string(taken.event.topic.rawValue),
                "duplicate": .bool(!taken.isNew),
            ])
    }

    private static func list(_ call: Call) async throws -> Answer {
        var topic: VendorEvent.Topic?
        if let text = call.query("topic") {
            topic = VendorEvent.Topic(rawValue: text)
            guard topic != nil else {
                throw Problem.badRequest(
                    "topic \(text) is none of \(VendorEvent.Topic.allCases.map(\.rawValue).joined(separator: ", ")).")
            }
        }
        let connection = try await connection(call)
        let page = try await call.engine.store.vendorEvents(
            workspace: connection.workspace, connection: connection.id, topic: topic, cursor: call.cursor(),
            limit: call.limit())
        return Answer([
            "events": .array(try await present(page.items, call).map(JSONValue.object)), "next": JSONValue(page.next),
        ])
    }

    private static func present(_ events: [VendorEvent], _ call: Call) async throws -> [[String: JSONValue]] {
        let made = try await call.engine.store.deliveries(ofEvents: events.map(\.id), workspace: call.workspace())
        return events.map { event in
            var json = event.json
            json["deliveries"] = .array(
                (made[event.id] ?? []).map { delivery in
                    [
                        "id": .string(delivery.id.rawValue), "integration": .string(delivery.integration.description),
                        "state": .string(delivery.state.rawValue),
                    ]
                })
            return json
        }
    }
}

extension VendorEvent {
    var json: [String: JSONValue] {
        [
            "id": .string(id), "integration": .string(integration.description), "topic": .string(topic.rawValue),
            "at": at.json, "received_at": receivedAt.json, "data": data,
        ]
    }
}
