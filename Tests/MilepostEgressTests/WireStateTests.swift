// SPDX-License-Identifier: Apache-2.0

import Dispatch
import MilepostEgress
import MilepostModel
import Synchronization
import Testing

#if canImport(Glibc)
    import Glibc
#elseif canImport(Darwin)
    import Darwin
#endif

@Suite("Wire state", .timeLimit(.minutes(10)))
struct WireStateTests {
    @Test("a complete answer is answered, and the connection is used again")
    func answered() async throws {
        let server = LoopbackServer { _, index in
            .reply(headers: [("X-Index", "\(index)")], body: bytes("hello \(index)"))
        }
        defer { server.close() }
        let egress = makeEgress()
        for index in 0..<3 {
            let outcome = await egress.send(.post(server, body: "{\"n\":\(index)}")) {}
            #expect(outcome.wire == .answered)
            let response = try #require(outcome.response)
            #expect(response.status == 200)
            #expect(response.body == bytes("hello \(index)"))
            #expect(response.header("x-index") == "\(index)")
            #expect(!response.truncated)
        }
        #expect(server.connections == 1)
        #expect(server.requests.map(\.body) == (0..<3).map { bytes("{\"n\":\($0)}") })
        #expect(server.requests[0].headers["content-type"] == "application/json")
        await egress.shutdown()
    }

    @Test("a POST on a reused connection that dies unanswered is sent exactly once and maybe sent (decisions 1)")
    func neverResent() async {
        let server = LoopbackServer { request, _ in
            request.method == "POST" && request.target == "/commit" ? .close : .reply()
        }
        defer { server.close() }
        let egress = makeEgress()
        let warmUp = await egress.send(.get(server)) {}
        #expect(warmUp.wire == .answered)
        let outcome = await egress.send(.post(server, "/commit")) {}
        #expect(outcome.wire == .maybeSent)
        #expect(outcome.failure?.code == .reset)
        let posts = server.requests.filter { $0.method == "POST" }
        #expect(posts.count == 1, "libcurl repeated a request that the vendor had taken")
        #expect(posts.first?.connection == 1, "the connection was not reused, so this test proves nothing")
        await egress.shutdown()
    }

    @Test("an idempotent request on a dead reused connection may be repeated")
    func idempotentMayRepeat() async {
        let server = LoopbackServer { _, index in index == 1 ? .close : .reply() }
        defer { server.close() }
        let egress = makeEgress()
        _ = await egress.send(.get(server)) {}
        let outcome = await egress.send(.get(server)) {}
        #expect(outcome.wire == .answered)
        #expect(server.requests.count == 3)
        await egress.shutdown()
    }

