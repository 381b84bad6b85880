// SPDX-License-Identifier: Apache-2.0

import MilepostEgress
import MilepostModel
import Synchronization
import Testing

@Suite("Secrets in requests and answers", .timeLimit(.minutes(10)))
struct SecretTests {
    static let token = FixedSecrets.token  // tok/9f+Marker"77: every encoding changes something in it

    @Test("each placement puts the secret where the manifest says")
    func placements() async {
        let server = LoopbackServer { _, _ in .reply() }
        defer { server.close() }
        let egress = makeEgress()
        func sent(_ use: CredentialUse, _ request: EgressRequest) async -> LoopbackServer.Request? {
            let outcome = await egress.send(request.with { $0.credentials = [use] }) {}
            #expect(outcome.wire == .answered)
            return server.requests.last
        }
        let header = await sent(credential(.header, target: "X-Api-Token", template: "v1 {secret};"), .get(server))
        #expect(header?.headers["x-api-token"] == "v1 \(Self.token);")
        let bearer = await sent(credential(.bearer), .get(server))
        #expect(bearer?.headers["authorization"] == "Bearer \(Self.token)")
        let basic = await sent(credential(.basic, template: "client:{secret}"), .get(server))
        #expect(basic?.headers["authorization"] == "Basic Y2xpZW50OnRvay85ZitNYXJrZXIiNzc=")
        let query = await sent(credential(.query, target: "api_token"), .get(server, "/deals?limit=1"))
        #expect(query?.target == "/deals?limit=1&api_token=tok%2F9f%2BMarker%2277")
        let form = await sent(
            credential(.form, target: "refresh_token"),
            EgressRequest.post(server, body: "grant_type=refresh_token").with {
                $0.headers = []
            })
        #expect(form?.body == bytes("grant_type=refresh_token&refresh_token=tok%2F9f%2BMarker%2277"))
        #expect(form?.headers["content-type"] == "application/x-www-form-urlencoded")
        await egress.shutdown()
    }

    @Test("a plugin's own header does not stand beside the credential's")
    func noDoubleHeader() async {
        let server = LoopbackServer { _, _ in .reply() }
        defer { server.close() }
        let egress = makeEgress()
        _ = await egress.send(
            EgressRequest.get(server).with {
                $0.credentials = [credential(.bearer)]
                $0.headers = [("AUTHORIZATION", "Bearer other")]
            }
        ) {}
        #expect(server.requests.last?.headers["authorization"] == "Bearer \(Self.token)")
        await egress.shutdown()
    }

    @Test(
        "a vendor that echoes the token gets it masked, however it writes it (SEC-06, SEC-08)",
        arguments: [
            "tok/9f+Marker\"77", "tok%2F9f%2BMarker%2277", "tok%2f9f%2bMarker%2277", "tok/9f%2BMarker%2277",
            "tok/9f+Marker\\\"77", "tok\\/9f\\u002bMarker\\u002277", "\\u0074ok/9f+Marker\\\"77",
            "tok/9f+Marker&quot;77", "dG9rLzlmK01hcmtlciI3Nw==", "dG9rLzlmK01hcmtlciI3Nw",
            "Y2xpZW50OnRvay85ZitNYXJrZXIiNzc=", "Onw6dG9rLzlmK01hcmtlciI3Nzo=", "746f6b2f39662b4d61726b6572223737",
            "746F6B2F39662B4D61726B6572223737",
        ])
    func echoed(_ written: String) async throws {
        let server = LoopbackServer { _, _ in
            .reply(
                status: 401, headers: [("X-Echo", "<\(written)>")], body: bytes("{\"error\":\"bad \(written) here\"}"))
        }
        defer { server.close() }
        let egress = makeEgress()
        let outcome = await egress.send(EgressRequest.get(server).with { $0.credentials = [credential(.bearer)] }) {}
        let response = try #require(outcome.response)
        let text = String(decoding: response.body, as: UTF8.self)
        #expect(response.status == 401)
        #expect(text.contains("[secret]"))
        #expect(text.hasPrefix("{\"error\":\"bad ") && text.hasSuffix(" here\"}"))
        #expect(!text.contains("arker") && !text.contains("hcmtlc") && !text.lowercased().contains("61726b6572"))
        let header = try #require(response.header("x-echo"))
        #expect(header.contains("[secret]") && !header.contains("arker"))
        await egress.shutdown()
    }

