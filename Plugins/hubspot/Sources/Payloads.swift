// SPDX-License-Identifier: Apache-2.0

import MilepostKit

// What the core hands to `deliver`: clicks and touches are the SDK's types, rules are read here.

/// Whom HubSpot is asked about: by id where one is known.
struct Contact: Sendable, Decodable {
    var id: String?
    var email: String?

    init(id: String?, email: String?) {
        self.id = id
        self.email = email
    }

    init(_ contact: ClickContact) { self.init(id: contact.id, email: contact.email) }
}

extension ClickCampaign {
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
