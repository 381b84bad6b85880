// SPDX-License-Identifier: Apache-2.0

import MilepostSandbox
import Testing

/// A world driven by hand: no socket, and time moves only when a test says so.
final class Bench {
    var world: SandboxWorld
    var now = Instant(milliseconds: 1_793_631_845_000)

    init(_ settings: SandboxSettings = SandboxSettings(plan: .off)) {
        world = SandboxWorld(settings: settings, now: now)
    }

    func wait(milliseconds: Int64) { now = now.adding(milliseconds: milliseconds) }

    func verdict(
        _ method: String, _ target: String, _ body: String = "", token: String = "sandbox-token"
    ) -> SandboxWorld.Verdict {
        let headers = [Header("X-Api-Token", token), Header("Content-Type", "application/json")]
        return world.handle(
            VendorRequest(method: method, target: target, headers: headers, body: Array(body.utf8)), now: now)
    }

    /// The answer and its status; nil when the connection is cut.
    func call(
        _ method: String, _ target: String, _ body: String = "", token: String = "sandbox-token"
    ) throws -> (status: Int, body: JSONValue, headers: [Header])? {
        guard case .answer(let answer, _) = verdict(method, target, body, token: token) else { return nil }
        return (answer.status, try JSONValue(parsing: answer.body), answer.headers)
    }

    func titles() throws -> [String] {
        let ledger = try #require(try call("GET", "/_sandbox/ledger?only=deals"))
        return (ledger.body["deals"]?.array ?? []).compactMap { $0["title"]?.string }
    }

    func set(_ fault: String) throws {
        let answer = try #require(try call("POST", "/_sandbox/faults", fault))
        try #require(answer.status == 201)
    }
}

