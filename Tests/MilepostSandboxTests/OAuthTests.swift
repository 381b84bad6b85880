// SPDX-License-Identifier: Apache-2.0

import MilepostSandbox
import Testing

extension Bench {
    /// A request with a form, as token endpoints take it.
    func form(_ target: String, _ form: String) throws -> (status: Int, body: JSONValue) {
        let verdict = world.handle(
            VendorRequest(
                method: "POST", target: target, headers: [Header("content-type", "application/x-www-form-urlencoded")],
                body: Array(form.utf8)), now: now)
        guard case .answer(let answer, _) = verdict else { throw Unanswered() }
        return (answer.status, try JSONValue(parsing: answer.body))
    }

    struct Unanswered: Error {}

    /// A call of HubSpot with a bearer token.
    func hubspot(
        _ method: String, _ target: String, _ body: String = "", token: String = "sandbox-private-app-token"
    ) throws -> (status: Int, body: JSONValue, headers: [Header]) {
        let headers = [Header("authorization", "Bearer \(token)"), Header("content-type", "application/json")]
        let verdict = world.handle(
            VendorRequest(method: method, target: target, headers: headers, body: Array(body.utf8)), now: now)
        guard case .answer(let answer, _) = verdict else { throw Unanswered() }
        return (answer.status, answer.body.isEmpty ? .null : try JSONValue(parsing: answer.body), answer.headers)
    }

    func control(_ path: String, _ body: String) throws {
        let answer = try #require(try call("POST", "/_sandbox/\(path)", body))
        try #require(answer.status < 300, "\(answer.body.text)")
    }

    static let client = "client_id=sandbox-client&client_secret=sandbox-secret&redirect_uri=http%3A%2F%2Fl%2Fcb"

    /// Installs the app: a code at the page, a pair at the token endpoint.
    func install(scopes: String = "oauth%20timeline%20crm.objects.owners.read") throws -> JSONValue {
        let page = verdict(
            "GET", "/oauth/authorize?client_id=sandbox-client&redirect_uri=http%3A%2F%2Fl%2Fcb&scope=\(scopes)&state=s")
        guard case .answer(let answer, _) = page else { throw Unanswered() }
        let location = try #require(answer.headers.first { $0.name == "location" }?.value)
        let code = try #require(VendorRequest(method: "GET", target: location).queryValue("code"))
        return try form("/oauth/2026-09/token", "grant_type=authorization_code&code=\(code)&\(Self.client)").body
    }

    func refresh(_ token: String) throws -> (status: Int, body: JSONValue) {
        try form("/oauth/2026-09/token", "grant_type=refresh_token&refresh_token=\(token)&\(Self.client)")
    }

    func violations() throws -> [String] {
        let ledger = try #require(try call("GET", "/_sandbox/ledger?only=violations"))
        return (ledger.body["violations"]?.array ?? []).compactMap { $0["detail"]?.string }
    }
}

@Suite("OAuth")
struct OAuthTests {
    @Test("the proof key of RFC 7636, appendix B")
    func proofKey() {
        #expect(
            ProofKey.challenge(of: "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
                == "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM")
    }

    @Test(
        "base64 is undone, and refused when it is none",
        arguments: [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("Zm9vOmJhcg", "foo:bar")])
    func base64(text: String, expected: String) {
        #expect(ProofKey.decodeBase64(text).map { String(decoding: $0, as: UTF8.self) } == expected)
        #expect(ProofKey.decodeBase64(text + "!") == nil)
    }

