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

        @Test("a verdict thrown for the batch is everybody's")
        func wall() async throws {
            let (done, host) = try await run("wall")
            host.destroy()
            #expect(done.status == MP_CONFIG && done.body["code"] == "target_missing")
        }
    }
}
