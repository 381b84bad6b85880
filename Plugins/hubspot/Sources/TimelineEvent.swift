// SPDX-License-Identifier: Apache-2.0

package import MilepostKit

/// A click in the words of each of HubSpot's ways to show it (TL-03 to TL-05, TL-08).
package struct TimelineEvent: Sendable {
    let payload: ResolvedClick
    package let title: String
    /// Who it is shown on: an id where one is known. Never both: HubSpot would take the address for a new one of the
    /// contact's (crm-apis 3.5).
    var contact: Contact

    package init(_ payload: ResolvedClick, titleTemplate: String?) {
        self.payload = payload
        title = Self.title(of: payload, template: titleTemplate)
        contact =
            payload.contact.id?.isEmpty == false
            ? Contact(id: payload.contact.id, email: nil) : Contact(payload.contact)
    }

    package static let standardTitle = "Clicked: {title} ({short_url})"

    static func title(of payload: ResolvedClick, template: String?) -> String {
        let link = payload.link
        let name = [link.title, link.slug, link.id].compactMap { $0 }.first { !$0.isEmpty } ?? "link"
        let values = [
            "title": name, "slug": link.slug ?? name, "campaign": payload.utm.campaign ?? "",
            "short_url": [link.short_url, link.slug, link.id].compactMap { $0 }.first { !$0.isEmpty } ?? name,
        ]
        return VendorText.line(fill(template ?? standardTitle, values), longest: 255)
    }

    /// Replaces placeholders in one pass: a title that holds "{slug}" stays as it is.
    private static func fill(_ template: String, _ values: [String: String]) -> String {
        var result = ""
        var rest = Substring(template)
        while let open = rest.firstIndex(of: "{") {
            result += rest[..<open]
            let after = rest.index(after: open)
            if let close = rest[after...].firstIndex(of: "}"), let value = values[String(rest[after..<close])] {
                result += value
                rest = rest[rest.index(after: close)...]
            } else {
                result += "{"
                rest = rest[after...]
            }
        }
        return result + rest
    }

    /// TL-03, and nothing else. What is unknown is left out: every value is a text.
    var tokens: [String: JSONValue] {
        Self.texts([
            ("slug", payload.link.slug, 255), ("destination", payload.link.destination ?? payload.click.url, 2_000),
            ("campaign", payload.utm.campaign, 255), ("country", payload.click.country, 80),
            ("device", payload.click.device, 80),
        ])
    }

    /// TL-04, and the title: the template's header reads it from here, so that the tokens stay those of TL-03.
    var extraData: JSONValue {
        var members = Self.texts([
            ("referrer", payload.click.referrer, 2_000), ("user_agent", payload.click.user_agent, 512),
            ("timestamp", payload.click.at, 64), ("title", title, 255),
        ])
        members["utm"] = .object(
            Self.texts(UTMField.allCases.map { ($0.rawValue, payload.utm[$0], 255) }))
        return .object(members)
    }

    private static func texts(_ values: [(String, String?, Int)]) -> [String: JSONValue] {
        var members: [String: JSONValue] = [:]
        for (name, value, longest) in values {
            let text = VendorText.line(value ?? "", longest: longest)
            if !text.isEmpty { members[name] = .string(text) }
        }
        return members
    }

    /// Members that name the contact.
    private var target: [String: JSONValue] {
        if let id = contact.id { return ["objectId": .string(id)] }
        return contact.email.map { ["email": .string($0)] } ?? [:]
    }

    /// `POST /integrators/timeline/v3/events`. The id is the click's key: HubSpot keeps one event of each (Z-08).
    func timeline(template: String) -> JSONValue {
        .object(
            target.merging([
                "eventTemplateId": .string(template), "id": .string(payload.key),
                "timestamp": .string(payload.click.at),
                "tokens": .object(tokens), "extraData": extraData,
            ]) { $1 })
    }

    /// `POST /integrators/timeline/2026-03/events`
    func appEvent(type: String) -> JSONValue {
        .object(
            target.merging([
                "eventTypeName": .string(type), "id": .string(payload.key), "timestamp": .string(payload.click.at),
                "properties": .object(tokens), "extraData": extraData,
            ]) { $1 })
    }

    /// `POST /events/v3/send`: no place beside the properties, 256 characters each and 1,024 of an address.
    func customEvent(name: String) -> JSONValue {
        var properties = tokens
        if let url = properties["destination"]?.string {
            properties["destination"] = .string(VendorText.line(url, longest: 1_024))
        }
        return .object(
            target.merging([
                "eventName": .string(name), "uuid": .string(payload.key), "occurredAt": .string(payload.click.at),
                "properties": .object(properties),
            ]) { $1 })
    }

    /// A note on the contact: for accounts that allow nothing else.
    func note(contact id: String) -> JSONValue {
        var lines = ["<b>\(VendorText.escaped(title))</b>"]
        for (label, key) in [
            ("Destination", "destination"), ("Campaign", "campaign"), ("Country", "country"), ("Device", "device"),
        ] {
            if let value = tokens[key]?.string { lines.append("\(label): \(VendorText.escaped(value))") }
        }
        lines.append(Self.marker(payload.key))
        return [
            "properties": [
                "hs_timestamp": .string(payload.click.at),
                "hs_note_body": .string("<p>" + lines.joined(separator: "<br>") + "</p>"),
            ],
            "associations": [
                [
                    "to": ["id": .string(id)],
                    // Note to contact, of HubSpot's own association types.
                    "types": [["associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 202]],
                ]
            ],
        ]
    }

    /// A text that only this click's note holds, so that a lost answer can be looked up. One word: HubSpot searches words.
    static func marker(_ key: String) -> String { "milepost\(VendorText.line(key, longest: 64))" }
}

/// The template of timeline events: it belongs to the app and is made once for it (crm-apis 3.5).
enum EventTemplate {
    /// Name of the object for `provision`, and of its id among the app's objects.
    static let key = "timeline_template"
    static let name = "Milepost link click"

    static let tokens: [(name: String, label: String)] = [
        ("slug", "Link"), ("destination", "Destination"), ("campaign", "Campaign"), ("country", "Country"),
        ("device", "Device"),
    ]

    static func token(_ token: (name: String, label: String)) -> JSONValue {
        ["name": .string(token.name), "label": .string(token.label), "type": "string"]
    }

    static let header = "{{extraData.title}}"
    static let detail = """
        {{#if destination}}Destination: {{destination}}
        {{/if}}{{#if campaign}}Campaign: {{campaign}}
        {{/if}}{{#if country}}Country: {{country}}
        {{/if}}{{#if device}}Device: {{device}}
        {{/if}}{{#if extraData.referrer}}Referrer: {{extraData.referrer}}{{/if}}
        """

    static var body: JSONValue {
        [
            "name": .string(name), "objectType": "contacts", "headerTemplate": .string(header),
            "detailTemplate": .string(detail), "tokens": .array(tokens.map(token)),
        ]
    }
}
