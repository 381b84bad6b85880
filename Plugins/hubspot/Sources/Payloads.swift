// SPDX-License-Identifier: Apache-2.0

import MilepostKit

// What the core hands to `deliver` (include/milepost/schemas/payload.*.json), as far as this plugin reads it.

/// Who clicked.
struct Contact: Sendable, Decodable {
    var id: String?
    var email: String?

    init(id: String?, email: String?) {
        self.id = id
        self.email = email
    }
}

struct UTM: Sendable, Decodable {
    var source: String?
    var medium: String?
    var campaign: String?
    var term: String?
    var content: String?

    subscript(field: UTMField) -> String? {
        switch field {
        case .source: source
        case .medium: medium
        case .campaign: campaign
        case .term: term
        case .content: content
        }
    }
}

/// One click of a resolved contact.
struct ClickPayload: Sendable, Decodable {
    struct Click: Sendable, Decodable {
        var id: String?
        var at: String
        var url: String?
        var referrer: String?
        var country: String?
        var device: String?
        var user_agent: String?
    }
    struct Link: Sendable, Decodable {
        var id: String?
        var slug: String?
        var short_url: String?
        var destination: String?
        var title: String?
    }
    var key: String
    var click: Click
    var utm: UTM?
    var link: Link?
    var contact: Contact
}

/// Clicks of one contact that queued up: what is to be written, by the last one.
struct TouchPayload: Sendable, Decodable {
    var key: String
    var contact: Contact
    var at: String?
    var utm: UTM?
    var clicks: Int64?
}

/// A rule that fired for a deal.
struct RulePayload: Sendable, Decodable {
    struct Rule: Sendable, Decodable {
        var id: String?
        var name: String?
    }
    struct Action: Sendable, Decodable {
        var type: String?
        var pipeline: String?
        var from_stage: String?
        var to_stage: String
    }
    struct Target: Sendable, Decodable { var id: String }
    var rule: Rule?
    var action: Action
    var target: Target
}

extension DeliveryRecord {
    /// The payload as the action's type.
    /// - Throws: `Verdict` rejected when it is another one.
    func read<Payload: Decodable>(as type: Payload.Type) throws(Verdict) -> Payload {
        do { return try payload.decoded(as: type) } catch {
            throw .rejected(
                code: "payload_unreadable", message: "The payload of \(delivery_id) is not what the action needs.")
        }
    }
}
