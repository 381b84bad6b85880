// SPDX-License-Identifier: Apache-2.0

import MilepostModel

/// A message of Shlink's `new-visit` topic. It has no id: the same visit is recognised by what cannot change about it.
enum ShlinkLine {
    static func read(_ object: ImportedObject, _ bytes: Span<UInt8>) throws(LineFault) -> ImportedEvent {
        guard object.tape.nodes[0].kind == .object else {
            throw LineFault(code: "not_an_object", message: "a Shlink line is a JSON object")
        }
        guard object.has("visit", in: bytes) else {
            if object.has("shortUrl", in: bytes) { return .nothing(reason: "a new short URL") }
            throw LineFault(code: "link_missing", message: "visit: missing; is this a new-visit message of Shlink?")
        }
        guard object.has("shortUrl", in: bytes) else { return .nothing(reason: "a visit to no short URL (orphan)") }
        guard let code = try object.identifier("shortUrl", "shortCode", named: "shortUrl.shortCode", in: bytes) else {
            throw LineFault(code: "link_missing", message: "shortUrl.shortCode: missing")
        }
        // A short code is unique within its domain; the default domain is null.
        let domain = object.text("shortUrl", "domain", atMost: FieldLimits.identifier, in: bytes)
        let link = domain.map { "\($0)/\(code)" } ?? code
        guard link.utf8.count <= FieldLimits.identifier else {
            throw LineFault(code: "link_too_long", message: "shortUrl: domain and short code exceed 256 bytes")
        }
        var event = EventFields(link: link, time: try object.time("visit", "date", named: "visit.date", in: bytes))
        let destination = object.text("shortUrl", "longUrl", atMost: FieldLimits.url, in: bytes)
        event.url = object.text("visit", "redirectUrl", atMost: FieldLimits.url, in: bytes) ?? destination
        event.requestURL = object.text("visit", "visitedUrl", atMost: FieldLimits.url, in: bytes)
        event.referrer = object.text("visit", "referer", atMost: FieldLimits.description, in: bytes)
        event.userAgent = object.text("visit", "userAgent", atMost: FieldLimits.description, in: bytes)
        event.country = object.country("visit", "visitLocation", "countryCode", in: bytes)
        event.bot = object.bool("visit", "potentialBot", in: bytes)
        event.fillCampaign(from: event.requestURL)
        event.fillCampaign(from: event.url)
        var facts = ImportedLinkFacts(link: LinkID(link))
        facts.slug = code
        facts.shortURL = object.text("shortUrl", "shortUrl", atMost: FieldLimits.url, in: bytes)
        facts.destination = destination
        facts.title = object.text("shortUrl", "title", atMost: FieldLimits.description, in: bytes)
        facts.tags = object.texts("shortUrl", "tags", atMost: 64, in: bytes)
        return .click(event, facts)
    }

    /// What the id is derived from. Not the country, which Shlink looks up after it has told of the visit, and not the
    /// destination, which an editor may change between two exports.
    static func identifying(_ event: EventFields) -> EventFields {
        var part = EventFields(link: event.link, time: event.time)
        part.userAgent = event.userAgent
        part.referrer = event.referrer
        part.requestURL = event.requestURL
        return part
    }
}
