// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostPluginHost
import Testing

/// The same plugin does the same in both isolation modes.
@Suite(.timeLimit(.minutes(10)))
struct RoundTripTests {
    @Test("a plugin answers alike in a worker and inline (EXT-01)", arguments: PluginIsolation.allCases)
    func answersAlike(isolation: PluginIsolation) async throws {
        let bench = try PluginBench([.echo])
        let instance = try await bench.instance("echo", isolation)
        let ping = await instance.ask(.ping)
        #expect(ping.status == .ok)
        let echoed = await instance.ask(.query, "{\"hello\":\"wörld\"}")
        #expect(echoed.text == "{\"hello\":\"wörld\"}")
        let connected = await instance.ask(.connect)
        #expect(
            connected.text
                == "{\"facts\":{\"scheme\":\"api_key\"},\"status\":0,\"length\":20,\"attempt\":1,\"ok\":1}")
        let lacking = await instance.ask(.pull)
        #expect(lacking.status == .unsupported)
        #expect(bench.services.seen.lines.contains { $0.message == "created" && $0.source == .plugin })
        await bench.close()
    }

    @Test("a change of the log level reaches plugins that run", arguments: PluginIsolation.allCases)
    func logLevel(isolation: PluginIsolation) async throws {
        let bench = try PluginBench([.echo])
        func count(_ message: String) -> Int { bench.services.seen.lines.count { $0.message == message } }
        _ = try await bench.instance("echo", isolation, connection: "con_1")
        #expect(count("created") == 1 && count("created in detail") == 0)
        let worker = bench.health("echo")?.workerProcessID
        bench.host.setLogLevel(1)
        _ = try await bench.instance("echo", isolation, connection: "con_2")
        #expect(count("created") == 2 && count("created in detail") == 1)
        bench.host.setLogLevel(3)
        _ = try await bench.instance("echo", isolation, connection: "con_3")
        #expect(count("created") == 2 && count("created in detail") == 1)
        #expect(bench.health("echo")?.workerProcessID == worker, "and no worker was replaced for it")
        await bench.close()
    }

    @Test(
        "a request reaches the services whole and its answer the plugin (EXT-03)", arguments: PluginIsolation.allCases)
    func submitsRequests(isolation: PluginIsolation) async throws {
        let bench = try PluginBench([.echo])
        let instance = try await bench.instance("echo", isolation)
        let operation = instance.reserveOperation()
        let result = await instance.perform(
            .deliver, body: Array("{\"title\":\"deal\"}".utf8), timeout: .seconds(10), attempt: 2, operation: operation)
        #expect(result.status == .ok)
        #expect(result.text.hasPrefix("{\"http\":201,\"wire\":2,\"status\":0,\"token\":77,\"bytes\":10,"))
        #expect(result.partials == [Array("{\"index\":0}".utf8)])
        #expect(result.touchedNetwork)
        let call = try #require(bench.services.seen.calls.first)
        #expect(call.operation == operation)
        #expect(call.method == "POST" && call.url == "https://api.example.com/deals" && call.token == 77)
        #expect(call.headers.map(\.name) == ["content-type"] && call.headers.map(\.value) == ["application/json"])
        #expect(call.credential == "api_token" && call.placement == "header" && call.step == "deal")
        #expect(call.records == [0, 2] && call.cost == 3 && call.bucket == "search" && call.timeout == .seconds(5))
        #expect(!call.isIdempotent && !call.followsRedirects)
        #expect(String(decoding: call.body, as: UTF8.self) == "{\"title\":\"deal\"}")
        await bench.close()
    }

    @Test("timer, storage, journal and signature come back as events", arguments: PluginIsolation.allCases)
    func servicesAnswer(isolation: PluginIsolation) async throws {
        let bench = try PluginBench([.echo])
        let instance = try await bench.instance("echo", isolation)
        let result = await instance.ask(.catalog)
        #expect(result.text == "{\"signature\":32,\"status\":0}")
        #expect(bench.services.seen.journal == ["0 step value"])
        #expect(!result.touchedNetwork)
        await bench.close()
    }

    @Test("a mebibyte goes there and back, through a sealed memfd in a worker", arguments: PluginIsolation.allCases)
    func largeBodies(isolation: PluginIsolation) async throws {
        let bench = try PluginBench([.echo])
        let instance = try await bench.instance("echo", isolation)
        let large = (0..<(1 << 20)).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let echoed = await instance.perform(.query, body: large, timeout: .seconds(10))
        #expect(echoed.body == large)
        bench.services.set(answer: large)
        let answered = await instance.perform(.deliver, body: large, timeout: .seconds(10))
        let sum = large.reduce(UInt64(0)) { $0 &* 31 &+ UInt64($1) }
        #expect(answered.text.hasSuffix("\"bytes\":1048576,\"sum\":\(sum)}"))
        #expect(bench.services.seen.calls.first?.body == large)
        await bench.close()
    }

    @Test("an event stays whole when the plugin ends the operation in it", arguments: PluginIsolation.allCases)
    func eventOutlivesItsOperation(isolation: PluginIsolation) async throws {
        let bench = try PluginBench([.echo.with { $0.definitions = ["-DANSWERS_JSON"] }])
        let instance = try await bench.instance("echo", isolation)
        // So much that the memory goes back to the kernel when the operation's data goes.
        bench.services.set(answer: [UInt8](repeating: 0x61, count: 1 << 20))
        #expect(await instance.ask(.deliver).text == "{\"status\":201}")
        await bench.close()
    }

    @Test("a thousand operations at depth 64 all end, each with its own answer", arguments: PluginIsolation.allCases)
    func manyAtOnce(isolation: PluginIsolation) async throws {
        let bench = try PluginBench([.echo])
        let instance = try await bench.instance("echo", isolation)
        let wrong = await withTaskGroup(of: Int.self) { group in
            for lane in 0..<64 {
                group.addTask {
                    var wrong = 0
                    for round in 0..<16 {
                        let body = "{\"lane\":\(lane),\"round\":\(round)}"
                        if await instance.ask(.query, body).text != body { wrong += 1 }
                    }
                    return wrong
                }
            }
            return await group.reduce(0, +)
        }
        #expect(wrong == 0)
        await bench.close()
    }

    @Test("a refused configuration is an error with the plugin's status", arguments: PluginIsolation.allCases)
    func createRefused(isolation: PluginIsolation) async throws {
        let bench = try PluginBench([.echo])
        let plugin = try await bench.load("echo", isolation)
        let error = await #expect(throws: PluginInstanceError.self) {
            _ = try await plugin.makeInstance(connection: ConnectionID("con_1"), config: Array("refuse".utf8))
        }
        #expect(error?.status == .config)
        let fine = try await plugin.makeInstance(connection: ConnectionID("con_1"), config: Array("{}".utf8))
        #expect(await fine.ask(.ping).status == .ok)
        await bench.close()
    }
}
