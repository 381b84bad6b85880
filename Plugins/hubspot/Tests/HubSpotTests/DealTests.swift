// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin
import HubSpot
import MilepostKit
import MilepostKitTesting
import Synchronization
import Testing

extension Serialized {
    @Suite("deals", .timeLimit(.minutes(1)))
    struct DealTests {
        func rule(_ deal: String = "9001", from: JSONValue = "appointmentscheduled", to: String = "qualifiedtobuy")
            -> JSONValue
        {
            [
                "kind": "rule", "workspace": "acme", "rule": ["id": "r1", "name": "Collateral"],
                "action": [
                    "type": "deal_stage", "pipeline": "default", "from_stage": from, "to_stage": .string(to),
                ],
                "contact": ["id": "101", "email": nil], "target": ["id": .string(deal)], "count": 50, "threshold": 50,
            ]
        }

        @Test(
            "RULE-05: one PATCH sets the stage after the deal was read again",
            arguments: ["deal_stage", "move_deal", "deal.stage"])
        func moves(action: String) async throws {
            let portal = Portal()
            let host = try #require(connected(portal))
            defer { host.destroy() }
            let done = await host.run(MP_VERB_DELIVER, deliver(action, [rule()]))
            #expect(done.classes == ["ok"])
            #expect(done.record(0)["remote_url"] == "https://app.hubspot.com/contacts/62515/record/0-3/9001")
            #expect(host.sent.map(\.method) == ["GET", "PATCH"])
            #expect(host.sent[1].url == "https://api.hubapi.com/crm/v3/objects/deals/9001")
            #expect(host.sent[1].body == ["properties": ["dealstage": "qualifiedtobuy"]])
            // An answer that was lost: the second attempt finds the deal moved and sends nothing.
            #expect(await host.run(MP_VERB_DELIVER, deliver(action, [rule()])).classes == ["ok"])
            #expect(host.sent.filter { $0.method == "PATCH" }.count == 1)
        }

        @Test("RULE-06, RULE-09: a deal that is further on, in another pipeline or gone is left alone")
        func leftAlone() async throws {
            func outcome(_ change: (inout Portal.State) -> Void, deal: String = "9001") async throws -> JSONValue {
                let host = try #require(connected(Portal(change)))
                defer { host.destroy() }
                let done = await host.run(MP_VERB_DELIVER, deliver("deal_stage", [rule(deal)]))
                #expect(host.sent.allSatisfy { $0.method == "GET" })
                return done.record(0)["error"]?["code"] ?? .null
            }
            #expect(try await outcome { $0.deals["9001"]?["dealstage"] = "contractsent" } == "target_moved")
            #expect(try await outcome { $0.deals["9001"]?["pipeline"] = "second" } == "target_moved")
            #expect(try await outcome({ _ in }, deal: "1") == "target_moved")
        }

        @Test("RULE-21: a stage that HubSpot refuses is named")
        func stageGone() async throws {
            let portal = Portal(fault: {
                $0.method == "PATCH"
                    ? Portal.error(400, "VALIDATION_ERROR", "nowhere was not one of the allowed options") : nil
            })
            let host = try #require(connected(portal))
            defer { host.destroy() }
            let done = await host.run(MP_VERB_DELIVER, deliver("deal_stage", [rule(to: "nowhere")]))
            #expect(done.record(0)["error"]?["code"] == "stage_missing")
        }

        @Test("RULE-08, RULE-17: rule_targets tells pipeline, stage, amount, primary and closed of a contact's deals")
        func targets() async throws {
            let portal = Portal({
                $0.deals["9002"] = [
                    "dealstage": "closedwon", "pipeline": "default", "amount": "", "deal_currency_code": "EUR",
                ]
                $0.deals["9003"] = ["dealstage": "x", "pipeline": "second"]
                $0.dealsOf["101"] = [("9001", "Primary contact"), ("9002", nil), ("9003", nil)]
            })
            let host = try #require(connected(portal))
            defer { host.destroy() }
            func targets(_ arguments: JSONValue) async -> [JSONValue] {
                await host.run(MP_VERB_QUERY, ["query": "rule_targets", "arguments": arguments])
                    .body["result"]?["targets"]?.array ?? []
            }
            let found = await targets(["contact": ["id": "101", "email": nil], "pipeline": "default"])
            #expect(found.map { $0["id"] } == ["9001", "9002"])
            #expect(found.map { $0["amount"] } == ["5000.00", .null])
            #expect(found.map { $0["is_primary"] } == [true, false])
            #expect(found.map { $0["is_closed"] } == [false, true])
            #expect(found[1]["currency"] == "EUR" && found[0]["stage"] == "appointmentscheduled")
            #expect(await targets(["contact": ["id": "101"]]).count == 3)
            // By e-mail, by a merged id, and of a contact without deals.
            #expect(await targets(["contact": ["email": "ada@example.test"], "pipeline": "second"]).count == 1)
            #expect(await targets(["contact": ["id": "99"], "pipeline": "default"]).count == 2)
            #expect(await targets(["contact": ["id": "102"]]).isEmpty)
            #expect(host.sent.allSatisfy { $0.isIdempotent })
        }

