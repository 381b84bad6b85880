// SPDX-License-Identifier: Apache-2.0

import MilepostEngine
import MilepostIntake
import MilepostModel
import MilepostRules
import MilepostStore
import Testing

@Suite("Rolling rules and clicks whose contact turns up later")
struct LateIdentityTests {
    private func world(_ documents: JSONValue...) async throws -> RulesWorld {
        let world = try await RulesWorld()
        try await world.tag("brochure", ["sales-collateral"])
        world.crm.set([.init(id: "9001")], of: "c1")
        if !documents.isEmpty {
            _ = try await world.rules.service.create(.array(documents), workspace: world.workspace)
        }
        return world
    }

    private static let hour: Int64 = 3600

    @Test("RES-04, RULE-04: a click counts with its own time as soon as a form says who clicked, and moves the deal")
    func counts() async throws {
        let world = try await world(RulesWorld.document("r", threshold: 3))
        try await world.adClick("held", "g1")
        let time = world.clock.now
        try await world.click(times: 2)
        try await world.catchUp()
        #expect(world.crm.moves.isEmpty)
        let before = try await world.rules.explainer.explain(event: "held", workspace: world.workspace)
        #expect(before.map(\.outcome) == ["waiting"] && before.map(\.reason.code) == ["identity_unknown"])

        world.clock.advance(by: .seconds(71 * Self.hour))
        try await world.form("g1", "c1")
        let unread = try await world.rules.explainer.explain(event: "held", workspace: world.workspace)
        #expect(unread.map(\.reason.code) == ["not_evaluated"])
        try await world.catchUp()
        #expect(world.crm.moves == ["9001:qualifiedtobuy"])
        let firing = try #require(try await world.firings().first)
        #expect(firing.click == "held" && firing.clickTime == time && firing.at == world.clock.now)
        let rule = try #require(try await world.store.rule("r", workspace: world.workspace))
        #expect(rule.counts.counted == 3 && rule.counts.anonymous == 0)
        let after = try await world.rules.explainer.explain(event: "held", workspace: world.workspace)
        #expect(after.map(\.outcome) == ["fired"])

        // Once, however often forms and starts follow.
        try await world.form("g1", "c1")
        try await world.restart()
        try await world.catchUp()
        #expect(try await world.store.rule("r", workspace: world.workspace)?.counts.counted == 3)
        await world.end()
    }

    @Test("RES-05: a form that comes after the hold counts for nothing, and explain says so")
    func tooLate() async throws {
        let world = try await world(RulesWorld.document("r", threshold: 1))
        try await world.adClick("held", "g1")
        world.clock.advance(by: .seconds(73 * Self.hour))
        try await world.form("g1", "c1")
        try await world.catchUp()
        #expect(world.crm.moves.isEmpty)
        let lines = try await world.rules.explainer.explain(event: "held", workspace: world.workspace)
        #expect(lines.map(\.reason.code) == ["anonymous"])
        await world.end()
    }

    @Test("RULE-14: a click that left the window before its contact turned up does not count")
    func outOfTheWindow() async throws {
        let world = try await world(RulesWorld.document("r", window: "12h", threshold: 2))
        try await world.adClick("old", "g1")
        world.clock.advance(by: .seconds(11 * Self.hour))
        try await world.adClick("new", "g1")
        world.clock.advance(by: .seconds(2 * Self.hour))
        try await world.form("g1", "c1")
        try await world.catchUp()
        #expect(try await world.firings().isEmpty)
        let rule = try #require(try await world.store.rule("r", workspace: world.workspace))
        #expect(rule.counts.counted == 1 && rule.counts.late == 1)
        await world.end()
    }

