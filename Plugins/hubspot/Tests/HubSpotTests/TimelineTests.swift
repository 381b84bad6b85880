// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin
import HubSpot
import MilepostKit
import MilepostKitTesting
import Synchronization
import Testing

/// One fake host at a time drives the plugin's table.
@Suite("HubSpot", .serialized) struct Serialized {}

extension Serialized {
    @Suite("timeline events", .timeLimit(.minutes(1)))
    struct TimelineTests {
        @Test("TL-01, TL-03, TL-04, TL-05, TL-08: a click is one event with these tokens, this title and its own time")
        func oneEvent() async throws {
            let portal = Portal()
            let host = try #require(connected(portal, settings: template))
            defer { host.destroy() }
            let done = await host.run(MP_VERB_DELIVER, deliver("timeline_event", [click("k1")]))
            #expect(done.record(0)["class"] == "ok")
            #expect(done.record(0)["remote_url"] == "https://app.hubspot.com/contacts/62515/record/0-1/101")
            #expect(host.sent.map(\.url) == ["https://api.hubapi.com/integrators/timeline/v3/events"])
            #expect(
                host.sent.first?.body == [
                    "eventTemplateId": "1001298", "id": "k1", "objectId": "101",
                    "timestamp": "2026-11-02T10:00:00.123Z",
                    "tokens": [
                        "slug": "pricing", "destination": "https://shop.test/p", "campaign": "q2-pricing",
                        "country": "DE", "device": "mobile",
                    ],
                    "extraData": [
                        "utm": ["source": "webinar", "medium": "email", "campaign": "q2-pricing"],
                        "referrer": "https://mail.test/", "user_agent": "Mozilla/5.0",
                        "timestamp": "2026-11-02T10:00:00.123Z", "title": "Clicked: Pricing (https://l.test/pricing)",
                    ],
                ])
            #expect(host.sent.first?.isIdempotent == true)
        }

