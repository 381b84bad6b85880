// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin
import CustomHook
import MilepostKit
import MilepostKitTesting
import Testing

/// One fake host at a time drives the plugin's table.
@Suite("Custom hook", .serialized) struct Serialized {}

let crossing: JSONValue = [
    "kind": "threshold_crossing", "workspace": "shop 1", "scope": ["kind": "link", "id": "lnk.1", "name": "spring"],
    "link": ["id": "lnk.1", "slug": "spring", "folder": "Paid", "tags": ["q2", "sales"]], "threshold": 100,
    "total": ["all": 120, "people": 90], "count": "all", "crossed_at": "2026-11-01T10:00:00.000Z",
    "utm": ["source": "meta", "medium": nil, "campaign": "früh \"ß\""],
]
let click: JSONValue = [
    "kind": "click", "workspace": "shop 1", "key": "0123456789abcdef0123456789abcdef",
    "click": ["id": "evt_1", "at": "2026-11-01T10:00:01.000Z", "country": "DE"],
    "link": ["id": "lnk.1", "slug": "spring", "tags": []], "utm": ["source": "meta"],
    "contact": ["id": "77", "via": "click"],
]

func deliver(_ payloads: JSONValue..., action: String = "hook") -> JSONValue {
    [
        "action": .string(action),
        "records": .array(
            payloads.enumerated().map { index, payload in
                [
                    "index": .int(Int64(index)), "delivery_id": .string("dlv_\(index)"),
                    "idempotency_key": .string("dlv_\(index)"), "payload": payload,
                ]
            }),
    ]
}

func hooked(
    _ settings: [String: JSONValue] = [:], answering script: @escaping FakeHost.Script = { _ in .json(200, [:]) }
)
    -> FakeHost?
{
    let all = JSONValue.object(["url": "https://hooks.test/in?a=1"].merging(settings) { $1 })
    return FakeHost(
        CustomHookPlugin.self, configuration: ["connection": "con_1", "endpoints": [:], "settings": all], script: script
    )
}

extension Serialized {
    @Suite("posts what it is told", .timeLimit(.minutes(1)))
    struct CustomHookTests {
        @Test("a crossing becomes one signed, repeatable POST; the key is named and not held (EXT-03)")
        func posts() async throws {
            let host = try #require(hooked(["headers": ["X-Link": "{{data.link.slug}} of {{workspace}}"]]))
            defer { host.destroy() }
            let done = await host.run(MP_VERB_DELIVER, deliver(crossing))
            #expect(done.body["records"]?[0]?["class"] == "ok")
            let sent = try #require(host.sent.first)
            #expect(sent.method == "POST" && sent.url == "https://hooks.test/in?a=1")
            #expect(sent.credential == "signing_key" && sent.isIdempotent)
            func header(_ name: String) -> String? { sent.headers.first { $0.name == name }?.value }
            #expect(header("webhook-id") == "dlv_0" && header("content-type") == "application/json")
            #expect(header("X-Link") == "spring of shop 1")
            #expect(sent.body?["type"] == "milepost.link.threshold_crossed")
            #expect(sent.body?["timestamp"] == "2026-11-01T10:00:00.000Z")
            #expect(sent.body?["data"]?["total"]?["all"] == 120)
            #expect(sent.body?["data"]?["workspace"] == nil)
        }

        @Test("CloudEvents, structured: the required attributes, the subject and the data")
        func structured() async throws {
            let host = try #require(hooked(["format": "cloudevents"]))
            defer { host.destroy() }
            _ = await host.run(MP_VERB_DELIVER, deliver(click, action: "click_hook"))
            let body = try #require(host.sent.first?.body)
            #expect(body["specversion"] == "1.0" && body["type"] == "milepost.link.clicked")
            #expect(body["id"] == "0123456789abcdef0123456789abcdef" && body["source"] == "urn:milepost:shop%201")
            #expect(body["subject"] == "lnk.1" && body["data"]?["contact"]?["id"] == "77")
            #expect(
                host.sent.first?.headers.first { $0.name == "content-type" }?.value.hasPrefix(
                    "application/cloudevents+json") == true)
        }

