// SPDX-License-Identifier: Apache-2.0

internal import Synchronization

/// What every part of the host shares.
final class HostCore: Sendable {
    let services: any PluginServices
    let clock: PluginClock
    let configuration: PluginHostConfiguration
    let workerExecutable: String
    let loop: EventLoop
    private let leastLevel: Atomic<Int32>
    /// One source for operations, instances and blobs, for all hosts of the process: no id is ever used twice.
    private static let nextID = Atomic<UInt64>(1)

    init(services: any PluginServices, clock: PluginClock, configuration: PluginHostConfiguration, worker: String) {
        self.services = services
        self.clock = clock
        self.configuration = configuration
        self.workerExecutable = worker
        leastLevel = Atomic(configuration.logLevel)
        loop = EventLoop(clock: clock, idleInterval: configuration.heartbeatInterval.nanoseconds)
    }

    /// The least level that plugins are asked to log; see `PluginHost.setLogLevel`.
    var logLevel: Int32 {
        get { leastLevel.load(ordering: .relaxed) }
        set { leastLevel.store(newValue, ordering: .relaxed) }
    }

    func makeID() -> UInt64 { Self.nextID.wrappingAdd(1, ordering: .relaxed).oldValue }
    var now: UInt64 { clock.monotonicNanoseconds() }
}

/// Errors that the host itself reports in place of the plugin, in the shape of schemas/error.json.
enum HostError {
    static func json(code: String, message: String) -> [UInt8] {
        Array("{\"code\":\"\(code)\",\"message\":\(quoted(message))}".utf8)
    }

    static func quoted(_ text: String) -> String {
        var result = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": result += "\\\""
            case "\\": result += "\\\\"
            case "\n": result += "\\n"
            default:
                if scalar.value < 0x20 {
                    let hex = String(scalar.value, radix: 16)
                    result += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
                } else {
                    result.unicodeScalars.append(scalar)
                }
            }
        }
        return result + "\""
    }
}
