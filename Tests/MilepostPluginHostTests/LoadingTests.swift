// SPDX-License-Identifier: Apache-2.0

import Glibc
import MilepostModel
import MilepostPluginHost
import Testing

/// Every refusal has its code and one clear sentence in error, log, status and metric (EXT-01).
@Suite(.timeLimit(.minutes(10)))
struct LoadingTests {
    struct Refusal: Sendable, CustomTestStringConvertible {
        let code: PluginLoadError.Code
        let says: String
        let variant: Variant
        var onlyWorker = false
        var testDescription: String { "\(code.rawValue): \(says)" }
    }

    static let refusals: [Refusal] = [
        Refusal(
            code: .entryMissing, says: "does not export milepost_plugin_v1",
            variant: .echo.with { $0.definitions = ["-DENTRY=milepost_plugin_v2"] }),
        Refusal(
            code: .abiMajorMismatch, says: "asks for ABI 2",
            variant: .echo.with { $0.manifest["abi"] = "{\"major\":2,\"min_host_minor\":0}" }),
        Refusal(
            code: .hostTooOld, says: "needs ABI 1.9",
            variant: .echo.with { $0.manifest["abi"] = "{\"major\":1,\"min_host_minor\":9}" }),
        Refusal(
            code: .hostTooOld, says: "needs ABI 1.9", variant: .echo.with { $0.definitions = ["-DMIN_HOST_MINOR=9"] }),
        Refusal(
            code: .manifestDisagrees, says: "differs from what the code describes",
            variant: .echo.with { $0.sidecar = $0.manifestText.replacing("0.1.0", with: "0.2.0") }),
        Refusal(
            code: .manifestDisagrees, says: "needs the verb reconcile",
            variant: .zoo.with { $0.manifest["actions"] = "[{\"name\":\"deal\",\"idempotency\":\"none\"}]" }),
        Refusal(
            code: .manifestInvalid, says: "lacks 'abi'",
            variant: .echo.with { $0.sidecar = "{\"id\":\"a.b\",\"name\":\"echo\",\"title\":\"x\",\"version\":\"1\"}" }),
        Refusal(code: .manifestInvalid, says: "is not valid JSON", variant: .echo.with { $0.sidecar = "{]" }),
        Refusal(
            code: .manifestInvalid, says: "nests deeper",
            variant: .echo.with { $0.sidecar = String(repeating: "[", count: 100_000) }),
        Refusal(
            code: .manifestInvalid, says: "more than",
            variant: .echo.with { $0.sidecar = String(repeating: " ", count: 300_000) }),
        Refusal(
            code: .manifestInvalid, says: "file stem and name must be the same",
            variant: .echo.with { $0.manifest["name"] = "\"other\"" }),
        // RTLD_NOW: a missing symbol is found at load, not at the first delivery.
        Refusal(
            code: .loadFailed, says: "nobody_defines_this",
            variant: .echo.with { $0.definitions = ["-DCALLS_NOTHING"] }),
        Refusal(code: .fileUntrusted, says: "writable", variant: .echo.with { $0.mode = 0o666 }),
        Refusal(
            code: .describeTooSlow, says: "its describe took",
            variant: .zoo.with { $0.definitions = ["-DSLOW_DESCRIBE"] }),
    ]

    @Test("a plugin that does not fit is refused with a sentence", arguments: refusals, PluginIsolation.allCases)
    func refuses(refusal: Refusal, isolation: PluginIsolation) async throws {
        let bench = try PluginBench([refusal.variant])
        let name = refusal.variant.name
        let error = await #expect(throws: PluginLoadError.self) { _ = try await bench.load(name, isolation) }
        #expect(error?.code == refusal.code)
        #expect(error?.detail.contains(refusal.says) == true, "\(error?.detail ?? "")")
        let health = try #require(bench.health(name))
        #expect(health.state == .refused && health.reason == error?.detail)
        #expect(bench.services.seen.lines.contains { $0.level == 4 && $0.message.contains(error?.detail ?? "?") })
        let metric = PluginMetric.host(plugin: PluginName(name), event: "refused", code: refusal.code.rawValue)
        #expect(bench.services.seen.metrics.filter { $0 == metric }.count == 1)
        await bench.close()
    }

