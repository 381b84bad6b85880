// SPDX-License-Identifier: Apache-2.0

import MilepostSandbox
import Testing

/// The generic vendor driven by hand.
private final class Vendor {
    var world: SandboxWorld
    var now = Instant(milliseconds: 1_793_631_845_000)

    init(plan: PipedrivePlan = .off) { world = SandboxWorld(settings: SandboxSettings(plan: plan), now: now) }

    struct Answer {
        let status: Int
        let body: JSONValue
        let headers: [Header]
        func header(_ name: String) -> String? { headers.first { $0.name == name }?.value }
        var items: [JSONValue] { body["items"]?.array ?? [] }
        var code: String? { body["error"]?["code"]?.string }
    }

    func call(
        _ method: String, _ target: String, _ body: String = "", key: String? = nil, type: String = "application/json",
        token: String = "sandbox-generic-token"
    ) throws -> Answer {
        var headers = [Header("Authorization", "Bearer \(token)"), Header("Content-Type", type)]
        if let key { headers.append(Header("Idempotency-Key", key)) }
        let request = VendorRequest(method: method, target: target, headers: headers, body: Array(body.utf8))
        guard case .answer(let answer, _) = world.handle(request, now: now) else {
            return Answer(status: 0, body: .null, headers: [])
        }
        return Answer(status: answer.status, body: try JSONValue(parsing: answer.body), headers: answer.headers)
    }

    func wait(_ milliseconds: Int64) { now = now.adding(milliseconds: milliseconds) }

    func ledger() throws -> JSONValue {
        try #require(try call("GET", "/_sandbox/ledger?only=generic,violations").body["generic"])
    }

    func records() throws -> [JSONValue] { try ledger()["collections"]?["records"]?.array ?? [] }
}

@Suite("The generic vendor")
struct GenericTests {
    private let records = "/generic/v1/records"

