// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
public import MilepostRules
public import MilepostStore

/// Runs rules over stored history: what would have fired, for whom, at which click (EXT-17).
///
/// Asks no vendor and no clock: the answer depends on the rules and the log alone, so two runs give equal bytes.
public struct RuleSimulator: Sendable {
    /// What ends a window: when the click happened, or when it was received (decisions 14).
    public enum Basis: String, Sendable, CaseIterable { case click, received }

    public struct Request: Sendable {
        public var rules: [RollingRule]
        /// Crossings outside of these moments are left out; clicks before them count.
        public var from: Timestamp?
        public var to: Timestamp?
        public var basis: Basis

        public init(rules: [RollingRule], from: Timestamp? = nil, to: Timestamp? = nil, basis: Basis = .click) {
            self.rules = rules
            self.from = from
            self.to = to
            self.basis = basis
        }
    }

    let store: any Store
    let resolver: ContactResolver
    /// How long a click waits for a form that says who clicked.
    let hold: Duration

    /// Clicks on links of the rules that one simulation takes.
    static let maximumClicks = 2_000_000
    /// Crossings listed; more are counted.
    static let maximumFirings = 10_000

    private struct Entry {
        var now: Int64
        var time: Int64
        var position: ClickPosition
        var contact: String
        var rules: [Int]
        var isBot: Bool
        var event: EventID
        var link: LinkID
    }

    public func run(_ request: Request, workspace: WorkspaceID) async throws -> JSONValue {
        let index = RuleIndex(request.rules)
        var counts = [RuleCounts](repeating: RuleCounts(), count: index.rules.count)
        var (entries, read) = try await entries(index, request, workspace, counts: &counts)
        if request.basis == .click {
            entries.sort { ($0.time, $0.position) < ($1.time, $1.position) }
        }
        var fold = RuleFold(rules: index.rules)
        var fired = [Int64](repeating: 0, count: index.rules.count)
        var firings: [JSONValue] = []
        var omitted: Int64 = 0
        var now = Int64.min / 2
        for entry in entries {
            try Task.checkCancellation()
            now = max(now, request.basis == .click ? entry.time : entry.now)
            for rule in entry.rules {
                let key = RuleFold.Key(rule: rule, contact: entry.contact)
                let (effect, progress) = fold.take(key, time: entry.time, isBot: entry.isBot, now: now)
                counts[rule].add(effect)
                guard effect == .crossed, request.from.map({ now >= $0.milliseconds }) ?? true else { continue }
                fired[rule] += 1
                guard firings.count < Self.maximumFirings else {
                    omitted += 1
                    continue
                }
                firings.append([
                    "rule": .string(index.rules[rule].id), "contact": .string(entry.contact),
                    "click": .string(entry.event.rawValue), "link": .string(entry.link.rawValue),
                    "at": .string(Timestamp(milliseconds: now).description),
                    "count": .integer(Int64(progress.window.count)),
                    "arming": .integer(progress.arming),
                ])
            }
        }
        return [
            "clock": .string(request.basis.rawValue), "from": JSONValue(request.from?.description),
            "to": JSONValue(request.to?.description), "clicks": .integer(read),
            "rules": .array(index.rules.indices.map { Self.line(index.rules[$0], counts[$0], fired[$0]) }),
            "firings": .array(firings), "firings_omitted": .integer(omitted),
        ]
    }

    private static func line(_ rule: RollingRule, _ counts: RuleCounts, _ fired: Int64) -> JSONValue {
        var line = counts.json
        line["id"] = .string(rule.id)
        line["name"] = .string(rule.name)
        line["firings"] = .integer(fired)
        return .object(line)
    }

