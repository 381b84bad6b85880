// SPDX-License-Identifier: Apache-2.0

import Dispatch
import MilepostEgress
import MilepostModel
import Synchronization
import Testing

/// A vault that counts how often it is opened, and can be changed.
final class CountingSecrets: SecretSource {
    private let state = Mutex<(value: String, epoch: UInt64, opened: Int)>(("first-secret", 1, 0))

    var opened: Int { state.withLock { $0.opened } }
    var epoch: UInt64? { state.withLock { $0.epoch } }
    func change(to value: String) {
        state.withLock {
            $0.value = value
            $0.epoch += 1
        }
    }

    func withSecret<Result: Sendable>(
        _ reference: CredentialReference, _ body: @Sendable (UnsafeRawBufferPointer) throws -> Result
    ) async throws -> Result {
        let value = state.withLock { state in
            state.opened += 1
            return state.value
        }
        let bytes = Array(value.utf8)
        return try unsafe bytes.withUnsafeBytes { try unsafe body($0) }
    }
}

/// Time that stands still, so that what is bounded by time does not hang on the machine's.
struct FrozenClock: DaemonClock {
    var now: Timestamp { Timestamp(milliseconds: 1_700_000_000_000) }
    func sleep(for duration: Duration) async throws { try await Task.sleep(for: duration) }
}

@Suite("What requests share")
struct SharingTests {
    private func egress(
        _ secrets: any SecretSource, connections: Int = 8, clock: any DaemonClock = FrozenClock()
    ) -> CurlEgress {
        var configuration = CurlEgress.Configuration()
        configuration.connectionsPerHost = connections
        return CurlEgress(
            secrets: secrets, limiter: RateLimiter(clock: clock), clock: clock, configuration: configuration)
    }

    private func keyed(_ server: LoopbackServer, _ path: String) -> EgressRequest {
        EgressRequest.get(server, path).with {
            $0.credentials = [credential(.header, target: "x-key", template: "{secret}")]
        }
    }

    @Test("requests that overlap share one opening of a secret, and none is kept when the last has ended (SEC-06)")
    func overlapping() async throws {
        let arrived = AsyncStream<Void>.makeStream()
        let goes = DispatchSemaphore(value: 0)
        let server = LoopbackServer { request, _ in
            if request.target == "/held" {
                arrived.continuation.yield()
                goes.wait()
            }
            return .reply(headers: [("x-echo", request.headers["x-key"] ?? "")])
        }
        defer { server.close() }
        let secrets = CountingSecrets()
        let egress = egress(secrets)
        let held = Task { await egress.send(keyed(server, "/held")) {} }
        for await _ in arrived.stream { break }
        for _ in 0..<5 {
            let answer = await egress.send(keyed(server, "/")) {}
            #expect(answer.response?.header("x-echo") == "[secret]", "each answer is scrubbed of it")
        }
        let overlapping = secrets.opened
        #expect(overlapping == 1, "\(overlapping) openings for six requests")
        secrets.change(to: "another-secret")
        _ = await egress.send(keyed(server, "/")) {}
        #expect(secrets.opened == overlapping + 1, "what was changed is opened anew at once")
        goes.signal()
        _ = await held.value
        _ = await egress.send(keyed(server, "/")) {}
        #expect(secrets.opened == overlapping + 2, "nobody keeps it")
        #expect(
            server.requests.map { $0.headers["x-key"] }
                == [String](repeating: "first-secret", count: 6) + ["another-secret", "another-secret"])
        await egress.shutdown()
    }

    @Test("a burst to one server waits for its connections, and the wait is not taken from a request's time")
    func burst() async throws {
        let arrived = AsyncStream<Void>.makeStream()
        let goes = DispatchSemaphore(value: 0)
        let server = LoopbackServer { request, _ in
            if request.target == "/held" {
                arrived.continuation.yield()
                goes.wait()
            }
            return .reply()
        }
        defer { server.close() }
        let egress = egress(FixedSecrets(), connections: 1, clock: SystemClock())
        let held = Task { await egress.send(.get(server, "/held")) {} }
        for await _ in arrived.stream { break }
        let waiting = (0..<20).map { number in
            Task { await egress.send(.get(server, "/\(number)").with { $0.timeout = .milliseconds(400) }) {} }
        }
        let given = Task { await egress.send(.get(server, "/given-up")) {} }
        given.cancel()
        #expect(await given.value.wire == .neverSent)
        DispatchQueue.global().asyncAfter(deadline: .now() + 0.8) { goes.signal() }
        for task in waiting {
            let response = await task.value.response
            #expect(response?.status == 200)
            // The transfer thread sleeps for ten seconds when it thinks that nothing is left to do.
            #expect(response.map { $0.timings.total < .seconds(9) } == true)
        }
        #expect(await held.value.response?.status == 200)
        #expect(server.connections == 1 && !server.requests.contains { $0.target == "/given-up" })
        await egress.shutdown()
    }
}