    @Test("an answer that brings secrets to the core comes whole, and its headers masked all the same")
    func answerForTheCore() async throws {
        let server = LoopbackServer { _, _ in
            .reply(
                headers: [("X-Echo", Self.token.replacing("\"", with: "%22"))],
                body: bytes("{\"refresh_token\":\"\(Self.token)\"}"))
        }
        defer { server.close() }
        let egress = makeEgress()
        let request = EgressRequest.post(server).with {
            $0.credentials = [credential(.form, target: "refresh_token")]
            $0.headers = []
            $0.isForSecrets = true
        }
        let response = try #require(await egress.send(request) {}.response)
        #expect(response.body == bytes("{\"refresh_token\":\"\(Self.token)\"}"))
        #expect(response.header("x-echo")?.contains("arker") == false)
        let masked = try #require(await egress.send(request.with { $0.isForSecrets = false }) {}.response)
        #expect(!String(decoding: masked.body, as: UTF8.self).contains("arker"))
        await egress.shutdown()
    }

    @Test("a token over chunk borders and one cut by the cap are masked")
    func borders() async throws {
        let chunked =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\nyour tok\r\n9\r\n/9f+Marke\r\n"
            + "7\r\nr\"77 ok\r\n0\r\n\r\n"
        let server = LoopbackServer { request, _ in
            request.target == "/chunked" ? .rawKeepAlive(bytes(chunked)) : .reply(body: bytes("your \(Self.token) ok"))
        }
        defer { server.close() }
        let egress = makeEgress()
        let use = credential(.bearer)
        let whole = await egress.send(EgressRequest.get(server, "/chunked").with { $0.credentials = [use] }) {}
        #expect(whole.response?.body == bytes("your [secret] ok"))
        let cut = await egress.send(
            EgressRequest.get(server).with {
                $0.credentials = [use]
                $0.responseCap = 15
            }
        ) {}
        #expect(cut.response?.truncated == true)
        #expect(cut.response?.body == bytes("your [secret]"))
        await egress.shutdown()
    }

    @Test("without a credential nothing in an answer is touched")
    func untouched() async {
        let server = LoopbackServer { _, _ in .reply(body: bytes("a % b \\ c & + \(Self.token)")) }
        defer { server.close() }
        let egress = makeEgress()
        let outcome = await egress.send(.get(server)) {}
        #expect(outcome.response?.body == bytes("a % b \\ c & + \(Self.token)"))
        await egress.shutdown()
    }

    @Test(
        "a secret that is missing, empty or has a line break stops the request before it leaves",
        arguments: [
            [:], ["api_token": ""], ["api_token": "abc\r\nX-Injected: 1"], ["api_token": "abc\n"],
        ])
    func unusable(_ values: [String: String]) async {
        let server = LoopbackServer { _, _ in .reply() }
        defer { server.close() }
        let egress = makeEgress(secrets: FixedSecrets(values: values))
        let outcome = await egress.send(EgressRequest.get(server).with { $0.credentials = [credential(.bearer)] }) {
            Issue.record("an intent was stored for a request that cannot be sent")
        }
        #expect(outcome.wire == .neverSent)
        #expect(outcome.failure?.code == .secretUnavailable)
        #expect(server.connections == 0)
        await egress.shutdown()
    }

    @Test("the log line and the error hold neither the secret nor the query (PCON-18)")
    func logs() async throws {
        let server = LoopbackServer { _, _ in .close }
        defer { server.close() }
        let lines = Mutex<[String]>([])
        let egress = makeEgress(log: { entry in lines.withLock { $0.append("\(entry)") } })
        let outcome = await egress.send(
            EgressRequest.post(server, "/deals?person=jane").with {
                $0.credentials = [credential(.query, target: "api_token")]
            }
        ) {}
        let written = try #require(lines.withLock { $0 }.first) + (try #require(outcome.failure)).message
        #expect(written.contains("/deals"))
        #expect(!written.contains("jane") && !written.contains("Marker"))
        await egress.shutdown()
    }

    @Test("placements read from and written to a manifest are equal")
    func codable() throws {
        for placement in [
            Placement(name: "header", kind: .header, target: "x-api-token"), Placement(name: "b", kind: .bearer),
            Placement(name: "q", kind: .query, target: "api_token"), Placement(name: "f", kind: .form, target: "t"),
            Placement(name: "basic", kind: .basic, template: "id:{secret}"),
        ] {
            #expect(try roundTrip(placement) == placement)
        }
    }
}

