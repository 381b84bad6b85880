// SPDX-License-Identifier: Apache-2.0

import MilepostEgress
import MilepostModel
import Testing

/// The guard against requests to private places, with nothing between the test and the wire but the guard: the policy lets
/// every host, port and method through, and the resolver calls every name public.
@Suite("Special-purpose addresses (EXT-05)", .timeLimit(.minutes(10)))
struct SpecialPurposeTests {
    private struct Reached: Error {}
    private static let open = EgressPolicy(rules: [.init(hosts: ["*"], ports: [0], methods: ["GET"])])

    /// Nil when the guard let the request through (it ends there: nothing leaves).
    static func refusal(_ url: String, _ egress: CurlEgress) async -> EgressFailure.Code? {
        let request = EgressRequest(
            method: "GET", url: url, isIdempotent: true, timeout: .seconds(5), policy: open)
        let outcome = await egress.send(request) { throw Reached() }
        #expect(outcome.wire == .neverSent, "\(url)")
        return outcome.failure?.code == .beforeSendFailed ? nil : outcome.failure?.code
    }

    /// First, last and one in between.
    private static func samples(_ range: SpecialRange) throws -> [[UInt8]] {
        let first = try #require(IPAddress(range.first)).bytes
        let last = try #require(IPAddress(range.last)).bytes
        var middle = first
        if let place = first.indices.first(where: { first[$0] != last[$0] }) {
            middle[place] = UInt8((Int(first[place]) + Int(last[place])) / 2)
            for index in first.indices.dropFirst(place + 1) { middle[index] = last[index] / 3 }
        }
        return first == last ? [first] : [first, middle, last]
    }

    @Test(
        "no address of a special-purpose range is sent to, however it is written",
        arguments: SpecialPurposeTable.ipv4 + SpecialPurposeTable.ipv6)
    func refused(_ range: SpecialRange) async throws {
        let egress = makeEgress(resolver: ScriptedResolver([["8.8.8.8"]]))
        for bytes in try Self.samples(range) {
            for host in Spelling.plain(bytes) + Spelling.crooked(bytes) {
                for port in ["", ":8443"] {
                    let code = await Self.refusal("https://\(host)\(port)/hook", egress)
                    #expect(code == .refusedByPolicy || code == .requestInvalid, "https://\(host)\(port)/hook")
                }
            }
        }
        await egress.shutdown()
    }

    @Test(
        "a name that resolves into a special-purpose range is not sent to, alone or among others of its kind",
        arguments: SpecialPurposeTable.ipv4 + SpecialPurposeTable.ipv6)
    func resolved(_ range: SpecialRange) async throws {
        for bytes in try Self.samples(range) {
            let quad = bytes.map(String.init).joined(separator: ".")
            let answers = bytes.count == 4 ? [quad, "::ffff:\(quad)", "64:ff9b::\(quad)"] : [range.first, range.last]
            for answer in answers {
                let egress = makeEgress(resolver: ScriptedResolver([[answer, "127.0.0.1"]]))
                #expect(await Self.refusal("https://hooks.example.com/", egress) == .refusedByPolicy, "\(answer)")
                await egress.shutdown()
            }
        }
    }

    @Test(
        "the public neighbours of each range are let through in every form that leads to them, and in no other",
        arguments: (SpecialPurposeTable.ipv4 + SpecialPurposeTable.ipv6).filter { !$0.neighbours.isEmpty })
    func neighbours(_ range: SpecialRange) async throws {
        let egress = makeEgress(resolver: ScriptedResolver([["8.8.8.8"]]))
        for neighbour in range.neighbours {
            let bytes = try #require(IPAddress(neighbour)).bytes
            for host in Spelling.plain(bytes) {
                #expect(await Self.refusal("https://\(host)/hook", egress) == nil, "https://\(host)/hook")
            }
            for host in Spelling.crooked(bytes) {
                #expect(await Self.refusal("https://\(host)/hook", egress) != nil, "https://\(host)/hook")
            }
            let resolving = makeEgress(resolver: ScriptedResolver([[neighbour]]))
            #expect(await Self.refusal("https://hooks.example.com/", resolving) == nil, "\(neighbour)")
            await resolving.shutdown()
        }
        await egress.shutdown()
    }

