// SPDX-License-Identifier: Apache-2.0

import MilepostSandbox
import Testing

@Suite("HubSpot")
struct HubSpotTests {
    private static let search =
        #"{"filterGroups":[{"filters":[{"propertyName":"email","operator":"EQ","value":"n@x.test"}]}]}"#

    @Test("RATE-02: 110 requests in any ten seconds, and the window rolls")
    func burst() throws {
        let bench = Bench(SandboxSettings(plan: .lite))
        try bench.control("hubspot/tokens", #"{"token":"app","kind":"oauth"}"#)
        var seen: [Int] = []
        for _ in 0..<111 { seen.append(try bench.hubspot("GET", "/crm/v3/owners", token: "app").status) }
        #expect(seen == Array(repeating: 200, count: 110) + [429])
        bench.wait(milliseconds: 9999)
        #expect(try bench.hubspot("GET", "/crm/v3/owners", token: "app").status == 429)
        bench.wait(milliseconds: 1)
        let answer = try bench.hubspot("GET", "/crm/v3/owners", token: "app")
        #expect(answer.status == 200)
        #expect(answer.headers.contains(Header("x-hubspot-ratelimit-remaining", "109")))
    }

    @Test("the limit of an app is each account's own, a private app's another one")
    func burstPerAccount() throws {
        let bench = Bench(SandboxSettings(plan: .lite))
        try bench.control("hubspot/rate-limit", #"{"oauth":1}"#)
        try bench.control("hubspot/portals", #"{"hub_id":777}"#)
        try bench.control("hubspot/tokens", #"{"token":"a","kind":"oauth"}"#)
        try bench.control("hubspot/tokens", #"{"token":"b","kind":"oauth","hub_id":777}"#)
        let seen = try ["a", "a", "b", "sandbox-private-app-token"].map {
            try bench.hubspot("GET", "/crm/v3/owners", token: $0).status
        }
        #expect(seen == [200, 429, 200, 200])
    }

    @Test("five searches a second, without rate headers and beside the other limit")
    func searches() throws {
        let bench = Bench(SandboxSettings(searchLagMilliseconds: 0, plan: .lite))
        var seen: [Int] = []
        for _ in 0..<6 { seen.append(try bench.hubspot("POST", "/crm/v3/objects/contacts/search", Self.search).status) }
        #expect(seen == [200, 200, 200, 200, 200, 429])
        let other = try bench.hubspot("GET", "/crm/v3/owners")
        #expect(other.headers.contains(Header("x-hubspot-ratelimit-remaining", "99")))
        bench.wait(milliseconds: 1000)
        #expect(try bench.hubspot("POST", "/crm/v3/objects/contacts/search", Self.search).status == 200)
    }

    @Test("a private app's day ends at midnight")
    func daily() throws {
        let bench = Bench(SandboxSettings(plan: .lite))
        try bench.control("hubspot/rate-limit", #"{"daily":1}"#)
        #expect(try bench.hubspot("GET", "/crm/v3/owners").status == 200)
        #expect(try bench.hubspot("GET", "/crm/v3/owners").body["policyName"] == "DAILY")
        bench.wait(milliseconds: 86_400_000)
        #expect(try bench.hubspot("GET", "/crm/v3/owners").status == 200)
    }

    @Test("search sees a new contact, a change and a deletion one lag later; a read sees them at once")
    func lag() throws {
        let bench = Bench(SandboxSettings(searchLagMilliseconds: 5000, plan: .off))
        func total() throws -> JSONValue? {
            try bench.hubspot("POST", "/crm/v3/objects/contacts/search", Self.search).body["total"]
        }
        let made = try bench.hubspot(
            "POST", "/crm/v3/objects/contacts", #"{"properties":{"email":"n@x.test"}}"#)
        let id = try #require(made.body["id"]?.string)
        #expect(try bench.hubspot("GET", "/crm/v3/objects/contacts/n@x.test?idProperty=email").status == 200)
        bench.wait(milliseconds: 4999)
        #expect(try total() == .integer(0))
        bench.wait(milliseconds: 1)
        #expect(try total() == .integer(1))
        _ = try bench.hubspot("DELETE", "/crm/v3/objects/contacts/\(id)")
        #expect(try total() == .integer(1))
        bench.wait(milliseconds: 5000)
        #expect(try total() == .integer(0))
    }

    @Test("TL-07: the ledger tells when an event came in, in milliseconds")
    func latency() throws {
        let bench = Bench()
        try bench.control("hubspot/tokens", #"{"token":"app","kind":"oauth"}"#)
        let event =
            #"{"eventName":"pe62515_link_click","email":"a@x.test","occurredAt":"\#(bench.now.rfc3339Milliseconds)"}"#
        bench.wait(milliseconds: 1234)
        #expect(try bench.hubspot("POST", "/events/v3/send", event, token: "app").status == 204)
        let ledger = try #require(try bench.call("GET", "/_sandbox/ledger?only=hubspot&contact=37765128953")).body
        let kept = ledger["hubspot"]?["portals"]?.array?.first?["contacts"]?.array?.first?["events"]?.array
        #expect(kept?.count == 1)
        #expect(kept?.first?["latency_ms"] == .integer(1234))
        #expect(kept?.first?["received_at_ms"] == .integer(Int(bench.now.milliseconds)))
    }

    @Test("a late commit takes place when its time has come, and moves the deal once")
    func lateCommit() throws {
        let bench = Bench()
        try bench.set(#"{"kind":"late_commit","delay_ms":500,"match":{"method":"PATCH"}}"#)
        let move = #"{"properties":{"dealstage":"qualifiedtobuy"}}"#
        let headers = [
            Header("authorization", "Bearer sandbox-private-app-token"), Header("content-type", "application/json"),
        ]
        let verdict = bench.world.handle(
            VendorRequest(
                method: "PATCH", target: "/crm/v3/objects/deals/9001", headers: headers, body: Array(move.utf8)),
            now: bench.now)
        #expect(verdict == .cut)
        func stage() throws -> JSONValue? {
            try bench.hubspot("GET", "/crm/v3/objects/deals/9001").body["properties"]?["dealstage"]
        }
        #expect(try stage() == "appointmentscheduled")
        bench.wait(milliseconds: 500)
        #expect(try stage() == "qualifiedtobuy")
    }

    @Test("a world fed with the lines of another is the same, tokens, ids and events among it")
    func replay() throws {
        let first = Bench()
        try first.control("hubspot/portals", #"{"hub_id":777,"name":"Second"}"#)
        try first.control("hubspot/oauth", #"{"rotate":true}"#)
        let pair = try first.install(
            scopes: "oauth%20crm.objects.contacts.write%20crm.objects.contacts.read%20crm.objects.owners.read")
        first.wait(milliseconds: 10)
        let fresh = try first.refresh(try #require(pair["refresh_token"]?.string)).body
        let token = try #require(fresh["access_token"]?.string)
        let made = try first.hubspot(
            "POST", "/crm/v3/objects/contacts", #"{"properties":{"email":"ö@x.test"}}"#, token: token)
        _ = try first.hubspot("POST", "/crm/v3/objects/contacts", #"{"properties":{"email":"bad"}}"#, token: token)
        _ = try first.call("POST", "/api/v2/deals", #"{"title":"x"}"#)
        let second = Bench()
        second.wait(milliseconds: 5_000)
        for line in first.world.takeJournal() {
            let isTaken = second.world.restore(line, now: second.now)
            #expect(isTaken)
        }
        #expect(second.world.takeJournal().isEmpty, "the file has these lines already")
        #expect(try second.titles() == ["x"])
        let id = try #require(made.body["id"]?.string)
        #expect(
            try second.hubspot("GET", "/crm/v3/objects/contacts/\(id)", token: token).body["properties"]?["email"]
                == "ö@x.test")
        let next = try second.refresh(try #require(fresh["refresh_token"]?.string))
        #expect(next.status == 200)
        #expect(try second.refresh(try #require(pair["refresh_token"]?.string)).status == 400)
        let ledger = try #require(try second.call("GET", "/_sandbox/ledger?only=hubspot&hub=777"))
        #expect(ledger.status == 200)
    }

    @Test(
        "times with a fraction are read and written to the millisecond",
        arguments: [
            ("2025-10-24T10:00:00.123Z", "2025-10-24T10:00:00.123Z"),
            ("2025-10-24T10:00:00Z", "2025-10-24T10:00:00.000Z"),
            ("2025-10-24T12:00:00.5+02:00", "2025-10-24T10:00:00.500Z"),
            ("1969-12-31T23:59:59.999Z", "1969-12-31T23:59:59.999Z"),
        ])
    func fractions(text: String, expected: String) {
        #expect(Instant(rfc3339WithFraction: text)?.rfc3339Milliseconds == expected)
    }

    @Test(
        "times that are none are refused",
        arguments: ["2025-10-24T10:00:00.Z", "2025-10-24", "", ".5", "2025-10-24T10:00:00.1234567890Z"])
    func noTimes(text: String) {
        #expect(Instant(rfc3339WithFraction: text) == nil)
    }

    @Test("whatever comes in is answered, never a crash")
    func hostile() throws {
        let bench = Bench()
        try bench.control("hubspot/tokens", #"{"token":"app","kind":"oauth"}"#)
        let paths = [
            "/crm/v3/objects/contacts", "/crm/v3/objects/contacts/batch/upsert", "/crm/v3/objects/contacts/search",
            "/crm/v4/associations/contacts/deals/batch/read", "/integrators/timeline/v3/events/batch/create", "/crm/",
            "/integrators/timeline/2026-03/events", "/events/v3/send/batch", "/crm/v3/properties/contacts", "/oauth/",
            "/oauth/v3/token", "/oauth/v3/token/introspect", "/integrators/timeline/v3/54321/event-templates",
            "/crm/v4",
            "/crm/objects/2026-09", "/oauth/v1/access-tokens/", "/crm/v3/objects/contacts/batch/",
            "/events/custom/2026-09", "/crm/v3/objects/contacts?after=9223372036854775807",
        ]
        let bodies = [
            "", "{", "[]", "{}", "null", #"{"inputs":{}}"#, #"{"inputs":[null]}"#, #"{"inputs":[{"id":5}]}"#,
            #"{"properties":[]}"#, #"{"filterGroups":[{"filters":[]}]}"#, #"{"limit":-1}"#, #"{"after":"-5"}"#,
            #"{"after":"9223372036854775807"}"#, "grant_type=",
            String(repeating: "[", count: 5000),
        ]
        for path in paths {
            for body in bodies {
                for method in ["GET", "POST", "PATCH", "PUT", "DELETE"] {
                    let answer = bench.world.handle(
                        VendorRequest(
                            method: method, target: path,
                            headers: [
                                Header("authorization", "Bearer app"), Header("content-type", "application/json"),
                            ],
                            body: Array(body.utf8)), now: bench.now)
                    guard case .answer(let response, _) = answer else { throw Bench.Unanswered() }
                    #expect((200..<500).contains(response.status), "\(method) \(path) \(body.prefix(40))")
                }
            }
        }
    }
}