@Suite("Response limits", .timeLimit(.minutes(10)))
struct ResponseLimitTests {
    @Test("a body past the cap is cut, answered, and says so")
    func cap() async {
        let server = LoopbackServer { _, _ in .reply(body: [UInt8](repeating: 0x61, count: 1 << 20)) }
        defer { server.close() }
        let egress = makeEgress()
        for cap in [1, 1000, 1 << 20 - 1] {
            let outcome = await egress.send(EgressRequest.get(server).with { $0.responseCap = cap }) {}
            #expect(outcome.wire == .answered)
            #expect(outcome.response?.truncated == true)
            #expect(outcome.response?.body.count == cap)
        }
        let whole = await egress.send(EgressRequest.get(server).with { $0.responseCap = 1 << 20 }) {}
        #expect(whole.response?.truncated == false)
        #expect(whole.response?.body.count == 1 << 20)
        await egress.shutdown()
    }

    @Test("gzip is decoded, and a bomb is cut at its decoded size")
    func gzip() async {
        let server = LoopbackServer { request, _ in
            let body = request.target == "/bomb" ? Gzip.zeros(megabytes: 64) : Gzip.stored(bytes("hello gzip"))
            return .reply(headers: [("Content-Encoding", "gzip")], body: body)
        }
        defer { server.close() }
        let egress = makeEgress()
        let plain = await egress.send(.get(server)) {}
        #expect(plain.response?.body == bytes("hello gzip"))
        #expect(plain.response?.header("content-encoding") == nil)
        #expect(server.requests.first?.headers["accept-encoding"] == "gzip")
        let bomb = await egress.send(EgressRequest.get(server, "/bomb").with { $0.responseCap = 100_000 }) {}
        #expect(server.requests.last.map { $0.target } == "/bomb")
        #expect(bomb.wire == .answered)
        #expect(bomb.response?.truncated == true)
        #expect(bomb.response?.body.count == 100_000)
        await egress.shutdown()
    }

    @Test("too many headers, and too large ones, are given up", arguments: [(1000, 10), (100, 2000)])
    func headers(_ count: Int, _ size: Int) async {
        let server = LoopbackServer { _, _ in
            .reply(headers: (0..<count).map { ("X-\($0)", String(repeating: "v", count: size)) })
        }
        defer { server.close() }
        let egress = makeEgress()
        let outcome = await egress.send(.get(server)) {}
        #expect(outcome.failure?.code == .responseTooLarge)
        #expect(outcome.wire == .maybeSent)
        await egress.shutdown()
    }

    @Test("interim answers and trailers are not mistaken for the answer's headers")
    func interim() async {
        let text =
            "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nX-Real: yes\r\n"
            + "Transfer-Encoding: chunked\r\nTrailer: X-Late\r\n\r\n2\r\nok\r\n0\r\nX-Late: no\r\n\r\n"
        let server = LoopbackServer { _, _ in .rawKeepAlive(bytes(text)) }
        defer { server.close() }
        let egress = makeEgress()
        let outcome = await egress.send(.get(server)) {}
        #expect(outcome.response?.status == 200)
        #expect(outcome.response?.header("link") == nil)
        #expect(outcome.response?.header("x-real") == "yes")
        #expect(outcome.response?.header("x-late") == nil)
        await egress.shutdown()
    }

    @Test("HEAD, 204 and an empty POST are complete answers")
    func empty() async {
        let server = LoopbackServer { request, _ in
            request.method == "HEAD"
                ? .rawKeepAlive(bytes("HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n"))
                : .rawKeepAlive(bytes("HTTP/1.1 204 No Content\r\n\r\n"))
        }
        defer { server.close() }
        let egress = makeEgress()
        let head = await egress.send(EgressRequest.get(server).with { $0.method = "HEAD" }) {}
        #expect(head.response?.status == 200)
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
            let outcome = await egress.send(EgressRequest.get(server).with { $0.method = method }) {}
            #expect(outcome.response?.status == 204)
            #expect(server.requests.last?.method == method)
            #expect(server.requests.last?.body.isEmpty == true)
            #expect(server.requests.last?.headers["content-type"] == nil)
        }
        #expect(server.connections == 1)
        await egress.shutdown()
    }
}