    @Test("Invariant 9: a click from before the rule fires nothing when its contact turns up after it")
    func neverBackwards() async throws {
        let world = try await world()
        try await world.adClick("held", "g1")
        try await world.make(RulesWorld.document("r", threshold: 1))
        try await world.catchUp()
        try await world.form("g1", "c1")
        try await world.catchUp()
        #expect(world.crm.moves.isEmpty)
        #expect(try await world.firings().map(\.state) == [.baseline])
        await world.end()
    }

    @Test("RULE-16, EXC-03: the tags of the click's moment count, unless the link is excluded by the time it counts")
    func tagsAndExclusions() async throws {
        let world = try await world(
            RulesWorld.document("old", threshold: 1, more: ["mode": "observe"]),
            RulesWorld.document("new", tag: "later", threshold: 1, more: ["mode": "observe"]))
        try await world.adClick("held", "g1")
        try await world.catchUp()
        try await world.tag("brochure", ["later"])
        try await world.form("g1", "c1")
        try await world.catchUp()
        #expect(try await world.firings().map(\.ruleID) == ["old"])
        try await world.adClick("excluded", "g2")
        try await world.catchUp()
        try await world.tag("brochure", ["later"], flags: [.test])
        try await world.form("g2", "c2")
        try await world.catchUp()
        #expect(try await world.firings("new").isEmpty)
        #expect(try await world.store.rule("new", workspace: world.workspace)?.counts.excluded == 1)
        await world.end()
    }

    @Test("PRV-02, RES-05: an erased person waits for nothing, and what waited too long is forgotten")
    func forgetting() async throws {
        let world = try await world(RulesWorld.document("r", threshold: 1))
        let number = try #require(try await world.store.rule("r", workspace: world.workspace)).number
        func waiting(_ id: String) async throws -> Int {
            var ids = AdvertisementClicks()
            ids.google.insert(id)
            return try await world.store.ruleWaiting(rules: [number], workspace: world.workspace, carrying: ids).count
        }
        try await world.adClick("one", "g1")
        try await world.adClick("two", "g2")
        try await world.catchUp()
        #expect(try await waiting("g1") == 1)
        // A form of another time names the person of g1 without naming the click.
        try await world.form("g1", "c1", at: world.clock.now - .seconds(20 * 24 * Self.hour))
        _ = try await world.store.eraseContact(workspace: world.workspace, contact: "c1")
        #expect(try await waiting("g1") == 0)
        #expect(try await waiting("g2") == 1)
        world.clock.advance(by: .seconds(80 * Self.hour))
        try await world.click(by: "c3")
        try await world.catchUp()
        let start = Timestamp(milliseconds: 0)
        #expect(try await world.store.enforceRuleRetention(windowsBefore: start, firingsBefore: start) == 1)
        #expect(try await waiting("g2") == 0)
        await world.end()
    }

