// SPDX-License-Identifier: Apache-2.0

import Glibc
import MilepostModel
import MilepostPluginHost
import Synchronization

/// A folder of freshly compiled test plugins, with the services a host needs, gone at the end.
final class PluginBench: Sendable {
    let folder: String
    let services = FakeServices()
    let host: PluginHost

    /// - Parameter variants: which plugins to build, by name.
    init(_ variants: [Variant], configure: (inout PluginHostConfiguration) -> Void = { _ in }) throws {
        folder = try Workshop.makeFolder()
        for variant in variants { try variant.build(into: folder) }
        var configuration = PluginHostConfiguration()
        configuration.grace = .milliseconds(200)
        configuration.heartbeatInterval = .milliseconds(100)
        configuration.backoffBase = .milliseconds(10)
        configuration.createBudget = .seconds(2)
        configure(&configuration)
        host = PluginHost(
            directories: [folder], workerExecutable: try Workshop.worker.get(), services: services,
            configuration: configuration)
    }

    func load(_ name: String, _ isolation: PluginIsolation = .worker) async throws -> LoadedPlugin {
        try await host.load(PluginName(name), isolation: isolation)
    }

    func instance(
        _ name: String, _ isolation: PluginIsolation = .worker, connection: String = "con_1", config: String = "{}"
    ) async throws -> PluginInstance {
        try await load(name, isolation).makeInstance(connection: ConnectionID(connection), config: Array(config.utf8))
    }

    func health(_ name: String) -> PluginHealth? { host.status().first { $0.name == PluginName(name) } }

    func close() async {
        await host.shutdown()
        Workshop.remove(folder)
    }
}

/// One compiled plugin: its source, its manifest, and what is wrong with it.
struct Variant: Sendable {
    var name: String
    var source: String
    var definitions: [String] = []
    /// Keys of the manifest to replace, as JSON text.
    var manifest: [String: String] = [:]
    /// Written to the file instead of the manifest that the code describes.
    var sidecar: String?
    var mode: mode_t = 0o644

    static let echo = Variant(name: "echo", source: "echo/echo.c")
    static let zoo = Variant(name: "zoo", source: "zoo/zoo.c")

    func with(_ change: (inout Variant) -> Void) -> Variant {
        var copy = self
        change(&copy)
        return copy
    }

    var manifestText: String {
        var keys = [
            "manifest": "1", "id": "\"dev.milepost.test.\(name)\"", "name": "\"\(name)\"", "title": "\"Test \(name)\"",
            "version": "\"0.1.0\"", "license": "\"Apache-2.0\"", "abi": "{\"major\":1,\"min_host_minor\":0}",
            "kinds": "[\"destination\"]",
            "egress": "[{\"hosts\":[\"api.example.com\"],\"ports\":[443],\"methods\":[\"POST\"]}]",
            "auth": "[{\"scheme\":\"api_key\",\"credential\":\"api_token\",\"placements\":"
                + "[{\"name\":\"header\",\"in\":\"header\",\"header\":\"x-token\",\"template\":\"{secret}\"}]}]",
            "limits": "{\"memory_mb\":64,\"threads\":8}",
        ]
        keys.merge(manifest) { $1 }
        return "{" + keys.sorted { $0.key < $1.key }.map { "\"\($0.key)\":\($0.value)" }.joined(separator: ",") + "}"
    }

    func build(into folder: String) throws {
        let text = manifestText
        let library = "\(folder)/\(name).so"
        try Workshop.copy(try Workshop.library(source, definitions: definitions, manifest: text), to: library)
        try Workshop.write(sidecar ?? text, to: "\(folder)/\(name).json")
        unsafe chmod(library, mode == 0o644 ? 0o755 : mode)
    }
}

struct WorkshopFailure: Error, CustomStringConvertible {
    let description: String
}

