// SPDX-License-Identifier: Apache-2.0

import MilepostEgress
import MilepostModel
import Testing

@Suite("Egress policy", .timeLimit(.minutes(10)))
struct PolicyTests {
    static let pipedrive = EgressPolicy(rules: [
        .init(hosts: ["api.pipedrive.com", "*.pipedrive.com"], methods: ["GET", "POST"])
    ])

    private func refusal(
        _ url: String, method: String = "GET", policy: EgressPolicy = Self.pipedrive,
        addresses: [String] = ["127.0.0.1"]
    ) async -> EgressFailure? {
        let egress = makeEgress(resolver: ScriptedResolver([addresses]))
        let request = EgressRequest(
            method: method, url: url, isIdempotent: true, timeout: .seconds(2), policy: policy)
        let outcome = await egress.send(request) { Issue.record("\(url) reached the point of sending") }
        #expect(outcome.wire == .neverSent)
        await egress.shutdown()
        return outcome.failure
    }

    @Test(
        "hosts, ports, methods and schemes that the manifest does not list are refused (EXT-05, PRV-03)",
        arguments: [
            ("https://evil.com/", "GET"), ("https://evilpipedrive.com/", "GET"), ("https://pipedrive.com/", "GET"),
            ("https://api.pipedrive.com.evil.com/", "GET"), ("https://api.pipedrive.com:8443/", "GET"),
            ("https://api.pipedrive.com/", "DELETE"), ("http://api.pipedrive.com/", "GET"),
            ("https://8.8.8.8/", "GET"), ("https://api.pipedrive.com./", "GET"),
        ])
    func allowList(_ url: String, _ method: String) async {
        #expect(await refusal(url, method: method)?.code == .refusedByPolicy)
    }

    @Test(
        "URLs that two parsers could read differently are refused",
        arguments: [
            "https://user:pass@api.pipedrive.com/", "https://evil.com\\@api.pipedrive.com/",
            "https://api.pipedrive.com @evil.com/",
            "ftp://api.pipedrive.com/", "file:///etc/passwd", "//api.pipedrive.com/", "https:///x", "",
            "https://api.pipedrive.com/\r\nX: y", "https://api.pipedrive.com/ä", "https://[fe80::1%25eth0]/",
            "https://api.pipedrive.com:99999/", "https://\(String(repeating: "a", count: 20_000)).pipedrive.com/",
        ])
    func malformed(_ url: String) async {
        let code = await refusal(url)?.code
        #expect(code == .requestInvalid || code == .refusedByPolicy)
    }

    @Test(
        "names that resolve to private addresses are refused before anything is sent (EXT-05)",
        arguments: [
            "127.0.0.1", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1", "169.254.169.254", "100.64.0.1",
            "0.0.0.0", "224.0.0.1", "255.255.255.255", "192.0.0.192", "198.18.0.1", "168.63.129.16", "::1", "::",
            "fe80::1", "fc00::1", "fd00:ec2::254", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1",
            "64:ff9b:1::1", "2002:7f00:1::", "2001::1", "ff02::1", "::7f00:1", "2001:db8::1", "4000::1", "fec0::1",
        ])
    func privateAddresses(_ address: String) async {
        #expect(await refusal("https://api.pipedrive.com/", addresses: [address])?.code == .refusedByPolicy)
    }

    @Test(
        "public addresses are not refused",
        arguments: [
            "8.8.8.8", "1.1.1.1", "172.15.255.255", "172.32.0.0", "100.63.255.255", "100.128.0.0", "169.253.0.1",
            "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8", "2a00:1450::1",
        ])
    func publicAddresses(_ address: String) throws {
        #expect(try #require(IPAddress(address)).forbiddance == nil)
    }

    @Test(
        "literal private addresses are refused however they are written",
        arguments: [
            "https://127.0.0.1/", "https://2130706433/", "https://0x7f.1/", "https://0177.0.0.1/", "https://127.1/",
            "https://[::1]/", "https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/", "https://%31%32%37.0.0.1/",
        ])
    func literals(_ url: String) async {
        let policy = EgressPolicy(rules: [.init(hosts: ["*"], methods: ["GET"])])
        #expect(await refusal(url, policy: policy)?.code == .refusedByPolicy)
    }

    @Test("only the overridden origin may be plain and private, not its neighbours")
    func overrideIsExact() async {
        let server = LoopbackServer { _, _ in .reply() }
        let other = LoopbackServer { _, _ in .reply() }
        defer {
            server.close()
            other.close()
        }
        let egress = makeEgress()
        let allowed = await egress.send(.get(server)) {}
        #expect(allowed.wire == .answered)
        let refused = await egress.send(EgressRequest.get(server).with { $0.url = other.url }) {}
        #expect(refused.failure?.code == .refusedByPolicy)
        #expect(other.connections == 0)
        await egress.shutdown()
    }

    @Test("a name is judged at every request and connected to as judged, not as somebody resolves it later (rebinding)")
    func rebinding() async {
        let server = LoopbackServer { _, _ in .reply() }
        defer { server.close() }
        // Nobody but the test's resolver knows the name, so an answer proves that its address was pinned.
        let url = "http://rebind.example.com:\(server.port)/"
        let resolver = ScriptedResolver([["127.0.0.1"], ["10.0.0.1"]])
        let egress = makeEgress(resolver: resolver)
        let pinned = await egress.send(
            EgressRequest(method: "GET", url: url, isIdempotent: true, policy: .overriding(url))
        ) {}
        #expect(pinned.wire == .answered)
        let strict = EgressPolicy(rules: [.init(hosts: ["rebind.example.com"], ports: [server.port], methods: ["GET"])])
        let again = await egress.send(
            EgressRequest(
                method: "GET", url: "https://rebind.example.com:\(server.port)/", isIdempotent: true, policy: strict)
        ) {}
        #expect(again.wire == .neverSent)
        #expect(again.failure?.code == .refusedByPolicy)
        #expect(resolver.count == 2)
        #expect(server.connections == 1)
        await egress.shutdown()
    }

