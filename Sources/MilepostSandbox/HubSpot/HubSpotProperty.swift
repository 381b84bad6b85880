// SPDX-License-Identifier: Apache-2.0

/// The definition of one property of one object type.
struct HubSpotProperty: Sendable {
    struct Option: Hashable, Sendable {
        let label: String
        let value: String
    }

    let name: String
    var label: String
    var type: String
    var fieldType: String
    var groupName: String
    var description = ""
    var options: [Option] = []
    var isHubSpotDefined = false
    var isReadOnly = false
    var isCalculated = false
    var isUnique = false
    var isArchived = false
    var createdAt: Instant
    var updatedAt: Instant

    var json: JSONValue {
        .object([
            ("name", .string(name)), ("label", .string(label)), ("type", .string(type)),
            ("fieldType", .string(fieldType)), ("description", .string(description)), ("groupName", .string(groupName)),
            (
                "options",
                .array(
                    options.enumerated().map { order, option in
                        .object([
                            ("label", .string(option.label)), ("value", .string(option.value)),
                            ("displayOrder", .integer(order)), ("hidden", .bool(false)),
                        ])
                    })
            ),
            ("displayOrder", .integer(-1)), ("calculated", .bool(isCalculated)), ("externalOptions", .bool(false)),
            ("hasUniqueValue", .bool(isUnique)), ("hidden", .bool(false)), ("hubspotDefined", .bool(isHubSpotDefined)),
            (
                "modificationMetadata",
                .object([
                    ("archivable", .bool(!isHubSpotDefined)), ("readOnlyDefinition", .bool(isHubSpotDefined)),
                    ("readOnlyValue", .bool(isReadOnly || isCalculated)),
                ])
            ),
            ("formField", .bool(!isReadOnly && !isCalculated)), ("archived", .bool(isArchived)),
            ("createdAt", .string(createdAt.rfc3339Milliseconds)),
            ("updatedAt", .string(updatedAt.rfc3339Milliseconds)),
        ])
    }

    /// Says why a value cannot be written, or nil. An empty text clears a property.
    func refusal(of value: String) -> HubSpotValueRefusal? {
        func refuse(_ code: String, _ message: String) -> HubSpotValueRefusal {
            HubSpotValueRefusal(name: name, code: code, message: message)
        }
        if isReadOnly {
            return refuse("READ_ONLY_VALUE", "\"\(name)\" is a read only property; its value cannot be set.")
        }
        if isCalculated {
            return refuse("READ_ONLY_VALUE", "\"\(name)\" is a calculated property; its value cannot be set.")
        }
        if value.isEmpty { return nil }
        switch type {
        case "number":
            return Double(value) == nil ? refuse("INVALID_INTEGER", "\(value) was not a valid number.") : nil
        case "date", "datetime":
            let isTime =
                Int64(value) != nil || Instant.isDay(value)
                || (type == "datetime" && Instant(rfc3339WithFraction: value) != nil)
            return isTime ? nil : refuse("INVALID_DATE", "\(value) was not a valid \(type).")
        case "bool":
            return ["true", "false"].contains(value) ? nil : refuse("INVALID_OPTION", "\(value) is not true or false.")
        case "enumeration":
            let words = fieldType == "checkbox" ? value.split(separator: ";").map(String.init) : [value]
            // Owners are an enumeration whose options live elsewhere.
            guard !options.isEmpty, let word = words.first(where: { word in !options.contains { $0.value == word } })
            else { return nil }
            return refuse(
                "INVALID_OPTION",
                "\(word) was not one of the allowed options: [\(options.map(\.value).joined(separator: ", "))]")
        default:
            if name == "email", !Self.isAddress(value) {
                return refuse("INVALID_EMAIL", "Email address \(value) is invalid")
            }
            return value.utf8.count > 65_536
                ? refuse("INVALID_LENGTH", "\(name) is longer than 65536 characters.") : nil
        }
    }

    /// Good enough for a sandbox: one @ with something on both sides, a dot in the domain, no spaces.
    static func isAddress(_ text: String) -> Bool {
        let parts = text.split(separator: "@", omittingEmptySubsequences: false)
        return parts.count == 2 && !parts[0].isEmpty && parts[1].contains(".") && !parts[1].hasPrefix(".")
            && !parts[1].hasSuffix(".") && !text.contains(where: \.isWhitespace)
    }
}

// MARK: The vendor's own

extension HubSpotProperty {
    private enum Manner { case plain, readOnly, calculated }

    static func standard(now: Instant) -> [String: [HubSpotProperty]] {
        func make(_ rows: [(String, String, String, String, Manner)], group: String) -> [HubSpotProperty] {
            rows.map { name, label, type, fieldType, manner in
                HubSpotProperty(
                    name: name, label: label, type: type, fieldType: fieldType, groupName: group,
                    isHubSpotDefined: true, isReadOnly: manner == .readOnly, isCalculated: manner == .calculated,
                    createdAt: now, updatedAt: now)
            }
        }
        var contacts =
            make(contactRows, group: "contactinformation") + make(analyticsRows, group: "analyticsinformation")
        for place in contacts.indices {
            switch contacts[place].name {
            case "lifecyclestage": contacts[place].options = lifecycle.map { Option(label: $0.withCapital, value: $0) }
            case "email": contacts[place].isUnique = true
            default: break
            }
        }
        return [
            "contacts": contacts, "deals": make(dealRows, group: "dealinformation"),
            "notes": make(noteRows, group: "engagement"), "companies": make(companyRows, group: "companyinformation"),
        ]
    }

