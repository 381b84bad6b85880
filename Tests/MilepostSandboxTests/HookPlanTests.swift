// SPDX-License-Identifier: Apache-2.0

import MilepostSandbox
import Testing

@Suite("Planned answers of the receiver of webhooks")
struct HookPlanTests {
    @Test("the first answer that fits is given, as often as planned, and after its delay")
    func plan() throws {
        let bench = Bench()
        let set = try #require(
            try bench.call(
                "POST", "/_sandbox/hooks",
                #"""
                [{"path":"/hooks/judge","contains":"organic","body":{"decision":"drop"}},
                 {"path":"/hooks/*","times":1,"status":503,"delay_ms":40,"text":"busy"}]
                """#))
        #expect(set.status == 200 && set.body.array?.count == 2)
        let dropped = try #require(try bench.call("POST", "/hooks/judge", #"{"source":"organic"}"#))
        #expect(dropped.body["decision"] == "drop")
        guard case .answer(let busy, let delay) = bench.verdict("POST", "/hooks/judge", "{}") else {
            Issue.record("no answer")
            return
        }
        #expect(busy.status == 503 && busy.body == Array("busy".utf8) && delay == 40)
        #expect(try bench.call("POST", "/hooks/judge", "{}")?.body["received"] == .bool(true))
        _ = try bench.call("DELETE", "/_sandbox/hooks")
        #expect(try bench.call("POST", "/hooks/judge", #"{"source":"organic"}"#)?.body["decision"] == nil)
    }

    @Test(
        "a plan that is none is refused and changes nothing",
        arguments: [
            #"{"path":"/other"}"#, #"{"path":"/hooks/a","status":99}"#, #"{"path":"/hooks/a","delay_ms":-1}"#,
            #"{"path":"/hooks/a","colour":1}"#, "[1]",
        ])
    func refused(body: String) throws {
        let bench = Bench()
        #expect(try bench.call("POST", "/_sandbox/hooks", body)?.status == 400)
        #expect(try bench.call("GET", "/_sandbox/hooks")?.body == .array([]))
    }
}
