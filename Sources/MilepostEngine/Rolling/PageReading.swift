// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostRules
import MilepostStore

/// Goes through a page of clicks and forms in their order, and notes which clicks count for whom.
///
/// A click whose contact is known counts at its own place in the log. One that nobody can be named for waits, and counts at
/// the place of the form that names its contact: with its own time, as any click that comes late. So the outcome depends on
/// the log alone, and not on when it was read.
struct PageReading {
    /// A click that counts for somebody.
    struct Touch {
        /// An index into the page's clicks, or into `lateClicks` for a click that waited.
        var click: Int
        var isLate: Bool
        var contact: ContactMatch
        /// As `PageWindows` numbers contacts.
        var number: Int
        /// Indexes into the lane's rules.
        var rules: [Int]
        /// Where the windows end.
        var now: Int64
    }

    private(set) var touches: [Touch] = []
    private(set) var lateClicks: [StoredClick] = []
    var windows = PageWindows()
    var counts: [RuleCounts]
    /// The latest time of receipt so far, also of clicks and forms that count for nobody.
    private(set) var now: Int64
    /// Clicks that waited before and do not any more.
    private(set) var identified: [RuleWaiting] = []

    private let lane: RuleCache.Lane
    private let hold: Duration
    private let resolver: ContactResolver
    private var optedOut: Set<String> = []
    private var uses: [LinkID: LinkUse] = [:]
    private var waiting: LateIdentities<Late>
    private var from: RuleCursor

    private struct Late {
        var click: StoredClick
        var rules: [Int]
        /// Whether the store knows that it waits.
        var isStored: Bool
    }

    /// What a link's clicks are for the rules; the same for all clicks of a page.
    private struct LinkUse {
        var rules: [Int]
        var isExcluded: Bool
    }

    init(lane: RuleCache.Lane, from: RuleCursor, hold: Duration, resolver: ContactResolver) {
        self.lane = lane
        self.from = from
        self.hold = hold
        self.resolver = resolver
        now = from.now.milliseconds
        counts = Array(repeating: RuleCounts(), count: lane.stored.count)
        waiting = LateIdentities(resolver: resolver)
    }

    /// Reads the page, and cuts it off where it touches enough windows for one transaction.
    mutating func read(
        _ page: inout RuleLogPage, _ store: any Store, _ workspace: WorkspaceID, windowLimit: Int
    ) async throws {
        optedOut = try await store.optedOutMembers(workspace: workspace)
        try await loadWaiting(page.forms, store, workspace)
        var (click, form) = (0, 0)
        var reached = from
        while click < page.clicks.count || form < page.forms.count {
            if windows.count >= windowLimit {
                page.clicks.removeSubrange(click...)
                page.through = reached.position
                page.lastForm = reached.form
                page.hasMore = true
                return
            }
            if form < page.forms.count,
                click == page.clicks.count || page.forms[form].position < page.clicks[click].position
            {
                take(page.forms[form])
                reached.position = max(reached.position, page.forms[form].position)
                reached.form = page.forms[form].number
                form += 1
            } else {
                try await take(page.clicks[click], at: click, workspace)
                reached.position = page.clicks[click].position
                click += 1
            }
        }
    }

    /// Clicks that wait from this page on.
    var newWaiting: [RuleWaiting] {
        waiting.rest.flatMap { item in item.payload.isStored ? [] : rows(of: item) }
    }

    // MARK: Steps

    private mutating func take(_ stored: StoredClick, at index: Int, _ workspace: WorkspaceID) async throws {
        now = max(now, stored.receivedAt.milliseconds)
        let use =
            uses[stored.link.id]
            ?? LinkUse(
                rules: lane.index.matches(link: stored.link.id, tags: stored.link.tags),
                isExcluded: isExcluded(stored.link))
        uses[stored.link.id] = use
        guard !use.rules.isEmpty else { return }
        guard !use.isExcluded else {
            for rule in use.rules { counts[rule].excluded += 1 }
            return
        }
        let contact = try await resolver.resolve(stored.click, workspace: workspace, before: stored.position)
        guard let contact, !contact.key.isEmpty else {
            for rule in use.rules { counts[rule].anonymous += 1 }
            waiting.add(
                .init(
                    position: stored.position, time: stored.click.time, until: stored.receivedAt + hold,
                    googleClickID: stored.click.googleClickID, facebookClickID: stored.click.facebookClickID,
                    payload: Late(click: stored, rules: use.rules, isStored: false)))
            return
        }
        touch(contact, use.rules, click: index)
    }

    private mutating func take(_ form: LoggedForm) {
        now = max(now, form.receivedAt.milliseconds)
        for item in waiting.take(form) {
            let late = item.payload
            if late.isStored { identified += rows(of: item) }
            for rule in late.rules { counts[rule].anonymous -= 1 }
            // The tags counted when the click came; whether the link fires at all is asked now.
            if isExcluded(late.click.link) {
                for rule in late.rules { counts[rule].excluded += 1 }
            } else {
                touch(form.form.match, late.rules, click: lateClicks.count, isLate: true)
                lateClicks.append(late.click)
            }
        }
    }

    private mutating func touch(_ contact: ContactMatch, _ rules: [Int], click: Int, isLate: Bool = false) {
        let number = windows.number(of: contact.key)
        for rule in rules { windows.add(PageWindows.Pair(rule: rule, contact: number)) }
        touches.append(
            Touch(click: click, isLate: isLate, contact: contact, number: number, rules: rules, now: now))
    }

    // MARK: Clicks that wait

    private mutating func loadWaiting(
        _ forms: [LoggedForm], _ store: any Store, _ workspace: WorkspaceID
    ) async throws {
        var ids = AdvertisementClicks()
        ids.google.formUnion(forms.compactMap(\.form.googleClickID))
        ids.facebook.formUnion(forms.compactMap(\.form.facebookClickID))
        let rows = try await store.ruleWaiting(
            rules: lane.stored.map(\.number), workspace: workspace, carrying: ids)
        guard !rows.isEmpty else { return }
        let indexes = Dictionary(
            zip(lane.stored.map(\.number), lane.stored.indices), uniquingKeysWith: { first, _ in first })
        let groups = Dictionary(grouping: rows, by: \.position)
        for stored in try await store.clicks(at: groups.keys.sorted()) {
            guard let rows = groups[stored.position], let first = rows.first else { continue }
            waiting.add(
                .init(
                    position: stored.position, time: stored.click.time, until: first.until,
                    googleClickID: first.googleClickID, facebookClickID: first.facebookClickID,
                    payload: Late(click: stored, rules: rows.compactMap { indexes[$0.rule] }.sorted(), isStored: true)))
        }
    }

    private func rows(of item: LateIdentities<Late>.Waiting) -> [RuleWaiting] {
        item.payload.rules.map {
            RuleWaiting(
                rule: lane.stored[$0].number, position: item.position, until: item.until,
                googleClickID: item.googleClickID, facebookClickID: item.facebookClickID)
        }
    }

    private func isExcluded(_ link: Link) -> Bool {
        ExclusionRule.reason(for: link, optedOutMembers: optedOut) != nil
    }
}