    @Test(
        "a close without an answer, a cut body and a cut head are maybe sent",
        arguments: [
            LoopbackServer.Action.close,
            .raw(bytes("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")),
            .raw(bytes("HTTP/1.1 200 OK\r\nContent-Le")),
            .raw(bytes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")),
        ])
    func cut(_ action: LoopbackServer.Action) async {
        let server = LoopbackServer { _, _ in action }
        defer { server.close() }
        let egress = makeEgress()
        let outcome = await egress.send(.post(server)) {}
        #expect(outcome.wire == .maybeSent)
        #expect(outcome.failure?.code == .reset)
        #expect(server.requests.count == 1)
        await egress.shutdown()
    }

    @Test(
        "an answer that is not HTTP, or whose gzip is broken, is maybe sent and says so",
        arguments: [
            LoopbackServer.Action.raw(bytes("SSH-2.0-OpenSSH_9.2\r\n")),
            .raw(bytes("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 9\r\n\r\nnot gzip!")),
        ])
    func unreadable(_ action: LoopbackServer.Action) async {
        let server = LoopbackServer { _, _ in action }
        defer { server.close() }
        let egress = makeEgress()
        let outcome = await egress.send(.post(server)) {}
        #expect(outcome.wire == .maybeSent)
        #expect(outcome.failure?.code == .answerUnreadable)
        await egress.shutdown()
    }

    @Test("a refused connection and an unknown host are never sent")
    func neverSent() async {
        let server = LoopbackServer { _, _ in .reply() }
        let request = EgressRequest.post(server)
        server.close()
        let egress = makeEgress(resolver: ScriptedResolver([]))
        // The listener closes on its own thread; a connection that slips in is closed unanswered.
        var outcome = await egress.send(request) {}
        for _ in 0..<50 where outcome.failure?.code != .connectFailed { outcome = await egress.send(request) {} }
        #expect(outcome.wire == .neverSent)
        #expect(outcome.failure?.code == .connectFailed)

        let unknown = await egress.send(
            EgressRequest(
                method: "POST", url: "https://api.example.com/", isIdempotent: false,
                policy: EgressPolicy(rules: [.init(hosts: ["api.example.com"], methods: anyMethod)]))
        ) {}
        #expect(unknown.wire == .neverSent)
        #expect(unknown.failure?.code == .dnsFailed)
        await egress.shutdown()
    }

    @Test("a time-out after the request has left is maybe sent")
    func timeout() async {
        let server = LoopbackServer { _, _ in .hang }
        defer { server.close() }
        let egress = makeEgress()
        let outcome = await egress.send(EgressRequest.post(server).with { $0.timeout = .milliseconds(150) }) {}
        #expect(outcome.wire == .maybeSent)
        #expect(outcome.failure?.code == .timeout)
        await egress.shutdown()
    }

    @Test("cancelling before, during and after the wire is told apart")
    func cancellation() async {
        let arrived = AsyncStream.makeStream(of: Void.self)
        let server = LoopbackServer { _, _ in
            arrived.continuation.yield()
            return .hang
        }
        defer { server.close() }
        let egress = makeEgress()

        let early = await Task {
            unsafe withUnsafeCurrentTask { unsafe $0?.cancel() }
            return await egress.send(.post(server)) {}
        }.value
        #expect(early.wire == .neverSent)
        #expect(early.failure?.code == .cancelled)
        #expect(server.requests.isEmpty)

        let late = Task { await egress.send(.post(server)) {} }
        for await _ in arrived.stream { break }
        late.cancel()
        let outcome = await late.value
        #expect(outcome.wire == .maybeSent)
        #expect(outcome.failure?.code == .cancelled)
        await egress.shutdown()
    }

    @Test("nothing is sent when the intent cannot be stored, and nothing connects before it is")
    func intentFirst() async {
        struct DiskFull: Error {}
        let server = LoopbackServer { _, _ in .reply() }
        defer { server.close() }
        let egress = makeEgress()
        let refused = await egress.send(.post(server)) { throw DiskFull() }
        #expect(refused.wire == .neverSent)
        #expect(refused.failure?.code == .beforeSendFailed)
        #expect(server.connections == 0)
        let seen = Mutex(-1)
        let outcome = await egress.send(.post(server)) { seen.withLock { $0 = server.connections } }
        #expect(outcome.wire == .answered)
        #expect(seen.withLock { $0 } == 0)
        await egress.shutdown()
    }

    @Test("shutdown ends what is under way, reports how far it got, and refuses what comes later")
    func shutdown() async {
        let arrived = AsyncStream.makeStream(of: Void.self)
        let server = LoopbackServer { _, _ in
            arrived.continuation.yield()
            return .hang
        }
        defer { server.close() }
        let egress = makeEgress()
        let hanging = Task { await egress.send(.post(server)) {} }
        for await _ in arrived.stream { break }
        await egress.shutdown()
        #expect(await hanging.value.wire == .maybeSent)
        let later = await egress.send(.post(server)) {}
        #expect(later.wire == .neverSent)
        #expect(later.failure?.code == .cancelled)
        await egress.shutdown()
    }

    @Test("two hundred requests at once each get their own answer")
    func manyAtOnce() async {
        let server = LoopbackServer { request, _ in .reply(body: bytes(request.target)) }
        defer { server.close() }
        let egress = makeEgress()
        let wrong = await withTaskGroup(of: Bool.self) { group in
            for index in 0..<200 {
                group.addTask {
                    let outcome = await egress.send(.get(server, "/\(index)")) {}
                    return outcome.response?.body != bytes("/\(index)")
                }
            }
            return await group.reduce(into: 0) { $0 += $1 ? 1 : 0 }
        }
        #expect(wrong == 0)
        #expect(server.connections <= 8, "more connections than the cap per host")
        await egress.shutdown()
    }

    @Test("waiting for a free connection does not count against the time to connect")
    func connectionQueue() async {
        let firstArrived = AsyncStream.makeStream(of: Void.self)
        let secondWaits = DispatchSemaphore(value: 0)
        let server = LoopbackServer { request, _ in
            if request.target == "/slow" {
                firstArrived.continuation.yield()
                secondWaits.wait()
            }
            return .reply()
        }
        defer { server.close() }
        var configuration = CurlEgress.Configuration()
        configuration.connectionsPerHost = 1
        configuration.connectTimeout = .milliseconds(200)
        let egress = makeEgress(configuration: configuration)
        let slow = Task { await egress.send(.get(server, "/slow")) {} }
        for await _ in firstArrived.stream { break }
        let second = await egress.send(.get(server, "/second")) {
            // Longer than the time to connect, and counted from when the second request is handed over.
            DispatchQueue.global().asyncAfter(deadline: .now() + 0.7) { secondWaits.signal() }
        }
        #expect(second.wire == .answered, "\(second)")
        #expect(second.response.map { $0.timings.queued > .milliseconds(300) } == true)
        #expect(await slow.value.wire == .answered)
        #expect(server.connections == 1)
        await egress.shutdown()
    }
}
