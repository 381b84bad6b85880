// SPDX-License-Identifier: Apache-2.0

import MilepostKit

/// A field of a click's campaign. The README's table shows beside each what HubSpot keeps of the first touch (PROP-06).
package enum UTMField: String, Sendable, CaseIterable {
    case source, medium, campaign, term, content

    var label: String { "Last UTM " + rawValue }
}

/// Which contact property each UTM field is written to: a prefix for all, an override for each (PROP-01, PROP-07).
package struct PropertyNames: Sendable, Equatable {
    package static let standardPrefix = "milepost"
    /// The fields that have a property without being mapped.
    static let standardFields: [UTMField] = [.source, .campaign, .medium]

    var prefix = standardPrefix
    /// "" writes the field nowhere.
    var overrides: [UTMField: String] = [:]

    /// nil when the field is written nowhere.
    subscript(field: UTMField) -> String? {
        if let override = overrides[field] { return override.isEmpty ? nil : override }
        return Self.standardFields.contains(field) ? "\(prefix)_last_utm_\(field.rawValue)" : nil
    }

    /// Every field that is written, in the order of `UTMField`.
    package var all: [(field: UTMField, name: String)] {
        UTMField.allCases.compactMap { field in self[field].map { (field, $0) } }
    }

    /// JSON pointer of the setting that a field's name comes from.
    func pointer(of field: UTMField) -> String {
        overrides[field] == nil ? "/property_prefix" : "/property_mapping/\(field.rawValue)"
    }

    static let nameRule = "a property's internal name has small letters, digits and underscores, and a letter first."

    static func isName(_ text: String) -> Bool {
        guard let first = text.utf8.first, (97...122).contains(first), text.utf8.count <= 100 else { return false }
        return text.utf8.allSatisfy { (97...122).contains($0) || (48...57).contains($0) || $0 == 95 }
    }

    static func read(_ reader: inout Settings.Reader) -> PropertyNames {
        var names = PropertyNames()
        if let prefix = reader.text("property_prefix", longest: 40) {
            if let reason = FirstTouch.reason(for: prefix + "_") {
                reader.refuse("/property_prefix", reason, code: FirstTouch.code)
            } else if isName(prefix) {
                names.prefix = prefix
            } else {
                reader.refuse("/property_prefix", "property_prefix: \(nameRule)")
            }
        }
        guard let mapping = reader.json["property_mapping"], !mapping.isNull else { return names }
        guard let members = mapping.object else {
            reader.refuse("/property_mapping", "property_mapping must be an object: UTM field and contact property.")
            return names
        }
        for (key, value) in members.sorted(by: { $0.key < $1.key }) {
            let pointer = "/property_mapping/\(key)"
            guard let field = UTMField(rawValue: key) else {
                let known = UTMField.allCases.map(\.rawValue).joined(separator: ", ")
                reader.refuse(pointer, "\(VendorText.line(key, longest: 40)) is no UTM field; they are \(known).")
                continue
            }
            if value.isNull { continue }
            guard let name = value.string, name.isEmpty || name.utf8.count <= 100 else {
                reader.refuse(pointer, "\(key): \(nameRule)")
                continue
            }
            if let reason = FirstTouch.reason(for: name) {
                reader.refuse(pointer, reason, code: FirstTouch.code)
            } else if name.isEmpty || isName(name) {
                names.overrides[field] = name
            } else {
                reader.refuse(pointer, "\(key): \(nameRule)")
            }
        }
        for (name, uses) in Dictionary(grouping: names.all, by: \.name) where uses.count > 1 {
            reader.refuse(
                names.pointer(of: uses[1].field),
                "\(name) is given to \(uses.map(\.field.rawValue).joined(separator: " and ")); one property holds one field."
            )
        }
        return names
    }
}

/// HubSpot's record of how a contact first came: never ours to write (PROP-04, Z-13).
enum FirstTouch {
    static let code = "first_touch"
    private static let names: Set<String> = [
        "original_source_drill_down_1", "original_source_drill_down_2", "hs_analytics_first_url",
        "hs_analytics_first_referrer",
    ]

    static func holds(_ name: String) -> Bool {
        let name = name.lowercased()
        return names.contains(name) || name.hasPrefix("hs_analytics_") || name.hasPrefix("original_source")
    }

    /// Why a property cannot be mapped (PROP-05); nil when it can.
    static func reason(for name: String) -> String? {
        guard holds(name) else { return nil }
        return
            "\(VendorText.line(name, longest: 100)) is one of HubSpot's first-touch properties: it tells how the contact "
            + "first came and never changes again. HubSpot drops such writes, without an error or with the whole update, "
            + "so the last campaign would look frozen. Map the field to a property of your own; the default is one."
    }
}
