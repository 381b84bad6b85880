// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin
import HubSpot
import MilepostKit
import MilepostKitTesting
import Synchronization
import Testing

extension HostileSource {
    /// With the names of members that the vendor's answers have.
    init(seed: UInt64) { self.init(seed: seed, names: Self.vendorNames) }
    private static let vendorNames = [
        "id", "results", "errors", "properties", "category", "message", "context", "paging", "tokens", "portalId", "x",
    ]
}

extension Serialized {
    @Suite("hostile answers", .timeLimit(.minutes(2)))
    struct FuzzTests {
        /// The portal's answers, some of them spoiled.
        final class Spoiled: Sendable {
            let portal = Portal({
                $0.properties["deals"]?["milepost_recent_link_clicks"] = Portal.definition("c", type: "number")
            })
            let random: Mutex<HostileSource>
            /// Bodies that were answered with 2xx, as they went out.
            let good = Mutex<[[UInt8]]>([])
            init(seed: UInt64) { random = Mutex(HostileSource(seed: seed)) }

            func answer(_ request: SentRequest) -> FakeAnswer {
                guard case .json(let status, let answer, _) = portal.answer(request) else { return .json(500, .null) }
                let (code, bytes) = random.withLock { random in
                    let kept = [
                        200, 200, 200, 200, 201, 204, 207, 301, 400, 401, 402, 403, 404, 409, 414, 418, 423, 429, 477,
                        500,
                        503, 521, 599,
                    ]
                    let code = random.below(3) == 0 ? kept[random.below(kept.count)] : status
                    var bytes = answer.bytes
                    switch random.below(4) {
                    case 0: break
                    case 1: bytes = random.mutated(answer).bytes
                    case 2: bytes = random.damaged(bytes)
                    default: bytes = random.json().bytes
                    }
                    return (code, bytes)
                }
                if (200..<300).contains(code) { good.withLock { $0.append(bytes) } }
                return .bytes(code, bytes)
            }
        }

        static let classes: Set<String> = [
            "ok", "rejected", "retry", "rate_limited", "auth_expired", "auth_revoked", "config", "uncertain",
            "cancelled",
        ]

        func hosted(_ vendor: Spoiled, _ settings: JSONValue) -> FakeHost? {
            FakeHost(
                HubSpotPlugin.self,
                configuration: [
                    "connection": "con_1", "settings": settings, "endpoints": ["api": "https://api.hubapi.com"],
                    "credentials": [["ref": "private_app_token"]], "app": ["id": "54321"],
                ], script: { vendor.answer($0) })
        }

        static let actions: [(action: String, settings: JSONValue, payloads: [JSONValue])] = [
            (
                "timeline_event", template,
                [click("a"), click("b"), click("c", contact: ["id": "99", "email": nil, "via": "click"])]
            ),
            (
                "timeline_event", ["timeline_backend": "note"],
                [click("a"), click("b", contact: ["email": "bob@example.test", "via": "form"])]
            ),
            ("timeline_event", [:], [click("a")]),
            (
                "contact_properties", [:],
                [
                    touch("a"), touch("b", contact: ["id": "102", "via": "click"]),
                    touch("c", contact: ["email": "eve@example.test", "via": "form"]),
                ]
            ),
            ("deal_counter", ["deal_counter": true], [touch("0123456789ab")]),
            (
                "deal_stage", [:],
                [
                    [
                        "action": ["from_stage": "appointmentscheduled", "to_stage": "qualifiedtobuy"],
                        "target": ["id": "9001"],
                    ]
                ]
            ),
        ]