    @Test(
        "RULE-04, RES-04: crossings equal a naive recount, whatever the order of forms and clicks, pages and restarts",
        arguments: 0..<12)
    func equalsRecount(seed: Int) async throws {
        let world = try await RulesWorld()
        var random = Splitmix(state: UInt64(seed) &* 7919 &+ 1)
        let tags: [LinkID: [String]] = ["l0": ["even", "all"], "l1": ["all"], "l2": ["even", "all"], "l3": ["all"]]
        for (link, tags) in tags { try await world.tag(link, tags) }
        let documents = [
            RulesWorld.document("all", tag: "all", window: "3h", threshold: 5, more: ["mode": "observe"]),
            RulesWorld.document(
                "even", tag: "even", window: "40m", threshold: 3, more: ["mode": "observe", "rearm": "once"]),
            RulesWorld.document(
                "one", link: "l1", window: "90m", threshold: 2, more: ["mode": "observe", "count": "all"]),
            RulesWorld.document("wide", tag: "all", window: "9d", threshold: 9, more: ["mode": "observe"]),
        ]
        _ = try await world.rules.service.create(.array(documents), workspace: world.workspace)
        var log: [NaiveRecount.Event] = []
        for number in 0..<160 {
            let jump = Int.random(in: 0..<30, using: &random) == 0 ? 50 * Self.hour : 0
            world.clock.advance(by: .seconds(Int64.random(in: 0...600, using: &random) + jump))
            let now = world.clock.now
            let gclid = "g\(Int.random(in: 0..<6, using: &random))"
            if Int.random(in: 0..<4, using: &random) == 0 {
                // Told at once or a while later; now and then of another time altogether.
                let days: Int64 = Int.random(in: 0..<6, using: &random) == 0 ? 16 : 0
                let time = now - .milliseconds(Int64.random(in: 0...9_000_000, using: &random) + days * 86_400_000)
                let contact = "c\(Int.random(in: 0..<3, using: &random))"
                try await world.form(gclid, contact, at: time)
                log.append(.form(gclid: gclid, contact: contact, time: time, receivedAt: now))
            } else {
                let late = Bool.random(using: &random) ? 0 : Int64.random(in: -200...9000, using: &random)
                let kind = Int.random(in: 0..<10, using: &random)
                let click = Click(
                    id: EventID("e\(number)"), link: "l\(Int.random(in: 0..<4, using: &random))".link,
                    time: now - .seconds(late), isBot: Int.random(in: 0..<6, using: &random) == 0,
                    contactID: kind < 4 ? "c\(Int.random(in: 0..<3, using: &random))" : nil,
                    googleClickID: kind < 9 ? gclid : nil)
                try await world.append(click)
                log.append(.click(click, receivedAt: now))
            }
            if Int.random(in: 0..<6, using: &random) == 0 { try await world.catchUp() }
            if Int.random(in: 0..<20, using: &random) == 0 { try await world.restart() }
        }
        try await world.catchUp()
        let rules = documents.compactMap { RollingRuleReader.read($0).rules.first }
        var recount = NaiveRecount(rules: rules, tags: tags)
        for event in log { recount.take(event) }
        #expect(recount.released > 0 && !recount.firings.isEmpty)
        func shown(_ firings: [RuleFiring]) -> [String] {
            firings.map { "\($0.ruleID) \($0.contact) \($0.click) \($0.arming)" }
        }
        #expect(shown(try await world.firings()) == recount.firings)

        let simulated = try await world.rules.simulator.run(
            .init(rules: rules, basis: .received), workspace: world.workspace)
        let words = (simulated["firings"]?.array ?? []).map {
            "\($0["rule"]?.string ?? "") \($0["contact"]?.string ?? "") \($0["click"]?.string ?? "") \($0["arming"]?.integer ?? -1)"
        }
        #expect(words == recount.firings)

        // Windows that are filled from the log are those that were counted live.
        for (document, rule) in zip(documents, rules) {
            let live = try await windows(world, rule)
            try await world.rules.service.remove(rule.id, workspace: world.workspace)
            try await world.make(document)
            try await world.catchUp()
            #expect(try await windows(world, rule) == live)
        }
        await world.end()
    }

    /// What lies within each contact's window now.
    private func windows(_ world: RulesWorld, _ rule: RollingRule) async throws -> [String: ClickWindow] {
        let number = try #require(try await world.store.rule(rule.id, workspace: world.workspace)).number
        let now = try await world.store.ruleCursor(workspace: world.workspace).now.milliseconds
        var found: [String: ClickWindow] = [:]
        for row in try await world.store.ruleProgress(rule: number, after: nil, limit: 1000) {
            var window = try #require(ClickWindow(encoded: row.progress.window))
            window.expire(through: now - rule.trigger.window)
            if window.count > 0 { found[row.contact] = window }
        }
        return found
    }
}