        @Test("RES-07: the deals of an unknown contact are no empty list")
        func unknownContact() async throws {
            let host = try #require(connected(Portal()))
            defer { host.destroy() }
            let done = await host.run(MP_VERB_QUERY, ["query": "rule_targets", "arguments": ["contact": ["id": "5"]]])
            #expect(done.body["code"] == "contact_unknown")
            #expect(await host.run(MP_VERB_QUERY, ["query": "weather"]).body["code"] == "query_unknown")
        }

        @Test("amounts are decimal text or nothing")
        func amounts() {
            for good in ["0", "5000", "5000.00", "-1.5"] { #expect(HubSpotPlugin.isDecimal(good)) }
            for bad in ["", "-", "1e5", "1.", ".5", "1.2.3", "12 000", "NaN"] { #expect(!HubSpotPlugin.isDecimal(bad)) }
        }
    }

    @Suite("provisioning", .timeLimit(.minutes(1)))
    struct ProvisionTests {
        @Test("HCON-06, PROP-11: the three properties are made once and kept after")
        func properties() async throws {
            let portal = Portal({ $0.properties["contacts"] = [:] })
            let host = try #require(connected(portal))
            defer { host.destroy() }
            let body: JSONValue = ["scope": "account", "objects": []]
            let first = await host.run(MP_VERB_PROVISION, body)
            #expect((first.body["objects"]?.array ?? []).map { $0["state"] } == ["created", "created", "created"])
            let made = portal.state.withLock { $0.properties["contacts"]?["milepost_last_utm_campaign"] }
            #expect(
                made?["type"] == "string" && made?["fieldType"] == "text" && made?["groupName"] == "contactinformation")
            let second = await host.run(MP_VERB_PROVISION, body)
            #expect((second.body["objects"]?.array ?? []).map { $0["state"] } == ["existing", "existing", "existing"])
            #expect(host.sent.filter { $0.method == "POST" }.count == 3)
        }

        @Test("HCON-06, Z-05: properties that the settings switch off are not made, for consent does not cover them")
        func switchedOff() async throws {
            let portal = Portal({ $0.properties["contacts"] = [:] })
            let host = try #require(connected(portal, settings: ["contact_properties": false]))
            defer { host.destroy() }
            let done = await host.run(MP_VERB_PROVISION, ["scope": "account", "objects": []])
            #expect(done.body["objects"]?.array == [] && host.sent.isEmpty)
        }

        @Test("HCON-06: an answer that the property exists is as good as finding it; one of another type is named")
        func races() async throws {
            let portal = Portal(fault: { $0.method == "GET" ? Portal.missing("crm.schemas.contacts.read") : nil })
            let host = try #require(connected(portal))
            let done = await host.run(MP_VERB_PROVISION, ["scope": "account", "objects": []])
            host.destroy()
            #expect((done.body["objects"]?.array ?? []).map { $0["state"] } == ["existing", "existing", "existing"])
            let other = try #require(
                connected(
                    Portal({
                        $0.properties["contacts"]?["milepost_last_utm_source"] = Portal.definition("x", type: "number")
                    })))
            defer { other.destroy() }
            let refused = await other.run(MP_VERB_PROVISION, ["scope": "account", "objects": []])
            #expect(refused.status == MP_CONFIG && refused.body["code"] == "property_unfit")
        }