    @Test("what is not there is absent, and says which file")
    func absent() async throws {
        let bench = try PluginBench([.echo])
        let error = await #expect(throws: PluginLoadError.self) { _ = try await bench.load("ghost") }
        #expect(error?.code == .manifestMissing && error?.detail.contains("ghost.json") == true)
        #expect(bench.health("ghost")?.state == .absent)
        unsafe unlink("\(bench.folder)/echo.so")
        let missing = await #expect(throws: PluginLoadError.self) { _ = try await bench.load("echo") }
        #expect(missing?.code == .fileMissing && missing?.detail.contains("echo.so") == true)
        try Workshop.write("no object file", to: "\(bench.folder)/echo.so")
        let broken = await #expect(throws: PluginLoadError.self) { _ = try await bench.load("echo") }
        #expect(broken?.code == .loadFailed)
        await bench.close()
    }

    @Test("a link, a stranger's file and a folder open to all are untrusted (decision 19)")
    func untrusted() async throws {
        let bench = try PluginBench([.echo])
        unsafe rename("\(bench.folder)/echo.so", "\(bench.folder)/real.so")
        unsafe symlink("real.so", "\(bench.folder)/echo.so")
        let link = await #expect(throws: PluginLoadError.self) { _ = try await bench.load("echo") }
        #expect(link?.code == .fileUntrusted && link?.detail.contains("symbolic link") == true)
        unsafe rename("\(bench.folder)/real.so", "\(bench.folder)/echo.so")
        unsafe chmod(bench.folder, 0o777)
        let folder = await #expect(throws: PluginLoadError.self) { _ = try await bench.load("echo") }
        #expect(folder?.code == .fileUntrusted)
        unsafe chmod(bench.folder, 0o700)
        let strangers = PluginHost(
            directories: [bench.folder], workerExecutable: try Workshop.worker.get(), services: bench.services,
            trustedUIDs: [4_000_000])
        let stranger = await #expect(throws: PluginLoadError.self) {
            _ = try await strangers.load(PluginName("echo"), isolation: .worker)
        }
        #expect(stranger?.code == .fileUntrusted && stranger?.detail.contains("belongs to uid") == true)
        await strangers.shutdown()
        #expect(try await bench.load("echo").manifest.version == "0.1.0")
        await bench.close()
    }

    @Test("discovery reads manifests and runs nothing")
    func discovers() async throws {
        let bench = try PluginBench([.echo, .zoo.with { $0.sidecar = "{" }])
        let found = bench.host.discover()
        #expect(found.map(\.name) == ["echo", "zoo"])
        #expect(try found[0].manifest.get().memoryMegabytes == 64)
        #expect(throws: PluginLoadError.self) { try found[1].manifest.get() }
        #expect(bench.host.status().isEmpty)
        await bench.close()
    }

    @Test(
        "an unloaded plugin can be loaded again, in the other mode as well (EXT-01)",
        arguments: PluginIsolation.allCases)
    func unloads(isolation: PluginIsolation) async throws {
        let bench = try PluginBench([.echo])
        let instance = try await bench.instance("echo", isolation)
        #expect(await instance.ask(.ping).status == .ok)
        await bench.host.unload(PluginName("echo"))
        #expect(bench.host.status().isEmpty)
        #expect(await instance.ask(.ping).text.contains("plugin_closed"))
        let again = try await bench.instance("echo", isolation == .inline ? .worker : .inline)
        #expect(await again.ask(.ping).status == .ok)
        await bench.close()
    }

    @Test("the manifests of the plugins in this repository can be read")
    func ourManifests() async throws {
        for name in ["pipedrive", "hubspot", "custom-hook"] {
            guard let text = Workshop.read("\(Workshop.repository)/Plugins/\(name)/\(name).json") else { continue }
            let manifest = try PluginManifest(parsing: text, name: PluginName(name))
            #expect(manifest.actions?.isEmpty == false, "\(name)")
        }
    }

    @Test("a worker without its launcher is refused with the path")
    func noLauncher() async throws {
        let bench = try PluginBench([.echo])
        let host = PluginHost(
            directories: [bench.folder], workerExecutable: "/nonexistent/milepost-plugin-worker",
            services: bench.services)
        let error = await #expect(throws: PluginLoadError.self) {
            _ = try await host.load(PluginName("echo"), isolation: .worker)
        }
        #expect(error?.code == .loadFailed && error?.detail.contains("/nonexistent/") == true)
        await host.shutdown()
        await bench.close()
    }
}