    @Test("a record is made, read, changed, and found by its key once the lag has passed")
    func life() throws {
        let vendor = Vendor()
        #expect(try vendor.call("GET", "/generic/v1/me").body["name"] == "Example account")
        #expect(try vendor.call("GET", "/generic/v1/lists").items.map { $0["name"] } == ["Leads", "Partners"])
        let made = try vendor.call("POST", records, #"{"key":"d1","title":"T","old":1}"#)
        #expect(made.status == 201)
        let id = try #require(made.body["id"]?.integer)
        #expect(try vendor.call("GET", "\(records)?key=d1").items.isEmpty)
        #expect(try vendor.call("GET", "\(records)/\(id)").body["title"] == "T")
        vendor.wait(500)
        #expect(try vendor.call("GET", "\(records)?key=d1").items.count == 1)
        #expect(try vendor.call("GET", "\(records)?key=d2").items.isEmpty)
        let changed = try vendor.call("PATCH", "\(records)/\(id)", #"{"title":"U","old":null}"#)
        #expect(changed.body["title"] == "U")
        #expect(changed.body["old"] == nil)
        #expect(changed.body["key"] == "d1")
        #expect(try vendor.records().first?["changes"] == .integer(1))
    }

    @Test("the same idempotency key has the same answer, and makes one record; with another body it is refused")
    func idempotency() throws {
        let vendor = Vendor()
        let first = try vendor.call("POST", records, #"{"a":1}"#, key: "k")
        let second = try vendor.call("POST", records, #"{"a":1}"#, key: "k")
        #expect(second.status == 201)
        #expect(second.body == first.body)
        #expect(second.header("idempotency-replayed") == "true")
        let other = try vendor.call("POST", records, #"{"a":2}"#, key: "k")
        #expect(other.status == 422)
        #expect(other.code == "idempotency_key_reused")
        #expect(try vendor.records().count == 1)
        #expect(try vendor.ledger()["replayed"] == .integer(1))
        _ = try vendor.call("POST", "/_sandbox/generic", #"{"idempotency_keys":false}"#)
        _ = try vendor.call("POST", records, #"{"a":1}"#, key: "k")
        #expect(try vendor.records().count == 2)
    }

    @Test("a lost answer under an idempotency key is had by asking again")
    func lostAnswer() throws {
        let vendor = Vendor()
        _ = try vendor.call(
            "POST", "/_sandbox/faults", #"{"match":{"path":"/generic/v1/*"},"kind":"drop_after_commit"}"#)
        #expect(try vendor.call("POST", records, #"{"a":1}"#, key: "k").status == 0)
        #expect(try vendor.call("POST", records, #"{"a":1}"#, key: "k").status == 201)
        #expect(try vendor.records().count == 1)
    }

    @Test("pages hold every record once, also when some are made in between")
    func paging() throws {
        let vendor = Vendor()
        for number in 1...5 { _ = try vendor.call("POST", records, #"{"n":\#(number)}"#) }
        vendor.wait(500)
        var seen: [Int] = []
        var target = "\(records)?limit=2"
        for _ in 1...10 {
            let page = try vendor.call("GET", target)
            seen += page.items.compactMap { $0["n"]?.integer }
            _ = try vendor.call("POST", records, #"{"n":0}"#)
            guard let next = page.body["next"]?.string else { break }
            target = "\(records)?limit=2&cursor=\(next)"
        }
        #expect(seen == [1, 2, 3, 4, 5])
        #expect(try vendor.call("GET", "\(records)?limit=0").status == 400)
        #expect(try vendor.call("GET", "\(records)?cursor=x").status == 400)
    }

    @Test("past the limit comes 429 with Retry-After, and nothing is made")
    func limit() throws {
        let vendor = Vendor(plan: .premium)
        _ = try vendor.call("POST", "/_sandbox/generic", #"{"limit":2,"period_ms":60000}"#)
        _ = try vendor.call("POST", records, "{}")
        _ = try vendor.call("POST", records, "{}")
        let refused = try vendor.call("POST", records, "{}")
        #expect(refused.status == 429)
        let wait = try #require(refused.header("retry-after").flatMap { Int64($0) })
        #expect((1...60).contains(wait))
        vendor.wait(wait * 1000)
        #expect(try vendor.call("POST", records, "{}").status == 201)
        #expect(try vendor.records().count == 3)
        #expect(try vendor.ledger()["rate_limited"] == .integer(1))
    }

    @Test(
        "what does not fit is refused and stands among the violations",
        arguments: [
            ("POST", "/generic/v1/records", "{", "application/json", 400),
            ("POST", "/generic/v1/records", "[]", "application/json", 422),
            ("POST", "/generic/v1/records", #"{"id":1}"#, "application/json", 422),
            ("POST", "/generic/v1/records", "a=b", "application/x-www-form-urlencoded", 415),
        ])
    func refusals(method: String, target: String, body: String, type: String, status: Int) throws {
        let vendor = Vendor()
        #expect(try vendor.call(method, target, body, type: type).status == status)
        #expect(try vendor.records().isEmpty)
        #expect(try vendor.call("GET", "/_sandbox/ledger?only=violations").body["violations"]?.array?.count == 1)
    }

    @Test("a bad token, an unknown record and an unknown path are told apart")
    func strangers() throws {
        let vendor = Vendor()
        #expect(try vendor.call("GET", records, token: "x").status == 401)
        #expect(try vendor.call("GET", "\(records)/7").status == 404)
        #expect(try vendor.call("GET", "/generic/v2/records").status == 404)
        #expect(try vendor.call("GET", "/generic/v1/Records").status == 404)
        #expect(try vendor.call("DELETE", "\(records)/7").status == 405)
        _ = try vendor.call("POST", "/_sandbox/generic", #"{"revoked":true}"#)
        #expect(try vendor.call("GET", records).status == 401)
        #expect(try vendor.call("POST", "/_sandbox/generic", #"{"limt":1}"#).status == 400)
    }

    @Test("unique keys are kept where the vendor is told to")
    func uniqueKeys() throws {
        let vendor = Vendor()
        _ = try vendor.call("POST", records, #"{"key":"d"}"#)
        #expect(try vendor.call("POST", records, #"{"key":"d"}"#).status == 201)
        _ = try vendor.call("POST", "/_sandbox/generic", #"{"unique_keys":true}"#)
        #expect(try vendor.call("POST", records, #"{"key":"d"}"#).code == "key_taken")
    }

    @Test("records and manners come back from the ledger file, and reset takes the records away")
    func restart() throws {
        let vendor = Vendor(plan: .premium)
        _ = try vendor.call("POST", "/_sandbox/generic", #"{"unique_keys":true}"#)
        _ = try vendor.call("POST", records, #"{"key":"d"}"#, key: "k")
        let lines = vendor.world.takeJournal()
        let second = Vendor(plan: .premium)
        second.now = vendor.now.adding(milliseconds: 1000)
        for line in lines {
            let isTaken = second.world.restore(line, now: second.now)
            #expect(isTaken)
        }
        #expect(try second.records() == vendor.records())
        #expect(try second.call("POST", records, #"{"key":"d"}"#, key: "k").header("idempotency-replayed") == "true")
        #expect(try second.call("POST", records, #"{"key":"d"}"#).code == "key_taken")
        _ = try second.call("POST", "/_sandbox/reset", #"{"what":"objects"}"#)
        #expect(try second.records().isEmpty)
        #expect(try second.call("GET", "/_sandbox/generic").body["unique_keys"] == .bool(true))
    }
}
