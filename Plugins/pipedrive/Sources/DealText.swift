// SPDX-License-Identifier: Apache-2.0

import MilepostKit

/// What a person reads in the CRM: the title of a deal and its note.
enum DealText {
    /// Pipedrive's limit for a deal's title and for a text field (crm-apis 2.7).
    static let longestTitle = 255

    /// A hook's title is taken as it is; the settings' is a template.
    static func title(_ crossing: ThresholdCrossing, _ settings: Settings) -> String {
        let given = VendorText.line(crossing.deal?.title ?? "", longest: longestTitle)
        return given.isEmpty ? title(crossing, template: settings.titleTemplate) : given
    }

    static func title(_ crossing: ThresholdCrossing, template: String?) -> String {
        let standard =
            crossing.scope.kind == "folder"
            ? "Folder {name} hit {threshold} clicks" : "Link {slug} hit {threshold} clicks"
        let filled = VendorText.line(fill(template ?? standard, crossing), longest: longestTitle)
        return filled.isEmpty ? VendorText.line(fill(standard, crossing), longest: longestTitle) : filled
    }

    /// Replaces the placeholders, in one pass: a slug that holds "{name}" stays as it is.
    static func fill(_ template: String, _ crossing: ThresholdCrossing) -> String {
        let values = [
            "slug": crossing.link?.slug ?? crossing.displayName, "name": crossing.displayName,
            "id": crossing.scope.id, "threshold": String(crossing.threshold), "total": String(crossing.total.all),
            "people": crossing.total.people.map { String($0) } ?? "", "source": crossing.utm?.source ?? "",
            "medium": crossing.utm?.medium ?? "", "campaign": crossing.utm?.campaign ?? "",
        ]
        var result = ""
        var rest = Substring(template)
        while let open = rest.firstIndex(of: "{") {
            result += rest[..<open]
            let after = rest.index(after: open)
            if let close = rest[after...].firstIndex(of: "}"), let value = values[String(rest[after..<close])] {
                result += value
                rest = rest[rest.index(after: close)...]
            } else {
                result += "{"
                rest = rest[after...]
            }
        }
        return result + rest
    }

    /// The note as HTML. Every value from outside is escaped and shortened; what is missing is left out.
    static func note(_ crossing: ThresholdCrossing, deliveryID: String) -> String {
        var lines: [String] = []
        let name = VendorText.escaped(VendorText.line(crossing.displayName, longest: 255))
        let people = crossing.total.people.map { ", \($0) of them by people" } ?? ""
        if crossing.scope.kind == "folder" {
            lines.append("Folder <b>\(name)</b> hit \(crossing.threshold) clicks.")
        } else {
            lines.append("Link <b>\(name)</b> hit \(crossing.threshold) clicks.")
        }
        lines.append("Clicks so far: \(crossing.total.all)\(people)")
        if let destination = crossing.link?.destination, !destination.isEmpty {
            lines.append("Destination: \(VendorText.escaped(VendorText.line(destination, longest: 2_000)))")
        }
        let utm = [
            ("UTM source", crossing.utm?.source), ("UTM medium", crossing.utm?.medium),
            ("UTM campaign", crossing.utm?.campaign),
        ]
        for (label, value) in utm {
            let value = VendorText.line(value ?? "", longest: 255)
            if !value.isEmpty { lines.append("\(label): \(VendorText.escaped(value))") }
        }
        if let url = crossing.analytics_url, VendorText.isWebAddress(url) {
            lines.append("<a href=\"\(VendorText.escaped(url))\">Open the analytics view</a>")
        }
        var html = "<p>" + lines.joined(separator: "<br>") + "</p>"
        // The host tells three in order (CFG-08); another host's order and count do not change the note.
        let top = (crossing.top_links ?? []).sorted {
            ($0.clicks ?? 0, $1.id) > ($1.clicks ?? 0, $0.id)
        }.prefix(3)
        if crossing.scope.kind == "folder", !top.isEmpty {
            let items = top.map { link in
                let clicks = link.clicks.map { ": \($0) clicks" } ?? ""
                return "<li>\(VendorText.escaped(VendorText.line(link.slug ?? link.id, longest: 255)))\(clicks)</li>"
            }
            html += "<p>Top links:</p><ul>\(items.joined())</ul>"
        }
        return html + "<p>\(marker(deliveryID))</p>"
    }

    /// A text that only this delivery's note holds, so that a lost answer can be looked up.
    static func marker(_ deliveryID: String) -> String {
        "Milepost delivery \(VendorText.escaped(VendorText.line(deliveryID, longest: 80)))"
    }
}