        @Test(
            "TL-11: no answer crashes a delivery; each record has one verdict with code and sentence",
            arguments: actions.indices)
        func deliveries(index: Int) async throws {
            let (action, settings, payloads) = Self.actions[index]
            var successes = 0
            for seed in 1...150 {
                let vendor = Spoiled(seed: UInt64(seed))
                let host = try #require(hosted(vendor, settings))
                defer { host.destroy() }
                let done = await host.run(MP_VERB_DELIVER, deliver(action, payloads))
                guard done.status == MP_OK else {
                    #expect(done.body["code"]?.string != nil && done.body["message"]?.string != nil, "seed \(seed)")
                    continue
                }
                #expect(done.body["records"]?.array?.count == payloads.count, "seed \(seed)")
                for record in done.body["records"]?.array ?? [] {
                    let name = record["class"]?.string ?? "none"
                    #expect(Self.classes.contains(name), "seed \(seed)")
                    if name == "ok" {
                        successes += 1
                    } else {
                        let error = record["error"]
                        #expect(error?["code"]?.string != nil && error?["message"]?.string != nil, "seed \(seed)")
                        #expect((error?["message"]?.string ?? "").utf8.count < 3_000, "seed \(seed)")
                    }
                }
                // Nothing is a success that no answer of 2xx or "already there" stands for.
                if vendor.good.withLock({ $0.isEmpty }) {
                    let excused = host.sent.contains { $0.method == "POST" }
                    #expect(done.classes.allSatisfy { $0 != "ok" } || excused, "seed \(seed)")
                }
            }
            #expect(successes >= 5)
        }

        @Test("no answer crashes a look-up, connecting, configuring, choosing or provisioning")
        func others() async throws {
            var connects = 0
            for seed in 1...120 {
                let host = try #require(hosted(Spoiled(seed: UInt64(seed) &* 104_729), ["deal_counter": true]))
                defer { host.destroy() }
                let connect = await host.run(MP_VERB_CONNECT, [:])
                if connect.status == MP_OK {
                    connects += 1
                    #expect(connect.body["account"]?["id"]?.string?.isEmpty == false, "seed \(seed)")
                }
                _ = await host.run(MP_VERB_CONFIGURE, ["settings": ["property_prefix": "elido", "deal_counter": true]])
                for picker in ["pipelines", "stages", "owners", "properties"] {
                    _ = await host.run(MP_VERB_OPTIONS, ["picker": .string(picker), "values": ["pipeline": "default"]])
                }
                let targets = await host.run(
                    MP_VERB_QUERY, ["query": "rule_targets", "arguments": ["contact": ["id": "101"]]])
                for target in targets.body["result"]?["targets"]?.array ?? [] {
                    #expect(target["id"]?.string?.isEmpty == false, "seed \(seed)")
                    #expect(target["amount"].map { $0.isNull || HubSpotPlugin.isDecimal($0.string ?? "") } == true)
                }
                _ = await host.run(MP_VERB_PROVISION, ["scope": "account", "objects": []])
            }
            #expect(connects > 10)
        }

        @Test("settings and payloads of any shape are refused or taken, never a crash")
        func shapes() async throws {
            var random = HostileSource(seed: 3)
            let names = [
                "timeline_backend", "timeline_template_id", "property_prefix", "property_mapping", "event_title", "api",
                "deal_counter", "counter_property", "rate_plan", "app_event_type", "contact_properties",
            ]
            for _ in 0..<200 {
                let settings = JSONValue.object(Dictionary(uniqueKeysWithValues: names.map { ($0, random.json()) }))
                let host = try #require(connected(Portal(), settings: settings))
                defer { host.destroy() }
                let done = await host.run(MP_VERB_CONFIGURE, ["settings": settings])
                #expect(done.status == MP_OK || done.status == MP_RETRY || done.status == MP_REJECTED)
                for action in ["timeline_event", "contact_properties", "deal_stage", "deal_counter"] {
                    let payload = random.mutated(action == "timeline_event" ? click("a") : touch("a"))
                    let answer = await host.run(MP_VERB_DELIVER, deliver(action, [payload]))
                    #expect(answer.classes.allSatisfy { Self.classes.contains($0) })
                }
            }
            for request in [ClickCounter(random.text().utf8.map { $0 })] { #expect(request == nil) }
        }
    }
}
