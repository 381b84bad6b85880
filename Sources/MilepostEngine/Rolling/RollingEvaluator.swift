// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostRules
import MilepostStore

/// Turns clicks into windows and crossings of rolling rules (RULE-04).
///
/// Reads the log from a cursor of its own, a page at a time; windows, crossings and the cursor are one transaction, so a
/// crash at any point repeats nothing and loses nothing. A new rule first fills its windows from history, on a cursor of
/// its own, and fires for nothing that was in the log before it (invariant 9).
struct RollingEvaluator: Sendable {
    let store: any Store
    let resolver: ContactResolver
    let cache: RuleCache
    let clock: any DaemonClock

    /// Clicks in one transaction. Where a click counts under many rules, a page ends with the click that brings the windows
    /// it touches to as many.
    let pageSize: Int

    struct Step: Sendable, Equatable {
        var clicks = 0
        var firings = 0
        var hasMore = false
        var reached = ClickPosition.start
        var now = Timestamp(milliseconds: 0)
    }

    /// Evaluates one page for the rules that follow the log and one for each group that is being filled.
    func advance(_ workspace: WorkspaceID) async throws -> Step {
        var total = Step()
        var rules = try await cache.rules(of: workspace)
        guard !rules.following.stored.isEmpty || !rules.filling.isEmpty else { return total }
        let cursor = try await store.ruleCursor(workspace: workspace)
        for lane in rules.filling {
            guard let from = lane.filling else { continue }
            let step = try await evaluate(lane, workspace, from: from, through: cursor.position)
            total.clicks += step.clicks
            total.firings += step.firings
            total.hasMore = true
            if step.reached >= cursor.position {
                cache.forget(workspace)
            } else {
                cache.note(
                    workspace, filling: lane.stored.map(\.number),
                    at: RuleCursor(position: step.reached, now: step.now))
            }
        }
        // A rule that has just caught up is one of these from this very page on, or it would miss it.
        rules = try await cache.rules(of: workspace)
        guard !rules.following.stored.isEmpty else { return total }
        let step = try await evaluate(rules.following, workspace, from: cursor, through: nil)
        total.clicks += step.clicks
        total.firings += step.firings
        total.hasMore = total.hasMore || step.hasMore
        return total
    }

    // MARK: One page

    private func evaluate(
        _ lane: RuleCache.Lane, _ workspace: WorkspaceID, from: RuleCursor, through bound: ClickPosition?
    ) async throws -> Step {
        let filling = lane.filling == nil ? nil : lane.stored.map(\.number)
        if let bound, from.position >= bound {
            try await store.commitRules(RuleEvaluation(workspace: workspace, filling: filling, from: from, to: from))
            return Step(reached: from.position, now: from.now)
        }
        var page = try await store.readClicks(after: from.position, workspace: workspace, limit: pageSize)
        if let bound, page.through > bound {
            page.clicks.removeAll { $0.position > bound }
            page.through = bound
        }
        guard page.through > from.position else { return Step(reached: from.position, now: from.now) }
        var evaluation = RuleEvaluation(
            workspace: workspace, filling: filling, from: from, to: RuleCursor(position: page.through, now: from.now))
        do { try await fold(&page, lane, workspace, into: &evaluation) } catch let lost as LostWindow {
            try await rebuild(lost.rule, lane, workspace)
            return Step(hasMore: true, reached: from.position, now: from.now)
        }
        if !evaluation.progress.isEmpty { CrashPoint.reach("before_rule_commit") }
        try await store.commitRules(evaluation)
        if !evaluation.progress.isEmpty { CrashPoint.reach("after_rule_commit") }
        return Step(
            clicks: page.clicks.count, firings: evaluation.firings.count, hasMore: page.hasMore,
            reached: evaluation.to.position, now: evaluation.to.now)
    }

    /// Counts a rule's windows anew from the log: one of them is damaged, so none can be relied on.
    private func rebuild(_ number: Int64, _ lane: RuleCache.Lane, _ workspace: WorkspaceID) async throws {
        defer { cache.forget(workspace) }
        guard let index = lane.stored.firstIndex(where: { $0.number == number }) else { return }
        let stored = lane.stored[index]
        _ = try await store.saveRules(
            [
                RuleDraft(
                    id: stored.id, document: stored.document, isManaged: stored.isManaged, warnings: stored.warnings,
                    window: lane.index.rules[index].trigger.window)
            ], workspace: workspace, at: clock.now)
    }

    /// A click that counts for somebody.
    private struct Touch {
        var click: Int
        var contact: ContactMatch
        var number: Int
        var rules: [Int]
    }

    /// What a link's clicks are for the rules; the same for all clicks of a page.
    private struct LinkUse {
        var rules: [Int]
        var isExcluded: Bool
    }

