// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin
import CustomHook
import MilepostKit
import MilepostKitTesting
import Testing

private func question(_ event: JSONValue = crossing, ask: Int64 = 1) -> JSONValue {
    [
        "point": "deal.before", "delivery_id": "dlv_9", "idempotency_key": "dlv.9", "ask": .int(ask),
        "asked_at": "2026-11-01T12:00:00.000Z", "budget_ms": 1500, "integration": "pipedrive", "action": "deal",
        "event": event,
    ]
}

extension Serialized {
    @Suite("asks a service before a deal is made", .timeLimit(.minutes(1)))
    struct InterceptTests {
        @Test("HOOK-01, EXT-04: one signed POST with the crossing, its id the same however often it is asked")
        func asks() async throws {
            let host = try #require(
                hooked(["intercept_url": "https://judge.test/q", "headers": ["X-For": "{{data.integration}}"]]) { _ in
                    .json(200, ["decision": "continue", "reason": "fine"])
                })
            defer { host.destroy() }
            for ask in [1, 2] as [Int64] {
                let done = await host.run(MP_VERB_INTERCEPT, question(ask: ask))
                #expect(done.body == ["verdict": "continue", "reason": "fine"])
            }
            #expect(host.sent.count == 2)
            for sent in host.sent {
                #expect(sent.url == "https://judge.test/q" && sent.method == "POST" && sent.isIdempotent)
                #expect(sent.credential == "signing_key")
                #expect(sent.headers.first { $0.name == "webhook-id" }?.value == "dlv_9")
                #expect(sent.headers.first { $0.name == "X-For" }?.value == "pipedrive")
                #expect(sent.body?["type"] == "milepost.deal.before")
                #expect(sent.body?["timestamp"] == "2026-11-01T10:00:00.000Z")
                let data = try #require(sent.body?["data"])
                #expect(data["integration"] == "pipedrive" && data["workspace"] == "shop 1")
                #expect(data["event"]?["utm"]?["source"] == "meta" && data["event"]?["threshold"] == 100)
                #expect(data["deal"] == ["fields": [:]])
            }
        }

        @Test("without an address of its own the question goes where hooks go; what others changed is in it")
        func defaults() async throws {
            let host = try #require(hooked { _ in .json(200, ["decision": "continue"]) })
            defer { host.destroy() }
            var event = crossing.object ?? [:]
            event["deal"] = ["title": "Big one"]
            event["fields"] = ["Deal Source": "Paid"]
            _ = await host.run(MP_VERB_INTERCEPT, question(.object(event)))
            #expect(host.sent.first?.url == "https://hooks.test/in?a=1")
            let data = host.sent.first?.body?["data"]
            #expect(data?["deal"] == ["title": "Big one", "fields": ["Deal Source": "Paid"]])
            #expect(data?["event"]?["fields"] == nil)
        }

        @Test(
            "HOOK-02, HOOK-04: every decision becomes the daemon's verdict",
            arguments: [
                (["decision": "drop", "reason": "organic"], ["verdict": "drop", "reason": "organic"]),
                (
                    ["decision": "hold", "until": "2026-11-02T08:00:00Z"],
                    ["verdict": "hold", "until": "2026-11-02T08:00:00Z"]
                ),
                (
                    ["decision": "change", "deal": ["title": "T", "fields": ["Lead Channel": "Ads"]], "more": 1],
                    ["verdict": "modify", "deal": ["title": "T", "fields": ["Lead Channel": "Ads"]]]
                ),
            ] as [(JSONValue, JSONValue)])
        func decisions(answer: JSONValue, verdict: JSONValue) async throws {
            let host = try #require(hooked { _ in .json(200, answer) })
            defer { host.destroy() }
            #expect(await host.run(MP_VERB_INTERCEPT, question()).body == verdict)
        }

