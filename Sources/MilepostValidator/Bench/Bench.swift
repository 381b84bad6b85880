// SPDX-License-Identifier: Apache-2.0

internal import CMilepostLinux
internal import MilepostModel
internal import MilepostPluginHost
internal import Synchronization

/// The real plugin host with the mock vendor on its other side.
final class Bench: Sendable {
    let subject: Subject
    let manifest: JSONValue
    let isolation: PluginIsolation
    let vendor: MockVendor
    let host: PluginHost
    let wall: WallClock

    init(
        _ subject: Subject, _ isolation: PluginIsolation, configure: (inout PluginHostConfiguration) -> Void = { _ in }
    ) throws {
        self.subject = subject
        self.isolation = isolation
        manifest = try subject.manifest()
        wall = WallClock()
        let clock = wall.clock
        vendor = MockVendor(subject, clock: clock, manifest: manifest)
        var configuration = PluginHostConfiguration()
        configuration.logLevel = 0
        configuration.logLinesPerSecond = 1_000_000
        configuration.backoffBase = .milliseconds(10)
        // A check that kills workers on purpose is no reason for a quarantine.
        configuration.quarantineCrashes = 1000
        configure(&configuration)
        host = PluginHost(
            directories: [subject.folder], workerExecutable: subject.workerExecutable, services: vendor, clock: clock,
            configuration: configuration)
    }

    func load() async throws -> LoadedPlugin {
        do { return try await host.load(subject.name, isolation: isolation) } catch {
            throw fail("the host refuses it: \(error.detail)")
        }
    }

    /// An instance with a configuration that works, unless told otherwise.
    func instance(
        connection: String = "con_1", settings: JSONValue? = nil, endpoints: [String: String]? = nil
    ) async throws -> PluginInstance {
        let plugin = try await load()
        let config = configuration(connection: connection, settings: settings, endpoints: endpoints)
        do { return try await plugin.makeInstance(connection: ConnectionID(connection), config: config.bytes) } catch {
            throw fail("create refuses a configuration that should work: \(error)")
        }
    }

    func configuration(
        connection: String = "con_1", settings: JSONValue? = nil, endpoints: [String: String]? = nil
    ) -> JSONValue {
        let json = subject.configuration(
            manifest, connection: connection, settings: settings, endpoints: endpoints)
        let addresses = (json["endpoints"]?.object ?? [:]).compactMapValues(\.string)
        let texts = (json["settings"]?.object ?? [:]).values.compactMap(\.string)
        vendor.change { state in
            state.endpoints.merge(addresses) { $1 }
            // An address among the settings is an administrator's own receiver.
            state.settingsHosts.formUnion(texts.filter { $0.hasPrefix("http") }.compactMap { HostPattern.host(of: $0) })
        }
        return json
    }

    /// Ends well or not: the process ends with the check, so nothing is kept waiting.
    func close() async { await host.shutdown() }

    var health: PluginHealth? { host.status().first { $0.name == subject.name } }

    /// Rules that the host saw broken.
    func expectNoMisbehaviour() throws {
        if let sentence = health?.lastMisbehaviour, !sentence.contains("in one call for") {
            throw fail("the host noted: \(sentence)")
        }
    }
}

extension PluginInstance {
    func ask(_ verb: PluginVerb, _ body: JSONValue = .object([:]), timeout: Duration = .seconds(10)) async
        -> OperationResult
    {
        await perform(verb, body: body.bytes, timeout: timeout)
    }
}

extension OperationResult {
    var json: JSONValue? {
        try? JSONValue(parsing: body, limits: JSONLimits(bytes: 16 << 20, depth: 64))
    }

    /// Status and the error's words, for a sentence.
    var shown: String {
        let error = json
        guard let code = error?["code"]?.string else { return "\(status)" }
        return "\(status) (\(code): \(error?["message"]?.string ?? ""))"
    }