    @Test("a redirect to a private place is not followed, in any form of its address")
    func redirects() async throws {
        let range = SpecialRange(first: "169.254.169.254", last: "169.254.169.254", neighbours: [])
        let bytes = try Self.samples(range)[0]
        let hosts = Spelling.plain(bytes) + ["private.example.com", "[fd00:ec2::254]", "localhost", "[::1]"]
        let resolver = ScriptedResolver([["169.254.169.254"]])
        for host in hosts {
            let server = LoopbackServer { _, _ in
                .reply(status: 302, headers: [("Location", "https://\(host)/latest/meta-data/")])
            }
            let egress = makeEgress(resolver: resolver)
            let policy = EgressPolicy(
                rules: Self.open.rules, overridden: EgressPolicy.overriding(server.url).overridden)
            let outcome = await egress.send(
                EgressRequest.get(server).with {
                    $0.policy = policy
                    $0.followsRedirects = true
                }
            ) {}
            #expect(outcome.failure?.code == .refusedByPolicy, "\(host)")
            #expect(server.requests.count == 1)
            await egress.shutdown()
            server.close()
        }
    }

    @Test("a name that turns private between two requests is refused at the second, on the connection that stands too")
    func rebinding() async {
        let resolver = ScriptedResolver([["8.8.8.8"], ["127.0.0.1"], ["8.8.8.8", "10.0.0.1"]])
        let egress = makeEgress(resolver: resolver)
        #expect(await Self.refusal("https://hooks.example.com/", egress) == nil)
        #expect(await Self.refusal("https://hooks.example.com/", egress) == .refusedByPolicy)
        // Of a mixed answer the public addresses alone are connected to.
        #expect(await Self.refusal("https://hooks.example.com/", egress) == nil)
        #expect(resolver.count == 3)
        await egress.shutdown()
    }

    @Test(
        "the socket is judged by the address it is opened to, whatever was judged before it",
        arguments: [("pinned.example.com", "127.0.0.1"), ("localhost", nil), ("127.0.0.1", nil)])
    func socket(_ host: String, _ pin: String?) async {
        let server = LoopbackServer { _, _ in .reply() }
        defer { server.close() }
        let thread = CurlThread(settings: .init())
        func get(mayBePrivate: Bool) async -> TransferResult {
            await thread.perform(
                TransferRequest(
                    get: EgressPolicy.Origin(scheme: "http", host: host, port: server.port),
                    pin: pin.map { "+\(host):\(server.port):\($0)" },
                    mayBePrivate: mayBePrivate, timeout: .seconds(5)))
        }
        let refused = await get(mayBePrivate: false)
        #expect(refused.wire == .neverSent)
        #expect(refused.failure?.code == .refusedByPolicy)
        #expect(server.connections == 0)
        // The same request gets through where the administrator has named the place, so it was the socket's check.
        #expect(await get(mayBePrivate: true).status == 200)
        // And a connection that stands open since then is not lent.
        #expect(await get(mayBePrivate: false).failure?.code == .refusedByPolicy)
        #expect(server.requests.count == 1)
        await thread.stop()
    }

    @Test("a name with a dot at its end is connected to where its judged address says")
    func trailingDot() async {
        let server = LoopbackServer { _, _ in .reply() }
        defer { server.close() }
        let url = "http://Hooks.Example.COM.:\(server.port)/"
        let egress = makeEgress(resolver: ScriptedResolver([["127.0.0.1"]]))
        let outcome = await egress.send(
            EgressRequest(method: "GET", url: url, isIdempotent: true, policy: .overriding(url))
        ) {}
        #expect(outcome.response?.status == 200)
        await egress.shutdown()
    }

    @Test("the configuration's allow-list lets through what it names: scheme, host and port, and nothing beside it")
    func allowList() async {
        let server = LoopbackServer { _, _ in .reply() }
        defer { server.close() }
        let port = server.port
        let egress = makeEgress(resolver: ScriptedResolver([["127.0.0.1"]]))
        func send(_ url: String) async -> EgressOutcome {
            await egress.send(
                EgressRequest(
                    method: "GET", url: url, isIdempotent: true, timeout: .seconds(5),
                    policy: EgressPolicy(
                        rules: Self.open.rules,
                        overridden: EgressPolicy.overriding("http://127.0.0.1:\(port)/hooks").overridden))
            ) {}
        }
        #expect(await send("http://127.0.0.1:\(port)/other").response?.status == 200)
        // The same place in another spelling is the same place.
        #expect(await send("http://0x7f.1:\(port)/").response?.status == 200)
        for url in [
            "http://127.0.0.1:\(port + 1)/", "http://127.0.0.1/", "https://127.0.0.1:\(port)/",
            "http://127.0.0.2:\(port)/", "http://localhost:\(port)/", "http://[::ffff:127.0.0.1]:\(port)/",
            "http://[::1]:\(port)/", "http://hooks.example.com:\(port)/", "https://hooks.example.com:\(port)/",
        ] {
            #expect(await send(url).failure?.code == .refusedByPolicy, "\(url)")
        }
        #expect(server.requests.count == 2)
        await egress.shutdown()
    }
}
