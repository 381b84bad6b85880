// SPDX-License-Identifier: Apache-2.0

import MilepostKit

/// HubSpot's paths, one table for each generation of the API (crm-apis 3.1): a dated generation is supported for a
/// limited time, and the next one is one more column here.
struct Paths: Sendable, Equatable {
    let generation: Settings.Generation

    /// Records of a type: "contacts", "deals", "notes".
    func objects(_ type: String, _ rest: String = "") -> String {
        switch generation {
        case .v3: "/crm/v3/objects/\(type)\(rest)"
        case .september2026: "/crm/objects/2026-09/\(type)\(rest)"
        }
    }
    /// Definitions of the properties of a type.
    func properties(_ type: String, _ name: String? = nil) -> String {
        let rest = name.map { "/" + VendorText.urlEncoded($0) } ?? ""
        return switch generation {
        case .v3: "/crm/v3/properties/\(type)\(rest)"
        case .september2026: "/crm/properties/2026-09/\(type)\(rest)"
        }
    }
    var dealPipelines: String {
        switch generation {
        case .v3: "/crm/v3/pipelines/deals"
        case .september2026: "/crm/pipelines/2026-09/deals"
        }
    }
    var owners: String {
        switch generation {
        case .v3: "/crm/v3/owners/"
        case .september2026: "/crm/owners/2026-09"
        }
    }
    /// Which deals contacts belong to.
    var dealsOfContacts: String {
        switch generation {
        case .v3: "/crm/v4/associations/contacts/deals/batch/read"
        case .september2026: "/crm/associations/2026-09/contacts/deals/batch/read"
        }
    }
    var customEvents: String {
        switch generation {
        case .v3: "/events/v3/send"
        case .september2026: "/events/custom/2026-09/send"
        }
    }
    /// The account that a token opens.
    static let account = "/account-info/v3/details"

    /// - Parameter alias: the older path of the same interface.
    static func timelineEvents(alias: Bool) -> String {
        alias ? "/crm/v3/timeline/events" : "/integrators/timeline/v3/events"
    }
    static let appEvents = "/integrators/timeline/2026-03/events"
    static func eventTemplates(app: String, _ rest: String = "") -> String {
        "/integrators/timeline/v3/\(VendorText.urlEncoded(app))/event-templates\(rest)"
    }
}
