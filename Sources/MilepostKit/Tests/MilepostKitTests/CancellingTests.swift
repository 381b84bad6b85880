// SPDX-License-Identifier: Apache-2.0

import CMilepostPlugin
import MilepostKit
import MilepostKitTesting
import Synchronization
import Testing

/// Asks the vendor once.
final class AskingPlugin: Querying {
    static var manifest: [UInt8] { Array(#"{"manifest":1,"id":"test.asking","name":"asking"}"#.utf8) }
    init(context: PluginContext, configuration: InstanceConfiguration) throws {}

    func query(_ request: QueryRequest, _ operation: Operation) async throws -> JSONValue {
        do {
            let request = HTTPRequest.idempotent("GET", "https://vendor.example/", credential: nil)
            return .int(Int64(try await operation.http(request).status))
        } catch let failure as HTTPFailure {
            return .string(failure.code)
        }
    }
}

/// The host that a script needs before there is one.
private final class LateHost: Sendable {
    private let state = Mutex<FakeHost?>(nil)
    var value: FakeHost? {
        get { state.withLock { $0 } }
        set { state.withLock { $0 = newValue } }
    }
}

extension SerializedKit {
    @Suite("giving up requests", .timeLimit(.minutes(1)))
    struct CancellingTests {
        @Test("a request that the host did not know yet when its operation was cancelled is given up all the same")
        func betweenTokenAndSubmission() async throws {
            let late = LateHost()
            // The cancel comes when the plugin has its token and the host does not know the request: what the plugin then
            // says about the token is in vain, and must be said again.
            let host = try #require(
                FakeHost(AskingPlugin.self, configuration: ["connection": "c"]) { _ in
                    late.value?.cancel(1)
                    return .hangs(.neverSent)
                })
            late.value = host
            let (op, status) = host.start(MP_VERB_QUERY, ["query": "ask"])
            #expect(op == 1 && status == MP_OK)
            #expect(await host.completion(of: op).body["result"] == "cancelled")
            host.destroy()
        }
    }
}
