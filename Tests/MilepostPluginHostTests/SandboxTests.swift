// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import Glibc
import MilepostPluginHost
import Testing

/// What code in a worker cannot do, however it tries.
@Suite(.timeLimit(.minutes(10)))
struct SandboxTests {
    @Test("no network, no files, no processes, no new code, no way back to the daemon (EXT-02)")
    func walls() async throws {
        let bench = try PluginBench([.zoo])
        let instance = try await bench.instance("zoo")
        let result = await instance.ask(.query, "probe")
        #expect(result.status == .ok)
        let answers = try JSONDecoder().decode([String: String].self, from: Data(result.body))
        let refused = [
            "socket": "EACCES", "unix_socket": "EACCES", "socketpair": "EACCES", "read_passwd": "EACCES",
            "read_proc": "EACCES", "write_tmp": "EACCES", "list_root": "EACCES", "fork": "ENOSYS", "exec": "EPERM",
            "kill_parent": "ENOSYS", "ptrace": "ENOSYS", "io_uring": "ENOSYS", "executable_memory": "EACCES",
            "shared_memory": "EACCES", "raise_limit": "EPERM", "environment": "empty", "descriptors": "few",
            "signal_by_descriptor": "EPERM",
        ]
        for (probe, expected) in refused { #expect(answers[probe] == expected, "\(probe)") }
        for probe in ["urandom"] { #expect(answers[probe] == "ALLOWED", "\(probe)") }
        #expect(unsafe access("/tmp/milepost-zoo-was-here", F_OK) != 0)
        await bench.close()
    }

    @Test("threads still start, and the health names the levels reached")
    func levels() async throws {
        let bench = try PluginBench([.zoo])
        let instance = try await bench.instance("zoo")
        #expect(await instance.ask(.query, "thread").text == "{\"thread\":\"ran\"}")
        let health = try #require(bench.health("zoo"))
        #expect(health.landlockABI >= 1 && health.seccompStages == 2)
        await bench.close()
    }

    @Test("the worker ends when the host is gone")
    func shutdownEndsWorkers() async throws {
        let bench = try PluginBench([.zoo])
        _ = try await bench.instance("zoo")
        let process = try #require(bench.health("zoo")?.workerProcessID)
        #expect(kill(process, 0) == 0)
        await bench.close()
        #expect(kill(process, 0) != 0)
    }
}

/// The walls must stand, and Swift must live within them: a plugin with the static standard library, FoundationEssentials
/// JSON, dates and concurrency.
@Suite(.serialized, .timeLimit(.minutes(10)))
struct SwiftPluginTests {
    @Test("a statically linked Swift plugin runs alike in the sandbox and inline", arguments: PluginIsolation.allCases)
    func swiftPlugin(isolation: PluginIsolation) async throws {
        let bench = try PluginBench([.echo.with { $0.name = "swift" }])
        let manifest = Variant.echo.with { $0.name = "swift" }.manifestText
        let source = "\(bench.folder)/manifest.swift"
        try Workshop.write("let MANIFEST = #\"\(manifest)\"#\n", to: source)
        let plugins = "\(Workshop.repository)/Tests/Plugins/swift"
        try Workshop.run(
            "swiftc",
            [
                "-emit-library", "-static-stdlib", "-O", "-parse-as-library", "-module-name", "translator", "-I",
                "\(Workshop.repository)/Sources/CMilepostABI", "-Xlinker", "--version-script=\(plugins)/exports.map",
                "-Xlinker", "-z", "-Xlinker", "now", "-o", "\(bench.folder)/swift.so", "\(plugins)/translator.swift",
                source,
            ])
        let instance = try await bench.instance("swift", isolation)
        for round in 1...3 {
            let result = await instance.ask(.query, "{\"a\":\"1\",\"b\":\"2\"}")
            let expected =
                "{\"day\":\"1970-01-01T00:00:00Z\",\"identifier\":\(round),\"words\":[\"a=1\",\"b=2\"]}"
            #expect(result.text.replacing("\\/", with: "/") == expected)
        }
        await bench.close()
    }
}
