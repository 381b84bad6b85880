// SPDX-License-Identifier: Apache-2.0

import MilepostModel

/// Reads a REST click event from a scanned tape. Unknown members are ignored; null and empty text mean absent.
struct EventReader: ~Copyable {
    private enum Field: Int {
        case id, link, time, url, contactID, googleClickID, facebookClickID, utm, referrer, country, device, userAgent
        case requestURL, method, purpose, bot
    }
    /// In the order of `Field`.
    private static let fields = MemberNames([
        "id", "link", "ts", "url", "contact_id", "gclid", "fbclid", "utm", "referrer", "country", "device",
        "user_agent",
        "request_url", "method", "purpose", "bot",
    ])
    private static let utmParts = MemberNames(["source", "medium", "campaign", "term", "content"])

    private var names = EventReader.fields
    private var campaignNames = EventReader.utmParts

    func read(_ tape: JSONTape, _ bytes: Span<UInt8>) throws(LineFault) -> EventFields {
        guard tape.nodes[0].kind == .object else {
            throw LineFault(
                code: "not_an_object", message: "a click event is a JSON object, not \(tape.nodes[0].kind.words)")
        }
        // Node 0 is the event itself, so 0 stands for "absent".
        var found = InlineArray<16, Int>(repeating: 0)
        var key = 1
        while key < tape.nodes.count {
            if let index = names.index(of: tape.nodes[key], in: tape, bytes), tape.nodes[key + 1].kind != .null {
                found[index] = key + 1
            }
            key = Int(tape.nodes[key].next)
        }
        func node(_ field: Field) -> JSONTape.Node? {
            found[field.rawValue] == 0 ? nil : tape.nodes[found[field.rawValue]]
        }
        let values = FieldValues(tape: tape)

        guard let link = try values.identifier(node(.link), "link", bytes) else {
            throw LineFault(code: "link_missing", message: "link: missing; a click names the link it is on")
        }
        guard let when = node(.time), !(when.kind == .string && when.start == when.end) else {
            throw LineFault(code: "ts_missing", message: "ts: missing; RFC 3339 or unix seconds or milliseconds")
        }
        var event = EventFields(link: link, time: try values.time(when, "ts", bytes))
        event.id = try values.identifier(node(.id), "id", bytes)
        event.url = try values.cutText(node(.url), "url", FieldLimits.url, bytes)
        event.contactID = try values.identifier(node(.contactID), "contact_id", bytes)
        event.googleClickID = try values.key(node(.googleClickID), "gclid", FieldLimits.adClickID, bytes)
        event.facebookClickID = try values.key(node(.facebookClickID), "fbclid", FieldLimits.adClickID, bytes)
        event.referrer = try values.cutText(node(.referrer), "referrer", FieldLimits.description, bytes)
        event.country = try values.country(node(.country), "country", bytes)
        event.device = try values.cutText(node(.device), "device", FieldLimits.device, bytes)
        event.userAgent = try values.cutText(node(.userAgent), "user_agent", FieldLimits.description, bytes)
        event.requestURL = try values.text(node(.requestURL), "request_url", bytes)
        event.method = try values.cutText(node(.method), "method", 16, bytes)?.uppercased()
        event.purpose = try values.cutText(node(.purpose), "purpose", FieldLimits.device, bytes)?.lowercased()
        event.bot = try values.bool(node(.bot), "bot")
        if found[Field.utm.rawValue] != 0 { event.utm = try utm(at: found[Field.utm.rawValue], values, bytes) }
        return event
    }

    private func utm(at index: Int, _ values: FieldValues, _ bytes: Span<UInt8>) throws(LineFault) -> UTM {
        let tape = values.tape
        guard tape.nodes[index].kind == .object else {
            throw LineFault(
                code: "wrong_type", message: "utm: \(tape.nodes[index].kind.words) where an object belongs")
        }
        var utm = UTM()
        var key = index + 1
        while key < tape.nodes[index].next {
            let value = tape.nodes[key + 1]
            if let part = campaignNames.index(of: tape.nodes[key], in: tape, bytes), value.kind != .null {
                switch part {
                case 0: utm.source = try values.cutText(value, "utm.source", FieldLimits.campaign, bytes)
                case 1: utm.medium = try values.cutText(value, "utm.medium", FieldLimits.campaign, bytes)
                case 2: utm.campaign = try values.cutText(value, "utm.campaign", FieldLimits.campaign, bytes)
                case 3: utm.term = try values.cutText(value, "utm.term", FieldLimits.campaign, bytes)
                default: utm.content = try values.cutText(value, "utm.content", FieldLimits.campaign, bytes)
                }
            }
            key = Int(tape.nodes[key].next)
        }
        return utm
    }
}

extension JSONTape.Kind {
    /// With its article, for messages.
    var words: String {
        switch self {
        case .object: "an object"
        case .array: "an array"
        case .key, .string: "text"
        case .number: "a number"
        case .yes: "true"
        case .no: "false"
        case .null: "null"
        }
    }
}