/// Rules by their definition: every click is kept, nothing is capped, and forms are looked through one by one.
private struct NaiveRecount {
    enum Event {
        case click(Click, receivedAt: Timestamp)
        case form(gclid: String, contact: String, time: Timestamp, receivedAt: Timestamp)
    }
    private struct Standing {
        var times: [Int64] = []
        var arming = 0
        var isArmed = true
    }
    let rules: [RollingRule]
    let tags: [LinkID: [String]]
    /// `rule contact click arming`
    private(set) var firings: [String] = []
    private(set) var released = 0
    private var standings: [String: Standing] = [:]
    private var forms: [(gclid: String, contact: String, time: Timestamp)] = []
    private var waiting: [(click: Click, until: Timestamp)] = []
    private var now = Int64.min / 2

    init(rules: [RollingRule], tags: [LinkID: [String]]) {
        self.rules = rules.sorted { $0.id < $1.id }
        self.tags = tags
    }

    private static let match: Duration = .seconds(14 * 86_400)
    private static let hold: Duration = .seconds(72 * 3600)

    mutating func take(_ event: Event) {
        switch event {
        case .click(let click, let receivedAt):
            now = max(now, receivedAt.milliseconds)
            let form = forms.filter { $0.gclid == click.googleClickID && Self.isNear($0.time, click.time) }
                .max { $0.time < $1.time }
            if let contact = click.contactID ?? form?.contact {
                count(click, for: contact)
            } else if click.googleClickID != nil {
                waiting.append((click, receivedAt + Self.hold))
            }
        case .form(let gclid, let contact, let time, let receivedAt):
            now = max(now, receivedAt.milliseconds)
            forms.append((gclid, contact, time))
            let named = waiting.filter {
                $0.click.googleClickID == gclid && receivedAt <= $0.until && Self.isNear(time, $0.click.time)
            }
            waiting.removeAll { item in named.contains { $0.click.id == item.click.id } }
            released += named.count
            for item in named { count(item.click, for: contact) }
        }
    }

    private static func isNear(_ form: Timestamp, _ click: Timestamp) -> Bool {
        form >= click - match && form <= click + match
    }

    private mutating func count(_ click: Click, for contact: String) {
        for rule in rules {
            switch rule.trigger.scope {
            case .tag(let tag): guard tags[click.link]?.contains(tag) == true else { continue }
            case .link(let link): guard link == click.link else { continue }
            }
            var standing = standings["\(rule.id) \(contact)"] ?? Standing()
            standing.times.removeAll { $0 <= now - rule.trigger.window }
            if !standing.isArmed, rule.rearm == .onRecross, standing.times.count < rule.trigger.threshold {
                standing.isArmed = true
                standing.arming += 1
            }
            let time = min(click.time.milliseconds, now)
            if !(click.isBot && rule.audience == .people), time > now - rule.trigger.window {
                standing.times.append(time)
                if standing.isArmed, standing.times.count >= rule.trigger.threshold {
                    standing.isArmed = false
                    firings.append("\(rule.id) \(contact) \(click.id) \(standing.arming)")
                }
            }
            standings["\(rule.id) \(contact)"] = standing
        }
    }
}

extension RulesWorld {
    fileprivate func append(_ click: Click) async throws {
        _ = try await store.append(
            [IdentifiedClick(click: click, identity: ClickIdentity.of(click.id, workspace: workspace))],
            workspace: workspace, receivedAt: clock.now)
    }

    /// A click of whom only the advertisement is known.
    fileprivate func adClick(_ id: EventID, _ gclid: String) async throws {
        try await append(Click(id: id, link: "brochure", time: clock.now, googleClickID: gclid))
    }

    fileprivate func form(_ gclid: String, _ contact: String, at time: Timestamp? = nil) async throws {
        let stored = try await store.appendForms(
            [
                FormSubmission(
                    id: EventID("f\(gclid)-\(contact)-\(time?.milliseconds ?? clock.now.milliseconds)"),
                    time: time ?? clock.now, contactID: contact, googleClickID: gclid)
            ], workspace: workspace, receivedAt: clock.now)
        #expect(stored == [true] || time == nil)
    }
}