        @Test("only what is named is made or taken away, and nothing is taken unasked")
        func named() async throws {
            let portal = Portal({ $0.properties["contacts"] = [:] })
            let host = try #require(connected(portal, settings: ["deal_counter": true]))
            defer { host.destroy() }
            let one: JSONValue = [
                "scope": "account", "objects": [["key": "deal_property:milepost_recent_link_clicks"]],
            ]
            #expect(await host.run(MP_VERB_PROVISION, one).body["objects"]?[0]?["state"] == "created")
            #expect(portal.state.withLock { $0.properties["deals"]?.values.first?["type"] } == "number")
            #expect(await host.run(MP_VERB_DEPROVISION, ["scope": "account", "objects": []]).status == MP_REJECTED)
            #expect(await host.run(MP_VERB_DEPROVISION, one).body["objects"]?[0]?["state"] == "absent")
            #expect(await host.run(MP_VERB_DEPROVISION, one).body["objects"]?[0]?["state"] == "absent")
            #expect(portal.state.withLock { $0.properties["deals"]?.isEmpty } == true)
            let odd = await host.run(
                MP_VERB_PROVISION, ["scope": "account", "objects": [["key": "contact_property:email"]]])
            #expect(odd.body["code"] == "object_unknown")
        }

        func app(_ portal: Portal) throws -> FakeHost {
            try #require(connected(portal, credential: "developer_key", app: ["id": "54321", "objects": [:]]))
        }

        @Test("HCON-04: the template is made once for the app, by its developer key, and its id is told")
        func template() async throws {
            let portal = Portal()
            let host = try app(portal)
            defer { host.destroy() }
            let first = await host.run(MP_VERB_PROVISION, ["scope": "app", "objects": []])
            #expect(first.body["objects"]?[0]?["state"] == "created")
            #expect(first.body["objects"]?[0]?["remote_id"] == "1001298")
            let creation = host.sent.first { $0.method == "POST" }
            #expect(creation?.isIdempotent == false && creation?.step == "timeline_template")
            #expect(host.sent.allSatisfy { $0.credential == "developer_key" })
            #expect(
                (creation?.body?["tokens"]?.array ?? []).map { $0["name"] } == [
                    "slug", "destination", "campaign", "country", "device",
                ])
            let second = await host.run(MP_VERB_PROVISION, ["scope": "app", "objects": []])
            #expect(second.body["objects"]?[0]?["state"] == "existing")
            #expect(portal.state.withLock { $0.templates.count } == 1)
        }

        @Test("HCON-05: a template that HubSpot shows after 45 seconds is waited for, one that it never shows a minute")
        func delayed() async throws {
            let portal = Portal({ $0.templateDelay = 22 })
            let host = try app(portal)
            let (op, _) = host.start(MP_VERB_PROVISION, ["scope": "app", "objects": []])
            let clock = ticking(host) { host.completionCount(of: op) > 0 }
            let done = await host.completion(of: op)
            await clock.value
            host.destroy()
            #expect(done.body["objects"]?[0]?["state"] == "created")
            let never = try app(Portal({ $0.templateDelay = 1_000 }))
            defer { never.destroy() }
            let (second, _) = never.start(MP_VERB_PROVISION, ["scope": "app", "objects": []])
            let other = ticking(never) { never.completionCount(of: second) > 0 }
            let late = await never.completion(of: second)
            await other.value
            #expect(late.status == MP_RETRY && late.body["code"] == "template_pending")
        }

        /// Moves the virtual clock whenever the plugin waits for it.
        func ticking(_ host: FakeHost, until isOver: @escaping @Sendable () -> Bool) -> Task<Void, Never> {
            // Owner: the test, which waits for its end; ends with the operation.
            Task {
                while !isOver() {
                    if host.pendingTimers > 0 { host.advance(milliseconds: 2_000) }
                    await Task.yield()
                }
            }
        }

        @Test("a template of an earlier version gets the tokens that it lacks")
        func olderTemplate() async throws {
            let portal = Portal({
                $0.templates = [["id": "5", "name": "Milepost link click", "tokens": [["name": "slug"]]]]
            })
            let host = try app(portal)
            defer { host.destroy() }
            let done = await host.run(MP_VERB_PROVISION, ["scope": "app", "objects": []])
            #expect(done.body["objects"]?[0]?["state"] == "existing")
            #expect(portal.state.withLock { $0.templates[0]["tokens"]?.array?.count } == 5)
            #expect(
                await host.run(MP_VERB_DEPROVISION, ["scope": "app", "objects": []]).body["objects"]?[0]?["state"]
                    == "absent")
            #expect(portal.state.withLock { $0.templates.isEmpty })
        }

        @Test("without an app nothing is made, and the sentence says what to set")
        func noApp() async throws {
            let host = try #require(connected(Portal(), credential: "developer_key"))
            defer { host.destroy() }
            let done = await host.run(MP_VERB_PROVISION, ["scope": "app", "objects": []])
            #expect(done.body["code"] == "app_missing")
            #expect(host.sent.isEmpty)
        }
    }
}
