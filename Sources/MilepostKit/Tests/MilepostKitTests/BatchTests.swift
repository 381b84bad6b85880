// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin
import MilepostKit
import MilepostKitTesting
import Testing

/// Takes a whole batch, as vendors with batch endpoints let it.
final class BatchingPlugin: BatchDelivering {
    static var manifest: [UInt8] { Array(#"{"manifest":1,"id":"test.batching","name":"batching"}"#.utf8) }
    init(context: PluginContext, configuration: InstanceConfiguration) throws {}

    func deliver(batch records: [DeliveryRecord], action: String, _ operation: Operation) async throws -> Outcomes {
        if action == "wall" { throw Verdict.config(code: "target_missing", message: "Gone.") }
        if action == "each" {
            return await operation.each(records) { record, operation in
                if record.index == 1 { throw Verdict.rejected(code: "bad", message: "Bad.") }
                try await operation.journal("step", [:])
                return Delivered(remoteID: String(record.index))
            }
        }
        if action == "beside" || action == "walled" {
            return await operation.together(records, width: action == "beside" ? 4 : 1) { record, operation in
                let answer = try await operation.http(
                    .idempotent("POST", "https://api.example.com/\(record.index)", credential: nil))
                if answer.status == 429 {
                    throw Verdict.rateLimited(code: "slow_down", message: "Wait.", after: nil, scope: "endpoint")
                }
                return Delivered(remoteID: String(record.index))
            }
        }
        var outcomes: Outcomes = [:]
        for record in records where record.index != 2 {
            outcomes[record.index] =
                record.index == 1
                ? .failure(.rejected(code: "bad", message: "Bad.")) : .success(Delivered(remoteID: "r"))
        }
        return outcomes
    }
}

extension SerializedKit {
    @Suite("batches", .timeLimit(.minutes(1)))
    struct BatchTests {
        func run(_ action: String) async throws -> (Completion, FakeHost) {
            let host = try #require(
                FakeHost(BatchingPlugin.self, configuration: ["connection": "c"]) { _ in .hangs(.neverSent) })
            let records = JSONValue.array((0..<3).map { ["index": .int($0), "delivery_id": "d", "payload": [:]] })
            return (await host.run(MP_VERB_DELIVER, ["action": .string(action), "records": records]), host)
        }

        @Test("TL-11: each record of a batch has its own verdict, and a forgotten one is uncertain")
        func verdicts() async throws {
            let (done, host) = try await run("together")
            host.destroy()
            #expect((done.body["records"]?.array ?? []).map { $0["class"] } == ["ok", "rejected", "uncertain"])
        }

        @Test("TL-11: a batch can be gone through record by record, each with its own journal")
        func each() async throws {
            let (done, host) = try await run("each")
            host.destroy()
            #expect((done.body["records"]?.array ?? []).map { $0["class"] } == ["ok", "rejected", "ok"])
            #expect(host.journal.map(\.record) == [0, 2])
            #expect(host.partials.count == 3)
        }

        @Test("records go beside one another, and a wall spares those that have not begun (TL-11)")
        func beside() async throws {
            let records = JSONValue.array((0..<40).map { ["index": .int($0), "delivery_id": "d", "payload": [:]] })
            for (action, sent, limited) in [("beside", 40, 0), ("walled", 3, 38)] {
                let host = try #require(
                    FakeHost(BatchingPlugin.self, configuration: ["connection": "c"]) { request in
                        action == "walled" && request.url.hasSuffix("/2") ? .json(429, [:]) : .json(200, [:])
                    })
                let done = await host.run(MP_VERB_DELIVER, ["action": .string(action), "records": records])
                host.destroy()
                let results = done.body["records"]?.array ?? []
                #expect(results.map { $0["index"]?.int } == (0..<40).map { Int64($0) })
                #expect(results.count { $0["class"] == "rate_limited" } == limited)
                #expect(results.count { $0["class"] == "ok" } == 40 - limited)
                #expect(host.sent.count == sent)
            }
        }

        @Test("a verdict thrown for the batch is everybody's")
        func wall() async throws {
            let (done, host) = try await run("wall")
            host.destroy()
            #expect(done.status == MP_CONFIG && done.body["code"] == "target_missing")
        }
    }
}
