// SPDX-License-Identifier: Apache-2.0

/// One account (the vendor says portal or hub) with all that is in it.
struct HubSpotPortal: Sendable {
    let id: Int
    var name: String
    /// By object type: `contacts`, `deals`, `notes`, `companies`.
    var tables: [String: HubSpotTable] = [
        "contacts": HubSpotTable(nextID: 37_765_128_953), "deals": HubSpotTable(nextID: 9001),
        "notes": HubSpotTable(nextID: 5001), "companies": HubSpotTable(nextID: 7001),
    ]
    /// Definitions by object type, in the order of creation.
    var properties: [String: [HubSpotProperty]]
    var pipelines: [HubSpotPipeline] = []
    var owners: [HubSpotOwner] = []
    var links = HubSpotLinks()
    var events: [HubSpotEvent] = []
    /// Names of defined custom events.
    var customEvents: Set<String> = []
    var index = HubSpotIndex()
    var usage = HubSpotUsage()

    func pipeline(_ id: String) -> HubSpotPipeline? { pipelines.first { $0.id == id } }

    func property(_ type: String, _ name: String) -> HubSpotProperty? {
        properties[type]?.first { $0.name == name && !$0.isArchived }
    }
}

struct HubSpotPipeline: Sendable {
    let id: String
    var label: String
    var order: Int
    var stages: [HubSpotStage]
    let createdAt: Instant
    var updatedAt: Instant

    var json: JSONValue {
        .object([
            ("id", .string(id)), ("label", .string(label)), ("displayOrder", .integer(order)),
            ("stages", .array(stages.sorted { $0.order < $1.order }.map(\.json))),
            ("createdAt", .string(createdAt.rfc3339Milliseconds)),
            ("updatedAt", .string(updatedAt.rfc3339Milliseconds)), ("archived", .bool(false)),
        ])
    }
}

struct HubSpotStage: Sendable {
    let id: String
    var label: String
    var order: Int
    var isClosed: Bool
    /// As the vendor writes it: `0.2`. A closed stage with 1.0 is won.
    var probability: String
    let createdAt: Instant
    var updatedAt: Instant

    var json: JSONValue {
        .object([
            ("id", .string(id)), ("label", .string(label)), ("displayOrder", .integer(order)),
            (
                "metadata",
                .object([("isClosed", .string(isClosed ? "true" : "false")), ("probability", .string(probability))])
            ),
            ("createdAt", .string(createdAt.rfc3339Milliseconds)),
            ("updatedAt", .string(updatedAt.rfc3339Milliseconds)), ("archived", .bool(false)),
            ("writePermissions", "CRM_PERMISSIONS_ENFORCEMENT"),
        ])
    }
}

struct HubSpotOwner: Sendable {
    let id: String
    let userID: Int
    let email: String
    let firstName: String
    let lastName: String
    let createdAt: Instant

    var json: JSONValue {
        .object([
            ("id", .string(id)), ("email", .string(email)), ("type", "PERSON"), ("firstName", .string(firstName)),
            ("lastName", .string(lastName)), ("userId", .integer(userID)),
            ("userIdIncludingInactive", .integer(userID)),
            ("createdAt", .string(createdAt.rfc3339Milliseconds)),
            ("updatedAt", .string(createdAt.rfc3339Milliseconds)), ("archived", .bool(false)),
        ])
    }
}

/// Something that stands on a contact's timeline.
struct HubSpotEvent: Sendable {
    enum Kind: String, Sendable {
        case timeline
        case appEvent = "app_event"
        case customEvent = "custom_event"
    }

    let kind: Kind
    /// The client's id of the event; of a custom event its `uuid`.
    let id: String
    /// Template id, full type name, or event name.
    let type: String
    let objectType: String
    let objectID: String
    /// The event as it was sent.
    var sent: JSONObject
    /// When it happened, by its own word.
    var timestamp: Instant
    let receivedAt: Instant
    /// How often the same id came again.
    var repeats = 0
}

extension HubSpotPortal {
    private static let stages: [(String, String, String, Bool)] = [
        ("appointmentscheduled", "Appointment Scheduled", "0.2", false),
        ("qualifiedtobuy", "Qualified To Buy", "0.4", false),
        ("presentationscheduled", "Presentation Scheduled", "0.6", false),
        ("decisionmakerboughtin", "Decision Maker Bought-In", "0.8", false),
        ("contractsent", "Contract Sent", "0.9", false), ("closedwon", "Closed Won", "1.0", true),
        ("closedlost", "Closed Lost", "0.0", true),
    ]

    /// An account as it is on the first day: the default pipeline, two owners, no records.
    static func fresh(id: Int, name: String, now: Instant) -> HubSpotPortal {
        var portal = HubSpotPortal(id: id, name: name, properties: HubSpotProperty.standard(now: now))
        portal.pipelines = [
            HubSpotPipeline(
                id: "default", label: "Sales Pipeline", order: 0,
                stages: stages.enumerated().map { order, stage in
                    HubSpotStage(
                        id: stage.0, label: stage.1, order: order, isClosed: stage.3, probability: stage.2,
                        createdAt: now, updatedAt: now)
                }, createdAt: now, updatedAt: now)
        ]
        portal.owners = [
            HubSpotOwner(
                id: "41629779", userID: 1, email: "admin@\(id).example", firstName: "Sandbox", lastName: "Admin",
                createdAt: now),
            HubSpotOwner(
                id: "41629780", userID: 2, email: "seller@\(id).example", firstName: "Sandbox", lastName: "Seller",
                createdAt: now),
        ]
        portal.customEvents = ["pe\(id)_link_click"]
        return portal
    }
}
