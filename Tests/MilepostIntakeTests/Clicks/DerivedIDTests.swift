// SPDX-License-Identifier: Apache-2.0

import MilepostIntake
import MilepostModel
import Testing

/// The vectors were computed with Python's hashlib from the form that `EventFields.writeCanonical` documents. They must
/// never change: a changed id would count clicks anew that are in the store already.
@Suite("an event without an id gets one from its content (decisions 8)")
struct DerivedIDTests {
    static let full = #"""
        {"link":"lnk/ü","ts":1764000000.123,"url":"https://example.test/a?b=c","contact_id":"42","gclid":"G1","fbclid":"F1",
         "utm":{"source":"s","medium":"m","campaign":"c é","term":"t","content":"n"},"referrer":"https://t.co/x",
         "country":"DE","device":"Desktop","user_agent":"Mozilla/5.0 \"q\"","request_url":"https://go.test/spring?eid=7",
         "method":"GET","purpose":"prefetch"}
        """#

    private func id(_ text: String, parser: ClickParser = ClickParser()) -> String? {
        parse(text, parser: parser).clicks.first?.click.id.rawValue
    }

    @Test("golden vectors")
    func golden() {
        #expect(id(#"{"link":"spring","ts":1331923247}"#) == "evt_f0116f26535f2a02d554799ba5542b80")
        #expect(id(Self.full) == "evt_831f852c77bab9f90486ebeeac141a90")
    }

    @Test(
        "order, white space, escapes, the time's notation, unknown fields and the ip change nothing",
        arguments: [
            #"{ "ts" : "2012-03-16T18:40:47Z", "link" : "spring" }"#,
            #"{"link":"\u0073pr\u0069ng","ts":1331923247000}"#,
            #"{"link":"spring","ts":1331923247,"ip":"203.0.113.7","foo":{"bar":1},"country":"","utm":{}}"#,
            #"{"link":"spring","ts":1331923247.0,"bot":true,"id":""}"#,
        ])
    func stable(text: String) {
        #expect(id(text) == "evt_f0116f26535f2a02d554799ba5542b80")
    }

    @Test("settings of the daemon change nothing")
    func settings() {
        let other = ClickParser(bots: BotFilter(extraAgents: ["mozilla"]), contactParameter: "who")
        #expect(id(Self.full, parser: other) == id(Self.full))
    }

    @Test("any other content gives another id")
    func distinct() {
        let members = [
            #""url":"x""#, #""contact_id":"x""#, #""gclid":"x""#, #""fbclid":"x""#, #""utm":{"source":"x"}"#,
            #""utm":{"medium":"x"}"#,
            #""utm":{"campaign":"x"}"#, #""utm":{"term":"x"}"#, #""utm":{"content":"x"}"#, #""referrer":"x""#,
            #""country":"x""#,
            #""device":"x""#, #""user_agent":"x""#, #""request_url":"x""#, #""method":"x""#, #""purpose":"x""#,
        ]
        let ids = Set(members.map { id(#"{"link":"l","ts":1764000000,\#($0)}"#) })
        #expect(ids.count == members.count)
        #expect(!ids.contains(nil))
    }
}
