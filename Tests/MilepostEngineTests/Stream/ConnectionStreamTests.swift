// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostModel
import MilepostStore
import Testing

@Suite("Destinations that take every click")
struct ConnectionStreamTests {
    @Test("each click of a known contact is one record with the click's own time (TL-01, TL-08, RES-01, PROP-02)")
    func oneRecordEach() async throws {
        let world = try await StreamWorld()
        var change = LinkChange()
        change.slug = "pricing"
        change.title = "Q2 pricing"
        change.tags = ["sales"]
        _ = try await world.store.changeLink("l", workspace: world.workspace, change: change, at: world.clock.now)
        let early = world.clock.now - .seconds(3600)
        let first = try await world.click(
            contact: "7", utm: UTM(source: "webinar", medium: "email", campaign: "q2-pricing"), at: early)
        try await world.click(contact: "8")
        try await world.settle()
        let records = world.vendor.records("timeline")
        #expect(records.map { $0["contact"]?["id"]?.string } == ["7", "8"])
        #expect(records[0]["click"]?["at"]?.string == early.description)
        #expect(records[0]["click"]?["id"]?.string == first.rawValue)
        #expect(records[0]["link"]?["slug"]?.string == "pricing")
        #expect(records[0]["link"]?["tags"]?.array?.compactMap(\.string) == ["sales"])
        #expect(records[0]["utm"]?["campaign"]?.string == "q2-pricing")
        #expect(records[0]["key"]?.string?.count == 32)
        #expect(records[0]["key"] != records[1]["key"])
        #expect(
            world.vendor.records("touch").map { $0["contact"]?["id"]?.string } == ["7"], "the other had no campaign")
        #expect(try await world.count("delivered", action: "timeline") == 2)
        #expect(try await world.deliveries().isEmpty, "what is delivered leaves a count and no row (decisions 25)")
        #expect(try await world.explain(first) == ["timeline: delivered delivered", "touch: delivered delivered"])
        world.vendor.forget()
        try await world.restart()
        try await world.settle()
        #expect(world.vendor.calls.isEmpty)
        await world.end()
    }

    @Test("clicks of nobody known leave at once where setting and action want them, and are held everywhere else")
    func anonymous() async throws {
        let open = ClickAction(name: "hook", maximumBatch: 100, takesAnyone: true)
        let closed = ClickAction(name: "timeline", maximumBatch: 100)
        for (actions, policy, sent) in [
            ([open], StreamPolicy(anonymousClicks: .send), 3), ([open], StreamPolicy(), 1),
            ([closed], StreamPolicy(anonymousClicks: .send), 1),
            ([open, closed], StreamPolicy(anonymousClicks: .send), 1),
        ] {
            let world = try await StreamWorld(actions: actions, policy: policy)
            try await world.click()
            try await world.click(contact: "7")
            try await world.click(gclid: "g")
            try await world.settle()
            let records = world.vendor.records(actions[0].name)
            #expect(records.count == sent)
            #expect(records.filter { $0["contact"]?["via"]?.string == "none" }.count == sent - 1)
            #expect(records.contains { $0["contact"]?["id"]?.string == "7" })
            #expect(try await world.held([.held]).count == 3 - sent)
            world.vendor.forget()
            try await world.form(gclid: "g", contact: "8")
            try await world.settle()
            #expect(world.vendor.records(actions[0].name).count == (sent == 3 ? 0 : 1), "once, whoever turns up later")
            await world.end()
        }
    }

    @Test("a connection takes the clicks of its tags and folders, and explain says so of the others (HCON-07)")
    func mapping() async throws {
        let world = try await StreamWorld(policy: StreamPolicy(onlyTags: ["north"], onlyFolders: ["south"]))
        var change = LinkChange()
        change.tags = ["spring", "north"]
        _ = try await world.store.changeLink("up", workspace: world.workspace, change: change, at: world.clock.now)
        change = LinkChange()
        change.folder = "south"
        change.tags = ["spring"]
        _ = try await world.store.changeLink("down", workspace: world.workspace, change: change, at: world.clock.now)
        try await world.click("up", contact: "1")
        try await world.click("down", contact: "2")
        let other = try await world.click("elsewhere", contact: "3")
        try await world.settle()
        #expect(world.vendor.records("timeline").map { $0["contact"]?["id"]?.string } == ["1", "2"])
        #expect(try await world.explain(other) == ["not_fired not_mapped"])
        #expect(try await world.count("excluded:not_mapped") == 1)
        await world.end()
    }

    @Test("a connection with every action switched off passes the clicks by, and takes them once one is on")
    func allOff() async throws {
        let actions = [ClickAction(name: "touch", maximumBatch: 100, coalesces: true, enabledBy: "writes_touch")]
        let world = try await StreamWorld(actions: actions, settings: ["writes_touch": false])
        try await world.click(contact: "1", utm: UTM(source: "early"))
        try await world.settle()
        #expect(world.vendor.calls.isEmpty)
        try await world.connect(settings: ["writes_touch": true])
        try await world.click(contact: "2", utm: UTM(source: "late"))
        try await world.settle()
        #expect(world.vendor.records("touch").map { $0["contact"]?["id"]?.string } == ["2"])
        await world.end()
    }

    @Test(
        "a first connect begins at the newest click; what came while disconnected is counted and skipped (decisions 11)"
    )
    func baseline() async throws {
        let world = try await StreamWorld()
        try await world.settle()
        let queued = try await world.click(contact: "0")
        _ = try await world.store.setState(id: world.connection, .disconnected, reason: nil, at: world.clock.now)
        let meanwhile = try await world.click(contact: "1")
        try await world.click(contact: "2")
        #expect(try await world.stream.pass(world.connection, &world.state) == .ended)
        try await world.connect()
        world.state = ConnectionStream.State(now: world.clock.now)
        let after = try await world.click(contact: "3")
        try await world.settle()
        let sent = world.vendor.records("timeline").map { $0["contact"]?["id"]?.string }
        #expect(sent == ["0", "3"], "what was queued before still goes out")
        #expect(try await world.count("skipped") == 2)
        #expect(try await world.explain(queued).first == "timeline: delivered delivered")
        #expect(try await world.explain(meanwhile) == ["not_fired skipped"])
        #expect(try await world.explain(after).first == "timeline: delivered delivered")
        await world.end()
    }

    @Test(
        "test, internal and opted-out links and bots are left out and explained; a setting sends them (EXC-04, EXC-06)")
    func exclusions() async throws {
        for sends in [false, true] {
            let world = try await StreamWorld(
                policy: sends ? StreamPolicy(bots: .include, excludedLinks: .send) : nil)
            var change = LinkChange()
            change.flags = [.test]
            _ = try await world.store.changeLink("t", workspace: world.workspace, change: change, at: world.clock.now)
            change.flags = [.internal]
            _ = try await world.store.changeLink("i", workspace: world.workspace, change: change, at: world.clock.now)
            change.flags = []
            change.owner = "ada"
            _ = try await world.store.changeLink("o", workspace: world.workspace, change: change, at: world.clock.now)
            try await world.store.setOptOut("ada", workspace: world.workspace, isOptedOut: true, at: world.clock.now)
            let test = try await world.click("t", contact: "1")
            let inside = try await world.click("i", contact: "1")
            let owned = try await world.click("o", contact: "1")
            let bot = try await world.click("l", contact: "1", isBot: true)
            try await world.settle()
            #expect(world.vendor.records("timeline").count == (sends ? 4 : 0))
            if !sends {
                #expect(try await world.count("excluded:excluded_test") == 1)
                #expect(try await world.count("excluded:excluded_bot") == 1)
                #expect(try await world.explain(test) == ["not_fired excluded_test"])
                #expect(try await world.explain(inside) == ["not_fired excluded_internal"])
                #expect(try await world.explain(owned) == ["not_fired excluded_opt_out"])
                #expect(try await world.explain(bot) == ["not_fired excluded_bot"])
                // What is explained is what was, not what the flags say today.
                change.owner = .some(nil)
                change.flags = []
                for link in ["t", "i", "o"] as [LinkID] {
                    _ = try await world.store.changeLink(
                        link, workspace: world.workspace, change: change, at: world.clock.now)
                }
                let later = try await world.click("t", contact: "1")
                try await world.settle()
                #expect(try await world.explain(test) == ["not_fired excluded_test"])
                #expect(try await world.explain(later).first == "timeline: delivered delivered")
            }
            await world.end()
        }
    }

    @Test("one bad item ends alone as a dead letter, and a replay sends it again (TL-11, ING-07)")
    func oneBadItem() async throws {
        let world = try await StreamWorld(actions: [ClickAction(name: "timeline", maximumBatch: 500)])
        var clicks: [Click] = []
        for number in 0..<500 {
            clicks.append(Click(id: EventID("n\(number)"), link: "l", time: world.clock.now, contactID: "\(number)"))
        }
        try await world.append(clicks)
        world.vendor.answer {
            $0["contact"]?["id"]?.string == "77" ? .failing(.rejected, "invalid_token") : Verdict(kind: .ok)
        }
        try await world.settle()
        #expect(world.vendor.calls.count == 1)
        let dead = try await world.deliveries([.dead])
        #expect(dead.map(\.reason?.code) == ["invalid_token"])
        #expect(dead.map { $0.payload["contact"]?["id"]?.string } == ["77"])
        #expect(try await world.count("delivered", action: "timeline") == 499)
        #expect(try await world.explain("n77") == ["timeline: dead invalid_token"])
        #expect(try await world.explain("n78") == ["timeline: delivered delivered"])
        world.vendor.answer { _ in Verdict(kind: .ok) }
        world.vendor.forget()
        _ = try await world.store.replay(
            workspace: world.workspace, matching: DeliveryFilter(states: [.dead]), limit: 10, at: world.clock.now)
        try await world.settle()
        #expect(world.vendor.records("timeline").map { $0["contact"]?["id"]?.string } == ["77"])
        #expect(try await world.explain("n77") == ["timeline: delivered delivered"])
        await world.end()
    }

    @Test(
        "10,000 clicks queued in an outage leave within a minute after it, in few calls, and no row was made (TL-09, RATE-12)"
    )
    func outage() async throws {
        let world = try await StreamWorld(actions: [
            ClickAction(name: "timeline", maximumBatch: 500),
            ClickAction(name: "touch", maximumBatch: 100, coalesces: true),
        ])
        world.vendor.answer { _ in .failing(.retry, "vendor_unavailable") }
        var clicks: [Click] = []
        for number in 0..<10_000 {
            clicks.append(
                Click(
                    id: EventID("n\(number)"), link: "l", time: world.clock.now + .milliseconds(number),
                    contactID: "\(number % 50)", utm: UTM(source: "s\(number)")))
        }
        try await world.append(clicks)
        try await world.settle(for: .seconds(40))
        let during = world.vendor.calls.count
        #expect(during < 40, "\(during) calls against a vendor that is down")
        #expect(try await world.deliveries().isEmpty, "the log is the queue")
        world.vendor.forget()
        world.vendor.answer { _ in Verdict(kind: .ok) }
        try await world.settle(for: .seconds(60))
        let sent = Set(world.vendor.records("timeline").compactMap { $0["click"]?["id"]?.string })
        #expect(sent.count == 10_000)
        #expect(world.vendor.records("timeline").count == 10_000)
        #expect(world.vendor.calls.count < 70, "\(world.vendor.calls.count) calls")
        await world.end()
    }

    @Test("a click that fails alone makes way for the others; they arrive, and it is tried again (RATE-14)")
    func stuckClick() async throws {
        let world = try await StreamWorld(actions: [ClickAction(name: "timeline", maximumBatch: 50)])
        world.vendor.answer {
            $0["contact"]?["id"]?.string == "bad" ? .failing(.retry, "odd") : Verdict(kind: .ok)
        }
        try await world.click(contact: "bad")
        try await world.settle(for: .seconds(120))
        for number in 0..<5 { try await world.click(contact: "\(number)") }
        try await world.settle(for: .seconds(120))
        #expect(try await world.deliveries([.retrying]).count == 1)
        #expect(try await world.count("delivered", action: "timeline") == 5)
        world.vendor.answer { _ in Verdict(kind: .ok) }
        try await world.settle(for: .seconds(600))
        #expect(try await world.deliveries([.delivered]).count == 1)
        await world.end()
    }

    @Test(
        "a connection that waits for somebody sends nothing and loses nothing; then all leave at once (REA-05, REA-06)")
    func reauthorisation() async throws {
        let world = try await StreamWorld(actions: [ClickAction(name: "timeline", maximumBatch: 100)])
        world.vendor.answer { _ in .failing(.authRevoked, "token_revoked") }
        try await world.click(contact: "1")
        try await world.settle()
        #expect(try await world.store.connection(id: world.connection)?.state == .needsReauth)
        world.vendor.forget()
        for number in 2...1000 { try await world.click(contact: "\(number)") }
        try await world.settle(for: .seconds(3600))
        #expect(world.vendor.calls.isEmpty)
        #expect(try await world.deliveries().isEmpty)
        world.vendor.answer { _ in Verdict(kind: .ok) }
        _ = try await world.store.setState(id: world.connection, .active, reason: nil, at: world.clock.now)
        let before = world.clock.now
        try await world.settle()
        #expect(world.clock.now == before, "no timer is waited for")
        #expect(Set(world.vendor.records("timeline").compactMap { $0["contact"]?["id"]?.string }).count == 1000)
        #expect(world.vendor.calls.count < 20)
        await world.end()
    }

    @Test("a record that crashes the plugin twice is a dead letter, its neighbours arrive (decisions 20)")
    func poison() async throws {
        let world = try await StreamWorld(actions: [ClickAction(name: "timeline", maximumBatch: 8)])
        world.vendor.answer {
            $0["contact"]?["id"]?.string == "3" ? .failing(.crashed, "plugin_crashed") : Verdict(kind: .ok)
        }
        for number in 0..<8 { try await world.click(contact: "\(number)") }
        try await world.settle(for: .seconds(600))
        let dead = try await world.deliveries([.dead])
        #expect(dead.map { $0.payload["contact"]?["id"]?.string } == ["3"])
        #expect(try await world.deliveries([.delivered]).count == 7)
        await world.end()
    }

    @Test("what our own limit holds back costs no attempt and no row, and leaves when the limit opens (RATE-14)")
    func limited() async throws {
        let world = try await StreamWorld(actions: [ClickAction(name: "timeline", maximumBatch: 10)])
        world.vendor.answer { _ in .failing(.rateLimited, "rate_limited", after: .seconds(7)) }
        try await world.click(contact: "1")
        let until = try await world.settle()
        #expect(until == world.clock.now + .seconds(7))
        world.vendor.answer { _ in Verdict(kind: .ok) }
        try await world.settle(for: .seconds(8))
        #expect(try await world.count("delivered", action: "timeline") == 1)
        #expect(try await world.deliveries().isEmpty)
        await world.end()
    }

    @Test("an action that a setting switches off is not done and says so")
    func switchedOff() async throws {
        let world = try await StreamWorld(settings: ["writes_touch": false])
        let id = try await world.click(contact: "1", utm: UTM(source: "a"))
        try await world.settle()
        #expect(world.vendor.records("touch").isEmpty)
        #expect(try await world.explain(id) == ["timeline: delivered delivered", "touch: not_fired switched_off"])
        await world.end()
    }
}