    /// Notes who clicked and the windows that takes, and cuts the page off where they are enough for one transaction.
    private func touches(
        of page: inout ClickPage, _ lane: RuleCache.Lane, _ workspace: WorkspaceID, windows: inout PageWindows,
        counts: inout [RuleCounts]
    ) async throws -> [Touch] {
        let optedOut = try await store.optedOutMembers(workspace: workspace)
        var uses: [LinkID: LinkUse] = [:]
        var touches: [Touch] = []
        for (index, stored) in page.clicks.enumerated() {
            if windows.count >= pageSize {
                page.through = page.clicks[index - 1].position
                page.hasMore = true
                page.clicks.removeSubrange(index...)
                break
            }
            let use =
                uses[stored.link.id]
                ?? LinkUse(
                    rules: lane.index.matches(link: stored.link.id, tags: stored.link.tags),
                    isExcluded: ExclusionRule.reason(for: stored.link, optedOutMembers: optedOut) != nil)
            uses[stored.link.id] = use
            guard !use.rules.isEmpty else { continue }
            guard !use.isExcluded else {
                for rule in use.rules { counts[rule].excluded += 1 }
                continue
            }
            guard let contact = try await resolver.resolve(stored.click, workspace: workspace), !contact.key.isEmpty
            else {
                for rule in use.rules { counts[rule].anonymous += 1 }
                continue
            }
            let number = windows.number(of: contact.key)
            for rule in use.rules { windows.add(PageWindows.Pair(rule: rule, contact: number)) }
            touches.append(Touch(click: index, contact: contact, number: number, rules: use.rules))
        }
        return touches
    }

    private func fold(
        _ page: inout ClickPage, _ lane: RuleCache.Lane, _ workspace: WorkspaceID, into evaluation: inout RuleEvaluation
    ) async throws {
        var windows = PageWindows()
        var counts = [RuleCounts](repeating: RuleCounts(), count: lane.stored.count)
        let touches = try await touches(of: &page, lane, workspace, windows: &windows, counts: &counts)
        let clicks = page.clicks
        evaluation.to.position = page.through
        if windows.count > 0 { try await windows.load(from: store, lane) }
        var now = evaluation.from.now.milliseconds
        var next = 0
        for touch in touches {
            // Windows end at the latest time of receipt, also of clicks that count for nobody.
            while next <= touch.click {
                now = max(now, clicks[next].receivedAt.milliseconds)
                next += 1
            }
            let stored = clicks[touch.click]
            for rule in touch.rules {
                let (effect, crossed) = windows.take(
                    PageWindows.Pair(rule: rule, contact: touch.number), time: stored.click.time.milliseconds,
                    isBot: stored.click.isBot, now: now, under: lane.index.rules[rule])
                counts[rule].add(effect)
                if let crossed {
                    evaluation.firings.append(
                        firing(of: stored, touch.contact, lane, rule, crossed, now: Timestamp(milliseconds: now)))
                }
            }
        }
        for click in clicks[next...] { now = max(now, click.receivedAt.milliseconds) }
        evaluation.to.now = Timestamp(milliseconds: now)
        evaluation.progress = windows.rows(lane)
        for (rule, count) in counts.enumerated() where count != RuleCounts() {
            evaluation.counts[lane.stored[rule].number] = count
        }
    }

    private func firing(
        of stored: StoredClick, _ contact: ContactMatch, _ lane: RuleCache.Lane, _ index: Int,
        _ progress: ContactProgress, now: Timestamp
    ) -> RuleFiring {
        let rule = lane.index.rules[index]
        let record = lane.stored[index]
        let isOld = stored.position <= record.countsFrom
        var firing = RuleFiring(
            workspace: stored.workspace, rule: record.number, ruleID: rule.id, document: record.document,
            integration: rule.integration, contact: contact.key, person: contact.json,
            threshold: Int64(rule.trigger.threshold), arming: progress.arming, counted: Int64(progress.window.count),
            position: stored.position, click: stored.click.id, clickTime: stored.click.time, link: stored.link.id,
            at: now, state: isOld ? .baseline : rule.mode == .observe ? .observed : .waiting)
        switch firing.state {
        case .baseline:
            firing.reason = Reason(
                code: "baseline",
                message: "Reached before the rule was made or its trigger was changed; only later crossings fire.")
        case .observed:
            firing.reason = Reason(
                code: "observed", message: "The rule only observes (mode: observe); it would have fired.")
        case .waiting, .done: break
        }
        return firing
    }
}

/// A stored window cannot be read. The next click under its rule has all of the rule's windows counted anew.
struct LostWindow: Error, CustomStringConvertible {
    var rule: Int64
    var description: String { "a window of rule number \(rule) cannot be read; it is counted anew with the next click" }
}

extension ContactProgress {
    init(_ row: RuleProgress, of name: RuleContact) throws {
        guard let window = ClickWindow(encoded: row.window) else { throw LostWindow(rule: name.rule) }
        self.init(window: window, arming: row.arming, isArmed: row.isArmed, botClicks: row.botClicks)
    }
}

extension RuleCounts {
    mutating func add(_ effect: ContactProgress.Effect) {
        switch effect {
        case .ignoredBot: bots += 1
        case .tooOld: late += 1
        case .counted, .crossed: counted += 1
        }
    }
}

extension ContactMatch {
    /// As plugins are told.
    var json: JSONValue {
        ["id": JSONValue(id), "email": JSONValue(email), "via": .string(via.rawValue)]
    }
}
