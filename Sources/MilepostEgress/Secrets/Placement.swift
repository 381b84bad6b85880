// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// Where a secret goes in a request: an entry of `auth[].placements` in a manifest.
public struct Placement: Sendable, Codable, Equatable {
    public enum Kind: String, Sendable, Codable {
        /// `<target>: <template>`.
        case header
        /// `Authorization: Bearer <template>`.
        case bearer
        /// `Authorization: Basic base64(<template>)`; the template holds the colon, e.g. `client-id:{secret}`.
        case basic
        /// `?<target>=<template>`, percent-encoded. Some vendors know nothing better; never logged (PCON-18).
        case query
        /// `<target>=<template>` appended to a form body, for OAuth refreshes.
        case form
        /// Signs body, time and the request's own `<target>-id` header by the keys in the secret and adds
        /// `<target>-timestamp` and `<target>-signature` (`WebhookSignature`); target is `webhook` unless declared.
        case standardWebhooks = "standard_webhooks"
    }

    public let name: String
    public let kind: Kind
    /// Name of the header, query parameter or form field; unused by bearer and basic.
    public let target: String
    /// Text with `{secret}` where the secret goes.
    public let template: String

    public init(name: String = "", kind: Kind, target: String = "", template: String = "{secret}") {
        self.name = name
        self.kind = kind
        self.target = target
        self.template = template
    }

    enum CodingKeys: String, CodingKey {
        case name, header, parameter, field, template
        case kind = "in"
    }

    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        kind = try container.decode(Kind.self, forKey: .kind)
        name = try container.decodeIfPresent(String.self, forKey: .name) ?? ""
        template = try container.decodeIfPresent(String.self, forKey: .template) ?? "{secret}"
        target =
            switch kind {
            case .header: try container.decode(String.self, forKey: .header)
            case .query: try container.decode(String.self, forKey: .parameter)
            case .form: try container.decode(String.self, forKey: .field)
            case .standardWebhooks: try container.decodeIfPresent(String.self, forKey: .header) ?? "webhook"
            case .bearer, .basic: ""
            }
    }

    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(kind, forKey: .kind)
        try container.encode(name, forKey: .name)
        try container.encode(template, forKey: .template)
        switch kind {
        case .header, .standardWebhooks: try container.encode(target, forKey: .header)
        case .query: try container.encode(target, forKey: .parameter)
        case .form: try container.encode(target, forKey: .field)
        case .bearer, .basic: break
        }
    }

    /// The headers this placement fills, in lower case.
    var headerNames: [String] {
        switch kind {
        case .header: [target.lowercased()]
        case .bearer, .basic: ["authorization"]
        case .query, .form: []
        case .standardWebhooks: ["\(target.lowercased())-timestamp", "\(target.lowercased())-signature"]
        }
    }
}

/// One secret of a request, and its place.
public struct CredentialUse: Sendable, Equatable {
    public let reference: CredentialReference
    public let placement: Placement

    public init(reference: CredentialReference, placement: Placement) {
        self.reference = reference
        self.placement = placement
    }
}

/// A secret put into its place: what to add to the request. Wipe after use.
struct PlacedSecret {
    /// A whole header line, or `name=value` for query and form.
    var bytes: [UInt8]
    let kind: Placement.Kind

    init(_ placement: Placement, secret: SecretBytes) {
        var clear = secret.copy()
        defer { wipe(&clear) }
        var value: [UInt8] = []
        value.reserveCapacity(clear.count + placement.template.utf8.count)
        let parts = Self.split(placement.template)
        for (index, part) in parts.enumerated() {
            if index > 0 { value += clear }
            value += part
        }
        defer { wipe(&value) }
        kind = placement.kind
        var line: [UInt8] = []
        // Room enough that no reallocation leaves a copy behind.
        line.reserveCapacity(value.count * 3 + placement.target.utf8.count + 32)
        switch placement.kind {
        case .header:
            line += "\(placement.target): ".utf8
            line += value
        case .bearer:
            line += "Authorization: Bearer ".utf8
            line += value
        case .basic:
            line += "Authorization: Basic ".utf8
            var encoded = Encoding.base64(value[...], alphabet: Encoding.base64Alphabet)
            line += encoded
            wipe(&encoded)
            while (line.count - 21) % 4 != 0 { line.append(0x3D) }
        case .standardWebhooks: preconditionFailure("a signature is made of the secret and does not carry it")
        case .query, .form:
            line += Encoding.percent(Array(placement.target.utf8)) + [0x3D]
            var encoded = Encoding.percent(value)
            line += encoded
            wipe(&encoded)
        }
        bytes = line
    }

    private static func split(_ template: String) -> [[UInt8]] {
        let bytes = Array(template.utf8)
        let mark = Array("{secret}".utf8)
        var parts: [[UInt8]] = [[]]
        var index = 0
        while index < bytes.count {
            if bytes[index...].starts(with: mark) {
                parts.append([])
                index += mark.count
            } else {
                parts[parts.count - 1].append(bytes[index])
                index += 1
            }
        }
        return parts
    }
}

/// The encodings a secret travels in.
enum Encoding {
    static let base64Alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
    static let base64URLAlphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)

    /// Without padding.
    static func base64(_ bytes: ArraySlice<UInt8>, alphabet: [UInt8]) -> [UInt8] {
        var result: [UInt8] = []
        result.reserveCapacity(bytes.count * 4 / 3 + 4)
        var bits: UInt32 = 0
        var count = 0
        for byte in bytes {
            bits = bits << 8 | UInt32(byte)
            count += 8
            while count >= 6 {
                count -= 6
                result.append(alphabet[Int(bits >> UInt32(count) & 63)])
            }
        }
        if count > 0 { result.append(alphabet[Int(bits << UInt32(6 - count) & 63)]) }
        return result
    }

    /// Everything but RFC 3986's unreserved characters.
    static func percent(_ bytes: [UInt8]) -> [UInt8] {
        let hex = Array("0123456789ABCDEF".utf8)
        var result: [UInt8] = []
        result.reserveCapacity(bytes.count * 3)
        for byte in bytes {
            switch byte {
            case 0x30...0x39, 0x41...0x5A, 0x61...0x7A, 0x2D, 0x2E, 0x5F, 0x7E: result.append(byte)
            default: result += [0x25, hex[Int(byte >> 4)], hex[Int(byte & 15)]]
            }
        }
        return result
    }
}