        @Test(
            "HOOK-06: an answer that decides nothing says what is wrong with it",
            arguments: [
                ([:], "no decision"), ([], "no JSON object"), (["decision": "yes"], "decision is \"yes\""),
                (["decision": true], "decision is true"), (["verdict": "continue"], "no decision"),
                (["decision": "change"], "no deal"), (["decision": "drop", "reason": 7], "reason is no text"),
                (["decision": "continue", "deal": ["title": "x"]], "\"change\" changes one"),
                (["decision": "change", "deal": "x"], "deal is no object"),
            ] as [(JSONValue, String)])
        func rubbish(answer: JSONValue, problem: String) async throws {
            let host = try #require(hooked { _ in .json(200, answer) })
            defer { host.destroy() }
            let done = await host.run(MP_VERB_INTERCEPT, question())
            #expect(done.status == MP_REJECTED)
            #expect(done.body["code"] == "hook_answer_invalid")
            #expect(done.body["message"]?.string?.contains(problem) == true, "\(done.body)")
        }

        @Test(
            "HOOK-06: statuses and lost answers are failures, never decisions",
            arguments: [204, 302, 400, 401, 410, 429, 500, 503])
        func failures(status: Int) async throws {
            let host = try #require(hooked { _ in .json(status, ["decision": "drop"]) })
            defer { host.destroy() }
            let done = await host.run(MP_VERB_INTERCEPT, question())
            if status == 204 {
                #expect(done.status == MP_OK)  // a body is a body, whatever status of success it came with
            } else {
                #expect(done.status != MP_OK)
                #expect(done.body["message"]?.string?.contains("\(status)") == true)
            }
        }

        @Test(
            "a service that does not answer is tried again by the daemon",
            arguments: [HTTPFailure.Wire.neverSent, .maybeSent])
        func silence(wire: HTTPFailure.Wire) async throws {
            let host = try #require(hooked { _ in .fails(wire, "timeout") })
            defer { host.destroy() }
            #expect(await host.run(MP_VERB_INTERCEPT, question()).status == MP_RETRY)
        }

        @Test(
            "settings of judging that are wrong are named",
            arguments: [
                ("intercept_url", "ftp://a.test"), ("intercept_url", 7), ("crossings", "no"),
            ] as [(String, JSONValue)])
        func wrongSettings(name: String, value: JSONValue) async throws {
            let host = try #require(hooked())
            defer { host.destroy() }
            let settings = JSONValue.object(["url": "https://hooks.test", name: value])
            let errors = await host.run(MP_VERB_CONFIGURE, ["settings": settings]).body["errors"]?.array ?? []
            #expect(errors.map { $0["pointer"] } == [.string("/\(name)")])
        }

        @Test("damaged questions and answers end in a verdict or a reason, and never in a crash")
        func hostile() async throws {
            var seed: UInt64 = 7
            let good = JSONValue.object(
                ["decision": "change", "reason": "r", "deal": ["title": "T", "fields": ["a": 1]]]).bytes
            for _ in 0..<300 {
                var answer = good
                var asked = question().bytes
                for shift in [8, 20, 32] {
                    seed = seed &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                    answer[Int(truncatingIfNeeded: seed >> UInt64(shift) & 0xFFFF) % answer.count] =
                        UInt8(truncatingIfNeeded: seed >> 40)
                    asked[Int(truncatingIfNeeded: seed >> 16 & 0xFFFF) % asked.count] ^= UInt8(
                        truncatingIfNeeded: seed >> 48 & 3)
                }
                guard let request = try? JSONValue(parsing: asked) else { continue }
                let body = (try? JSONValue(parsing: answer)) ?? .string("no JSON")
                let host = try #require(hooked { _ in .json(200, body) })
                defer { host.destroy() }
                let done = await host.run(MP_VERB_INTERCEPT, request)
                #expect(done.status == MP_OK ? done.body["verdict"]?.string != nil : done.body["code"]?.string != nil)
            }
        }
    }
}
