// SPDX-License-Identifier: Apache-2.0

import MilepostKit

/// A request's body and the headers that belong to it.
struct Message: Sendable, Equatable {
    /// What the receiver tells repetitions by, and what is signed with body and time.
    var id: String
    var contentType: String
    var headers: [(name: String, value: String)] = []
    var body: [UInt8]

    static func == (left: Self, right: Self) -> Bool {
        left.id == right.id && left.contentType == right.contentType && left.body == right.body
            && left.headers.elementsEqual(right.headers) { $0 == $1 }
    }

    /// One event.
    init(_ event: HookEvent, _ settings: Settings) {
        id = event.id
        switch settings.format {
        case .webhook:
            contentType = "application/json"
            body = Self.webhook(event).bytes
        case .cloudevents:
            contentType = "application/cloudevents+json; charset=utf-8"
            body = Self.cloudEvent(event, settings).bytes
        case .cloudeventsBinary:
            contentType = "application/json"
            body = event.data.bytes
            headers = Self.attributes(of: event, settings).map { ("ce-\($0.name)", Self.headerValue($0.value)) }
        case .template:
            contentType = "application/json"
            body = (settings.template?.filled(event.view) ?? .null).bytes
        }
        headers += settings.headers.map { ($0.name, Self.line(Template.filled($0.value, event.view))) }
    }

    /// Several events in one request; binary mode has no batch and takes the structured one (CloudEvents 1.0, HTTP binding
    /// 3.3). Headers with placeholders are filled from the first event.
    init(batch events: [HookEvent], id: String, _ settings: Settings) {
        self.id = id
        switch settings.format {
        case .webhook:
            contentType = "application/json"
            // Each with its id: the message's own says only that this batch was seen.
            body =
                JSONValue.array(
                    events.map { event in
                        .object((Self.webhook(event).object ?? [:]).merging(["id": .string(event.id)]) { $1 })
                    }
                ).bytes
        case .cloudevents, .cloudeventsBinary:
            contentType = "application/cloudevents-batch+json; charset=utf-8"
            body = JSONValue.array(events.map { Self.cloudEvent($0, settings) }).bytes
        case .template:
            contentType = "application/json"
            body = JSONValue.array(events.map { settings.template?.filled($0.view) ?? .null }).bytes
        }
        if let first = events.first {
            headers = settings.headers.map { ($0.name, Self.line(Template.filled($0.value, first.view))) }
        }
    }

    private static func webhook(_ event: HookEvent) -> JSONValue {
        ["type": .string(event.type), "timestamp": .string(event.time), "data": event.data]
    }

    private static func attributes(of event: HookEvent, _ settings: Settings) -> [(name: String, value: String)] {
        [
            ("specversion", "1.0"), ("id", event.id),
            ("source", settings.source ?? "urn:milepost:" + encoded(event.workspace, keeping: [])),
            ("type", event.type), ("subject", event.subject), ("time", event.time),
        ].filter { !$0.1.isEmpty }
    }

    private static func cloudEvent(_ event: HookEvent, _ settings: Settings) -> JSONValue {
        var members: [String: JSONValue] = ["datacontenttype": "application/json", "data": event.data]
        for (name, value) in attributes(of: event, settings) { members[name] = .string(value) }
        return .object(members)
    }

    /// The HTTP binding's encoding of an attribute (3.1.3.2): printable ASCII stays, but for blank, quote and percent.
    static func headerValue(_ text: String) -> String {
        encoded(text, keeping: Array(UInt8(0x21)...0x7E).filter { $0 != 0x22 && $0 != 0x25 })
    }

    private static func encoded(_ text: String, keeping kept: [UInt8]) -> String {
        let hex = Array("0123456789ABCDEF".utf8)
        var bytes: [UInt8] = []
        for byte in text.utf8 {
            let isUnreserved =
                (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
                || [0x2D, 0x2E, 0x5F, 0x7E].contains(byte)
            if isUnreserved || kept.contains(byte) {
                bytes.append(byte)
            } else {
                bytes += [0x25, hex[Int(byte >> 4)], hex[Int(byte & 15)]]
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// A header's value from outside must stay one line.
    static func line(_ text: String) -> String {
        String(decoding: text.utf8.map { $0 < 0x20 || $0 == 0x7F ? 0x20 : $0 }.prefix(4096), as: UTF8.self)
    }
}
