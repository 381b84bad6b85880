// SPDX-License-Identifier: Apache-2.0

package import MilepostKit

/// The connection's settings, read once and then without surprises. Settings of the core (thresholds, aggregation)
/// stand beside ours and are left alone.
package struct Settings: Sendable, Equatable {
    package enum Generation: String, Sendable, CaseIterable {
        case v3
        case september2026 = "2026-09"
    }

    /// How a click becomes something that a person sees on the contact (Z-06).
    package enum Backend: String, Sendable, CaseIterable {
        /// The first that account and app allow.
        case auto
        case timelineV3 = "timeline_v3"
        /// The same interface under its older path.
        case timelineAlias = "timeline_alias"
        case appEvents = "app_events"
        case customEvents = "custom_events"
        case note, off
    }

    var api: Generation = .v3
    var backend: Backend = .auto
    var writesTimeline = true
    var writesProperties = true
    var countsOnDeals = false
    package var properties = PropertyNames()
    var counterProperty: String?
    var eventTitle: String?
    var templateID: String?
    var appEventType: String?
    var customEventName: String?

    /// The deal property that the counter is kept in.
    package var counter: String { counterProperty ?? properties.prefix + "_recent_link_clicks" }

    /// The presets of the manifest's rate limits; a test compares them.
    package static let ratePlans = ["oauth", "private_free", "private_pro"]
    package static let tokenGenerations = ["2026-09", "2026-03", "v3", "v1"]

    /// Reads settings; whatever does not fit is named and left at its default.
    package static func read(_ json: JSONValue) -> (settings: Settings, errors: [SettingError]) {
        var reader = Reader(json: json)
        var settings = Settings()
        settings.api = reader.choice("api") ?? settings.api
        settings.backend = reader.choice("timeline_backend") ?? settings.backend
        settings.writesTimeline = reader.flag("timeline_events") ?? settings.writesTimeline
        settings.writesProperties = reader.flag("contact_properties") ?? settings.writesProperties
        settings.countsOnDeals = reader.flag("deal_counter") ?? settings.countsOnDeals
        settings.eventTitle = reader.text("event_title", longest: 255)
        settings.appEventType = reader.text("app_event_type", longest: 255)
        settings.customEventName = reader.text("custom_event_name", longest: 255)
        if let id = reader.text("timeline_template_id", longest: 20) {
            if id.utf8.allSatisfy({ (48...57).contains($0) }) {
                settings.templateID = id
            } else {
                reader.refuse("/timeline_template_id", "timeline_template_id is a number, as in 1001298.")
            }
        }
        for (name, known) in [("rate_plan", ratePlans), ("oauth_generation", tokenGenerations)] {
            if let given = reader.text(name, longest: 40), !known.contains(given) {
                reader.refuse("/\(name)", "\(name) must be one of \(known.joined(separator: ", ")).")
            }
        }
        if let name = reader.text("counter_property", longest: 100) {
            if PropertyNames.isName(name) {
                settings.counterProperty = name
            } else {
                reader.refuse("/counter_property", "counter_property: \(PropertyNames.nameRule)")
            }
        }
        settings.properties = PropertyNames.read(&reader)
        if settings.backend == .appEvents, settings.appEventType == nil {
            reader.refuse(
                "/app_event_type", "timeline_backend app_events needs app_event_type, the full name of the event type.")
        }
        if settings.backend == .customEvents, settings.customEventName == nil {
            reader.refuse(
                "/custom_event_name",
                "timeline_backend custom_events needs custom_event_name, as in pe62515_link_click.")
        }
        return (settings, reader.errors)
    }

    /// Takes settings one by one and remembers what did not fit.
    struct Reader {
        let json: JSONValue
        var errors: [SettingError] = []

        init(json: JSONValue) { self.json = json }

        mutating func refuse(_ pointer: String, _ message: String, code: String = "setting_invalid") {
            errors.append(SettingError(pointer: pointer, code: code, message: message))
        }

        mutating func text(_ name: String, longest: Int) -> String? {
            guard let value = json[name], !value.isNull, value != "" else { return nil }
            guard let text = value.string, text.utf8.count <= longest else {
                refuse("/\(name)", "\(name) must be a text of at most \(longest) bytes.")
                return nil
            }
            return text
        }

        mutating func flag(_ name: String) -> Bool? {
            guard let value = json[name], !value.isNull else { return nil }
            if let flag = value.bool { return flag }
            refuse("/\(name)", "\(name) must be true or false.")
            return nil
        }

        mutating func choice<Value: RawRepresentable & CaseIterable>(_ name: String) -> Value?
        where Value.RawValue == String {
            guard let given = text(name, longest: 40) else { return nil }
            if let value = Value(rawValue: given) { return value }
            let known = Value.allCases.map(\.rawValue).joined(separator: ", ")
            refuse("/\(name)", "\(name) must be one of \(known).")
            return nil
        }
    }
}
