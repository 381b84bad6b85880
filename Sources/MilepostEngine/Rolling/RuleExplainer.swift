// SPDX-License-Identifier: Apache-2.0

import MilepostIntake
public import MilepostModel
import MilepostRules
public import MilepostStore

/// Says why rolling rules did or did not fire: for a rule, for a contact, for a click (EXT-16, RULE-20).
public struct RuleExplainer: Sendable {
    let store: any Store
    let resolver: ContactResolver
    /// How long a click waits for a form that says who clicked.
    let hold: Duration

    /// One rule's standing with one contact or click.
    public struct Line: Sendable, Equatable {
        public var rule: String
        public var contact: String?
        /// `not_reached`, `fired`, `not_fired`, `waiting`, `observed`, or what kept a click from counting.
        public var outcome: String
        public var reason: Reason
        /// Clicks in the window now, up to the threshold; nil where no contact is known.
        public var count: Int?
        public var threshold: Int
        public var missing: Int?
        public var botClicks: Int64
        public var firing: RuleFiring?
    }

    /// Contacts listed for a rule.
    static let maximumContacts = 20

    // MARK: A rule

    /// The contacts who have come furthest, and the last firings.
    public func explain(_ stored: StoredRule) async throws -> (lines: [Line], firings: [RuleFiring], notes: [Reason]) {
        let rule = try Self.read(stored)
        var notes = stored.warnings
        if let filled = stored.filled {
            notes.append(
                Reason(
                    code: "filling",
                    message:
                        "Windows are still filled from the log of clicks (at click \(filled.position)); the rule fires "
                        + "for nobody before that is done."))
        }
        let now = try await store.ruleCursor(workspace: stored.workspace).now
        var best: [(contact: String, progress: ContactProgress)] = []
        var after: String?
        while true {
            let page = try await store.ruleProgress(rule: stored.number, after: after, limit: 1000)
            for row in page {
                var progress = try ContactProgress(
                    row.progress, of: RuleContact(rule: stored.number, contact: row.contact))
                progress.settle(now: now.milliseconds, under: rule)
                best.append((row.contact, progress))
            }
            best.sort { ($0.progress.window.count, $1.contact) > ($1.progress.window.count, $0.contact) }
            best.removeLast(max(0, best.count - Self.maximumContacts))
            guard page.count == 1000, let last = page.last else { break }
            after = last.contact
        }
        var lines: [Line] = []
        for (contact, progress) in best {
            let firing = try await lastFiring(of: stored, contact: contact)
            lines.append(Self.line(rule, contact, progress, firing))
        }
        let firings = try await store.firings(
            workspace: stored.workspace, matching: FiringFilter(rule: stored.id), cursor: nil, limit: 20)
        return (lines, firings.items, notes)
    }

    /// What hooks said before a firing acted on one deal.
    public struct Judged: Sendable, Equatable {
        public var firing: RuleFiring
        /// The deal's id at the vendor.
        public var target: String
        public var delivery: DeliveryID
        public var decisions: [InterceptDecision]
    }

    /// Of deliveries that some hook was asked about, in the order of the firings.
    public func judged(_ firings: [RuleFiring]) async throws -> [Judged] {
        var found: [Judged] = []
        for firing in firings {
            for target in firing.targets.array ?? [] {
                guard let id = target["delivery"]?.string.map({ DeliveryID($0) }) else { continue }
                let decisions = try await store.decisions(of: id)
                guard !decisions.isEmpty else { continue }
                found.append(
                    Judged(
                        firing: firing, target: target["id"]?.string ?? "", delivery: id, decisions: decisions))
            }
        }
        return found
    }

    // MARK: A link

