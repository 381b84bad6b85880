// SPDX-License-Identifier: Apache-2.0

import Foundation
import MilepostEgress
import MilepostEngine
import MilepostModel
import MilepostPluginHost
import MilepostStore
import Synchronization

/// The engine's own plugin port with a real worker and a C plugin in it, and a network that does what the test says.
struct WorkerBench {
    let plugins: HostedPlugins
    let egress: HeldEgress
    private let host: PluginHost
    private let folder: String

    static let repository = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().deletingLastPathComponent().path
    /// As much of a manifest as the host asks for. The name is that of `World`'s connection.
    static let manifest = #"""
        {"manifest":1,"id":"dev.milepost.test.bad","name":"pipedrive","title":"Bad","version":"0.1.0","license":"Apache-2.0",
        "abi":{"major":1,"min_host_minor":0},"kinds":["destination"],"endpoints":{"api":{"default":"https://api.example.com"}},
        "egress":[{"hosts":["api.example.com"],"ports":[443],"methods":["POST"]}],
        "auth":[{"scheme":"api_key","credential":"api_token","placements":
        [{"name":"header","in":"header","header":"x-token","template":"{secret}"}]}],
        "actions":[{"name":"deal","title":"Deal","trigger":"threshold","batch":{"max_records":10},"idempotency":"search",
        "read_lag_ms":3000,"reconcile":true}],"limits":{"memory_mb":64,"threads":8}}
        """#.replacingOccurrences(of: "\n", with: "")

    init(_ world: World, operationTimeout: Duration) async throws {
        folder = world.directory + "/plugins"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        try Data(Self.manifest.utf8).write(to: URL(filePath: folder + "/pipedrive.json"))
        let include = "-I\(Self.repository)/include"
        let quoted = Self.manifest.replacingOccurrences(of: "\"", with: "\\\"")
        try Self.compile([
            "-shared", "-fPIC", include, "-DMANIFEST=\"\(quoted)\"", "-o", folder + "/pipedrive.so",
            "\(Self.repository)/Tests/Plugins/destinations/destination.c",
        ])
        let worker = folder + "/worker"
        let sources = ["main", "channel", "filter", "sandbox", "outbox", "instances", "facts", "host_table"]
            .map { "\(Self.repository)/Sources/plugin-worker/\($0).c" }
        try Self.compile(["-pthread", include, "-o", worker] + sources)
        egress = HeldEgress()
        let gateway = PluginGateway(
            store: world.store, egress: egress, limiter: RateLimiter(clock: world.clock), clock: world.clock,
            settings: .init(), log: { _ in }, count: { _ in })
        var configuration = PluginHostConfiguration()
        configuration.grace = .milliseconds(200)
        configuration.backoffBase = .milliseconds(10)
        host = PluginHost(
            directories: [folder], workerExecutable: worker, services: gateway, configuration: configuration)
        plugins = HostedPlugins(
            host: host, gateway: gateway, operationTimeout: operationTimeout, requestTimeout: .seconds(1))
        await plugins.apply(["pipedrive": .init(isolation: .worker)])
    }

    func close() async { await host.shutdown() }

    private static func compile(_ arguments: [String]) throws {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = ["cc", "-std=gnu11", "-O1"] + arguments
        try process.run()
        process.waitUntilExit()
        guard process.terminationStatus == 0 else {
            throw CocoaError(.executableLoad, userInfo: ["arguments": arguments.joined(separator: " ")])
        }
    }
}

/// A network that can be held up before a request leaves, as a closed budget does.
final class HeldEgress: Egress {
    private struct State {
        var isHeld = false
        var held: [CheckedContinuation<Void, Never>] = []
        var sent = 0
        var responseCap = 0
        var kept = 0
        var onSend: (@Sendable () async -> Void)?
        /// nil: the answer is lost.
        var status: Int? = 201
    }
    private let state = Mutex(State())

    /// Requests that left.
    var sent: Int { state.withLock { $0.sent } }
    /// How much of its answer the last of them would be given.
    var responseCap: Int { state.withLock { $0.responseCap } }
    /// Requests that were not let out in the end.
    var kept: Int { state.withLock { $0.kept } }
    var waiting: Int { state.withLock { $0.held.count } }

    func hold() { state.withLock { $0.isHeld = true } }
    func release() {
        let held = state.withLock { state in
            defer { state.held = [] }
            state.isHeld = false
            return state.held
        }
        for continuation in held { continuation.resume() }
    }
    /// Called in the moment in which the bytes leave.
    func onSend(_ body: @escaping @Sendable () async -> Void) { state.withLock { $0.onSend = body } }

    /// What the next requests are answered with; nil loses their answers.
    func answer(_ status: Int?) { state.withLock { $0.status = status } }

    func send(_ request: EgressRequest, beforeSend: @Sendable () async throws -> Void) async -> EgressOutcome {
        await withCheckedContinuation { continuation in
            let isHeld = state.withLock { state in
                if state.isHeld { state.held.append(continuation) }
                return state.isHeld
            }
            if !isHeld { continuation.resume() }
        }
        do { try await beforeSend() } catch {
            state.withLock { $0.kept += 1 }
            return EgressOutcome(wire: .neverSent, failure: EgressFailure(code: .beforeSendFailed, message: "\(error)"))
        }
        let onSend = state.withLock { state in
            state.sent += 1
            state.responseCap = request.responseCap
            return state.onSend
        }
        await onSend?()
        guard let status = state.withLock({ $0.status }) else {
            return EgressOutcome(wire: .maybeSent, failure: EgressFailure(code: .reset, message: "cut"))
        }
        return EgressOutcome(wire: .answered, response: EgressResponse(status: status, headers: [], body: []))
    }
}
