// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin
import MilepostKit
import MilepostKitTesting
import Testing

/// A plugin that does what its payload says.
final class Probe: Delivering, Connecting {
    static var manifest: [UInt8] { Array(#"{"name":"probe"}"#.utf8) }
    init(context: PluginContext, configuration: InstanceConfiguration) throws {
        if configuration.settings["refuse"]?.bool == true { throw Verdict.config(code: "no", message: "no") }
    }

    func connect(_ request: SettingsRequest, _ operation: Operation) async throws -> ConnectResult {
        let response = try await operation.http(.idempotent("GET", "https://vendor.test/me", credential: "token"))
        return ConnectResult(account: .init(id: String(response.body.count), label: "vendor"))
    }

    struct Broken: Error {}

    func deliver(_ record: DeliveryRecord, action: String, _ operation: Operation) async throws -> Delivered {
        switch record.payload.string {
        case "break": throw Broken()
        case "revoked": throw Verdict.authRevoked(code: "credential_refused", message: "refused")
        case "send-then-break":
            _ = try? await operation.http(
                .step("deal", "POST", "https://vendor.test/deals", json: [:], credential: nil))
            throw Broken()
        default:
            _ = try await operation.http(.step("deal", "POST", "https://vendor.test/deals", json: [:], credential: nil))
            try await operation.journal("deal", ["deal_id": 1])
            return Delivered(remoteID: "1")
        }
    }
}

private func request(_ payloads: JSONValue...) -> JSONValue {
    let records = payloads.enumerated().map { index, payload in
        JSONValue.object(["index": .int(Int64(index)), "delivery_id": "dlv_1", "payload": payload])
    }
    return ["action": "deal", "records": .array(records)]
}

/// One plugin type at a time: the table's functions carry none of their own.
@Suite("MilepostKit", .serialized) struct SerializedKit {}

extension SerializedKit {
    @Suite("the SDK keeps the contract", .serialized, .timeLimit(.minutes(1)))
    struct KitTests {
        func made(settings: JSONValue = [:], size: UInt32 = 184, _ script: @escaping FakeHost.Script) -> FakeHost? {
            FakeHost(
                Probe.self, configuration: ["connection": "con_1", "settings": settings], hostSize: size, script: script
            )
        }
        let ok: FakeHost.Script = { _ in .json(200, [:]) }

        @Test("a verb whose protocol the type lacks is null, the others are there")
        func nullVerbs() throws {
            let host = try #require(made(ok))
            defer { host.destroy() }
            let table = unsafe host.table.pointee
            #expect(unsafe table.connect != nil && table.deliver != nil && table.on_event != nil)
            #expect(unsafe table.reconcile == nil && table.options == nil && table.pull == nil && table.webhook == nil)
            #expect(table.struct_size == MP_PLUGIN_SIZE_1_0)
        }

        @Test("the entry refuses a host that is too old and one whose info is cut")
        func entryRefuses() {
            var status: Int32 = 0
            var info = unsafe mp_host_info()
            unsafe info.struct_size = UInt32(MemoryLayout<mp_host_info>.size)
            #expect(unsafe PluginEntry.table(of: Probe.self, &info, &status, minimumHostMinor: 3) == nil)
            #expect(status == MP_UNSUPPORTED)
            unsafe info.struct_size = 8
            #expect(unsafe PluginEntry.table(of: Probe.self, &info, &status) == nil)
            #expect(status == MP_CONFIG)
        }

        @Test("create refuses a host table shorter than 1.0 and settings that the plugin throws at")
        func createRefuses() {
            #expect(made(size: 176, ok) == nil)
            #expect(made(settings: ["refuse": true], ok) == nil)
        }

        @Test("a delivery sends, journals and completes exactly once")
        func deliversOnce() async throws {
            let host = try #require(made(ok))
            defer { host.destroy() }
            let (op, status) = host.start(MP_VERB_DELIVER, request("go"))
            #expect(status == MP_OK)
            let done = await host.completion(of: op)
            #expect(done.status == MP_OK)
            #expect(done.body["records"]?[0]?["class"] == "ok")
            #expect(host.sent.map(\.step) == ["deal"] && host.sent.map(\.records) == [[0]])
            #expect(host.sent.first?.isIdempotent == false)
            #expect(host.journal.map(\.step) == ["deal"])
            #expect(await host.run(MP_VERB_PING, [:]).status == MP_OK)
            #expect(host.completionCount(of: op) == 1)
        }

        @Test("an error of the plugin's own is a retry before anything was sent and uncertain after")
        func ownErrors() async throws {
            let host = try #require(made { _ in .fails(.maybeSent, "reset") })
            defer { host.destroy() }
            let done = await host.run(MP_VERB_DELIVER, request("break", "send-then-break"))
            #expect(done.body["records"]?[0]?["class"] == "retry")
            #expect(done.body["records"]?[1]?["class"] == "uncertain")
        }

        @Test("REA-05: after a refused credential the rest of the batch meets no vendor")
        func wallStopsTheBatch() async throws {
            let host = try #require(made(ok))
            defer { host.destroy() }
            let done = await host.run(MP_VERB_DELIVER, request("revoked", "go"))
            #expect(done.body["records"]?[1]?["class"] == "auth_revoked")
            #expect(host.sent.isEmpty)
            #expect(host.partials.count == 2)
        }

        @Test("a journal that fails after the request makes the record uncertain")
        func journalFails() async throws {
            let host = try #require(made(ok))
            defer { host.destroy() }
            host.failJournal(with: MP_CALL_INVALID)
            let done = await host.run(MP_VERB_DELIVER, request("go"))
            #expect(done.body["records"]?[0]?["class"] == "uncertain")
        }

        @Test("cancel gives up the request and the operation still completes once, as uncertain when it may have left")
        func cancels() async throws {
            let host = try #require(made { _ in .hangs(.maybeSent) })
            defer { host.destroy() }
            let (op, _) = host.start(MP_VERB_DELIVER, request("go"))
            host.cancel(op)
            host.cancel(9_999)
            let done = await host.completion(of: op)
            let verdict = done.body["records"]?[0]?["class"]
            // Depending on the moment the request never left or may have left; never success.
            #expect(verdict == "uncertain" || verdict == "retry")
            #expect(host.completionCount(of: op) == 1)
        }

        @Test("shutdown gives up what hangs, refuses what comes, and completes")
        func shutsDown() async throws {
            let host = try #require(made { _ in .hangs(.maybeSent) })
            defer { host.destroy() }
            let (op, _) = host.start(MP_VERB_DELIVER, request("go"))
            let (last, status) = host.start(MP_VERB_SHUTDOWN, [:], deadlineNanoseconds: 20_000_000)
            #expect(status == MP_OK)
            #expect(host.start(MP_VERB_DELIVER, request("go")).status == MP_CANCELLED)
            #expect(await host.completion(of: last).status == MP_OK)
            #expect(host.completionCount(of: op) == 1)
        }

        @Test("a large body is read as a blob, in pieces")
        func readsBlobs() async throws {
            let host = try #require(made { _ in .blob(200, [UInt8](repeating: 65, count: 5_500)) })
            defer { host.destroy() }
            let done = await host.run(MP_VERB_CONNECT, [:])
            #expect(done.body["account"]?["id"] == "5500")
        }

        @Test("a body that is no JSON, and a host that refuses the request, end in an error and not in a crash")
        func hostileBodies() async throws {
            let host = try #require(made { _ in .refused(MP_CALL_DENIED) })
            defer { host.destroy() }
            #expect(await host.run(MP_VERB_DELIVER, "nonsense").status == MP_REJECTED)
            #expect(await host.run(MP_VERB_DELIVER, ["action": 1]).status == MP_REJECTED)
            #expect(await host.run(MP_VERB_CONNECT, [:]).status == MP_RETRY)
        }
    }
}
