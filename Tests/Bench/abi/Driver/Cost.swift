// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostPluginHost

/// What one operation costs between the engine's `perform` and its answer, in both isolation modes.
///
///     abi-cost PLUGIN_FOLDER WORKER OPERATIONS
///
/// Asks the C plugin `echo` of the folder for `ping`, which it completes inside the verb, so that all that is measured
/// is the host, the boundary and, for the worker, two frames. Prints one JSON object a line.
@main
struct Cost {
    static func main() async throws {
        guard CommandLine.arguments.count == 4, let operations = Int(CommandLine.arguments[3]), operations >= 64 else {
            print("usage: abi-cost PLUGIN_FOLDER WORKER OPERATIONS")
            return
        }
        for isolation in PluginIsolation.allCases {
            let host = PluginHost(
                directories: [CommandLine.arguments[1]], workerExecutable: CommandLine.arguments[2],
                services: NoServices(), configuration: relaxed)
            let plugin = try await host.load(PluginName("echo"), isolation: isolation)
            let instance = try await plugin.makeInstance(
                connection: ConnectionID("con_bench"), config: Array("{}".utf8))
            for depth in [1, 64] {
                let count = depth == 1 ? operations / 8 : operations
                _ = await measure(instance, depth: depth, count: count / 4)  // warms caches and the scheduler
                let microseconds = try await measure(instance, depth: depth, count: count).get()
                print("{\"isolation\":\"\(isolation.rawValue)\",\"depth\":\(depth),\"us\":\(microseconds)}")
            }
            await host.shutdown()
        }
    }

    private static var relaxed: PluginHostConfiguration {
        var configuration = PluginHostConfiguration()
        configuration.allowsBestEffortSandbox = true
        return configuration
    }

    /// Wall time of an operation, in microseconds: of each with depth 1, of the stream's share with more under way.
    private static func measure(_ instance: PluginInstance, depth: Int, count: Int) async -> Result<Double, Failure> {
        let each = max(1, count / depth)
        let clock = ContinuousClock()
        let started = clock.now
        let failures = await withTaskGroup(of: Int.self) { group in
            for _ in 0..<depth {
                group.addTask {
                    var failures = 0
                    for _ in 0..<each {
                        let result = await instance.perform(.ping, body: Array("{}".utf8), timeout: .seconds(10))
                        if result.status != .ok { failures += 1 }
                    }
                    return failures
                }
            }
            return await group.reduce(0, +)
        }
        let spent = clock.now - started
        guard failures == 0 else { return .failure(Failure(operations: failures)) }
        let nanoseconds = Double(spent.components.seconds) * 1e9 + Double(spent.components.attoseconds) / 1e9
        return .success(nanoseconds / 1000 / Double(each * depth))
    }
}

struct Failure: Error {
    let operations: Int
}

/// The plugin is asked for nothing that needs a service.
struct NoServices: PluginServices {
    func submitHTTP(_ call: PluginHTTPCall, for connection: ConnectionID) async -> PluginHTTPResult {
        PluginHTTPResult(callStatus: PluginCallStatus.unsupported, wire: 0, httpStatus: 0, json: [], body: [])
    }

    func storeJournal(
        connection: ConnectionID, op: UInt64, record: UInt32, step: String, result: [UInt8]
    ) async -> Int32 { PluginCallStatus.unsupported }

    func keyValue(_ request: KeyValueRequest, for connection: ConnectionID) async -> KeyValueResult {
        KeyValueResult(callStatus: PluginCallStatus.unsupported, json: [])
    }

    func sign(_ request: PluginSignatureRequest, for connection: ConnectionID) async -> PluginSignatureResult {
        PluginSignatureResult(callStatus: PluginCallStatus.unsupported, signature: [])
    }

    func credentialInfo(_ name: String, for connection: ConnectionID) -> [UInt8]? { nil }
    func credentialRejected(_ name: String, reason: String, op: UInt64, for connection: ConnectionID) {}
    func log(_ line: PluginLogLine) {}
    func metric(_ metric: PluginMetric) {}
}
