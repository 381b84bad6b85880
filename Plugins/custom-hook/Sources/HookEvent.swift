// SPDX-License-Identifier: Apache-2.0

import MilepostKit

/// What a hook tells, whatever made it: the payload of an action with a name, a time and a subject.
struct HookEvent: Sendable {
    /// Stable over all attempts: what a receiver tells repetitions by. No dot in it (Standard Webhooks).
    var id: String
    /// Reverse order of generality, for a receiver's routing: `milepost.link.threshold_crossed`.
    var type: String
    /// RFC 3339, when it happened.
    var time: String
    /// The link's or folder's id.
    var subject: String
    var workspace: String
    var data: JSONValue
    /// Happened at a vendor and is no click: filters by links and campaigns say nothing of it.
    var isOfVendor = false

    /// - Throws: a rejection, when the payload is none that this plugin knows.
    init(_ record: DeliveryRecord) throws(Verdict) {
        let payload = record.payload
        workspace = payload["workspace"]?.string ?? ""
        id = (record.idempotency_key ?? record.delivery_id).replacingDots
        switch payload["kind"]?.string {
        case "threshold_crossing":
            guard let scope = payload["scope"], let name = scope["id"]?.string, let at = payload["crossed_at"]?.string
            else {
                throw Self.unreadable(record)
            }
            type =
                scope["kind"]?.string == "folder"
                ? "milepost.folder.threshold_crossed" : "milepost.link.threshold_crossed"
            (subject, time) = (name, at)
        case "click":
            guard let link = payload["link"]?["id"]?.string, let at = payload["click"]?["at"]?.string else {
                throw Self.unreadable(record)
            }
            // The click's own key, so that a click says the same however often the daemon looks at it.
            if let key = payload["key"]?.string { id = key.replacingDots }
            type = "milepost.link.clicked"
            (subject, time) = (link, at)
        case "rule":
            guard let scope = payload["scope"]?["id"]?.string, let at = payload["click"]?["at"]?.string else {
                throw Self.unreadable(record)
            }
            type = "milepost.rule.fired"
            (subject, time) = (scope, at)
        case "event":
            guard let handed = Handed(payload) else { throw Self.unreadable(record) }
            if let key = payload["key"]?.string { id = key.replacingDots }
            (type, time, subject, data) = (handed.type, handed.time, handed.subject, handed.data)
            isOfVendor = true
            return
        default: throw Self.unreadable(record)
        }
        var members = payload.object ?? [:]
        // They stand outside already.
        for name in ["kind", "workspace", "key"] { members[name] = nil }
        data = .object(members)
    }

    private static func unreadable(_ record: DeliveryRecord) -> Verdict {
        .rejected(
            code: "payload_unreadable",
            message: "The payload of \(record.delivery_id) is of a kind that hooks do not know. Upgrade custom-hook.")
    }

    /// What placeholders and templates see.
    var view: JSONValue {
        [
            "id": .string(id), "type": .string(type), "time": .string(time), "subject": .string(subject),
            "workspace": .string(workspace), "data": data,
        ]
    }
}

extension String {
    fileprivate var replacingDots: String {
        // Milepost's own keys have none.
        utf8.contains(0x2E) ? String(map { $0 == "." ? "_" : $0 }) : self
    }
}
