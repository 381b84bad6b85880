// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin
import MilepostKit
import MilepostKitTesting
import Synchronization
import Testing

/// Uses the host's services as its query says.
final class Servant: Querying, Delivering, CredentialObserving, ConfigurationObserving {
    static var manifest: [UInt8] {
        Array(
            """
            {"name":"servant","metrics":[{"name":"looked","labels":[]},
            {"name":"sent","labels":[{"name":"result","values":["bad","good"]},{"name":"kind","values":["a"]}]}]}
            """.utf8)
    }
    let context: PluginContext
    private let told = Mutex<[String]>([])

    init(context: PluginContext, configuration: InstanceConfiguration) throws { self.context = context }

    func credentialChanged(_ facts: JSONValue) {
        told.withLock { $0.append("credential \(facts["ref"]?.string ?? "")") }
    }
    func configurationChanged(_ configuration: InstanceConfiguration) {
        told.withLock { $0.append("configuration \(configuration.connection)") }
    }

    func query(_ request: QueryRequest, _ operation: Operation) async throws -> JSONValue {
        let storage = operation.context.storage
        switch request.query {
        case "storage":
            var lines: [JSONValue] = []
            lines.append(.bool(try await storage.get("a") == nil))
            let first = try await storage.put("a", Array("one".utf8))
            lines.append(.int(Int64(try await storage.put("a", Array("two".utf8), ifVersion: first))))
            do { try await storage.put("a", [], ifVersion: first) } catch { lines.append(.string(error.code.name)) }
            do { try await storage.put("b", [UInt8](repeating: 0, count: 70_000)) } catch {
                lines.append(.string(error.code.name))
            }
            try await storage.put("ab", [], lifetime: .milliseconds(50))
            lines.append(.array(try await storage.keys(prefix: "a").map { .string($0) }))
            lines.append(.string(String(decoding: try await storage.get("a")?.value ?? [], as: UTF8.self)))
            lines.append(.bool(try await storage.delete("a")))
            lines.append(.bool(try await storage.delete("a")))
            return .array(lines)
        case "keys": return .array(try await storage.keys().map { .string($0) })
        case "get": return .bool(try await storage.get("a") == nil)
        case "sleep":
            try await operation.context.sleep(for: .seconds(5))
            return .int(Int64(operation.context.monotonicNanoseconds))
        case "sign":
            let scheme = request.arguments?["scheme"]?.string ?? "hmac-sha256"
            let signature = try await context.sign(Array("text".utf8), credential: "key", scheme: scheme)
            return .string(String(decoding: signature, as: UTF8.self))
        case "metrics":
            context.count("looked", by: 3)
            context.observe("sent", 12, labels: ["kind": "a", "result": "good"])
            context.count("sent", labels: ["kind": "a", "result": "unheard of"])
            context.count("unheard of")
            return .null
        case "facts": return context.credentialFacts("key") ?? .null
        case "random": return .array((context.random(4) ?? []).map { .int(Int64($0)) })
        case "told": return .array(told.withLock { $0 }.map { .string($0) })
        default: return .null
        }
    }

    func deliver(_ record: DeliveryRecord, action: String, _ operation: Operation) async throws -> Delivered {
        _ = try await operation.http(.step("deal", "POST", "https://vendor.test/deals", json: [:], credential: nil))
        try await operation.journal("deal", ["deal_id": 1])
        return Delivered(remoteID: "1")
    }
}

extension SerializedKit {
    @Suite("the host's services", .timeLimit(.minutes(1)))
    struct HostServicesTests {
        func made() throws -> FakeHost {
            try #require(FakeHost(Servant.self, configuration: ["connection": "con_1"]) { _ in .json(200, [:]) })
        }

        func ask(_ host: FakeHost, _ query: JSONValue, _ arguments: JSONValue = [:]) async -> Completion {
            await host.run(MP_VERB_QUERY, ["query": query, "arguments": arguments])
        }

        /// Bounded: ten thousand looks at what another thread does at once.
        func until(_ isSo: () -> Bool) async {
            for _ in 0..<10_000 where !isSo() { try? await Task.sleep(for: .milliseconds(1)) }
        }

        @Test("storage: absent, written, compared and swapped, too large, listed, removed")
        func storage() async throws {
            let host = try made()
            defer { host.destroy() }
            let done = await ask(host, "storage")
            #expect(done.body["result"] == [true, 2, "invalid", "too_large", ["a", "ab"], "two", true, false])
            host.advance(milliseconds: 51)
            #expect(await ask(host, "keys").body["result"] == [])
        }