        @Test("CloudEvents, binary: attributes are headers, the body is the data")
        func binary() async throws {
            let host = try #require(hooked(["format": "cloudevents_binary", "source": "https://links.test/\"x\""]))
            defer { host.destroy() }
            let refused = await host.run(MP_VERB_CONFIGURE, ["settings": ["url": "https://a.test", "source": "a b"]])
            #expect(refused.body["errors"]?[0]?["pointer"] == "/source")
            _ = await host.run(MP_VERB_DELIVER, deliver(crossing))
            let sent = try #require(host.sent.first)
            func header(_ name: String) -> String? { sent.headers.first { $0.name == name }?.value }
            #expect(header("ce-specversion") == "1.0" && header("ce-id") == "dlv_0")
            #expect(header("ce-source") == "https://links.test/%22x%22" && header("ce-subject") == "lnk.1")
            #expect(sent.body?["utm"]?["campaign"] == "früh \"ß\"")
        }

        @Test("a template keeps its shape whatever the values hold, and types where a placeholder stands alone")
        func template() async throws {
            let text =
                #"{"n":"{{data.total.all}}","say":"{{data.utm.campaign}} – {{data.missing}}!","tags":"{{data.link.tags}}","t":"{{data.link.tags.1}}"}"#
            let host = try #require(hooked(["format": "template", "body_template": .string(text)]))
            defer { host.destroy() }
            _ = await host.run(MP_VERB_DELIVER, deliver(crossing))
            #expect(
                host.sent.first?.body == ["n": 120, "say": "früh \"ß\" – !", "tags": ["q2", "sales"], "t": "sales"])
        }

        @Test(
            "HOOK-09, HOOK-02, HOOK-03: filters need no code; what they leave out says why",
            arguments: [
                (["utm_source": ["Meta"]], true), (["utm_source": ["google"]], false), (["folder": ["paid"]], true),
                (["folder": ["Blog"]], false), (["tag": ["sal*"]], true),
                (["tag": ["sales"], "link": ["other"]], false),
                (["link": ["SPRING"]], true), (["country": ["DE"]], false), (["utm_medium": ["cpc"]], false),
            ] as [([String: [String]], Bool)])
        func filters(only: [String: [String]], isSent: Bool) async throws {
            let setting = JSONValue.object(only.mapValues { .array($0.map(JSONValue.string)) })
            let host = try #require(hooked(["only": setting]))
            defer { host.destroy() }
            let record = await host.run(MP_VERB_DELIVER, deliver(crossing)).body["records"]?[0]
            #expect(host.sent.isEmpty != isSent)
            #expect(record?["class"] == (isSent ? "ok" : "rejected"))
            if !isSent {
                #expect(record?["error"]?["code"] == "filtered")
                #expect(record?["error"]?["message"]?.string?.hasPrefix("Not sent: its ") == true)
            }
        }

        @Test(
            "each answer has its class (Standard Webhooks; 410 means gone)",
            arguments: [
                (204, "ok", nil), (302, "config", "redirected"), (400, "rejected", "refused_by_receiver"),
                (401, "auth_revoked", "signature_refused"), (410, "config", "endpoint_gone"),
                (422, "rejected", "refused_by_receiver"), (429, "rate_limited", "rate_limited"),
                (500, "retry", "receiver_failed"), (503, "retry", "receiver_failed"),
            ] as [(Int, String, String?)])
        func answers(status: Int, kind: String, code: String?) async throws {
            let host = try #require(hooked { _ in .json(status, [:], headers: [("Retry-After", "7")]) })
            defer { host.destroy() }
            let record = await host.run(MP_VERB_DELIVER, deliver(crossing)).body["records"]?[0]
            #expect(record?["class"] == .string(kind))
            #expect(record?["error"]?["code"]?.string == code)
            if [429, 500, 503].contains(status) { #expect(record?["error"]?["retry_after_ms"] == 7000) }
        }

        @Test(
            "a lost answer is tried again: the receiver tells repetitions by the id",
            arguments: [HTTPFailure.Wire.neverSent, .maybeSent])
        func lostAnswer(wire: HTTPFailure.Wire) async throws {
            let host = try #require(hooked { _ in .fails(wire, "reset") })
            defer { host.destroy() }
            let record = await host.run(MP_VERB_DELIVER, deliver(crossing)).body["records"]?[0]
            #expect(record?["class"] == "retry")
        }

        @Test("an address that egress refuses names the cure")
        func refusedAddress() async throws {
            let host = try #require(hooked { _ in .fails(.neverSent, "refused_by_policy") })
            defer { host.destroy() }
            let record = await host.run(MP_VERB_DELIVER, deliver(crossing)).body["records"]?[0]
            #expect(record?["class"] == "config" && record?["error"]?["pointer"] == "/url")
            #expect(record?["error"]?["message"]?.string?.contains("plugins.custom-hook.endpoints") == true)
        }

        @Test(
            "configure names each setting that is wrong",
            arguments: [
                ("url", "ftp://a.test"), ("url", "https://user:pw@a.test/"), ("url", "https:///x"),
                ("url", "https://ä.test/"),
                ("url", 7), ("format", "xml"), ("batch", "yes"), ("batch_size", 101), ("batch_size", "5"),
                ("clicks", 1), ("vendor_events", "on"), ("only", ["colour": ["red"]]),
                ("only", ["tag": []]), ("only", "all"), ("headers", ["webhook-id": "x"]), ("headers", ["a b": "x"]),
                ("headers", ["X-A": "1\r\nX-B: 2"]), ("body_template", "{"), ("source", ""),
            ] as [(String, JSONValue)])
        func wrongSettings(name: String, value: JSONValue) async throws {
            let host = try #require(hooked())
            defer { host.destroy() }
            var settings: [String: JSONValue] = ["url": "https://hooks.test"]
            settings[name] = value
            let errors = await host.run(MP_VERB_CONFIGURE, ["settings": .object(settings)]).body["errors"]?.array ?? []
            #expect(errors.count == 1)
            #expect(errors.first?["pointer"]?.string?.hasPrefix("/\(name)") == true)
        }

        @Test(
            "an address without TLS is taken when the configuration names its origin, and else refused at once (EXT-05)",
            arguments: [
                ("http://10.0.0.5:8080/in", true), ("http://10.0.0.5:8080", true),
                ("http://10.0.0.5/in", false), ("http://bridge.test/in", true), ("http://Bridge.test:80/in", true),
                ("http://bridge.test:8080/in", false), ("http://hooks.test/in", false), ("https://hooks.test/in", true),
            ])
        func plainHTTP(address: String, isTaken: Bool) async throws {
            let configuration: JSONValue = [
                "connection": "con_1", "endpoints": ["a": "http://10.0.0.5:8080", "b": "http://bridge.test"],
                "settings": ["url": .string(address)],
            ]
            let host = try #require(
                FakeHost(CustomHookPlugin.self, configuration: configuration) { _ in .json(200, [:]) })
            defer { host.destroy() }
            for name in ["url", "intercept_url"] {
                var asked: [String: JSONValue] = ["url": "https://hooks.test"]
                asked[name] = .string(address)
                let errors = await host.run(MP_VERB_CONFIGURE, ["settings": .object(asked)]).body["errors"]?.array ?? []
                #expect(errors.isEmpty == isTaken, "\(errors)")
                guard !isTaken else { continue }
                #expect(errors.first?["pointer"]?.string == "/\(name)")
                #expect(errors.first?["code"] == "plain_http_refused")
                #expect(errors.first?["message"]?.string?.contains("plugins.custom-hook.endpoints") == true)
            }
        }

        @Test("damaged payloads are refused, and no value makes the plugin send what is not JSON")
        func hostilePayloads() async throws {
            let host = try #require(
                hooked(["format": "cloudevents_binary", "headers": ["X-A": "{{data.utm.source}}"]]))
            defer { host.destroy() }
            var seed: UInt64 = 42
            for _ in 0..<400 {
                seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                var bytes = (seed & 1 == 0 ? crossing : click).bytes
                for shift in [8, 20, 32] where !bytes.isEmpty {
                    let at = Int(truncatingIfNeeded: seed >> UInt64(shift) & 0xFFFF) % bytes.count
                    bytes[at] = UInt8(truncatingIfNeeded: seed >> 40) ^ bytes[at]
                }
                guard let payload = try? JSONValue(parsing: bytes) else { continue }
                let record = await host.run(MP_VERB_DELIVER, deliver(payload)).body["records"]?[0]
                #expect(["ok", "rejected"].contains(record?["class"]?.string))
            }
            for sent in host.sent {
                #expect(sent.body != nil)
                #expect(sent.headers.allSatisfy { $0.value.utf8.allSatisfy { $0 >= 0x20 && $0 != 0x7F } })
            }
        }
    }
}
