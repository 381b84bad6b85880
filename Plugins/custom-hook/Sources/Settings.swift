// SPDX-License-Identifier: Apache-2.0

import MilepostKit

/// A hook's settings, as the manifest's `config_schema` lists them.
struct Settings: Sendable, Equatable {
    enum Format: String, Sendable, CaseIterable {
        /// `{type, timestamp, data}`, the body that Standard Webhooks recommends.
        case webhook
        /// CloudEvents 1.0, structured mode.
        case cloudevents
        /// CloudEvents 1.0, binary mode: attributes as `ce-` headers.
        case cloudeventsBinary = "cloudevents_binary"
        case template
    }

    var url = ""
    var format = Format.webhook
    var sendsBatches = false
    var batchSize = largestBatch
    var only = Filter()
    var headers: [(name: String, value: String)] = []
    var template: Template?
    var source: String?
    /// Where a judgement is asked for; nil: at `url`.
    var interceptURL: String?

    static func == (left: Self, right: Self) -> Bool {
        left.url == right.url && left.format == right.format && left.sendsBatches == right.sendsBatches
            && left.batchSize == right.batchSize && left.interceptURL == right.interceptURL
            && left.only == right.only && left.template == right.template && left.source == right.source
            && left.headers.elementsEqual(right.headers) { $0 == $1 }
    }

    static let maximumHeaders = 20
    /// As the manifest declares.
    static let largestBatch = 100
    /// They are the message's own, or steer the connection.
    static let reservedHeaders: Set<String> = [
        "webhook-id", "webhook-timestamp", "webhook-signature", "content-type", "content-length", "host", "connection",
        "transfer-encoding",
    ]

    /// Reads what is right and names what is not.
    static func read(_ value: JSONValue) -> (settings: Settings, errors: [SettingError]) {
        var settings = Settings()
        var errors: [SettingError] = []
        func wrong(_ name: String, _ message: String, _ code: String = "wrong_type") {
            errors.append(SettingError(pointer: "/\(name)", code: code, message: message))
        }
        if let given = value["url"], !given.isNull {
            if let text = given.string, let problem = problem(ofURL: text) {
                wrong("url", problem, "url_invalid")
            } else if let text = given.string {
                settings.url = text
            } else {
                wrong("url", "url must be text.")
            }
        } else {
            wrong("url", "url must say where hooks go.", "setting_missing")
        }
        if let given = value["format"], !given.isNull {
            if let format = given.string.flatMap(Format.init(rawValue:)) {
                settings.format = format
            } else {
                wrong(
                    "format", "format must be one of \(Format.allCases.map(\.rawValue).joined(separator: ", ")).",
                    "unknown_value")
            }
        }
        for name in ["batch", "clicks", "vendor_events"] {
            guard let given = value[name], !given.isNull else { continue }
            if let flag = given.bool {
                if name == "batch" { settings.sendsBatches = flag }
            } else {
                wrong(name, "\(name) must be true or false.")
            }
        }
        if let given = value["batch_size"], !given.isNull {
            if case .int(let size) = given, (1...Int64(largestBatch)).contains(size) {
                settings.batchSize = Int(size)
            } else {
                wrong("batch_size", "batch_size must be a whole number from 1 to \(largestBatch).")
            }
        }
        if let given = value["only"], !given.isNull { settings.only = Filter.read(given, &errors) }
        if let given = value["headers"], !given.isNull { settings.headers = readHeaders(given, wrong) }
        if let given = value["body_template"], !given.isNull {
            do throws(Template.Malformed) {
                settings.template = try Template(given.string ?? "")
            } catch {
                wrong("body_template", "body_template cannot be used: \(error.reason).", "template_invalid")
            }
        }
        if settings.format == .template, settings.template == nil,
            !errors.contains(where: { $0.pointer == "/body_template" })
        {
            wrong("body_template", "The format template needs a body_template.", "setting_missing")
        }
        settings.readInterception(value, wrong)
        if let given = value["source"], !given.isNull {
            if let text = given.string, !text.isEmpty, text.utf8.count <= 255,
                text.utf8.allSatisfy({ (0x21...0x7E).contains($0) })
            {
                settings.source = text
            } else {
                wrong("source", "source must be a URI reference of 1 to 255 printable characters.")
            }
        }
        return (settings, errors)
    }

