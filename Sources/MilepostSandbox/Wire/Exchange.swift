// SPDX-License-Identifier: Apache-2.0

/// One request as it arrived, free of the HTTP library, so that emulators are plain functions and tests need no socket.
package struct VendorRequest: Hashable, Sendable {
    package var method: String
    package var path: String
    package var query: [QueryItem]
    /// Names in lower case, in the order of arrival.
    package var headers: [Header]
    package var body: [UInt8]

    package struct QueryItem: Hashable, Sendable {
        package let name: String
        package let value: String
    }

    package init(method: String, target: String, headers: [Header] = [], body: [UInt8] = []) {
        let parts = target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        self.method = method
        self.path = PercentCoding.decode(String(parts[0]), plusIsSpace: false)
        self.query = parts.count > 1 ? PercentCoding.form(String(parts[1])) : []
        self.headers = headers.map { Header($0.name.lowercased(), $0.value) }
        self.body = body
    }

    /// Whether it goes to a path; one that ends with `*` stands for all that begin so.
    package func goes(to pattern: String) -> Bool {
        pattern.hasSuffix("*") ? path.hasPrefix(pattern.dropLast()) : path == pattern
    }

    package func header(_ name: String) -> String? { headers.first { $0.name == name }?.value }
    package func queryValue(_ name: String) -> String? { query.first { $0.name == name }?.value }
}

package struct Header: Hashable, Sendable {
    package let name: String
    package let value: String

    package init(_ name: String, _ value: String) {
        self.name = name
        self.value = value
    }
}

/// One answer of an emulator.
package struct VendorResponse: Hashable, Sendable {
    package var status: Int
    package var headers: [Header]
    package var body: [UInt8]

    package init(status: Int, headers: [Header] = [], body: [UInt8] = []) {
        self.status = status
        self.headers = headers
        self.body = body
    }

    package init(status: Int, json: JSONValue) {
        self.init(
            status: status, headers: [Header("content-type", "application/json; charset=utf-8")], body: json.bytes)
    }
}

/// The two codings of names and values in a URL.
package enum PercentCoding {
    /// Splits `a=1&b=x%20y` into its items; an item with no `=` has an empty value.
    package static func form(_ text: String) -> [VendorRequest.QueryItem] {
        text.split(separator: "&").map { item in
            let parts = item.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            return VendorRequest.QueryItem(
                name: decode(String(parts[0]), plusIsSpace: true),
                value: parts.count > 1 ? decode(String(parts[1]), plusIsSpace: true) : "")
        }
    }

    /// Escapes everything that is not unreserved in RFC 3986, for a value in a query.
    package static func encode(_ text: String) -> String {
        var out = ""
        for byte in text.utf8 {
            let character = Character(UnicodeScalar(byte))
            if byte < 0x80, character.isLetter || character.isNumber || "-._~".contains(character) {
                out.append(character)
            } else {
                out += (byte < 16 ? "%0" : "%") + String(byte, radix: 16, uppercase: true)
            }
        }
        return out
    }

    /// Undoes percent escapes. A broken escape stays as it is, invalid UTF-8 becomes the replacement character.
    package static func decode(_ text: String, plusIsSpace: Bool) -> String {
        let bytes = Array(text.utf8)
        guard bytes.contains(where: { $0 == UInt8(ascii: "%") || $0 == UInt8(ascii: "+") }) else { return text }
        var out: [UInt8] = []
        var index = 0
        while index < bytes.count {
            let byte = bytes[index]
            if byte == UInt8(ascii: "%"), index + 2 < bytes.count,
                let high = Character(UnicodeScalar(bytes[index + 1])).hexDigitValue,
                let low = Character(UnicodeScalar(bytes[index + 2])).hexDigitValue
            {
                out.append(UInt8(high * 16 + low))
                index += 3
            } else {
                out.append(plusIsSpace && byte == UInt8(ascii: "+") ? UInt8(ascii: " ") : byte)
                index += 1
            }
        }
        return String(decoding: out, as: UTF8.self)
    }
}