        @Test("a sleep lasts as long as the host's clock says")
        func sleeps() async throws {
            let host = try made()
            defer { host.destroy() }
            let (op, _) = host.start(MP_VERB_QUERY, ["query": "sleep"])
            await until { host.pendingTimers == 1 }
            host.advance(milliseconds: 4_999)
            #expect(host.completionCount(of: op) == 0 && host.pendingTimers == 1)
            host.advance(milliseconds: 1)
            #expect(await host.completion(of: op).body["result"] == 6_000_000_000)
        }

        @Test("a cancelled sleep ends at once and clears its timer")
        func cancelledSleep() async throws {
            let host = try made()
            defer { host.destroy() }
            let (op, _) = host.start(MP_VERB_QUERY, ["query": "sleep"])
            await until { host.pendingTimers == 1 }
            host.cancel(op)
            #expect(await host.completion(of: op).status == MP_CANCELLED)
            #expect(host.pendingTimers == 0 && host.clearedTimers == 1)
        }

        @Test("a cancelled wait for storage ends though the host never answers", arguments: ["get", "storage", "keys"])
        func cancelledStorage(query: String) async throws {
            let host = try made()
            defer { host.destroy() }
            host.silence(MP_EVENT_KV)
            let (op, _) = host.start(MP_VERB_QUERY, ["query": .string(query)])
            await until { host.swallowedEvents == 1 }
            host.cancel(op)
            #expect(await host.completion(of: op).status == MP_CANCELLED)
        }

        @Test("a cancelled wait for the journal ends as uncertain, and the result was handed over")
        func cancelledJournal() async throws {
            let host = try made()
            defer { host.destroy() }
            host.silence(MP_EVENT_JOURNAL)
            let body: JSONValue = ["action": "deal", "records": [["index": 0, "delivery_id": "d", "payload": [:]]]]
            let (op, _) = host.start(MP_VERB_DELIVER, body)
            await until { host.swallowedEvents == 1 }
            host.cancel(op)
            #expect(await host.completion(of: op).body["records"]?[0]?["class"] == "uncertain")
            #expect(host.journal.map(\.step) == ["deal"])
        }

        @Test("a destroyed instance leaves nobody waiting")
        func destroyed() async throws {
            let host = try made()
            host.silence(MP_EVENT_KV)
            let (op, _) = host.start(MP_VERB_QUERY, ["query": "get"])
            await until { host.swallowedEvents == 1 }
            let ending = Task { await host.completion(of: op) }
            host.destroy(keepingHost: true)
            #expect(await ending.value.status == MP_RETRY)
            host.forget()
        }

        @Test("a signature comes as bytes; a scheme that the host lacks is said so")
        func signs() async throws {
            let host = try made()
            defer { host.destroy() }
            #expect(await ask(host, "sign").body["result"] == "hmac-sha256|key|text")
            let refused = await ask(host, "sign", ["scheme": "ed25519"])
            #expect(refused.status == MP_RETRY)
            #expect(refused.body["message"]?.string?.contains("unsupported") == true)
        }

        @Test("metrics are named, labels too; a typing error counts nothing and is logged")
        func metrics() async throws {
            let host = try made()
            defer { host.destroy() }
            _ = await ask(host, "metrics")
            #expect(
                host.counted == [
                    CountedMetric(index: 0, value: 3, labels: [], isObservation: false),
                    CountedMetric(index: 1, value: 12, labels: [1, 0], isObservation: true),
                ])
            #expect(host.logged.count == 2)
        }

        @Test("facts of a credential and random bytes come from the host")
        func facts() async throws {
            let host = try made()
            defer { host.destroy() }
            #expect(await ask(host, "facts").body["result"] == .null)
            host.setFacts(["scheme": "api_key", "scopes": []], of: "key")
            #expect(await ask(host, "facts").body["result"] == ["scheme": "api_key", "scopes": []])
            #expect(await ask(host, "random").body["result"] == [37, 74, 111, 148])
        }

        @Test("news of a credential and of a configuration reach the plugin; unreadable and unknown news do not harm")
        func told() async throws {
            let host = try made()
            defer { host.destroy() }
            host.tell(MP_EVENT_CREDENTIAL, Array(#"{"ref":"key"}"#.utf8))
            host.tell(MP_EVENT_CONFIG, Array(#"{"connection":"con_2","settings":{}}"#.utf8))
            host.tell(MP_EVENT_CONFIG, Array("[".utf8))
            host.tell(MP_EVENT_CREDENTIAL, [])
            host.tell(99, Array("{}".utf8))
            #expect(await ask(host, "told").body["result"] == ["credential key", "configuration con_2"])
        }
    }
}
