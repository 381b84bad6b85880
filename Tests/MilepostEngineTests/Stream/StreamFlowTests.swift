// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostStore
import Testing

/// Calls that follow one another without waiting for the slowest: what is sent and stored is as with one batch at a time.
@Suite("Clicks that flow to a connection")
struct StreamFlowTests {
    private static let action = ClickAction(name: "hook", maximumBatch: 10)

    private func world(clicks: Int) async throws -> StreamWorld {
        let world = try await StreamWorld(actions: [Self.action])
        try await world.append(
            (0..<clicks).map {
                Click(id: EventID("n\($0)"), link: LinkID("l\($0 % 7)"), time: world.clock.now, contactID: "\($0)")
            })
        return world
    }

    private func sent(_ world: StreamWorld) -> [String: Int] {
        world.vendor.records("hook").compactMap { $0["click"]?["id"]?.string }.reduce(into: [:]) {
            $0[$1, default: 0] += 1
        }
    }

    @Test("thousands of clicks leave once each in calls of the action's size, and a restart repeats none (TL-09)")
    func all() async throws {
        let world = try await world(clicks: 4321)
        try await world.settle()
        #expect(sent(world).count == 4321 && sent(world).values.allSatisfy { $0 == 1 })
        #expect(world.vendor.calls.allSatisfy { $0.payloads.count <= 10 })
        #expect(try await world.count("delivered", action: "hook") == 4321)
        world.vendor.forget()
        try await world.restart()
        try await world.settle()
        #expect(world.vendor.calls.isEmpty)
        await world.end()
    }

    @Test(
        "when a receiver fails from some click on, what passed is stored, the rest waits in the log and goes out later")
    func outage() async throws {
        let world = try await world(clicks: 600)
        world.vendor.answer { payload in
            Int(payload["contact"]?["id"]?.string ?? "")! < 205
                ? Verdict(kind: .ok) : .failing(.retry, "receiver_failed")
        }
        try await world.settle()
        #expect(try await world.count("delivered", action: "hook") == 205)
        #expect(try await world.count("retrying", action: "hook") == 5, "the call in which the failing began")
        #expect(world.vendor.calls.count < 60, "no further call is begun against a receiver that is down")
        world.vendor.answer { _ in Verdict(kind: .ok) }
        try await world.settle(for: .seconds(120))
        let found = sent(world)
        #expect(found.count == 600)
        #expect((0..<205).allSatisfy { found["n\($0)"] == 1 }, "what was delivered is not sent again")
        #expect(try await world.deliveries([.retrying, .dead]).isEmpty)
        await world.end()
    }

    @Test(
        "a call that fails between others that pass becomes deliveries of its own, and nothing else is sent twice (ING-07)"
    )
    func oneCallFails() async throws {
        let world = try await world(clicks: 300)
        world.vendor.answer { payload in
            (50..<60).contains(Int(payload["contact"]?["id"]?.string ?? "")!)
                ? .failing(.retry, "receiver_failed") : Verdict(kind: .ok)
        }
        try await world.settle()
        let waiting = try await world.deliveries([.retrying])
        #expect(waiting.count == 10)
        #expect(try await world.count("delivered", action: "hook") == 290)
        world.vendor.answer { _ in Verdict(kind: .ok) }
        try await world.settle(for: .seconds(60))
        let found = sent(world)
        #expect(found.count == 300)
        #expect(found.filter { $0.value > 1 }.keys.allSatisfy { (50..<60).map { "n\($0)" }.contains($0) })
        #expect(try await world.deliveries([.retrying, .dead]).isEmpty)
        await world.end()
    }

    @Test("a revoked credential moves the connection, and what was under way keeps its result (decisions 9)")
    func revoked() async throws {
        let world = try await world(clicks: 300)
        world.vendor.answer { payload in
            Int(payload["contact"]?["id"]?.string ?? "")! < 95
                ? Verdict(kind: .ok) : .failing(.authRevoked, "signature_refused")
        }
        try await world.settle()
        #expect(try await world.store.connection(id: world.connection)?.state == .needsReauth)
        #expect(try await world.count("delivered", action: "hook") == 95)
        world.vendor.answer { _ in Verdict(kind: .ok) }
        _ = try await world.store.setState(id: world.connection, .active, reason: nil, at: world.clock.now)
        try await world.settle(for: .seconds(60))
        let found = sent(world)
        #expect(found.count == 300)
        #expect((0..<90).allSatisfy { found["n\($0)"] == 1 })
        await world.end()
    }
}