    /// In the order in which a contact moves forward.
    static let lifecycle = [
        "subscriber", "lead", "marketingqualifiedlead", "salesqualifiedlead", "opportunity", "customer", "evangelist",
        "other",
    ]

    private static let system: [(String, String, String, String, Manner)] = [
        ("hs_object_id", "Record ID", "number", "number", .readOnly),
        ("hubspot_owner_id", "Owner", "enumeration", "select", .plain),
    ]

    private static let contactRows: [(String, String, String, String, Manner)] =
        system + [
            ("email", "Email", "string", "text", .plain), ("firstname", "First Name", "string", "text", .plain),
            ("lastname", "Last Name", "string", "text", .plain), ("phone", "Phone Number", "string", "text", .plain),
            ("company", "Company Name", "string", "text", .plain), ("website", "Website URL", "string", "text", .plain),
            ("jobtitle", "Job Title", "string", "text", .plain),
            ("country", "Country/Region", "string", "text", .plain),
            ("lifecyclestage", "Lifecycle Stage", "enumeration", "radio", .plain),
            ("createdate", "Create Date", "datetime", "date", .readOnly),
            ("lastmodifieddate", "Last Modified Date", "datetime", "date", .readOnly),
            ("hs_merged_object_ids", "Merged record IDs", "string", "text", .readOnly),
            ("hs_lifecyclestage_lead_date", "Became a Lead Date", "datetime", "date", .readOnly),
            ("num_associated_deals", "Number of Associated Deals", "number", "number", .calculated),
        ]

    /// First touch: written by the vendor's own tracking and by nobody else.
    private static let analyticsRows: [(String, String, String, String, Manner)] = [
        ("hs_analytics_source", "Original Traffic Source", "enumeration", "select", .readOnly),
        ("hs_analytics_source_data_1", "Original Traffic Source Drill-Down 1", "string", "text", .readOnly),
        ("hs_analytics_source_data_2", "Original Traffic Source Drill-Down 2", "string", "text", .readOnly),
        ("hs_analytics_first_url", "First Page Seen", "string", "text", .readOnly),
        ("hs_analytics_first_referrer", "First Referring Site", "string", "text", .readOnly),
        ("hs_analytics_first_timestamp", "Time First Seen", "datetime", "date", .readOnly),
        ("hs_analytics_last_url", "Last Page Seen", "string", "text", .readOnly),
        ("hs_analytics_num_page_views", "Number of Pageviews", "number", "number", .calculated),
    ]

    private static let dealRows: [(String, String, String, String, Manner)] =
        system + [
            ("dealname", "Deal Name", "string", "text", .plain), ("amount", "Amount", "number", "number", .plain),
            ("dealstage", "Deal Stage", "enumeration", "radio", .plain),
            ("pipeline", "Pipeline", "enumeration", "select", .plain),
            ("closedate", "Close Date", "datetime", "date", .plain),
            ("createdate", "Create Date", "datetime", "date", .plain),
            ("deal_currency_code", "Currency", "string", "text", .plain),
            ("description", "Deal Description", "string", "textarea", .plain),
            ("hs_lastmodifieddate", "Last Modified Date", "datetime", "date", .readOnly),
            ("hs_is_closed", "Is Deal Closed?", "bool", "booleancheckbox", .calculated),
            ("hs_is_closed_won", "Is Closed Won", "bool", "booleancheckbox", .calculated),
            ("hs_deal_stage_probability", "Deal probability", "number", "number", .calculated),
            ("num_associated_contacts", "Number of Associated Contacts", "number", "number", .calculated),
        ]

    private static let noteRows: [(String, String, String, String, Manner)] =
        system + [
            ("hs_note_body", "Note body", "string", "textarea", .plain),
            ("hs_timestamp", "Activity date", "datetime", "date", .plain),
            ("hs_attachment_ids", "Attached file IDs", "string", "text", .plain),
            ("hs_createdate", "Create date", "datetime", "date", .readOnly),
            ("hs_lastmodifieddate", "Last modified date", "datetime", "date", .readOnly),
        ]

    private static let companyRows: [(String, String, String, String, Manner)] =
        system + [
            ("name", "Company name", "string", "text", .plain),
            ("domain", "Company Domain Name", "string", "text", .plain),
            ("createdate", "Create Date", "datetime", "date", .readOnly),
            ("hs_lastmodifieddate", "Last Modified Date", "datetime", "date", .readOnly),
        ]

    /// What an answer shows when the request names nothing.
    static func shown(_ type: String) -> [String] {
        switch type {
        case "contacts": ["createdate", "email", "firstname", "hs_object_id", "lastmodifieddate", "lastname"]
        case "deals":
            [
                "amount", "closedate", "createdate", "dealname", "dealstage", "hs_lastmodifieddate", "hs_object_id",
                "pipeline",
            ]
        case "notes": ["hs_createdate", "hs_lastmodifieddate", "hs_object_id"]
        default: ["createdate", "domain", "hs_lastmodifieddate", "hs_object_id", "name"]
        }
    }

    /// The system's own times of a type: creation, last change.
    static func times(_ type: String) -> (created: String, changed: String) {
        switch type {
        case "contacts": ("createdate", "lastmodifieddate")
        case "notes": ("hs_createdate", "hs_lastmodifieddate")
        default: ("createdate", "hs_lastmodifieddate")
        }
    }
}

extension String {
    /// `customer` as `Customer`.
    fileprivate var withCapital: String { prefix(1).uppercased() + dropFirst() }
}