    /// Fails the check when the verb's result does not fit its schema.
    func expectFits(_ schema: String, _ what: String) throws {
        let file = status == .ok ? schema : "error.json"
        // A refusal without a body is the host's to word.
        if status != .ok, body.isEmpty { return }
        if let problem = Schemas.problem(body, file) {
            throw fail("\(what): its answer does not fit \(file): \(problem)")
        }
    }
}

/// A wall clock that a check may move; the monotonic one is the machine's, because deadlines cross to workers.
final class WallClock: Sendable {
    private let offset = Mutex<Int64>(0)
    private let frozen = Mutex<UInt64?>(nil)

    /// Stops the wall; it may still be moved.
    func freeze() { frozen.withLock { $0 = milepost_wall_ns() } }
    func freeze(at moment: Timestamp) { frozen.withLock { $0 = UInt64(moment.milliseconds) * 1_000_000 } }

    func move(by seconds: Int64) { offset.withLock { $0 += seconds } }
    /// Sets the wall to a moment.
    func set(_ moment: Timestamp) {
        let wall = Int64(milepost_wall_ns() / 1_000_000)
        offset.withLock { $0 = (moment.milliseconds - wall) / 1000 }
    }

    var clock: PluginClock {
        PluginClock(
            monotonicNanoseconds: { milepost_monotonic_ns() },
            wallNanoseconds: { [self] in
                let seconds = offset.withLock { $0 }
                let wall = frozen.withLock { $0 } ?? milepost_wall_ns()
                return UInt64(max(0, Int64(wall) + seconds * 1_000_000_000))
            },
            sleep: { try await Task.sleep(for: $0) })
    }
}

extension Subject {
    /// schemas/instance.json
    func configuration(
        _ manifest: JSONValue, connection: String = "con_1", settings: JSONValue? = nil,
        endpoints: [String: String]? = nil
    ) -> JSONValue {
        let standard = (manifest["endpoints"]?.object ?? [:]).compactMapValues { $0["default"]?.string }
        let credentials = (manifest["auth"]?.array ?? []).prefix(1).map { auth -> JSONValue in
            [
                "ref": JSONValue(auth.credentialName), "scheme": auth["scheme"] ?? "none", "account": nil,
                "expires_at": nil, "scopes": [],
            ]
        }
        return [
            "plugin": .string(name.rawValue), "connection": .string(connection), "workspace": "acme", "account": nil,
            "settings": settings ?? self.settings(manifest),
            "endpoints": .object(standard.merging(endpoints ?? [:]) { $1 }.mapValues(JSONValue.string)),
            "credentials": .array(credentials), "request_timeout_ms": 30000,
        ]
    }

    /// Settings that should work: the script's, else the schema's defaults and a sample of each required one.
    func settings(_ manifest: JSONValue) -> JSONValue {
        if let given = script.settings { return given }
        let schema = manifest["config_schema"]
        let required = Set((schema?["required"]?.array ?? []).compactMap(\.string))
        var members: [String: JSONValue] = [:]
        for (name, property) in schema?["properties"]?.object ?? [:] {
            if let standard = property["default"] {
                members[name] = standard
            } else if required.contains(name) {
                members[name] = SampleSetting.valid(property)
            }
        }
        return .object(members)
    }
}

/// Values for a setting, by its schema.
enum SampleSetting {
    static func valid(_ property: JSONValue) -> JSONValue {
        if let first = property["enum"]?.array?.first { return first }
        switch property["type"]?.string {
        case "integer": return .integer(property["minimum"]?.integer ?? 1)
        case "number": return property["minimum"] ?? .integer(1)
        case "boolean": return true
        case "array": return []
        case "object": return [:]
        default:
            if property["format"]?.string == "uri" { return "https://receiver.example.com/hook" }
            return "sample"
        }
    }

    /// A value of a type that the setting cannot have.
    static func wrong(_ property: JSONValue) -> JSONValue {
        switch property["type"]?.string {
        case "object": 7
        case "array": "no list"
        case "boolean": ["neither": "yes nor no"]
        case "string": ["no": "text"]
        default: ["no": "number"]
        }
    }
}
