// SPDX-License-Identifier: Apache-2.0

import MilepostModel

/// A line of bitly's click feed, as in the public 1.USA.gov data. There is no id and no field for a campaign; `g` is the
/// link, `h` one user's own alias of it, `nk` and the rest say nothing we keep.
enum BitlyLine {
    static func read(_ object: ImportedObject, _ bytes: Span<UInt8>) throws(LineFault) -> ImportedEvent {
        guard object.tape.nodes[0].kind == .object else {
            throw LineFault(code: "not_an_object", message: "a bitly line is a JSON object")
        }
        guard let link = try object.identifier("g", named: "g", in: bytes) else {
            if object.has("_heartbeat_", in: bytes) { return .nothing(reason: "heartbeat") }
            throw LineFault(code: "link_missing", message: "g: missing, and the line is no heartbeat")
        }
        var event = EventFields(link: link, time: try object.time("t", named: "t", in: bytes))
        event.url = object.text("u", atMost: FieldLimits.url, in: bytes)
        event.referrer = object.text("r", atMost: FieldLimits.description, unless: ["direct"], in: bytes)
        event.country = object.country("c", in: bytes)
        event.userAgent = object.text("a", atMost: FieldLimits.description, in: bytes)
        event.fillCampaign(from: event.url)
        event.fillCampaign(from: event.referrer)
        var facts = ImportedLinkFacts(link: LinkID(link))
        facts.destination = event.url
        return .click(event, facts)
    }
}