    @Test(
        "headers that steer the connection or smuggle another are refused",
        arguments: [
            ("Host", "evil.com"), ("Content-Length", "0"), ("Transfer-Encoding", "chunked"), ("X-A", "b\r\nX-C: d"),
            ("X A", "b"), ("X:A", "b"), ("", "b"), ("X-Nul", "a\0b"), ("Connection", "close"),
        ])
    func headers(_ name: String, _ value: String) async {
        let server = LoopbackServer { _, _ in .reply() }
        defer { server.close() }
        let egress = makeEgress()
        let outcome = await egress.send(EgressRequest.get(server).with { $0.headers = [(name, value)] }) {}
        #expect(outcome.failure?.code == .requestInvalid)
        #expect(server.connections == 0)
        await egress.shutdown()
    }
}

@Suite("System resolver", .timeLimit(.minutes(10)))
struct SystemResolverTests {
    @Test("many who ask for one name at once all get its addresses, and localhost is no public one")
    func localhost() async {
        let resolver = SystemResolver(clock: SystemClock())
        let wrong = await withTaskGroup(of: Bool.self) { group in
            for index in 0..<100 {
                group.addTask {
                    let task = Task { try await resolver.addresses(of: "localhost") }
                    if index % 4 == 0 { task.cancel() }
                    switch await task.result {
                    case .success(let addresses):
                        return addresses.isEmpty || addresses.contains { $0.forbiddance == nil }
                    case .failure(let error): return !(error is CancellationError)
                    }
                }
            }
            return await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
        }
        #expect(wrong == 0)
    }
}

@Suite("Redirects", .timeLimit(.minutes(10)))
struct RedirectTests {
    private func redirecting(_ status: Int, to location: String) -> LoopbackServer {
        LoopbackServer { request, _ in
            request.target.hasPrefix("/start")
                ? .reply(status: status, headers: [("Location", location)])
                : .reply(body: bytes("\(request.method) \(request.target)"))
        }
    }

    @Test("an idempotent request follows redirects when it asks to, with its credential, on the same origin")
    func sameOrigin() async {
        let server = redirecting(307, to: "next?a=b")
        defer { server.close() }
        let egress = makeEgress()
        let request = EgressRequest.get(server, "/start").with {
            $0.followsRedirects = true
            $0.credentials = [credential(.bearer)]
        }
        let outcome = await egress.send(request) {}
        #expect(outcome.response?.body == bytes("GET /next?a=b"))
        #expect(
            server.requests.map { $0.headers["authorization"] ?? "" }
                == Array(repeating: "Bearer \(FixedSecrets.token)", count: 2))
        let asIs = await egress.send(request.with { $0.followsRedirects = false }) {}
        #expect(asIs.response?.status == 307)
        await egress.shutdown()
    }

    @Test(
        "a redirect never leaves the policy, for private addresses and other ports neither (EXT-05)",
        arguments: [
            "https://evil.com/", "http://127.0.0.1:1/", "http://169.254.169.254/latest/meta-data/",
            "file:///etc/passwd",
            "http://[::1]/", "//evil.com/",
        ])
    func leaving(_ location: String) async {
        let server = redirecting(302, to: location)
        defer { server.close() }
        let egress = makeEgress()
        let outcome = await egress.send(EgressRequest.get(server, "/start").with { $0.followsRedirects = true }) {}
        if location.hasPrefix("file") {
            #expect(outcome.response?.status == 302)
        } else {
            #expect(outcome.failure?.code == .refusedByPolicy)
            #expect(outcome.wire == .answered)
        }
        #expect(server.requests.count == 1)
        await egress.shutdown()
    }

    @Test("a non-idempotent request gets the redirect as its answer")
    func nonIdempotent() async {
        let server = redirecting(307, to: "/next")
        defer { server.close() }
        let egress = makeEgress()
        let outcome = await egress.send(EgressRequest.post(server, "/start").with { $0.followsRedirects = true }) {}
        #expect(outcome.response?.status == 307)
        #expect(server.requests.count == 1)
        await egress.shutdown()
    }

    @Test("a credential does not follow to another origin, and five hops are enough")
    func limits() async {
        let other = LoopbackServer { _, _ in .reply(body: bytes("other")) }
        let server = redirecting(302, to: other.url + "/x")
        let circle = redirecting(302, to: "/start")
        defer {
            other.close()
            server.close()
            circle.close()
        }
        let egress = makeEgress()
        let outcome = await egress.send(
            EgressRequest.get(server, "/start").with {
                $0.followsRedirects = true
                $0.credentials = [credential(.header, target: "X-Api-Token")]
                $0.headers = [("X-Other", "1"), ("Accept", "text/plain")]
                $0.policy = .overriding(server.url, other.url)
            }
        ) {}
        #expect(outcome.response?.body == bytes("other"))
        #expect(other.requests.first?.headers["x-api-token"] == nil)
        #expect(other.requests.first?.headers["x-other"] == nil)
        #expect(other.requests.first?.headers["accept"] == "text/plain")
        let endless = await egress.send(EgressRequest.get(circle, "/start").with { $0.followsRedirects = true }) {}
        #expect(endless.failure?.code == .refusedByPolicy)
        #expect(circle.requests.count == 6)
        await egress.shutdown()
    }
}