/// Compiling and files, for tests only.
enum Workshop {
    static let repository = String(#filePath).components(before: "/Tests/")

    /// Holds what is compiled once for the run; nobody owns it, so it goes when the process ends.
    private static let compiled: Result<String, WorkshopFailure> = {
        do {
            let folder = try makeFolder()
            atexit { if case .success(let folder) = Workshop.compiled { Workshop.remove(folder) } }
            return .success(folder)
        } catch {
            return .failure(WorkshopFailure(description: "\(error)"))
        }
    }()

    /// The launcher, compiled once for the run from the sources that the package builds.
    static let worker: Result<String, WorkshopFailure> = {
        do {
            let path = try compiled.get() + "/milepost-plugin-worker"
            let sources = [
                "main", "channel", "filter", "sandbox", "outbox", "instances", "facts", "host_table", "thread_facts",
            ]
            .map { "\(repository)/Sources/plugin-worker/\($0).c" }
            try run(
                "cc",
                [
                    "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-Wl,--export-dynamic-symbol=open",
                    "-I",
                    "\(repository)/include", "-o", path,
                ] + sources)
            return .success(path)
        } catch {
            return .failure(WorkshopFailure(description: "\(error)"))
        }
    }()

    private static let libraries = Mutex<[String: String]>([:])

    /// A compiled plugin; each kind is compiled once a run.
    static func library(_ source: String, definitions: [String], manifest: String) throws -> String {
        let key = ([source, manifest] + definitions).joined(separator: "\n")
        return try libraries.withLock { libraries in
            if let known = libraries[key] { return known }
            let path = try compiled.get() + "/plugin\(libraries.count).so"
            let quoted = manifest.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
            try run(
                "cc",
                [
                    "-std=gnu11", "-O1", "-shared", "-fPIC", "-pthread", "-I", "\(repository)/include",
                    "-DMANIFEST=\"\(quoted)\"", "-o", path, "\(repository)/Tests/Plugins/\(source)",
                ] + definitions)
            libraries[key] = path
            return path
        }
    }

    static func copy(_ source: String, to target: String) throws { try run("cp", [source, target]) }

    static func makeFolder() throws -> String {
        var template = Array("/tmp/milepost-plugins-XXXXXX".utf8CString)
        let made = unsafe template.withUnsafeMutableBufferPointer { unsafe mkdtemp($0.baseAddress!) != nil }
        guard made else { throw WorkshopFailure(description: "no temporary folder") }
        return String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    static func remove(_ folder: String) { _ = try? run("rm", ["-rf", folder]) }  // a left folder harms nobody

    static func write(_ text: String, to path: String) throws {
        let descriptor = unsafe creat(path, 0o644)
        guard descriptor >= 0 else { throw WorkshopFailure(description: "cannot write \(path)") }
        defer { Glibc.close(descriptor) }
        let bytes = Array(text.utf8)
        let written = unsafe bytes.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
        guard written == bytes.count else { throw WorkshopFailure(description: "short write to \(path)") }
    }

    /// Nil when the file is not there.
    static func read(_ path: String) -> [UInt8]? {
        let descriptor = unsafe open(path, O_RDONLY)
        guard descriptor >= 0 else { return nil }
        defer { Glibc.close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        let count = unsafe bytes.withUnsafeMutableBytes { unsafe Glibc.read(descriptor, $0.baseAddress, $0.count) }
        return count < 0 ? nil : Array(bytes.prefix(count))
    }

    static func run(_ program: String, _ arguments: [String]) throws {
        var copies: [UnsafeMutablePointer<CChar>?] = unsafe ([program] + arguments).map { unsafe strdup($0) }
        unsafe copies.append(nil)
        defer { unsafe copies.forEach { unsafe free($0) } }
        var process: pid_t = 0
        let error = unsafe copies.withUnsafeBufferPointer {
            unsafe posix_spawnp(&process, program, nil, nil, $0.baseAddress!, environ)
        }
        guard error == 0 else { throw WorkshopFailure(description: "\(program): error \(error)") }
        var status: Int32 = 0
        while unsafe waitpid(process, &status, 0) < 0 && errno == EINTR {}
        guard status == 0 else {
            throw WorkshopFailure(description: "\(program) \(arguments.joined(separator: " ")): status \(status)")
        }
    }
}

extension String {
    fileprivate func components(before part: String) -> String {
        guard let range = firstRange(of: part) else { return self }
        return String(self[..<range.lowerBound])
    }
}

/// Services that remember what they were asked and answer what they were told to.
final class FakeServices: PluginServices {
    struct Record {
        var calls: [PluginHTTPCall] = []
        var finishedCalls = 0
        var journal: [String] = []
        var values: [[UInt8]: [UInt8]] = [:]
        var lines: [PluginLogLine] = []
        var metrics: [PluginMetric] = []
        var answer: [UInt8] = Array("{\"id\":501}".utf8)
        var delay: Duration?
        var cancelled = 0
    }
    private let record = Mutex(Record())

    var seen: Record { record.withLock { $0 } }
    func set(answer: [UInt8]) { record.withLock { $0.answer = answer } }
    func set(delay: Duration) { record.withLock { $0.delay = delay } }

    func submitHTTP(_ call: PluginHTTPCall, for connection: ConnectionID) async -> PluginHTTPResult {
        let (answer, delay) = record.withLock { record in
            record.calls.append(call)
            return (record.answer, record.delay)
        }
        if let delay {
            do { try await Task.sleep(for: delay) } catch { record.withLock { $0.cancelled += 1 } }
        }
        record.withLock { $0.finishedCalls += 1 }
        return PluginHTTPResult(
            callStatus: PluginCallStatus.ok, wire: 2, httpStatus: 201, json: Array("{\"status\":201}".utf8),
            body: answer)
    }

    func storeJournal(
        connection: ConnectionID, op: UInt64, record index: UInt32, step: String, result: [UInt8]
    ) async -> Int32 {
        record.withLock { $0.journal.append("\(index) \(step) \(String(decoding: result, as: UTF8.self))") }
        return PluginCallStatus.ok
    }

    func keyValue(_ request: KeyValueRequest, for connection: ConnectionID) async -> KeyValueResult {
        record.withLock { record in
            switch request {
            case .put(let key, let value, _, _):
                record.values[key] = value
                return KeyValueResult(callStatus: PluginCallStatus.ok, json: Array("{\"version\":1}".utf8))
            case .get(let key):
                let value = record.values[key]
                return KeyValueResult(
                    callStatus: value == nil ? PluginCallStatus.notFound : PluginCallStatus.ok,
                    json: Array("{\"version\":1}".utf8), value: value)
            case .delete, .list: return KeyValueResult(callStatus: PluginCallStatus.unsupported, json: [])
            }
        }
    }

    func sign(_ request: PluginSignatureRequest, for connection: ConnectionID) async -> PluginSignatureResult {
        PluginSignatureResult(callStatus: PluginCallStatus.ok, signature: [UInt8](repeating: 7, count: 32))
    }

    func credentialInfo(_ name: String, for connection: ConnectionID) -> [UInt8]? {
        name == "api_token" ? Array("{\"scheme\":\"api_key\"}".utf8) : nil
    }

    func credentialRejected(_ name: String, reason: String, op: UInt64, for connection: ConnectionID) {}
    func log(_ line: PluginLogLine) { record.withLock { $0.lines.append(line) } }
    func metric(_ metric: PluginMetric) { record.withLock { $0.metrics.append(metric) } }
}

extension PluginInstance {
    func ask(_ verb: PluginVerb, _ body: String = "{}", timeout: Duration = .seconds(10)) async -> OperationResult {
        await perform(verb, body: Array(body.utf8), timeout: timeout)
    }
}

extension OperationResult {
    var text: String { String(decoding: body, as: UTF8.self) }
}
