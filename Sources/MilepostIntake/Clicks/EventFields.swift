// SPDX-License-Identifier: Apache-2.0

import MilepostModel

/// A click event as it was sent: typed, within limits, empty texts absent, not yet judged. The ip address is not here:
/// it is never kept, not even in the derived id (decisions 8).
struct EventFields: Equatable {
    var id: String?
    var link: String
    var time: Timestamp
    var url: String?
    var contactID: String?
    var googleClickID: String?
    var facebookClickID: String?
    var utm = UTM()
    var referrer: String?
    var country: String?
    var device: String?
    var userAgent: String?
    var requestURL: String?
    var method: String?
    var purpose: String?
    /// The shortener's own verdict.
    var bot: Bool?

    init(link: String, time: Timestamp) {
        self.link = link
        self.time = time
    }
}

// MARK: - Derived id

extension EventFields {
    /// What the derived id is the hash of. Fixed for ever: a change would count old clicks anew.
    ///
    /// First `milepost click 1` and a line feed; then of each field that is present, in the order below, the name, `:`,
    /// the length in bytes, `:`, the value and a line feed. The time is in milliseconds since 1970. The fields are taken
    /// as sent, not as judged, so neither the bot filter's lists nor the contact parameter's name change an id: the
    /// request's URL stands for what is read from it, and `bot` is left out. `ordinal` is there from the second equal
    /// line of a file on.
    func writeCanonical(ordinal: Int, into output: inout [UInt8]) {
        output.append(contentsOf: "milepost click 1\n".utf8)
        func write(_ name: StaticString, _ value: String?) {
            guard let value else { return }
            name.withUTF8Buffer { letters in unsafe output.append(contentsOf: letters) }
            output.append(0x3a)
            output.append(contentsOf: String(value.utf8.count).utf8)
            output.append(0x3a)
            output.append(contentsOf: value.utf8)
            output.append(0x0a)
        }
        write("link", link)
        write("ts", String(time.milliseconds))
        write("url", url)
        write("contact_id", contactID)
        write("gclid", googleClickID)
        write("fbclid", facebookClickID)
        write("utm_source", utm.source)
        write("utm_medium", utm.medium)
        write("utm_campaign", utm.campaign)
        write("utm_term", utm.term)
        write("utm_content", utm.content)
        write("referrer", referrer)
        write("country", country)
        write("device", device)
        write("user_agent", userAgent)
        write("request_url", requestURL)
        write("method", method)
        write("purpose", purpose)
        if ordinal > 1 { write("ordinal", String(ordinal)) }
    }

    /// `evt_` and the first 16 bytes of SHA-256 of the canonical form, in hexadecimal.
    func derivedID(ordinal: Int = 1, digest: borrowing ClickDigest, buffer: inout [UInt8]) -> String {
        buffer.removeAll(keepingCapacity: true)
        writeCanonical(ordinal: ordinal, into: &buffer)
        return Self.idText(digest.hash(buffer.span))
    }

    static func idText(_ hash: InlineArray<32, UInt8>) -> String {
        var text = Array("evt_".utf8)
        text.reserveCapacity(36)
        for index in 0..<16 {
            text.append(hexLetter(hash[index] >> 4))
            text.append(hexLetter(hash[index] & 15))
        }
        return String(utf8: text.span)
    }

    private static func hexLetter(_ digit: UInt8) -> UInt8 { digit < 10 ? 0x30 + digit : 0x61 + digit - 10 }
}

// MARK: - As a REST event

extension EventFields {
    /// The event as REST takes it; what the daemon reads from it equals `self`.
    var json: JSONValue {
        var members: [String: JSONValue] = ["link": .string(link), "ts": .string(time.description)]
        func set(_ name: String, _ value: String?) {
            if let value { members[name] = .string(value) }
        }
        set("id", id)
        set("url", url)
        set("contact_id", contactID)
        set("gclid", googleClickID)
        set("fbclid", facebookClickID)
        set("referrer", referrer)
        set("country", country)
        set("device", device)
        set("user_agent", userAgent)
        set("request_url", requestURL)
        set("method", method)
        set("purpose", purpose)
        if let bot { members["bot"] = .bool(bot) }
        var campaign: [String: JSONValue] = [:]
        for (name, value) in [
            ("source", utm.source), ("medium", utm.medium), ("campaign", utm.campaign), ("term", utm.term),
            ("content", utm.content),
        ] {
            if let value { campaign[name] = .string(value) }
        }
        if !campaign.isEmpty { members["utm"] = .object(campaign) }
        return .object(members)
    }
}

// MARK: - As a click

extension EventFields {
    /// The click that is counted: what is missing is read from the request's URL, and the bot question is settled.
    func click(id: String, bots: BotFilter, contactParameter: String) -> Click {
        let query = requestURL.map { QueryString(of: $0) }
        let campaign = UTM(
            source: utm.source ?? query?.campaign("utm_source"), medium: utm.medium ?? query?.campaign("utm_medium"),
            campaign: utm.campaign ?? query?.campaign("utm_campaign"), term: utm.term ?? query?.campaign("utm_term"),
            content: utm.content ?? query?.campaign("utm_content"))
        return Click(
            id: EventID(id), link: LinkID(link), time: time, isBot: bot ?? isMachine(by: bots), url: url,
            contactID: contactID ?? query?.value(contactParameter, atMost: FieldLimits.identifier),
            googleClickID: googleClickID ?? query?.value("gclid", atMost: FieldLimits.adClickID),
            facebookClickID: facebookClickID ?? query?.value("fbclid", atMost: FieldLimits.adClickID),
            utm: campaign, referrer: referrer, country: country, device: device, userAgent: userAgent)
    }

    private func isMachine(by bots: BotFilter) -> Bool {
        bots.isMachine(userAgent: userAgent, method: method, purpose: purpose)
    }
}
