// SPDX-License-Identifier: Apache-2.0

import HTTPTypes
import Hummingbird
import MilepostEngine
import MilepostModel
import MilepostStore
import MilepostVault

extension MilepostServer {
    static var contactRoutes: [Route] {
        [
            .change(
                .post, "/v1/workspaces/{ws}/forms", "forms.post", .scope(.ingest), audited: false,
                "Takes form submissions: one object or an array.", postForms),
            .get(
                "/v1/workspaces/{ws}/contacts/{contact}/export", "contacts.export", .scope(.admin),
                "Everything stored about a contact.", exportContact),
            .change(
                .delete, "/v1/workspaces/{ws}/contacts/{contact}", "contacts.erase", .scope(.admin),
                "Takes every trace of a contact away; totals stay."
            ) { call in
                let result = try await call.engine.store.eraseContact(
                    workspace: call.workspace(), contact: call.parameter("contact"))
                return Answer([
                    "clicks_erased": .integer(Int64(result.clicks)),
                    "deliveries_erased": .integer(Int64(result.deliveries)),
                    "forms_erased": .integer(Int64(result.forms)),
                    "held_erased": .integer(Int64(result.held)),
                ])
            },
        ]
    }

    private static func postForms(_ call: Call) async throws -> Answer {
        let workspace = try call.workspace()
        let body = try await call.json()
        let items = body.array ?? [body]
        guard items.count <= 1000 else { throw Problem.badRequest("At most 1,000 form submissions are taken at once.") }
        try await requireWorkspace(workspace, call)
        var forms: [FormSubmission] = []
        var rejections: [JSONValue] = []
        for (index, item) in items.enumerated() {
            guard let text = item["ts"]?.string, let time = Timestamp(rfc3339: text) else {
                rejections.append([
                    "line": .integer(Int64(index + 1)), "code": "ts_invalid", "message": "ts must be an RFC 3339 time",
                ])
                continue
            }
            if let id = item["id"], (1...256).contains(id.string?.utf8.count ?? 0) == false {
                rejections.append([
                    "line": .integer(Int64(index + 1)), "code": "id_invalid",
                    "message": "id must be text of 1 to 256 bytes",
                ])
                continue
            }
            let id = item["id"]?.string ?? "form_" + Digest.hex(Array(Digest.sha256(item.bytes).prefix(16)))
            forms.append(
                FormSubmission(
                    id: EventID(id), time: time, contactID: item["contact_id"]?.string, email: item["email"]?.string,
                    googleClickID: item["gclid"]?.string, facebookClickID: item["fbclid"]?.string,
                    fields: item["fields"] ?? .object([:])))
        }
        let isNew = try await call.engine.store.appendForms(
            forms, workspace: workspace, receivedAt: call.engine.clock.now)
        let accepted = isNew.count(where: { $0 })
        return Answer([
            "accepted": .integer(Int64(accepted)), "duplicate": .integer(Int64(isNew.count - accepted)),
            "rejected": .integer(Int64(rejections.count)), "rejections": .array(rejections),
        ])
    }

    private static func exportContact(_ call: Call) async throws -> Answer {
        let workspace = try call.workspace()
        let contact = try call.parameter("contact")
        let store = call.engine.store
        var clicks: [JSONValue] = []
        var cursor: String?
        repeat {
            let page = try await store.clicks(workspace: workspace, contact: contact, cursor: cursor, limit: 500)
            clicks += page.items.map(\.json)
            cursor = page.next
        } while cursor != nil
        let forms = try await store.forms(workspace: workspace, contact: contact, limit: 10_000)
        let stream = try await store.streamExport(workspace: workspace, contact: contact)
        let held = try await store.clicks(at: Array(Set(stream.held.map(\.position))))
        return Answer([
            "contact": .string(contact), "clicks": .array(clicks), "forms": .array(forms.map(\.json)),
            "held_clicks": .array(held.map(\.click.json)),
            "events": .array(
                try await store.vendorEvents(workspace: workspace, person: contact).map { .object($0.json) }),
            "deliveries": .array(
                stream.deliveries.map { delivery in
                    .object(delivery.json.merging(["payload": delivery.payload]) { _, new in new })
                }),
            "touches": .array(
                stream.touches.map {
                    [
                        "connection": .string($0.connection.rawValue), "contact": .string($0.contact),
                        "touched_at": $0.touchedAt.json,
                    ]
                }),
        ])
    }
}