@Suite("Faults")
struct FaultTests {
    @Test(
        "a cut connection says nothing about the commit",
        arguments: [("drop_before_commit", []), ("drop_after_commit", ["x"])] as [(String, [String])])
    func drop(kind: String, titles: [String]) throws {
        let bench = Bench()
        try bench.set(#"{"kind":"\#(kind)","match":{"method":"POST"}}"#)
        #expect(bench.verdict("POST", "/api/v2/deals", #"{"title":"x"}"#) == .cut)
        #expect(try bench.titles() == titles)
    }

    @Test("a late commit is done when its time has come, and not before")
    func lateCommit() throws {
        let bench = Bench()
        try bench.set(#"{"kind":"late_commit","delay_ms":500}"#)
        #expect(bench.verdict("POST", "/api/v2/deals", #"{"title":"x"}"#) == .cut)
        bench.wait(milliseconds: 499)
        #expect(try bench.titles() == [])
        bench.wait(milliseconds: 1)
        #expect(try bench.titles() == ["x"])
        bench.wait(milliseconds: 5000)
        #expect(try bench.titles() == ["x"], "once")
    }

    @Test("after and times count matching requests only")
    func counting() throws {
        let bench = Bench()
        try bench.set(#"{"kind":"status","status":500,"after":1,"times":2,"match":{"path":"/api/v2/deals*"}}"#)
        var seen: [Int] = []
        for target in ["/api/v2/deals", "/v1/users/me", "/api/v2/deals/9", "/api/v2/deals", "/api/v2/deals"] {
            seen.append(try #require(try bench.call("GET", target)).status)
        }
        #expect(seen == [200, 200, 500, 500, 200])
    }

    @Test(
        "a fault with a typing error is refused",
        arguments: [
            #"{"kind":"stat"}"#, #"{"kind":"status","time":1}"#, #"{"kind":"status","match":{"pth":"/"}}"#, "[1]", "{",
            #"{"kind":"status","status":999}"#, #"{"kind":"delay","delay_ms":-1}"#,
        ])
    func typingError(body: String) throws {
        let bench = Bench()
        #expect(try bench.call("POST", "/_sandbox/faults", body)?.status == 400)
    }
}

@Suite("Limits")
struct PipedriveLimitsTests {
    @Test("the window rolls: a request that has left it makes room for another")
    func rolling() throws {
        let bench = Bench(SandboxSettings(plan: .lite))
        var seen: [Int] = []
        for _ in 0..<21 { seen.append(try #require(try bench.call("GET", "/v1/users/me")).status) }
        #expect(seen == Array(repeating: 200, count: 20) + [429])
        bench.wait(milliseconds: 1999)
        #expect(try bench.call("GET", "/v1/users/me")?.status == 429)
        bench.wait(milliseconds: 1)
        #expect(try bench.call("GET", "/v1/users/me")?.status == 200)
    }

    @Test("search has ten requests per window on the largest plan too")
    func search() throws {
        let bench = Bench(SandboxSettings(plan: .ultimate))
        var seen: [Int] = []
        for _ in 0..<11 { seen.append(try #require(try bench.call("GET", "/api/v2/itemSearch?term=abc")).status) }
        #expect(seen == Array(repeating: 200, count: 10) + [429])
        #expect(try bench.call("GET", "/v1/users/me")?.status == 200)
    }

    @Test("an empty budget stays empty until midnight in UTC")
    func budget() throws {
        let bench = Bench(SandboxSettings(plan: .off, dailyBudget: 6))
        #expect(try bench.call("POST", "/api/v2/deals", #"{"title":"x"}"#)?.status == 200)
        let refused = try #require(try bench.call("POST", "/api/v2/deals", #"{"title":"y"}"#))
        #expect(refused.status == 429)
        #expect(refused.headers.contains(Header("x-daily-requests-left", "0")))
        bench.wait(milliseconds: 86_400_000)
        #expect(try bench.call("POST", "/api/v2/deals", #"{"title":"z"}"#)?.status == 200)
        #expect(try bench.titles() == ["x", "z"])
    }
}

@Suite("Search")
struct SearchTests {
    @Test("search sees a commit, a change and a deletion one lag later")
    func lag() throws {
        let bench = Bench(SandboxSettings(searchLagMilliseconds: 5000, plan: .off))
        func hits(_ bench: Bench) throws -> Int? {
            try bench.call("GET", "/api/v2/deals/search?term=spring")?.body["data"]?["items"]?.array?.count
        }
        _ = try bench.call("POST", "/api/v2/deals", #"{"title":"Link spring"}"#)
        bench.wait(milliseconds: 4999)
        #expect(try hits(bench) == 0)
        bench.wait(milliseconds: 1)
        #expect(try hits(bench) == 1)
        _ = try bench.call("DELETE", "/api/v2/deals/501")
        #expect(try hits(bench) == 1)
        bench.wait(milliseconds: 5000)
        #expect(try hits(bench) == 0)
    }
}

@Suite("Ledger")
struct LedgerTests {
    @Test("no credential stands in the ledger, wherever it was sent")
    func masked() throws {
        let bench = Bench(SandboxSettings(token: "s3cret", plan: .off))
        _ = try bench.call("GET", "/v1/users/me?api_token=s3cret", token: "s3cret")
        let ledger = try #require(try bench.call("GET", "/_sandbox/ledger")).body
        #expect(!ledger.text.contains("s3cret"))
        #expect(ledger["requests"]?.array?.first?["token_ok"] == .bool(true))
    }

    @Test("a world fed with the lines of another has its objects, and goes on counting")
    func restore() throws {
        let first = Bench()
        _ = try first.call("POST", "/api/v2/deals", #"{"title":"x"}"#)
        _ = try first.call("POST", "/v1/notes", #"{"content":"n","deal_id":501}"#)
        let second = Bench()
        for line in first.world.takeJournal() {
            let isTaken = second.world.restore(line, now: second.now)
            #expect(isTaken)
        }
        #expect(try second.call("POST", "/api/v2/deals", #"{"title":"y"}"#)?.body["data"]?["id"] == .integer(502))
        #expect(try second.titles() == ["x", "y"])
        let isForeignTaken = second.world.restore(.object([("vendor", "other")]), now: second.now)
        #expect(!isForeignTaken)
    }

    @Test("a revoked token is refused, and taken back again")
    func revoke() throws {
        let bench = Bench()
        _ = try bench.call("POST", "/_sandbox/revoke", #"{"token":"sandbox-token"}"#)
        #expect(try bench.call("GET", "/v1/users/me")?.status == 401)
        _ = try bench.call("POST", "/_sandbox/restore", #"{"token":"sandbox-token"}"#)
        #expect(try bench.call("GET", "/v1/users/me")?.status == 200)
    }
}

@Suite("Deals that were put away")
struct PutAwayTests {
    @Test("archived deals have a list of their own, deleted ones a status", arguments: ["/api/v2", "/v1"])
    func lists(base: String) throws {
        let bench = Bench()
        for title in ["kept", "archived", "deleted"] {
            _ = try bench.call("POST", "/api/v2/deals", #"{"title":"\#(title)"}"#)
        }
        let ids = try #require(try bench.call("GET", "/api/v2/deals")?.body["data"]?.array).compactMap {
            $0["id"]?.integer
        }
        let archived = try bench.call("PATCH", "/api/v2/deals/\(ids[1])", #"{"is_archived":true}"#)
        #expect(archived?.body["data"]?["archive_time"]?.string != nil)
        _ = try bench.call("DELETE", "/api/v2/deals/\(ids[2])")
        func titles(_ path: String) throws -> [String] {
            try bench.call("GET", base + path)?.body["data"]?.array?.compactMap { $0["title"]?.string } ?? []
        }
        #expect(try titles("/deals") == ["kept"])
        #expect(try titles("/deals/archived") == ["archived"])
        #expect(try titles("/deals?status=deleted") == ["deleted"])
    }
}
