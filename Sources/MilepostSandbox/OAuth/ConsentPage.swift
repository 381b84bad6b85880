// SPDX-License-Identifier: Apache-2.0

/// What a browser gets from an authorise address.
enum ConsentPage {
    /// Sends the browser back to the client with `items` added to its address.
    static func redirect(to address: String, _ items: [(String, String?)]) -> VendorResponse {
        let query = items.compactMap { name, value in value.map { "\(name)=\(PercentCoding.encode($0))" } }
        let separator = address.contains("?") ? "&" : "?"
        return VendorResponse(
            status: 302,
            headers: [
                Header("location", address + separator + query.joined(separator: "&")),
                Header("cache-control", "no-store"),
            ])
    }

    /// The question to a person: two links back to the same address with the decision added.
    static func question(app: String, account: String, scopes: [String], target: String) -> VendorResponse {
        let items = scopes.map { "<li>\(escape($0))</li>" }.joined()
        let link = escape(target + (target.contains("?") ? "&" : "?"))
        return page(
            status: 200, title: "Connect \(app) to \(account)?",
            body: "<p>The app asks for:</p><ul>\(items)</ul><p><a href=\"\(link)decision=allow\">Connect app</a> "
                + "<a href=\"\(link)decision=deny\">Cancel</a></p>")
    }

    /// A refusal that must not be sent to an unproven address.
    static func refusal(_ sentence: String) -> VendorResponse {
        page(status: 400, title: "Authorization failed", body: "<p>\(escape(sentence))</p>")
    }

    private static func page(status: Int, title: String, body: String) -> VendorResponse {
        VendorResponse(
            status: status, headers: [Header("content-type", "text/html; charset=utf-8")],
            body: Array(
                "<!DOCTYPE html><html><head><title>\(escape(title))</title></head><body><h1>\(escape(title))</h1>\(body)</body></html>"
                    .utf8))
    }

    /// Scalar by scalar: as characters a `<` and the sign before it may be one, which would then pass.
    private static func escape(_ text: String) -> String {
        var out = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "&": out += "&amp;"
            case "<": out += "&lt;"
            case ">": out += "&gt;"
            case "\"": out += "&quot;"
            case "'": out += "&#39;"
            default: out.unicodeScalars.append(scalar)
            }
        }
        return out
    }
}
