// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin
import HubSpot
import MilepostKit
import MilepostKitTesting
import Synchronization
import Testing

extension Serialized {
    @Suite("contact properties", .timeLimit(.minutes(1)))
    struct PropertiesTests {
        @Test("PROP-02, PROP-03: a touch writes source, campaign and medium on its contact")
        func one() async throws {
            let portal = Portal()
            let host = try #require(connected(portal))
            defer { host.destroy() }
            let done = await host.run(MP_VERB_DELIVER, deliver("contact_properties", [touch("t1")]))
            #expect(done.classes == ["ok"])
            #expect(host.sent.map(\.method) == ["PATCH"])
            #expect(host.sent[0].url == "https://api.hubapi.com/crm/v3/objects/contacts/101")
            #expect(
                host.sent[0].body == [
                    "properties": [
                        "milepost_last_utm_source": "webinar", "milepost_last_utm_campaign": "q2-pricing",
                        "milepost_last_utm_medium": "email",
                    ]
                ])
        }

        @Test("PROP-01: the prefix elido gives the names of the preset")
        func elido() {
            let (settings, errors) = Settings.read(["property_prefix": "elido"])
            #expect(errors.isEmpty)
            #expect(
                settings.properties.all.map(\.name) == [
                    "elido_last_utm_source", "elido_last_utm_medium", "elido_last_utm_campaign",
                ])
            #expect(settings.counter == "elido_recent_link_clicks")
        }

        @Test("PROP-07: a row of the mapping is overridden, switched off, and reset by null")
        func mapping() {
            func names(_ mapping: JSONValue) -> [String] {
                Settings.read(["property_mapping": mapping]).settings.properties.all.map(\.name)
            }
            #expect(names(["campaign": "lead_campaign", "term": "lead_term"]).contains("lead_campaign"))
            #expect(names(["term": "lead_term"]).contains("lead_term"))
            #expect(!names(["medium": ""]).contains("milepost_last_utm_medium"))
            #expect(names(["campaign": nil]).contains("milepost_last_utm_campaign"))
        }

        @Test(
            "PROP-04, PROP-05: a first-touch property is refused with field and reason",
            arguments: [
                "original_source_drill_down_1", "original_source_drill_down_2", "hs_analytics_first_url",
                "hs_analytics_first_referrer", "hs_analytics_source", "HS_ANALYTICS_anything",
            ])
        func firstTouch(name: String) async throws {
            let host = try #require(connected(Portal()))
            defer { host.destroy() }
            let done = await host.run(
                MP_VERB_CONFIGURE, ["settings": ["property_mapping": ["campaign": .string(name)]]])
            let error = done.body["errors"]?[0]
            #expect(error?["pointer"] == "/property_mapping/campaign" && error?["code"] == "first_touch")
            #expect(error?["message"]?.string?.contains("without an error") == true)
            #expect(host.sent.isEmpty)
        }

        @Test("PROP-04: a first-touch mapping that was stored all the same never leaves")
        func neverLeaves() async throws {
            let host = try #require(
                connected(
                    Portal(),
                    settings: [
                        "property_prefix": "hs_analytics", "property_mapping": ["source": "hs_analytics_source"],
                    ]))
            defer { host.destroy() }
            _ = await host.run(MP_VERB_DELIVER, deliver("contact_properties", [touch("t1")]))
            for request in host.sent {
                #expect(request.body?["properties"]?.object?.keys.contains { $0.hasPrefix("hs_analytics") } == false)
            }
            #expect(host.sent.count == 1)
        }

        @Test("PROP-13: a touch without a campaign writes nothing, and missing values wipe none")
        func empty() async throws {
            let host = try #require(connected(Portal()))
            defer { host.destroy() }
            let done = await host.run(
                MP_VERB_DELIVER,
                deliver("contact_properties", [touch("a", utm: [:]), touch("b", utm: ["source": "x", "medium": nil])]))
            #expect(done.classes == ["ok", "ok"])
            #expect(host.sent.map { $0.body } == [["properties": ["milepost_last_utm_source": "x"]]])
        }

        @Test("PROP-08, PROP-12: of several touches of a contact the last by time wins, in one write")
        func coalesced() async throws {
            let portal = Portal()
            let host = try #require(connected(portal))
            defer { host.destroy() }
            let done = await host.run(
                MP_VERB_DELIVER,
                deliver(
                    "contact_properties",
                    [
                        touch("new", at: "2026-11-03T10:00:00.000Z", utm: ["campaign": "new"]),
                        touch("old", at: "2026-11-02T10:00:00.000Z", utm: ["campaign": "old", "source": "s"]),
                        touch(
                            "by-mail", contact: ["id": "102", "email": nil, "via": "click"], utm: ["campaign": "other"]),
                    ]))
            #expect(done.classes == ["ok", "ok", "ok"])
            #expect(host.sent.count == 1)
            #expect(host.sent[0].body?["inputs"]?.array?.count == 2)
            #expect(portal.state.withLock { $0.contacts["101"]?["milepost_last_utm_campaign"] } == "new")
            #expect(portal.state.withLock { $0.contacts["101"]?["milepost_last_utm_source"] } == "s")
        }

        @Test("RATE-12, TL-11: many contacts go in one request with a trace each, and a bad one ends alone")
        func batch() async throws {
            let portal = Portal()
            let host = try #require(connected(portal))
            defer { host.destroy() }
            let touches = ["101", "555", "102", "99"].enumerated().map { index, id in
                touch("t\(index)", contact: ["id": .string(id), "email": nil, "via": "click"])
            }
            let done = await host.run(MP_VERB_DELIVER, deliver("contact_properties", touches))
            // 555 is nobody, 99 was merged into 101 (RES-08).
            #expect(done.classes == ["ok", "rejected", "ok", "ok"])
            #expect(done.record(1)["error"]?["code"] == "contact_unknown")
            #expect(host.sent[0].url.hasSuffix("/contacts/batch/update"))
            #expect(host.sent[0].body?["inputs"]?[1]?["objectWriteTraceId"] == "t1")
        }

        @Test("RES-02: an e-mail address finds its contact, alone and among others")
        func byEmail() async throws {
            let portal = Portal()
            let host = try #require(connected(portal))
            defer { host.destroy() }
            func mail(_ key: String, _ email: String) -> JSONValue {
                touch(key, contact: ["id": nil, "email": .string(email), "via": "form"])
            }
            let one = await host.run(
                MP_VERB_DELIVER, deliver("contact_properties", [mail("a", "bob@example.test")]))
            #expect(one.record(0)["remote_id"] == "102")
            #expect(
                host.sent.last?.url
                    == "https://api.hubapi.com/crm/v3/objects/contacts/bob%40example.test?idProperty=email")
            let many = await host.run(
                MP_VERB_DELIVER,
                deliver(
                    "contact_properties",
                    [mail("a", "bob@example.test"), mail("b", "nobody@example.test"), mail("c", "eve@example.test")]))
            #expect(many.classes == ["ok", "rejected", "ok"])
            #expect(many.record(1)["error"]?["code"] == "contact_unknown")
        }

        @Test("HCON-06: a property that is missing is waited for, a read-only one is refused for good")
        func missingProperty() async throws {
            let portal = Portal({ $0.properties["contacts"]?["milepost_last_utm_medium"] = nil })
            let host = try #require(connected(portal))
            let missing = await host.run(MP_VERB_DELIVER, deliver("contact_properties", [touch("a")]))
            host.destroy()
            #expect(missing.classes == ["retry"])
            #expect(missing.record(0)["error"]?["code"] == "property_missing")
            let locked = Portal({
                $0.properties["contacts"]?["milepost_last_utm_medium"] = Portal.definition("m", readOnly: true)
            })
            let other = try #require(connected(locked))
            defer { other.destroy() }
            let done = await other.run(MP_VERB_DELIVER, deliver("contact_properties", [touch("a")]))
            #expect(done.record(0)["error"]?["code"] == "property_read_only")
        }

        @Test("PROP-06, PROP-07: configure looks at what is mapped: missing, read-only, of another type")
        func definitions() async throws {
            let portal = Portal({
                $0.properties["contacts"]?["computed"] = Portal.definition("computed", readOnly: true)
                $0.properties["contacts"]?["age"] = Portal.definition("age", type: "number")
            })
            let host = try #require(connected(portal))
            defer { host.destroy() }
            func configure(_ name: String) async -> JSONValue {
                await host.run(MP_VERB_CONFIGURE, ["settings": ["property_mapping": ["campaign": .string(name)]]]).body
            }
            #expect(await configure("computed")["errors"]?[0]?["code"] == "property_read_only")
            #expect(await configure("age")["errors"]?[0]?["pointer"] == "/property_mapping/campaign")
            let missing = await configure("nowhere")
            #expect(missing["errors"] == [] && missing["warnings"]?[0]?["code"] == "property_missing")
        }
    }

    @Suite("the counter on deals", .timeLimit(.minutes(1)))
    struct CounterTests {
        func portal(_ fault: @escaping @Sendable (SentRequest) -> FakeAnswer? = { _ in nil }) -> Portal {
            Portal(
                {
                    $0.properties["deals"]?["milepost_recent_link_clicks"] = Portal.definition("c", type: "number")
                    $0.deals["9001"]?["milepost_recent_link_clicks"] = "5"
                    $0.deals["9002"] = ["dealstage": "closedwon", "pipeline": "default"]
                    $0.dealsOf["101"] = [("9001", nil), ("9002", nil)]
                }, fault: fault)
        }
        func value(_ portal: Portal) -> JSONValue? {
            portal.state.withLock { $0.deals["9001"]?["milepost_recent_link_clicks"] }
        }

        @Test("PROP-10: two clicks add two, and a retry adds none")
        func exact() async throws {
            let portal = portal()
            let host = try #require(connected(portal, settings: ["deal_counter": true]))
            defer { host.destroy() }
            let body = deliver("deal_counter", [touch("0123456789ab", clicks: 2)])
            #expect(await host.run(MP_VERB_DELIVER, body).classes == ["ok"])
            #expect(value(portal) == "7")
            #expect(await host.run(MP_VERB_DELIVER, body).classes == ["ok"])
            #expect(value(portal) == "7")
            _ = await host.run(MP_VERB_DELIVER, deliver("deal_counter", [touch("1123456789ab")]))
            #expect(value(portal) == "8")
            #expect(portal.state.withLock { $0.deals["9002"]?["milepost_recent_link_clicks"] } == nil)
        }

        @Test("PROP-10: a lost answer leaves the sum exact")
        func lostAnswer() async throws {
            let faults = Counter()
            let portal = portal { $0.method == "PATCH" && faults.next() == 1 ? .fails(.maybeSent, "reset") : nil }
            let host = try #require(connected(portal, settings: ["deal_counter": true]))
            defer { host.destroy() }
            let first = deliver("deal_counter", [touch("0123456789ab", clicks: 2)])
            #expect(await host.run(MP_VERB_DELIVER, first).classes == ["retry"])
            _ = await host.run(MP_VERB_DELIVER, deliver("deal_counter", [touch("1123456789ab")]))
            _ = await host.run(MP_VERB_DELIVER, first)
            #expect(value(portal) == "8")
        }

        @Test("PROP-09: off by default, no deal is written")
        func off() async throws {
            let portal = portal()
            let host = try #require(connected(portal))
            defer { host.destroy() }
            #expect(await host.run(MP_VERB_DELIVER, deliver("deal_counter", [touch("0123456789ab")])).classes == ["ok"])
            #expect(host.sent.isEmpty)
        }

        @Test("the counter's memory stays small and forgets the oldest")
        func memory() throws {
            var counter = ClickCounter(total: 0)
            for index in 0..<1_000 { counter.add(1, key: String(1_000_000_000 + index)) }
            #expect(counter.total == 1_000 && counter.bytes.count < 800)
            #expect(counter.holds("1000000999") && !counter.holds("1000000001"))
            #expect(ClickCounter(counter.bytes) == counter)
            #expect(ClickCounter(Array("{}".utf8)) == nil)
        }
    }
}

/// Counts calls, from 1.
final class Counter: Sendable {
    private let value = Mutex(0)
    func next() -> Int {
        value.withLock {
            $0 += 1
            return $0
        }
    }
}