    private func entries(
        _ index: RuleIndex, _ request: Request, _ workspace: WorkspaceID, counts: inout [RuleCounts]
    ) async throws -> ([Entry], read: Int64) {
        var reading = Reading(
            request: request, index: index, optedOut: try await store.optedOutMembers(workspace: workspace),
            counts: counts, waiting: LateIdentities(resolver: resolver))
        var cursor = RuleCursor(position: .start, now: Timestamp(milliseconds: 0))
        while true {
            try Task.checkCancellation()
            let page = try await RuleLogPage.read(
                store, resolver, workspace, after: cursor, through: nil, limit: 2000)
            // By the clicks' own clock nothing comes late, so who clicked is known from the start.
            var forms = request.basis == .received ? page.forms[...] : []
            for stored in page.clicks {
                while let form = forms.first, form.position < stored.position {
                    reading.take(form)
                    forms.removeFirst()
                }
                try await reading.take(stored, hold: hold, resolver)
            }
            for form in forms { reading.take(form) }
            cursor.position = page.through
            cursor.form = page.lastForm
            if !page.hasMore { break }
        }
        counts = reading.counts
        return (reading.entries, reading.read)
    }

    /// What was read of the log so far.
    private struct Reading {
        let request: Request
        let index: RuleIndex
        let optedOut: Set<String>
        var counts: [RuleCounts]
        var waiting: LateIdentities<Entry>
        var entries: [Entry] = []
        var read: Int64 = 0
        private var waits = 0
        private var now = Int64.min / 2

        init(
            request: Request, index: RuleIndex, optedOut: Set<String>, counts: [RuleCounts],
            waiting: LateIdentities<Entry>
        ) {
            self.request = request
            self.index = index
            self.optedOut = optedOut
            self.counts = counts
            self.waiting = waiting
        }

        mutating func take(_ stored: StoredClick, hold: Duration, _ resolver: ContactResolver) async throws {
            let moment = request.basis == .click ? stored.click.time : stored.receivedAt
            if let to = request.to, moment > to { return }
            now = max(now, stored.receivedAt.milliseconds)
            read += 1
            let rules = index.matches(link: stored.link.id, tags: stored.link.tags)
            guard !rules.isEmpty else { return }
            guard ExclusionRule.reason(for: stored.link, optedOutMembers: optedOut) == nil else {
                for rule in rules { counts[rule].excluded += 1 }
                return
            }
            guard entries.count + waits < RuleSimulator.maximumClicks else {
                throw EngineError(
                    code: .validationFailed,
                    detail:
                        "More than \(RuleSimulator.maximumClicks) clicks concern these rules; simulate fewer rules, or an "
                        + "earlier 'to'.")
            }
            var entry = Entry(
                now: now, time: stored.click.time.milliseconds, position: stored.position, contact: "",
                rules: rules, isBot: stored.click.isBot, event: stored.click.id, link: stored.link.id)
            let contact =
                switch request.basis {
                case .click: try await resolver.resolve(stored, hold: hold)?.contact
                case .received:
                    try await resolver.resolve(stored.click, workspace: stored.workspace, before: stored.position)
                }
            if let contact, !contact.key.isEmpty {
                entry.contact = contact.key
                entries.append(entry)
                return
            }
            for rule in rules { counts[rule].anonymous += 1 }
            let canWait = waiting.add(
                .init(
                    position: stored.position, time: stored.click.time, until: stored.receivedAt + hold,
                    googleClickID: stored.click.googleClickID, facebookClickID: stored.click.facebookClickID,
                    payload: entry))
            if canWait { waits += 1 }
        }

        /// Lets the clicks count that the form names.
        mutating func take(_ form: LoggedForm) {
            if let to = request.to, form.receivedAt > to { return }
            now = max(now, form.receivedAt.milliseconds)
            for item in waiting.take(form) {
                var entry = item.payload
                entry.contact = form.form.match.key
                entry.now = now
                for rule in entry.rules { counts[rule].anonymous -= 1 }
                entries.append(entry)
            }
        }
    }
}

extension RuleCounts {
    public var json: [String: JSONValue] {
        [
            "counted": .integer(counted), "bots": .integer(bots), "anonymous": .integer(anonymous),
            "excluded": .integer(excluded), "late": .integer(late),
        ]
    }
}
