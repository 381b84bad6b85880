// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostStore
import Synchronization
import Testing

/// Random streams against a model that is too simple to be wrong.
@Suite("Random streams")
struct StreamModelTests {
    @Test(
        "what the plugin got is what a naive model says: repeats, lateness, bots, forms before and after, a bad vendor, restarts (RES, TL, PROP)",
        arguments: UInt64(1)...12)
    func equalsModel(seed: UInt64) async throws {
        let random = SeededRandom(seed: seed)
        let world = try await StreamWorld(actions: [
            ClickAction(name: "timeline", maximumBatch: 1 + random.below(6)),
            ClickAction(name: "touch", maximumBatch: 1 + random.below(4), coalesces: true),
        ])
        var flagged = LinkChange()
        flagged.flags = [.internal]
        _ = try await world.store.changeLink("inside", workspace: world.workspace, change: flagged, at: world.clock.now)
        let accepted = Mutex<[JSONValue]>([])
        let mood = Mutex(0)
        func answer(faults: Int) {
            world.vendor.answer { payload in
                let fate = mood.withLock { mood in
                    mood = (mood &* 1_103_515_245 &+ 12345 &+ Int(seed)) & 0x7fff_ffff
                    return mood >> 8
                }
                if payload["contact"]?["id"]?.string == "refused" { return .failing(.rejected, "no") }
                if fate % 10 < faults { return .failing(.retry, "vendor_unavailable") }
                accepted.withLock { $0.append(payload) }
                return Verdict(kind: .ok)
            }
        }

        var clicks: [Click] = []
        var owners: [String: String] = [:]  // gclid to the contact of its form
        let contacts = ["1", "2", "3", "refused"]
        for _ in 0..<120 {
            answer(faults: random.below(8))
            switch random.below(10) {
            case 0..<6:
                let isRepeat = random.below(8) == 0 && !clicks.isEmpty
                var click = Click(
                    id: EventID("r\(clicks.count)"), link: random.below(6) == 0 ? "inside" : "l",
                    time: world.clock.now - .milliseconds(random.below(600_000)), isBot: random.below(6) == 0,
                    utm: UTM(
                        source: random.below(2) == 0 ? "s\(clicks.count)" : nil,
                        campaign: random.below(3) == 0 ? "c\(clicks.count)" : nil))
                switch random.below(3) {
                case 0: click.contactID = contacts[random.below(4)]
                case 1: click.googleClickID = "g\(random.below(6))"
                default: break
                }
                if isRepeat { click = clicks[random.below(clicks.count)] } else { clicks.append(click) }
                try await world.append([click])
            case 6:
                let gclid = "g\(random.below(6))"
                let owner = owners[gclid] ?? contacts[random.below(3)]
                owners[gclid] = owner
                try await world.form(gclid: gclid, contact: owner)
            case 7: try await world.settle()
            case 8:
                try await world.settle(for: .milliseconds(random.below(60_000)))
            default:
                if random.below(4) == 0 { try await world.restart() }
                world.clock.advance(by: .milliseconds(random.below(5000)))
            }
        }
        answer(faults: 0)
        try await world.settle(for: .seconds(3600))

        // The model: who fires, and what each contact's values are in the end.
        var expected: [String: String] = [:]
        var values: [String: [String: String]] = [:]
        for (index, click) in clicks.enumerated().sorted(by: {
            ($0.element.time, $0.offset) < ($1.element.time, $1.offset)
        }) where !click.isBot && click.link != "inside" {
            guard let contact = click.contactID ?? click.googleClickID.flatMap({ owners[$0] }) else { continue }
            if contact == "refused" { continue }
            expected["r\(index)"] = contact
            if let source = click.utm.source { values[contact, default: [:]]["source"] = source }
            if let campaign = click.utm.campaign { values[contact, default: [:]]["campaign"] = campaign }
        }
        var got: [String: String] = [:]
        var written: [String: [String: String]] = [:]
        for payload in accepted.withLock({ $0 }) {
            let contact = payload["contact"]?["id"]?.string ?? ""
            if payload["kind"]?.string == "click" {
                let id = payload["click"]?["id"]?.string ?? ""
                #expect(got[id] == nil, "seed \(seed): \(id) came twice")
                got[id] = contact
            } else {
                for (name, value) in payload["utm"]?.object ?? [:] {
                    if let text = value.string { written[contact, default: [:]][name] = text }
                }
            }
        }
        #expect(got == expected, "seed \(seed)")
        #expect(written == values, "seed \(seed)")
        let waiting = clicks.filter {
            !$0.isBot && $0.link != "inside" && $0.contactID == nil
                && $0.googleClickID.flatMap { owners[$0] } == nil
        }
        #expect(try await world.held([.held]).count == waiting.count, "seed \(seed)")
        #expect(try await world.deliveries([.retrying, .uncertain, .pending]).isEmpty, "seed \(seed)")
        await world.end()
    }
}
