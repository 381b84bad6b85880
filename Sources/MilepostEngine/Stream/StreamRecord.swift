// SPDX-License-Identifier: Apache-2.0

import MilepostModel
import MilepostStore
import MilepostVault

/// A click whose contact is known.
struct ResolvedClick: Sendable {
    var stored: StoredClick
    var contact: ContactMatch
}

/// One record for a plugin, made of one click or of the queued clicks of one contact.
struct StreamRecord: Sendable {
    var action: ClickAction
    var delivery: Delivery
    var key: CrossingKey
    var clicks: [StoredClick]
    /// What the record writes, for actions that coalesce.
    var touch: TouchTimes?
    var contact: ContactMatch

    /// The same over all retries: connection, action and click decide.
    static func key(connection: ConnectionID, action: String, event: EventID) -> String {
        let text = "\(connection.rawValue)\u{0}\(action)\u{0}\(event.rawValue)"
        return Digest.hex(Array(Digest.sha256(Array(text.utf8)).prefix(16)))
    }

    static func deliveryID(key: String) -> DeliveryID { DeliveryID("dlv_\(key)") }

    /// `include/milepost/schemas/payload.click.json`
    static func click(
        _ resolved: ResolvedClick, action: ClickAction, on connection: Connection, at now: Timestamp,
        _ links: inout [LinkID: JSONValue]
    ) -> StreamRecord {
        let stored = resolved.stored
        let key = key(connection: connection.id, action: action.name, event: stored.click.id)
        let click = stored.click
        let payload: JSONValue = [
            "kind": "click", "workspace": .string(connection.workspace.rawValue), "key": .string(key),
            "click": [
                "id": .string(click.id.rawValue), "at": .string(click.time.description), "url": JSONValue(click.url),
                "referrer": JSONValue(click.referrer), "country": JSONValue(click.country),
                "device": JSONValue(click.device), "user_agent": JSONValue(click.userAgent),
                "is_bot": .bool(click.isBot),
            ],
            "utm": utm(click.utm), "link": known(stored.link, &links), "contact": contact(resolved.contact),
        ]
        return StreamRecord(
            action: action, key: key, payload: payload, connection: connection, clicks: [stored], touch: nil,
            contact: resolved.contact, at: now)
    }

    /// `include/milepost/schemas/payload.touch.json`
    static func touch(
        _ touch: ContactTouch, action: ClickAction, on connection: Connection, at now: Timestamp
    ) -> StreamRecord {
        let last = touch.last.stored
        let key = key(connection: connection.id, action: action.name, event: last.click.id)
        let payload: JSONValue = [
            "kind": "touch", "workspace": .string(connection.workspace.rawValue), "key": .string(key),
            "contact": contact(touch.last.contact), "at": .string(last.click.time.description),
            "utm": utm(touch.utm), "utm_at": touch.times.json, "clicks": .integer(Int64(touch.clicks.count)),
            "last_click": .string(last.click.id.rawValue), "link": link(last.link),
        ]
        return StreamRecord(
            action: action, key: key, payload: payload, connection: connection, clicks: touch.clicks,
            touch: touch.times, contact: touch.last.contact, at: now)
    }

    private init(
        action: ClickAction, key: String, payload: JSONValue, connection: Connection, clicks: [StoredClick],
        touch: TouchTimes?, contact: ContactMatch, at now: Timestamp
    ) {
        let scope = Scope(kind: .link, id: clicks[clicks.count - 1].click.link.rawValue)
        self.action = action
        self.clicks = clicks
        self.touch = touch
        self.contact = contact
        // No threshold is 0, so a click never meets a crossing's key.
        self.key = CrossingKey(connection: connection.id, scope: scope, threshold: 0, target: "click:\(key)")
        delivery = Delivery(
            id: Self.deliveryID(key: key), workspace: connection.workspace, connection: connection.id,
            integration: connection.integration, action: action.name, scope: scope, threshold: 0, payload: payload,
            state: .inFlight, attempts: 1, createdAt: now, updatedAt: now)
    }

    private static func utm(_ utm: UTM) -> JSONValue {
        [
            "source": JSONValue(utm.source), "medium": JSONValue(utm.medium), "campaign": JSONValue(utm.campaign),
            "term": JSONValue(utm.term), "content": JSONValue(utm.content),
        ]
    }

    /// A page's clicks share their links.
    private static func known(_ link: Link, _ links: inout [LinkID: JSONValue]) -> JSONValue {
        if let made = links[link.id] { return made }
        let made = Self.link(link)
        links[link.id] = made
        return made
    }

    private static func link(_ link: Link) -> JSONValue {
        [
            "id": .string(link.id.rawValue), "slug": .string(link.displayName), "short_url": JSONValue(link.shortURL),
            "destination": JSONValue(link.destination), "title": JSONValue(link.title),
            "folder": JSONValue(link.folder), "tags": .array(link.tags.map(JSONValue.string)),
            "owner": JSONValue(link.owner),
        ]
    }

    private static func contact(_ match: ContactMatch) -> JSONValue {
        ["id": JSONValue(match.id), "email": JSONValue(match.email), "via": .string(match.via.rawValue)]
    }
}