    /// Which rules the link's clicks count towards; nil when none does.
    public func note(on link: Link) async throws -> Reason? {
        let rules = try await store.rules(workspace: link.workspace).compactMap {
            RollingRuleReader.read($0.document).rules.first
        }
        let index = RuleIndex(rules)
        let ids = index.matches(link: link.id, tags: link.tags).map { index.rules[$0].id }
        guard !ids.isEmpty else { return nil }
        return Reason(
            code: "counts_for_rules",
            message: "Its clicks count towards the rolling rules \(ids.prefix(20).joined(separator: ", ")) from now on."
        )
    }

    // MARK: A contact

    public func explain(contact: String, workspace: WorkspaceID) async throws -> [Line] {
        let now = try await store.ruleCursor(workspace: workspace).now
        var lines: [Line] = []
        for stored in try await store.rules(workspace: workspace) {
            let rule = try Self.read(stored)
            let progress = try await progress(of: contact, under: rule, stored, now: now)
            let firing = try await lastFiring(of: stored, contact: contact)
            lines.append(Self.line(rule, contact, progress, firing))
        }
        return lines
    }

    // MARK: A click

    /// - Throws: `notFound` when the click never came or its day is dropped.
    public func explain(event: EventID, workspace: WorkspaceID) async throws -> [Line] {
        let identity = ClickIdentity.of(event, workspace: workspace)
        guard let stored = try await store.storedClick(event, workspace: workspace, identity: identity) else {
            throw EngineError(
                code: .notFound,
                detail: "No click \(event) is known in workspace \(workspace); it never came, or is past its retention."
            )
        }
        let optedOut = try await store.optedOutMembers(workspace: workspace)
        let exclusion = ExclusionRule.reason(for: stored.link, optedOutMembers: optedOut)
        let who = try await resolver.resolve(stored, hold: hold)
        let cursor = try await store.ruleCursor(workspace: workspace)
        let caused = try await store.firings(
            workspace: workspace, matching: FiringFilter(position: stored.position), cursor: nil, limit: 1000
        ).items
        var lines: [Line] = []
        for item in try await store.rules(workspace: workspace) {
            let rule = try Self.read(item)
            lines.append(
                try await line(
                    stored, rule, item, exclusion: exclusion, who: who, cursor: item.filled ?? cursor,
                    firing: caused.first { $0.rule == item.number }))
        }
        return lines
    }

    private func line(
        _ stored: StoredClick, _ rule: RollingRule, _ item: StoredRule, exclusion: Reason?,
        who: (contact: ContactMatch, form: Int64?)?, cursor: RuleCursor, firing: RuleFiring?
    ) async throws -> Line {
        var line = Line(
            rule: rule.id, contact: who?.contact.key, outcome: "not_counted",
            reason: Reason(
                code: "other_link", message: "The click's link is not the rule's: \(rule.trigger.scope.described)."),
            count: nil, threshold: rule.trigger.threshold, missing: nil, botClicks: 0, firing: firing)
        guard firing == nil else {
            line.describe(firing)
            return line
        }
        guard !RuleIndex([rule]).matches(link: stored.link.id, tags: stored.link.tags).isEmpty else { return line }
        if let exclusion {
            line.reason = exclusion
            return line
        }
        guard let (contact, form) = who, !contact.key.isEmpty else {
            line.reason = Reason(
                code: "anonymous", message: "Nobody knows who clicked; a click without a contact fires nothing.")
            let end = stored.receivedAt + hold
            if stored.click.googleClickID ?? stored.click.facebookClickID != nil, cursor.now <= end {
                line.outcome = "waiting"
                line.reason = Reason(
                    code: "identity_unknown",
                    message: "Nobody knows yet who clicked; it counts with its own time if a form says so until \(end)."
                )
            }
            return line
        }
        if stored.click.isBot, rule.audience == .people {
            line.reason = Reason(
                code: "bot", message: "The click was taken for a machine's, and the rule counts people.")
            return line
        }
        guard stored.position <= cursor.position, (form ?? 0) <= cursor.form else {
            line.outcome = "waiting"
            line.reason = Reason(code: "not_evaluated", message: "The rule has not come to this click yet.")
            return line
        }
        let progress = try await progress(of: contact.key, under: rule, item, now: cursor.now)
        let last = try await lastFiring(of: item, contact: contact.key)
        var result = Self.line(rule, contact.key, progress, last)
        if stored.position <= item.countsFrom, last == nil {
            result.reason.message += " The click is older than the rule or its last change."
        }
        return result
    }

