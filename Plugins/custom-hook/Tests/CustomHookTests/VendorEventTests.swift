// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin
import CustomHook
import MilepostKit
import MilepostKitTesting
import Testing

private let stageChange: JSONValue = [
    "kind": "event", "workspace": "acme", "key": "9f86d081884c7d659a2feaa0c55ad015",
    "event": [
        "id": "vev_1", "topic": "deal.stage_changed", "at": "2026-11-02T10:00:00.000Z",
        "received_at": "2026-11-02T10:00:02.000Z", "integration": "pipedrive",
    ],
    "data": [
        "dealId": "42", "dealTitle": "Spring", "previousStage": "11", "newStage": "12", "personId": "77",
        "value": "5000.00", "currency": "EUR",
    ],
]

extension Serialized {
    @Suite("tells of events of vendors", .timeLimit(.minutes(1)))
    struct VendorEventTests {
        @Test("HOOK-08: its facts, its own id, and whose it is; filters by links and campaigns do not look at it")
        func hook() async throws {
            let host = try #require(hooked(["only": ["folder": ["paid"]]]))
            defer { host.destroy() }
            let done = await host.run(MP_VERB_DELIVER, deliver(stageChange, action: "event_hook"))
            #expect(done.body["records"]?[0]?["class"] == "ok")
            let sent = try #require(host.sent.first)
            #expect(sent.body?["type"] == "milepost.deal.stage_changed")
            #expect(sent.body?["timestamp"] == "2026-11-02T10:00:00.000Z")
            var facts = stageChange["data"]?.object ?? [:]
            facts["event"] = "vev_1"
            facts["integration"] = "pipedrive"
            #expect(sent.body?["data"] == .object(facts))
            #expect(sent.headers.first { $0.name == "webhook-id" }?.value == "9f86d081884c7d659a2feaa0c55ad015")
        }

        @Test("HOOK-08: as a CloudEvent its subject is the deal")
        func cloudEvent() async throws {
            let host = try #require(hooked(["format": "cloudevents"]))
            defer { host.destroy() }
            _ = await host.run(MP_VERB_DELIVER, deliver(stageChange, action: "event_hook"))
            #expect(host.sent.first?.body?["subject"] == "42")
            #expect(host.sent.first?.body?["data"]?["value"] == "5000.00")
        }

        @Test("a payload without its parts is refused", arguments: ["event", "data"])
        func damaged(part: String) async throws {
            let host = try #require(hooked())
            defer { host.destroy() }
            var members = stageChange.object ?? [:]
            members[part] = nil
            let done = await host.run(MP_VERB_DELIVER, deliver(.object(members), action: "event_hook"))
            #expect(done.body["records"]?[0]?["error"]?["code"] == "payload_unreadable" && host.sent.isEmpty)
        }
    }
}