        @Test("TL-02, Z-07: the older path of the same interface can be chosen")
        func alias() async throws {
            let host = try #require(
                connected(
                    Portal(), settings: ["timeline_backend": "timeline_alias", "timeline_template_id": "1001298"]))
            defer { host.destroy() }
            let done = await host.run(MP_VERB_DELIVER, deliver("timeline_event", [click("k1")]))
            #expect(done.classes == ["ok"])
            #expect(host.sent.map(\.url) == ["https://api.hubapi.com/crm/v3/timeline/events"])
        }

        @Test("TL-05: a title without a title, and one that holds a placeholder, stay readable")
        func titles() throws {
            func title(_ title: JSONValue, _ template: String? = nil) throws -> String {
                TimelineEvent(try click("k", title: title).decoded(as: ResolvedClick.self), titleTemplate: template)
                    .title
            }
            #expect(try title(.null) == "Clicked: pricing (https://l.test/pricing)")
            #expect(try title("{slug}") == "Clicked: {slug} (https://l.test/pricing)")
            #expect(try title("A", "{campaign}: {title} {x}") == "q2-pricing: A {x}")
            #expect(try title("a\u{202E}\nb") == "Clicked: a b (https://l.test/pricing)")
        }

        @Test("TL-11, DUP-06: many clicks go in one request, and a repeat adds none")
        func batch() async throws {
            let portal = Portal()
            let host = try #require(connected(portal, settings: template))
            defer { host.destroy() }
            let body = deliver("timeline_event", (0..<100).map { click("k\($0)") })
            #expect(await host.run(MP_VERB_DELIVER, body).classes == Array(repeating: "ok", count: 100))
            #expect(host.sent.count == 1)
            #expect(host.sent[0].url.hasSuffix("/integrators/timeline/v3/events/batch/create"))
            #expect(await host.run(MP_VERB_DELIVER, body).classes == Array(repeating: "ok", count: 100))
            #expect(portal.state.withLock { $0.events.count } == 100)
        }

        @Test("TL-11: one bad item of a batch ends alone, and every record has its own verdict")
        func oneBad() async throws {
            let portal = Portal()
            let host = try #require(connected(portal, settings: template))
            defer { host.destroy() }
            let unknown: JSONValue = ["id": "555", "email": nil, "via": "click"]
            let done = await host.run(
                MP_VERB_DELIVER,
                deliver("timeline_event", [click("a"), click("b", contact: unknown), click("c"), .null]))
            #expect(done.classes == ["ok", "rejected", "ok", "rejected"])
            #expect(done.record(1)["error"]?["code"] == "contact_unknown")
            #expect(done.record(3)["error"]?["code"] == "payload_unreadable")
            #expect(portal.state.withLock { $0.events.keys.sorted() } == ["a", "c"])
        }

        @Test("TL-11: a batch that is refused as a whole is sent again one by one")
        func refusedBatch() async throws {
            let portal = Portal(fault: {
                $0.url.hasSuffix("/batch/create") ? Portal.error(400, "VALIDATION_ERROR", "One input is bad.") : nil
            })
            let host = try #require(connected(portal, settings: template))
            defer { host.destroy() }
            let done = await host.run(MP_VERB_DELIVER, deliver("timeline_event", [click("a"), click("b")]))
            #expect(done.classes == ["ok", "ok"])
            #expect(host.sent.count == 3)
        }

        @Test("an answer that names nothing is no success: what it leaves out is sent again")
        func emptyAnswer() async throws {
            let portal = Portal(fault: {
                $0.url.hasSuffix("/batch/create") ? .json(201, ["status": "COMPLETE", "results": []]) : nil
            })
            let host = try #require(connected(portal, settings: template))
            defer { host.destroy() }
            _ = await host.run(MP_VERB_DELIVER, deliver("timeline_event", [click("a"), click("b")]))
            #expect(portal.state.withLock { $0.events.count } == 2)
        }

        @Test(
            "Z-08: \"already exists\" is success in every form",
            arguments: [
                (409, "Conflict"), (400, "Event ID already in use, please choose a new unique ID"),
                (400, "Event with id k1 already exists"),
            ])
        func alreadyThere(status: Int, text: String) async throws {
            let portal = Portal(fault: { _ in Portal.error(status, "CONFLICT", text) })
            let host = try #require(connected(portal, settings: template))
            defer { host.destroy() }
            #expect(await host.run(MP_VERB_DELIVER, deliver("timeline_event", [click("k1")])).classes == ["ok"])
        }

        @Test("RES-08: a merged contact's old id leads to the survivor")
        func merged() async throws {
            let portal = Portal()
            let host = try #require(connected(portal, settings: template))
            defer { host.destroy() }
            let done = await host.run(
                MP_VERB_DELIVER,
                deliver("timeline_event", [click("k1", contact: ["id": "99", "email": nil, "via": "click"])]))
            #expect(done.classes == ["ok"])
            #expect(portal.state.withLock { $0.events["k1"]?["objectId"] } == "101")
        }

        @Test("RES-02, RES-07: an e-mail address is looked up, so that no contact is made by accident")
        func byEmail() async throws {
            let portal = Portal()
            let host = try #require(connected(portal, settings: template))
            defer { host.destroy() }
            let known: JSONValue = ["id": nil, "email": "Bob@example.test", "via": "form"]
            let unknown: JSONValue = ["id": nil, "email": "nobody@example.test", "via": "form"]
            let done = await host.run(
                MP_VERB_DELIVER,
                deliver("timeline_event", [click("a", contact: known), click("b", contact: unknown)]))
            #expect(done.classes == ["ok", "rejected"])
            #expect(done.record(1)["error"]?["code"] == "contact_unknown")
            #expect(portal.state.withLock { $0.events["a"]?["objectId"] } == "102")
            #expect(host.sent.allSatisfy { $0.body?["email"] == nil })
        }

        @Test("Z-05: without the right to read contacts the e-mail address itself names the contact")
        func byEmailUnread() async throws {
            let portal = Portal(
                { $0.scopes = ["timeline"] },
                fault: {
                    $0.url.hasSuffix("/events") ? .json(201, ["id": "a"]) : nil
                })
            let host = try #require(connected(portal, settings: template))
            defer { host.destroy() }
            let contact: JSONValue = ["id": nil, "email": "bob@example.test", "via": "form"]
            let done = await host.run(MP_VERB_DELIVER, deliver("timeline_event", [click("a", contact: contact)]))
            #expect(done.classes == ["ok"])
            #expect(host.sent.last?.body?["email"] == "bob@example.test")
        }

        @Test("HCON-05: events wait while there is no template yet, and while HubSpot does not show it yet")
        func waitsForTemplate() async throws {
            let none = try #require(connected(Portal(), settings: ["timeline_backend": "timeline_v3"]))
            let first = await none.run(MP_VERB_DELIVER, deliver("timeline_event", [click("a")]))
            none.destroy()
            #expect(first.status == MP_RETRY && first.body["code"] == "template_pending")
            let portal = Portal(fault: { _ in
                Portal.error(404, "OBJECT_NOT_FOUND", "No event template with id 1001298")
            })
            let host = try #require(connected(portal, settings: template))
            defer { host.destroy() }
            let done = await host.run(
                MP_VERB_DELIVER, deliver("timeline_event", (0..<5).map { click("k\($0)") }))
            #expect(done.classes == Array(repeating: "retry", count: 5))
            #expect(done.record(4)["error"]?["code"] == "template_pending")
            #expect(host.sent.count == 2)
        }

        @Test("HCON-04: the template that was provisioned for the app is used")
        func appTemplate() async throws {
            let host = try #require(
                connected(
                    Portal(), credential: "oauth",
                    app: ["id": "54321", "objects": ["timeline_template": "1001300"]]))
            defer { host.destroy() }
            #expect(await host.run(MP_VERB_DELIVER, deliver("timeline_event", [click("a")])).classes == ["ok"])
            #expect(host.sent.last?.body?["eventTemplateId"] == "1001300")
            #expect(host.sent.last?.credential == "oauth")
        }
    }

    @Suite("other ways to show clicks", .timeLimit(.minutes(1)))
    struct BackendTests {
        @Test("Z-06: app events carry the same tokens and extra data")
        func appEvents() async throws {
            let portal = Portal()
            let host = try #require(
                connected(portal, settings: ["timeline_backend": "app_events", "app_event_type": "ahub_1_click"]))
            defer { host.destroy() }
            let unknown: JSONValue = ["id": "555", "email": nil, "via": "click"]
            let done = await host.run(
                MP_VERB_DELIVER,
                deliver("timeline_event", [click("a"), click("b"), click("c", contact: unknown)]))
            #expect(done.classes == ["ok", "ok", "rejected"])
            let event = portal.state.withLock { $0.events["a"] }
            #expect(event?["eventTypeName"] == "ahub_1_click" && event?["properties"]?["slug"] == "pricing")
        }

        @Test("Z-06: custom events carry the key as uuid and answer with nothing")
        func customEvents() async throws {
            let portal = Portal()
            let host = try #require(
                connected(
                    portal, settings: ["timeline_backend": "custom_events", "custom_event_name": "pe62515_link_click"]))
            defer { host.destroy() }
            let done = await host.run(MP_VERB_DELIVER, deliver("timeline_event", [click("a"), click("b")]))
            #expect(done.classes == ["ok", "ok"])
            #expect(host.sent.map(\.url) == ["https://api.hubapi.com/events/v3/send/batch"])
            #expect(portal.state.withLock { $0.events["b"]?["occurredAt"] } == "2026-11-02T10:00:00.123Z")
            #expect(await host.run(MP_VERB_DELIVER, deliver("timeline_event", [click("c")])).classes == ["ok"])
            #expect(host.sent.last?.url == "https://api.hubapi.com/events/v3/send")
        }

        @Test("Z-06: a note is made once: remembered before it leaves, found again after a lost answer")
        func notes() async throws {
            let lost = Counter()
            let portal = Portal()
            let losing: @Sendable (SentRequest, FakeAnswer) -> FakeAnswer = { request, answer in
                request.url.hasSuffix("/objects/notes") && lost.next() == 1 ? .fails(.maybeSent, "reset") : answer
            }
            let made = connected(portal, settings: ["timeline_backend": "note"], then: losing)
            let host = try #require(made)
            defer { host.destroy() }
            let body = deliver("timeline_event", [click("0a1b")])
            #expect(await host.run(MP_VERB_DELIVER, body).classes == ["retry"])
            let again = await host.run(MP_VERB_DELIVER, body)
            #expect(again.classes == ["ok"] && again.record(0)["remote_id"] == "700")
            #expect(host.sent.last?.url.hasSuffix("/notes/search") == true && host.sent.last?.bucket == "search")
            let known = host.sent.count
            #expect(await host.run(MP_VERB_DELIVER, body).classes == ["ok"])
            #expect(host.sent.count == known)
            #expect(portal.state.withLock { $0.notes.count } == 1)
        }

        @Test("a note that the search does not show is waited for, and made anew only after the search has caught up")
        func hiddenNote() async throws {
            let portal = Portal(fault: { $0.url.hasSuffix("/notes/search") ? .json(200, ["results": []]) : nil })
            let lost = Counter()
            let losing: @Sendable (SentRequest, FakeAnswer) -> FakeAnswer = { request, answer in
                request.url.hasSuffix("/objects/notes") && lost.next() == 1 ? .fails(.neverSent, "refused") : answer
            }
            let made = connected(portal, settings: ["timeline_backend": "note"], then: losing)
            let host = try #require(made)
            defer { host.destroy() }
            let body = deliver("timeline_event", [click("0a1b")])
            #expect(await host.run(MP_VERB_DELIVER, body).classes == ["retry"])
            host.advance(milliseconds: 30_000)
            let early = await host.run(MP_VERB_DELIVER, body).record(0)["error"]
            #expect(early?["code"] == "note_unconfirmed" && early?["retry_after_ms"] == 60_000)
            host.advance(milliseconds: 60_000)
            #expect(await host.run(MP_VERB_DELIVER, body).classes == ["ok"])
        }

        @Test("a refused note is forgotten at once; markup in a title stays text")
        func refusedNote() async throws {
            let refusals = Counter()
            let portal = Portal(fault: {
                $0.url.hasSuffix("/objects/notes") && refusals.next() == 1 ? .json(429, ["policyName": "DAILY"]) : nil
            })
            let host = try #require(connected(portal, settings: ["timeline_backend": "note"]))
            defer { host.destroy() }
            let body = deliver("timeline_event", [click("a", title: "<script>x</script>")])
            #expect(await host.run(MP_VERB_DELIVER, body).classes == ["rate_limited"])
            #expect(await host.run(MP_VERB_DELIVER, body).classes == ["ok"])
            let text = host.sent.last?.body?["properties"]?["hs_note_body"]?.string ?? ""
            #expect(text.contains("&lt;script&gt;") && !text.contains("<script>"))
        }

        @Test("off sends nothing and says so")
        func off() async throws {
            let host = try #require(connected(Portal(), settings: ["timeline_backend": "off"]))
            defer { host.destroy() }
            let done = await host.run(MP_VERB_DELIVER, deliver("timeline_event", [click("a")]))
            #expect(done.record(0)["warnings"]?[0]?["code"] == "timeline_off")
            #expect(host.sent.isEmpty)
        }
    }
}
