// SPDX-License-Identifier: Apache-2.0

import MilepostKit

/// The connection's settings, read once and then without surprises. Settings of the core (thresholds, aggregation)
/// stand beside ours and are left alone.
struct Settings: Sendable, Equatable {
    enum Generation: String, Sendable { case v1, v2 }

    var api: Generation = .v2
    var pipelineID: Int64?
    var stageID: Int64?
    /// Label or key, as the administrator wrote it.
    var linkField: String?
    var titleTemplate: String?
    /// Label or key of a field, and its value.
    var fields: [String: JSONValue] = [:]
    /// What the mapped fields were called when the settings were checked, by key (FLD-08).
    var labels: [String: String] = [:]
    /// The `acme` of `acme.pipedrive.com` (PCON-16).
    var domain: String?
    /// nil: the daemon's configuration or the manifest decides.
    var ratePlan: String?

    /// The presets of the manifest's rate limits; a test compares them.
    static let ratePlans = ["lite", "growth", "premium", "ultimate"]

    /// Reads settings; whatever does not fit is named and left at its default.
    static func read(_ json: JSONValue) -> (settings: Settings, errors: [SettingError]) {
        var settings = Settings()
        var errors: [SettingError] = []
        func refuse(_ name: String, _ message: String) {
            errors.append(SettingError(pointer: "/\(name)", code: "setting_invalid", message: message))
        }
        func text(_ name: String, longest: Int) -> String? {
            guard let value = json[name], !value.isNull, value != "" else { return nil }
            guard let text = value.string, text.utf8.count <= longest else {
                refuse(name, "\(name) must be a text of at most \(longest) bytes.")
                return nil
            }
            return text
        }
        func identifier(_ name: String) -> Int64? {
            guard let value = json[name], !value.isNull else { return nil }
            guard let id = value.int ?? value.string.flatMap({ Int64($0) }), id > 0 else {
                refuse(name, "\(name) must be the number of a \(name == "stage_id" ? "stage" : "pipeline").")
                return nil
            }
            return id
        }
        settings.pipelineID = identifier("pipeline_id")
        settings.stageID = identifier("stage_id")
        settings.linkField = text("link_field", longest: 255)
        settings.titleTemplate = text("title_template", longest: 255)
        if let api = text("api", longest: 8) {
            if let generation = Generation(rawValue: api) {
                settings.api = generation
            } else {
                refuse("api", "api must be v2 or v1.")
            }
        }
        if let domain = text("domain", longest: 63) {
            if isCompanyDomain(domain) {
                settings.domain = domain
            } else {
                refuse("domain", "domain is the acme of acme.pipedrive.com: small letters, digits, hyphens.")
            }
        }
        if let plan = text("rate_plan", longest: 40) {
            if ratePlans.contains(plan) {
                settings.ratePlan = plan
            } else {
                refuse("rate_plan", "rate_plan must be one of \(ratePlans.joined(separator: ", ")).")
            }
        }
        if let labels = json["field_labels"], !labels.isNull {
            if let members = labels.object {
                settings.labels = members.compactMapValues(\.string)
            } else {
                refuse("field_labels", "field_labels is kept by the plugin: leave it as it is, or take it away.")
            }
        }
        if let fields = json["fields"], !fields.isNull {
            // Fifty: more than that is a copy of the deal, not a few fields beside it.
            if let members = fields.object, members.count <= 50 {
                settings.fields = members
            } else {
                refuse("fields", "fields must be an object of at most 50 labels or keys with their values.")
            }
        }
        return (settings, errors)
    }
}

/// One label of a host name, as short as DNS allows: it becomes a part of addresses, whoever told it.
func isCompanyDomain(_ text: String) -> Bool {
    (1...63).contains(text.utf8.count) && text.utf8.allSatisfy { isDomainByte($0) } && !text.hasPrefix("-")
        && !text.hasSuffix("-")
}

private func isDomainByte(_ byte: UInt8) -> Bool {
    (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
        || byte == UInt8(ascii: "-")
}
