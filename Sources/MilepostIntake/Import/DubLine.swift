// SPDX-License-Identifier: Apache-2.0

import MilepostModel

/// A body of Dub's `link.clicked` webhook. Dub filters robots before it counts, but gives no verdict, so ours decides.
enum DubLine {
    /// Dub's words for "not known" and "typed or opened from outside a browser".
    private static let absent = ["Unknown", "(direct)"]

    static func read(_ object: ImportedObject, _ bytes: Span<UInt8>) throws(LineFault) -> ImportedEvent {
        guard object.tape.nodes[0].kind == .object else {
            throw LineFault(code: "not_an_object", message: "a Dub line is a JSON object")
        }
        if let kind = object.text("event", atMost: 64, in: bytes), kind != "link.clicked" {
            return .nothing(reason: "a \(LineFault.quoted(kind)) event")
        }
        guard let link = try object.identifier("data", "link", "id", named: "data.link.id", in: bytes) else {
            throw LineFault(
                code: "link_missing", message: "data.link.id: missing; is this a link.clicked webhook body?")
        }
        let time = try object.time("data", "click", "timestamp", named: "data.click.timestamp", in: bytes)
        var event = EventFields(link: link, time: time)
        // The webhook's id stays the same when Dub sends it again; exports of clicks alone have only the click's own.
        event.id = try object.identifier("id", named: "id", in: bytes)
        if event.id == nil {
            event.id = try object.identifier("data", "click", "id", named: "data.click.id", in: bytes)
        }
        event.url = object.text("data", "click", "url", atMost: FieldLimits.url, in: bytes)
        event.country = object.country("data", "click", "country", unless: absent, in: bytes)
        event.device = object.text("data", "click", "device", atMost: FieldLimits.device, unless: absent, in: bytes)
        event.userAgent = object.text("data", "click", "ua", atMost: FieldLimits.description, unless: absent, in: bytes)
        event.referrer =
            object.text("data", "click", "refererUrl", atMost: FieldLimits.description, unless: absent, in: bytes)
            ?? object.text("data", "click", "referer", atMost: FieldLimits.description, unless: absent, in: bytes)
        func campaign(_ name: String) -> String? {
            object.text("data", "link", name, atMost: FieldLimits.campaign, in: bytes)
        }
        event.fillCampaign(from: event.url)
        event.utm.source = event.utm.source ?? campaign("utm_source")
        event.utm.medium = event.utm.medium ?? campaign("utm_medium")
        event.utm.campaign = event.utm.campaign ?? campaign("utm_campaign")
        event.utm.term = event.utm.term ?? campaign("utm_term")
        event.utm.content = event.utm.content ?? campaign("utm_content")
        return .click(event, facts(object, link, bytes))
    }

    private static func facts(_ object: ImportedObject, _ link: String, _ bytes: Span<UInt8>) -> ImportedLinkFacts {
        var facts = ImportedLinkFacts(link: LinkID(link))
        facts.slug = object.text("data", "link", "key", atMost: FieldLimits.identifier, in: bytes)
        facts.shortURL = object.text("data", "link", "shortLink", atMost: FieldLimits.url, in: bytes)
        facts.destination = object.text("data", "link", "url", atMost: FieldLimits.url, in: bytes)
        facts.title = object.text("data", "link", "title", atMost: FieldLimits.description, in: bytes)
        facts.folder = object.text("data", "link", "folderId", atMost: FieldLimits.identifier, in: bytes)
        facts.tags = object.texts("data", "link", "tags", atMost: 64, in: bytes)
        return facts
    }
}
