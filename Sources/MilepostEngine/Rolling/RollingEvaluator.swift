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
    /// How long a click waits for a form that says who clicked (RES-03, RES-06).
    let hold: Duration
    let reporter: any EngineReporter

    struct Step: Sendable, Equatable {
        var clicks = 0
        var firings = 0
        var hasMore = false
        var reached = RuleCursor(position: .start, now: Timestamp(milliseconds: 0))
    }

    /// Evaluates one page for the rules that follow the log and one for each group that is being filled.
    func advance(_ workspace: WorkspaceID) async throws -> Step {
        var total = Step()
        var rules = try await cache.rules(of: workspace)
        guard !rules.following.stored.isEmpty || !rules.filling.isEmpty else { return total }
        let cursor = try await store.ruleCursor(workspace: workspace)
        for lane in rules.filling {
            guard let from = lane.filling else { continue }
            let step = try await evaluate(lane, workspace, from: from, through: cursor)
            total.clicks += step.clicks
            total.firings += step.firings
            total.hasMore = true
            if step.reached.hasReached(cursor) {
                cache.forget(workspace)
            } else {
                cache.note(workspace, filling: lane.stored.map(\.number), at: step.reached)
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
        _ lane: RuleCache.Lane, _ workspace: WorkspaceID, from: RuleCursor, through bound: RuleCursor?
    ) async throws -> Step {
        let filling = lane.filling == nil ? nil : lane.stored.map(\.number)
        if let bound, from.hasReached(bound) {
            try await store.commitRules(RuleEvaluation(workspace: workspace, filling: filling, from: from, to: from))
            return Step(reached: from)
        }
        var page = try await RuleLogPage.read(
            store, resolver, workspace, after: from, through: bound, limit: pageSize)
        guard page.through > from.position || page.lastForm > from.form else { return Step(reached: from) }
        var evaluation = RuleEvaluation(workspace: workspace, filling: filling, from: from, to: from)
        do { try await fold(&page, lane, workspace, into: &evaluation) } catch let lost as LostWindow {
            try await rebuild(lost.rule, lane, workspace)
            return Step(hasMore: true, reached: from)
        }
        let changes = !evaluation.progress.isEmpty || !evaluation.waiting.isEmpty || !evaluation.identified.isEmpty
        if changes { CrashPoint.reach("before_rule_commit") }
        try await store.commitRules(evaluation)
        if changes { CrashPoint.reach("after_rule_commit") }
        for firing in evaluation.firings where firing.state != .waiting {
            reporter.ruleCrossed(firing.ruleID, in: workspace, outcome: firing.state.rawValue)
        }
        return Step(
            clicks: page.clicks.count, firings: evaluation.firings.count, hasMore: page.hasMore,
            reached: evaluation.to)
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

    private func fold(
        _ page: inout RuleLogPage, _ lane: RuleCache.Lane, _ workspace: WorkspaceID,
        into evaluation: inout RuleEvaluation
    ) async throws {
        var reading = PageReading(lane: lane, from: evaluation.from, hold: hold, resolver: resolver)
        try await reading.read(&page, store, workspace, windowLimit: pageSize)
        if reading.windows.count > 0 { try await reading.windows.load(from: store, lane) }
        for touch in reading.touches {
            let stored = touch.isLate ? reading.lateClicks[touch.click] : page.clicks[touch.click]
            for rule in touch.rules {
                let (effect, crossed) = reading.windows.take(
                    PageWindows.Pair(rule: rule, contact: touch.number), time: stored.click.time.milliseconds,
                    isBot: stored.click.isBot, now: touch.now, under: lane.index.rules[rule])
                reading.counts[rule].add(effect)
                if let crossed {
                    evaluation.firings.append(
                        firing(of: stored, touch.contact, lane, rule, crossed, now: Timestamp(milliseconds: touch.now)))
                }
            }
        }
        evaluation.to = RuleCursor(
            position: page.through, form: page.lastForm, now: Timestamp(milliseconds: reading.now))
        evaluation.progress = reading.windows.rows(lane)
        evaluation.waiting = reading.newWaiting
        evaluation.identified = reading.identified
        for (rule, count) in reading.counts.enumerated() where count != RuleCounts() {
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