    @Test("OAU-01: an access token lives as long as its answer said, to the millisecond")
    func life() throws {
        let bench = Bench()
        try bench.control("hubspot/oauth", #"{"expires_in":600}"#)
        let pair = try bench.install()
        let token = try #require(pair["access_token"]?.string)
        #expect(pair["expires_in"] == .integer(600))
        bench.wait(milliseconds: 599_999)
        #expect(try bench.hubspot("GET", "/crm/v3/owners", token: token).status == 200)
        bench.wait(milliseconds: 1)
        let refused = try bench.hubspot("GET", "/crm/v3/owners", token: token)
        #expect(refused.status == 401)
        #expect(refused.body["category"] == "EXPIRED_AUTHENTICATION")
    }

    @Test("a code that waited five minutes is worth nothing")
    func codeLife() throws {
        let bench = Bench()
        let page = bench.verdict(
            "GET", "/oauth/authorize?client_id=sandbox-client&redirect_uri=http%3A%2F%2Fl%2Fcb&scope=oauth")
        guard case .answer(let answer, _) = page else { throw Bench.Unanswered() }
        let location = try #require(answer.headers.first { $0.name == "location" }?.value)
        let code = try #require(VendorRequest(method: "GET", target: location).queryValue("code"))
        bench.wait(milliseconds: 300_000)
        let refused = try bench.form("/oauth/v3/token", "grant_type=authorization_code&code=\(code)&\(Bench.client)")
        #expect(refused.body["status"] == "BAD_AUTH_CODE")
    }

    @Test("OAU-06: after its successor was used, a replaced refresh token is a breach; before, once, a lost answer")
    func reuse() throws {
        let bench = Bench()
        try bench.control("hubspot/oauth", #"{"rotate":true}"#)
        let first = try #require(try bench.install()["refresh_token"]?.string)
        let second = try bench.refresh(first).body
        #expect(try bench.refresh(first).status == 400)
        #expect(try bench.violations() == [])
        let token = try #require(second["access_token"]?.string)
        #expect(try bench.hubspot("GET", "/crm/v3/owners", token: token).status == 200)
        #expect(try bench.refresh(first).status == 400)
        #expect(try bench.violations().count == 1)
    }

    @Test("Z-11: without rotation the refresh token stays and works again")
    func kept() throws {
        let bench = Bench()
        let token = try #require(try bench.install()["refresh_token"]?.string)
        for _ in 0..<3 { #expect(try bench.refresh(token).body["refresh_token"] == .string(token)) }
        #expect(try bench.violations() == [])
    }

    @Test(
        "OAU-03: over a random walk exactly the tokens live that a simple model says",
        arguments: [1, 2, 3, 4, 5] as [UInt64])
    func walk(seed: UInt64) throws {
        let bench = Bench()
        var random = SeededKeys(seed: seed)
        var rotates = false
        var current: [String] = []
        var replaced: [String] = []
        var access: [(token: String, expires: Instant)] = []
        try bench.control("hubspot/oauth", #"{"expires_in":60}"#)
        func take(_ pair: JSONValue) throws -> String {
            access.append((try #require(pair["access_token"]?.string), bench.now.adding(milliseconds: 60_000)))
            return try #require(pair["refresh_token"]?.string)
        }
        for _ in 0..<200 {
            switch random.next() % 7 {
            case 0: current.append(try take(try bench.install()))
            case 1, 2:
                guard !current.isEmpty else { continue }
                let place = Int(random.next() % UInt64(current.count))
                let answer = try bench.refresh(current[place])
                try #require(answer.status == 200)
                let token = try take(answer.body)
                #expect((token != current[place]) == rotates)
                if rotates { replaced.append(current[place]) }
                current[place] = token
            case 3:
                guard let dead = replaced.randomElement(by: &random) else { continue }
                #expect(try bench.refresh(dead).body["status"] == "BAD_REFRESH_TOKEN")
            case 4:
                rotates.toggle()
                try bench.control("hubspot/oauth", #"{"rotate":\#(rotates)}"#)
            case 5: bench.wait(milliseconds: Int64(random.next() % 40_000))
            default:
                guard let one = access.randomElement(by: &random) else { continue }
                let status = try bench.hubspot("GET", "/crm/v3/owners", token: one.token).status
                #expect(status == (one.expires > bench.now ? 200 : 401))
            }
        }
        #expect(!access.isEmpty)
    }

    @Test("no token, code or secret stands in the ledger")
    func masked() throws {
        let bench = Bench()
        let pair = try bench.install()
        let refresh = try #require(pair["refresh_token"]?.string)
        let access = try #require(pair["access_token"]?.string)
        _ = try bench.refresh(refresh)
        _ = try bench.hubspot("GET", "/oauth/v1/access-tokens/\(access)")
        let text = try #require(try bench.call("GET", "/_sandbox/ledger")).body.text
        for secret in [refresh, access, "sandbox-secret"] { #expect(!text.contains(secret)) }
    }
}

extension Array {
    fileprivate func randomElement(by random: inout SeededKeys) -> Element? {
        isEmpty ? nil : self[Int(random.next() % UInt64(count))]
    }
}
