// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostPluginHost
import Testing

/// A plugin that crashes, hangs, leaks or lies harms its own operations only (EXT-02, invariant 7).
@Suite(.serialized, .timeLimit(.minutes(10)))
struct MisbehaviourTests {
    @Test(
        "a crash ends the operation as crashed and the next one finds a new worker",
        arguments: ["abort", "segfault", "exit"])
    func crashes(way: String) async throws {
        let bench = try PluginBench([.zoo, .echo])
        let instance = try await bench.instance("zoo")
        let bystander = try await bench.instance("echo", connection: "con_2")
        let before = bench.health("zoo")?.workerProcessID
        let crashed = await instance.ask(.query, way)
        #expect(crashed.status == .crashed)
        #expect(!crashed.touchedNetwork)
        #expect(await instance.ask(.ping).status == .ok)
        #expect(await bystander.ask(.ping).status == .ok)
        let health = try #require(bench.health("zoo"))
        #expect(health.restarts == 1 && health.state == .loaded && health.workerProcessID != before)
        #expect(health.lastCrash?.contains(way == "exit" ? "status 7" : "signal") == true)
        if way == "abort" { #expect(health.lastCrash?.contains("the zoo says goodbye") == true) }
        #expect(bench.health("echo")?.restarts == 0)
        await bench.close()
    }

    @Test("a crash after a request says so, and the request is not cut off")
    func crashAfterRequest() async throws {
        let bench = try PluginBench([.zoo])
        bench.services.set(delay: .milliseconds(300))
        let instance = try await bench.instance("zoo")
        let crashed = await instance.ask(.query, "submit_then_abort")
        #expect(crashed.status == .crashed && crashed.touchedNetwork)
        for _ in 0..<200 where bench.services.seen.finishedCalls == 0 { try await Task.sleep(for: .milliseconds(10)) }
        #expect(bench.services.seen.finishedCalls == 1 && bench.services.seen.cancelled == 0)
        await bench.close()
    }

    @Test("five crashes quarantine the plugin, a reload brings it back")
    func quarantine() async throws {
        let bench = try PluginBench([.zoo])
        let instance = try await bench.instance("zoo")
        for _ in 0..<5 { #expect(await instance.ask(.query, "abort").status == .crashed) }
        let refused = await instance.ask(.ping)
        #expect(refused.status == .retry && refused.text.contains("plugin_quarantined"))
        #expect(bench.health("zoo")?.state == .quarantined)
        #expect(bench.services.seen.metrics.contains(.host(plugin: "zoo", event: "quarantine", code: "")))
        try await bench.host.reload(PluginName("zoo"))
        #expect(await instance.ask(.ping).status == .ok)
        await bench.close()
    }

    @Test(
        "a hang is killed at the deadline and the grace; another plugin goes on", arguments: ["spin", "block", "never"])
    func hangs(way: String) async throws {
        let bench = try PluginBench([.zoo, .echo])
        let instance = try await bench.instance("zoo")
        let bystander = try await bench.instance("echo", connection: "con_2")
        let clock = ContinuousClock()
        let start = clock.now
        async let hung = instance.ask(.query, way, timeout: .milliseconds(200))
        for _ in 0..<20 { #expect(await bystander.ask(.ping).status == .ok) }
        #expect(await hung.status == .deadline)
        // Deadline 200 ms, grace 200 ms, and room for a busy machine.
        #expect(clock.now - start >= .milliseconds(390) && clock.now - start < .seconds(8))
        #expect(await instance.ask(.ping).status == .ok)
        #expect(bench.health("zoo")?.lastCrash?.contains("was not answered within its deadline") == true)
        #expect(bench.health("echo")?.restarts == 0)
        await bench.close()
    }

    @Test(
        "a long call shows in the health before it is killed, spinning apart from blocked",
        arguments: ["spin", "block"])
    func longCallsAreSeen(way: String) async throws {
        let bench = try PluginBench([.zoo])
        let instance = try await bench.instance("zoo")
        _ = await instance.ask(.query, way, timeout: .milliseconds(800))
        let seen = try #require(bench.health("zoo")?.lastMisbehaviour)
        #expect(seen.contains("in one call for") && seen.contains(way == "spin" ? "spinning" : "blocked"), "\(seen)")
        await bench.close()
    }

    @Test("inline, a hang quarantines its connection and no other")
    func inlineHang() async throws {
        let bench = try PluginBench([.zoo])
        let instance = try await bench.instance("zoo", .inline)
        let other = try await bench.instance("zoo", .inline, connection: "con_2")
        #expect(await instance.ask(.query, "block", timeout: .milliseconds(100)).status == .deadline)
        let refused = await instance.ask(.ping)
        #expect(refused.status == .retry && refused.text.contains("plugin_quarantined"))
        #expect(await other.ask(.ping).status == .ok)
        #expect(bench.health("zoo")?.state == .quarantined)
        await #expect(throws: PluginLoadError.self) { try await bench.host.reload(PluginName("zoo")) }
        await bench.close()
    }

    @Test("memory past the manifest's limit is refused to the plugin, not taken from the machine")
    func memoryHog() async throws {
        let bench = try PluginBench([.zoo])
        let instance = try await bench.instance("zoo")
        let result = await instance.ask(.query, "hog", timeout: .seconds(20))
        #expect(result.text == "{\"memory\":\"refused\"}" || result.status == .crashed)
        await bench.close()
    }

    @Test("a second answer is ignored and written down", arguments: PluginIsolation.allCases)
    func answersTwice(isolation: PluginIsolation) async throws {
        let bench = try PluginBench([.zoo])
        let instance = try await bench.instance("zoo", isolation)
        #expect(await instance.ask(.query, "twice").text == "{\"answer\":1}")
        #expect(await instance.ask(.ping).status == .ok)
        let health = try #require(bench.health("zoo"))
        #expect(health.misbehaviours == 1 && health.lastMisbehaviour?.contains("a second time") == true)
        await bench.close()
    }

    @Test("rubbish is handed on as bytes, an impossible status is a plugin bug", arguments: PluginIsolation.allCases)
    func rubbish(isolation: PluginIsolation) async throws {
        let bench = try PluginBench([.zoo])
        let instance = try await bench.instance("zoo", isolation)
        let rubbish = await instance.ask(.query, "rubbish")
        #expect(rubbish.status == .ok && rubbish.body.first == 0xff && rubbish.body.count == 11)
        #expect(await instance.ask(.query, "status").status == .pluginBug)
        #expect(await instance.ask(.query, "unknown word").status == .rejected)
        #expect(await instance.ask(.query, "stale").text == "{\"status\":2}")
        #expect(await instance.ask(.query, "no_step").text == "{\"refused\":true}")
        await bench.close()
    }

    @Test("what a plugin prints becomes log lines, and too many are counted")
    func printing() async throws {
        let bench = try PluginBench([.zoo]) { $0.logLinesPerSecond = 50 }
        let instance = try await bench.instance("zoo")
        #expect(await instance.ask(.query, "stdout").status == .ok)
        func lines(_ source: PluginLogLine.Source) -> [PluginLogLine] {
            bench.services.seen.lines.filter { $0.source == source }
        }
        for _ in 0..<200 where lines(.standardOutput).isEmpty || lines(.standardError).isEmpty {
            try await Task.sleep(for: .milliseconds(5))
        }
        #expect(lines(.standardOutput).first?.message == "hello from stdout")
        #expect((1..<1000).contains(lines(.standardError).count))
        await bench.close()
    }

    @Test("who logs too much loses lines and not its answer", arguments: PluginIsolation.allCases)
    func logFlood(isolation: PluginIsolation) async throws {
        let bench = try PluginBench([.zoo])
        let instance = try await bench.instance("zoo", isolation)
        #expect(await instance.ask(.query, "log_flood", timeout: .seconds(30)).status == .ok)
        #expect(bench.health("zoo")?.restarts == 0)
        await bench.close()
    }

    @Test("a broken frame or a closed channel costs the worker its life", arguments: ["frame", "close"])
    func brokenChannel(way: String) async throws {
        let bench = try PluginBench([.zoo])
        let instance = try await bench.instance("zoo")
        #expect(await instance.ask(.query, way, timeout: .seconds(20)).status == .crashed)
        #expect(await instance.ask(.ping).status == .ok)
        await bench.close()
    }

    @Test("a creation that does not end is given up")
    func slowCreate() async throws {
        let bench = try PluginBench([.zoo]) { $0.createBudget = .milliseconds(200) }
        let plugin = try await bench.load("zoo")
        let error = await #expect(throws: PluginInstanceError.self) {
            _ = try await plugin.makeInstance(connection: ConnectionID("con_1"), config: Array("slow".utf8))
        }
        #expect(error?.status == .deadline)
        await bench.close()
    }

    @Test("closing an instance while it attaches lets go of every operation that waits for that")
    func closedWhileAttaching() async throws {
        let bench = try PluginBench([.zoo]) { $0.createBudget = .seconds(60) }
        let instance = try await bench.instance("zoo")
        instance.replaceConfig(Array("slow".utf8))
        #expect(await instance.ask(.query, "abort").status == .crashed)
        let waiting = (0..<4).map { _ in Task { await instance.ask(.ping, timeout: .seconds(60)) } }
        // The next worker is up, so one operation attaches and the others wait for it.
        for _ in 0..<500 where bench.health("zoo")?.workerProcessID == nil {
            try await Task.sleep(for: .milliseconds(10))
        }
        #expect(bench.health("zoo")?.workerProcessID != nil)
        for _ in 0..<20 { try await Task.sleep(for: .milliseconds(10)) }
        await instance.close()
        for task in waiting { #expect(await task.value.status != .ok) }
        await bench.close()
    }

    @Test("a cancelled operation asks the plugin, and its requests are cut off at the deadline")
    func deadlineCancelsRequests() async throws {
        let bench = try PluginBench([.echo]) { $0.grace = .seconds(5) }
        bench.services.set(delay: .seconds(60))
        let instance = try await bench.instance("echo")
        let result = await instance.ask(.deliver, timeout: .milliseconds(100))
        // The cancelled call still brings its event, so the plugin completes within the grace.
        #expect(result.status == .ok && bench.services.seen.cancelled == 1)
        #expect(bench.health("echo")?.restarts == 0)
        await bench.close()
    }

    @Test("closing a connection ends what its plugin left open, and harms no other connection")
    func closing() async throws {
        let bench = try PluginBench([.zoo])
        let instance = try await bench.instance("zoo")
        let other = try await bench.instance("zoo", connection: "con_2")
        async let left = instance.ask(.query, "never", timeout: .seconds(30))
        #expect(await instance.keepsOne())
        await instance.close()
        #expect(await left.status == .crashed)
        #expect(await instance.ask(.ping).text.contains("plugin_closed"))
        #expect(await other.ask(.ping).status == .ok)
        #expect(bench.health("zoo")?.restarts == 0)
        await bench.close()
    }

    @Test("a cancelled task asks the plugin to give up", arguments: PluginIsolation.allCases)
    func cancelledTask(isolation: PluginIsolation) async throws {
        let bench = try PluginBench([.zoo])
        let instance = try await bench.instance("zoo", isolation)
        let task = Task { await instance.ask(.query, "until_cancelled", timeout: .seconds(30)) }
        #expect(await instance.keepsOne())
        task.cancel()
        #expect(await task.value.status == .cancelled)
        await bench.close()
    }

    @Test("a reload takes a new worker into service while the old one finishes")
    func reload() async throws {
        let bench = try PluginBench([.echo])
        bench.services.set(delay: .milliseconds(300))
        let instance = try await bench.instance("echo")
        let before = bench.health("echo")?.workerProcessID
        async let running = instance.ask(.deliver)
        for _ in 0..<200 where bench.services.seen.calls.isEmpty { try await Task.sleep(for: .milliseconds(5)) }
        try await bench.host.reload(PluginName("echo"))
        #expect(bench.health("echo")?.workerProcessID != before)
        #expect(await instance.ask(.ping).status == .ok)
        #expect(await running.status == .ok)
        #expect(bench.health("echo")?.restarts == 0)
        await bench.close()
    }

    @Test("a reload during which the old worker crashes leaves the new one in service")
    func reloadOverCrash() async throws {
        let bench = try PluginBench([.zoo]) { $0.loadBudget = .seconds(2) }
        let instance = try await bench.instance("zoo")
        let host = bench.host
        async let reloaded = host.reload(PluginName("zoo"))
        #expect(await instance.ask(.query, "abort").status == .crashed)
        _ = try await reloaded
        // Past the time for loading: what serves is not given up for having taken too long.
        for _ in 0..<300 { try await Task.sleep(for: .milliseconds(10)) }
        #expect(await instance.ask(.ping).status == .ok)
        await bench.close()
    }
}

extension PluginInstance {
    /// Waits until the zoo has an operation that it means not to end.
    fileprivate func keepsOne() async -> Bool {
        for _ in 0..<10_000 where await ask(.query, "kept").text.contains("true") { return true }
        return false
    }
}