    // MARK: Parts

    private static func read(_ stored: StoredRule) throws -> RollingRule {
        guard let rule = RollingRuleReader.read(stored.document).rules.first else {
            throw StoreError(code: .corrupt, detail: "rule '\(stored.id)' cannot be read; save it anew")
        }
        return rule
    }

    private func progress(
        of contact: String, under rule: RollingRule, _ stored: StoredRule, now: Timestamp
    ) async throws -> ContactProgress {
        let key = RuleContact(rule: stored.number, contact: contact)
        guard let row = try await store.ruleProgress([key])[0] else { return ContactProgress() }
        var progress = try ContactProgress(row, of: key)
        progress.settle(now: now.milliseconds, under: rule)
        return progress
    }

    private func lastFiring(of stored: StoredRule, contact: String) async throws -> RuleFiring? {
        try await store.firings(
            workspace: stored.workspace, matching: FiringFilter(rule: stored.id, contact: contact), cursor: nil,
            limit: 1
        ).items.first.flatMap { $0.rule == stored.number ? $0 : nil }
    }

    private static func line(
        _ rule: RollingRule, _ contact: String, _ progress: ContactProgress, _ firing: RuleFiring?
    ) -> Line {
        let (count, missing) = (progress.window.count, progress.missing(under: rule))
        var line = Line(
            rule: rule.id, contact: contact, outcome: "not_reached",
            reason: Reason(
                code: "not_reached",
                message: "\(count) of \(rule.trigger.threshold) clicks on \(rule.trigger.scope.described) lie within "
                    + "\(WindowLength.text(rule.trigger.window)); \(missing) are missing."), count: count,
            threshold: rule.trigger.threshold, missing: missing, botClicks: progress.botClicks, firing: firing)
        // What fired is told as long as it stands; once the count fell below, the next crossing is what matters.
        if let firing, !progress.isArmed {
            line.describe(firing)
        } else if firing != nil {
            line.reason.message += " It was reached before, fell below, and can be crossed again."
        }
        if progress.botClicks > 0, rule.audience == .people {
            line.reason.message += " \(progress.botClicks) clicks of machines were left out."
        }
        return line
    }
}

extension RuleExplainer.Line {
    mutating func describe(_ firing: RuleFiring?) {
        guard let firing else { return }
        let reached = "Click \(firing.click) reached \(firing.threshold) at \(firing.at)."
        switch firing.state {
        case .waiting:
            outcome = "waiting"
            reason = Reason(
                code: firing.reason?.code ?? "waiting_for_deals",
                message: "\(reached) \(firing.reason?.message ?? "The contact's deals are being read.")")
        case .observed, .baseline:
            outcome = firing.state == .observed ? "observed" : "not_fired"
            reason = Reason(
                code: firing.reason?.code ?? firing.state.rawValue,
                message: "\(reached) \(firing.reason?.message ?? "")")
        case .done:
            let moved = (firing.targets.array ?? []).filter { $0["delivery"]?.string != nil }
            outcome = moved.isEmpty ? "not_fired" : "fired"
            let deals = moved.compactMap { $0["id"]?.string }.joined(separator: ", ")
            let kept = (firing.targets.array ?? []).compactMap { $0["reason"]?.string }.joined(separator: " ")
            reason =
                moved.isEmpty
                ? Reason(
                    code: firing.reason?.code ?? "not_fired",
                    message: "\(reached) \(kept.isEmpty ? firing.reason?.message ?? "" : kept)")
                : Reason(code: "fired", message: "\(reached) It acts on \(deals). \(kept)")
        }
    }
}

extension RollingRule.Scope {
    var described: String { "\(kind) \(id)" }
}
