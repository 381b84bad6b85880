// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostStore

/// What the queued clicks of one contact leave behind: each campaign value is that of the last click, by click time, that
/// had one (PROP-08, PROP-12, PROP-13).
struct ContactTouch: Sendable {
    var clicks: [StoredClick]
    var last: ResolvedClick
    var utm: UTM
    var times: TouchTimes

    /// Each value with the time of the click that it comes from.
    static var parts: [(value: WritableKeyPath<UTM, String?>, time: WritableKeyPath<TouchTimes, Timestamp?>)] {
        [
            (\.source, \.source), (\.medium, \.medium), (\.campaign, \.campaign), (\.term, \.term),
            (\.content, \.content),
        ]
    }

    /// One touch a contact, in the order in which contacts first appear.
    static func coalesced(_ clicks: [ResolvedClick]) -> [ContactTouch] {
        var order: [String] = []
        var groups: [String: [ResolvedClick]] = [:]
        for click in clicks {
            if groups[click.contact.key] == nil { order.append(click.contact.key) }
            groups[click.contact.key, default: []].append(click)
        }
        return order.compactMap { groups[$0].flatMap(ContactTouch.init) }
    }

    /// Nil without clicks.
    private init?(_ group: [ResolvedClick]) {
        let sorted = group.sorted {
            ($0.stored.click.time, $0.stored.position) < ($1.stored.click.time, $1.stored.position)
        }
        guard let last = sorted.last else { return nil }
        self.last = last
        clicks = sorted.map(\.stored)
        utm = UTM()
        times = TouchTimes()
        for click in sorted.map(\.stored.click) {
            for part in Self.parts {
                guard let value = click.utm[keyPath: part.value], !value.isEmpty else { continue }
                utm[keyPath: part.value] = value
                times[keyPath: part.time] = click.time
            }
        }
    }

    /// Leaves out what a later click has written already; nil when nothing is left to write.
    func without(_ written: TouchTimes?) -> ContactTouch? {
        var rest = self
        for part in Self.parts {
            guard let time = rest.times[keyPath: part.time] else { continue }
            if let stored = written?[keyPath: part.time], stored > time {
                rest.utm[keyPath: part.value] = nil
                rest.times[keyPath: part.time] = nil
            }
        }
        return rest.times == TouchTimes() ? nil : rest
    }
}

extension TouchTimes {
    var json: JSONValue {
        [
            "source": JSONValue(source?.description), "medium": JSONValue(medium?.description),
            "campaign": JSONValue(campaign?.description), "term": JSONValue(term?.description),
            "content": JSONValue(content?.description),
        ]
    }
}

/// A touch that waits in the outbox, before it is tried again.
enum QueuedTouch {
    /// - Returns: the payload without what later clicks have written since; nil when nothing is left.
    static func without(_ written: TouchTimes?, _ payload: JSONValue) -> JSONValue? {
        guard var body = payload.object, var utm = body["utm"]?.object, let times = body["utm_at"]?.object else {
            return payload
        }
        let newest: [String: Timestamp?] = [
            "source": written?.source, "medium": written?.medium, "campaign": written?.campaign,
            "term": written?.term, "content": written?.content,
        ]
        var isEmpty = true
        for (name, value) in utm where value != .null {
            let own = times[name]?.string.flatMap(Timestamp.init(rfc3339:))
            if let own, let stored = newest[name] ?? nil, stored > own {
                utm[name] = .null
            } else {
                isEmpty = false
            }
        }
        guard !isEmpty else { return nil }
        body["utm"] = .object(utm)
        return .object(body)
    }

    /// Whose it is, as `ContactMatch.key` says it.
    static func contact(_ payload: JSONValue) -> String {
        let contact = payload["contact"]
        return ContactMatch(id: contact?["id"]?.string, email: contact?["email"]?.string, via: .click).key
    }
}