    private static func readHeaders(
        _ given: JSONValue, _ wrong: (String, String, String) -> Void
    ) -> [(name: String, value: String)] {
        guard let members = given.object, members.count <= maximumHeaders else {
            wrong("headers", "headers must map up to \(maximumHeaders) names to texts.", "wrong_type")
            return []
        }
        var headers: [(name: String, value: String)] = []
        for (name, value) in members.sorted(by: { $0.key < $1.key }) {
            let isToken = !name.isEmpty && name.utf8.count <= 64 && name.utf8.allSatisfy(isTokenByte)
            if !isToken || reservedHeaders.contains(name.lowercased()) {
                wrong(
                    "headers/\(name.shortened)", "\(name.shortened) is no header that a hook may set.", "header_invalid"
                )
            } else if let text = value.string, text.utf8.count <= 1024,
                text.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F })
            {
                headers.append((name, text))
            } else {
                wrong(
                    "headers/\(name)", "The header \(name) must be one line of at most 1024 bytes.", "header_invalid")
            }
        }
        return headers
    }

    private static func isTokenByte(_ byte: UInt8) -> Bool {
        (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte)
            || byte == 0x2D || byte == 0x5F
    }

    /// What is wrong with an address; nil when nothing is. Whether it is one that may be reached is the host's to judge,
    /// at every sending.
    static func problem(ofURL text: String) -> String? {
        guard text.utf8.count <= 2048, text.utf8.allSatisfy({ (0x21...0x7E).contains($0) }) else {
            return "url must be at most 2048 printable ASCII characters; percent-encode the others."
        }
        let rest: Substring
        if text.hasPrefix("https://") {
            rest = text.dropFirst(8)
        } else if text.hasPrefix("http://") {
            rest = text.dropFirst(7)
        } else {
            return "url must begin with https:// (or http:// for an internal receiver that the configuration names)."
        }
        let authority = rest.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        if authority.isEmpty { return "url names no host." }
        if authority.contains("@") {
            return "url must not hold a user or password; hooks are signed, and headers can carry more."
        }
        return nil
    }

    /// Addresses without TLS to which nothing will ever be sent, because the configuration does not name their origin: better
    /// said now than at the first hook.
    func unreachable(except named: Set<String>) -> [SettingError] {
        [("url", url), ("intercept_url", interceptURL ?? "")].compactMap { name, address in
            let origin = Self.origin(of: address)
            guard address.hasPrefix("http://"), !named.contains(origin) else { return nil }
            return SettingError(
                pointer: "/\(name)", code: "plain_http_refused",
                message:
                    "\(name) is plain http, and nothing is sent to \(origin): use https, or name that origin under "
                    + "plugins.custom-hook.endpoints in the daemon's configuration and reload it.")
        }
    }

    /// Scheme, host and port: whose account this is, in the words of the other plugins.
    var origin: String { Self.origin(of: url) }

    /// In one spelling: lower case, without the scheme's own port.
    static func origin(of url: String) -> String {
        guard let slashes = url.split(separator: "/", maxSplits: 2, omittingEmptySubsequences: false).dropFirst(2).first
        else { return url }
        let authority = slashes.prefix { $0 != "/" && $0 != "?" && $0 != "#" }.lowercased()
        let (scheme, port) = url.hasPrefix("https:") ? ("https://", ":443") : ("http://", ":80")
        return scheme + (authority.hasSuffix(port) ? String(authority.dropLast(port.count)) : authority)
    }
}
