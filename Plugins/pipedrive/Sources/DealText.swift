// SPDX-License-Identifier: Apache-2.0

import MilepostKit

/// What a person reads in the CRM: the title of a deal and its note.
enum DealText {
    /// Pipedrive's limit for a deal's title and for a text field (crm-apis 2.7).
    static let longestTitle = 255

    static func title(_ crossing: ThresholdCrossing, template: String?) -> String {
        let standard =
            crossing.scope.kind == "folder"
            ? "Folder {name} hit {threshold} clicks" : "Link {slug} hit {threshold} clicks"
        let filled = plain(fill(template ?? standard, crossing), longest: longestTitle)
        return filled.isEmpty ? plain(fill(standard, crossing), longest: longestTitle) : filled
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
        let name = escaped(plain(crossing.displayName, longest: 255))
        let people = crossing.total.people.map { ", \($0) of them by people" } ?? ""
        if crossing.scope.kind == "folder" {
            lines.append("Folder <b>\(name)</b> hit \(crossing.threshold) clicks.")
        } else {
            lines.append("Link <b>\(name)</b> hit \(crossing.threshold) clicks.")
        }
        lines.append("Clicks so far: \(crossing.total.all)\(people)")
        if let destination = crossing.link?.destination, !destination.isEmpty {
            lines.append("Destination: \(escaped(plain(destination, longest: 2_000)))")
        }
        let utm = [
            ("UTM source", crossing.utm?.source), ("UTM medium", crossing.utm?.medium),
            ("UTM campaign", crossing.utm?.campaign),
        ]
        for (label, value) in utm {
            let value = plain(value ?? "", longest: 255)
            if !value.isEmpty { lines.append("\(label): \(escaped(value))") }
        }
        if let url = crossing.analytics_url, isWebAddress(url) {
            lines.append("<a href=\"\(escaped(url))\">Open the analytics view</a>")
        }
        var html = "<p>" + lines.joined(separator: "<br>") + "</p>"
        // The host tells three in order (CFG-08); another host's order and count do not change the note.
        let top = (crossing.top_links ?? []).sorted {
            ($0.clicks ?? 0, $1.id) > ($1.clicks ?? 0, $0.id)
        }.prefix(3)
        if crossing.scope.kind == "folder", !top.isEmpty {
            let items = top.map { link in
                let clicks = link.clicks.map { ": \($0) clicks" } ?? ""
                return "<li>\(escaped(plain(link.slug ?? link.id, longest: 255)))\(clicks)</li>"
            }
            html += "<p>Top links:</p><ul>\(items.joined())</ul>"
        }
        return html + "<p>\(marker(deliveryID))</p>"
    }

    /// A text that only this delivery's note holds, so that a lost answer can be looked up.
    static func marker(_ deliveryID: String) -> String {
        "Milepost delivery \(escaped(plain(deliveryID, longest: 80)))"
    }

    /// One line without control, formatting and direction characters, shortened to a count of Unicode scalars.
    static func plain(_ text: String, longest: Int) -> String {
        var scalars = String.UnicodeScalarView()
        var wasSpace = true
        // Read no more than four times what is kept: a megabyte of spaces is not worth looking at.
        for scalar in text.unicodeScalars.prefix(longest * 4) {
            guard scalars.count < longest else { break }
            switch scalar.properties.generalCategory {
            case .control, .lineSeparator, .paragraphSeparator, .spaceSeparator:
                if !wasSpace { scalars.append(" ") }
                wasSpace = true
            case .format where scalar.value != 0x200D:  // the joiner holds emoji together
                continue
            case .surrogate, .privateUse, .unassigned:
                continue
            default:
                scalars.append(scalar)
                wasSpace = false
            }
        }
        if scalars.last == " " { scalars.removeLast() }
        return String(scalars)
    }

    /// Whether a text holds another. The standard library's own search brings its regular expressions along, a
    /// megabyte of the plugin's file.
    static func text(_ text: String, holds part: String) -> Bool {
        let text = Array(text.utf8), part = Array(part.utf8)
        guard let first = part.first else { return true }
        guard text.count >= part.count else { return false }
        return (0...text.count - part.count).contains { start in
            text[start] == first && text[start..<start + part.count].elementsEqual(part)
        }
    }

    static func escaped(_ text: String) -> String {
        var result = ""
        for character in text.unicodeScalars {
            switch character {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            case "\"": result += "&quot;"
            case "'": result += "&#39;"
            default: result.unicodeScalars.append(character)
            }
        }
        return result
    }

    /// http or https, no white space or control characters, no longer than a browser takes.
    static func isWebAddress(_ url: String) -> Bool {
        let start = url.prefix(8).lowercased()
        guard start.hasPrefix("https://") || start.hasPrefix("http://"), url.utf8.count <= 2_000 else { return false }
        return url.utf8.allSatisfy { $0 > 0x20 && $0 != 0x7F }
    }
}
