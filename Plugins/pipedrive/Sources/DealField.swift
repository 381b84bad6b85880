// SPDX-License-Identifier: Apache-2.0

import MilepostKit

/// The definition of a custom deal field, in one shape for both generations of the API.
struct DealField: Sendable, Equatable {
    struct Option: Sendable, Equatable {
        var id: Int64
        var label: String
    }

    var key: String
    var label: String
    var type: String
    var options: [Option]

    /// nil for a field of the vendor's own: mapping covers custom fields only.
    init?(_ json: JSONValue) {
        guard let key = json["field_code"]?.string ?? json["key"]?.string else { return nil }
        guard json["is_custom_field"]?.bool ?? Self.isKey(key) else { return nil }
        self.key = key
        label = json["field_name"]?.string ?? json["name"]?.string ?? ""
        type = json["field_type"]?.string ?? "varchar"
        options = (json["options"]?.array ?? []).compactMap { option in
            guard let id = option["id"]?.int ?? option["id"]?.string.flatMap({ Int64($0) }) else { return nil }
            return Option(id: id, label: option["label"]?.string ?? "")
        }
    }

    /// Forty hexadecimal digits.
    static func isKey(_ text: String) -> Bool {
        text.utf8.count == 40
            && text.utf8.allSatisfy { (48...57).contains($0) || (97...102).contains($0) || (65...70).contains($0) }
    }

    /// What a label or a key names.
    enum Match: Equatable {
        case found(DealField)
        case unknown
        /// Several fields bear the label: nobody guesses.
        case ambiguous([DealField])
    }

    /// By key, else by exact label, else by label without regard to case (crm-apis 2.7).
    static func find(_ name: String, in fields: [DealField]) -> Match {
        if let field = fields.first(where: { $0.key == name || (isKey(name) && $0.key == name.lowercased()) }) {
            return .found(field)
        }
        let exact = fields.filter { $0.label == name }
        let loose = fields.filter { $0.label.lowercased() == name.lowercased() }
        let hits = exact.isEmpty ? loose : exact
        guard let first = hits.first else { return .unknown }
        return hits.count == 1 ? .found(first) : .ambiguous(hits)
    }
}

/// Why a value cannot go into a field.
struct FieldRefusal: Error, Equatable {
    var reason: String
}

extension DealField {
    /// The value as the vendor wants it for this field's type (FLD-11).
    /// - Returns: one member, or two where v1 keeps a currency beside the amount.
    func wire(_ value: JSONValue, api: Settings.Generation) throws(FieldRefusal) -> [String: JSONValue] {
        switch type {
        case "varchar", "text", "varchar_auto", "phone":
            let text = try Self.text(value)
            return [key: .string(VendorText.line(text, longest: type == "text" ? 5_000 : 255))]
        case "double":
            return [key: try Self.number(value)]
        case "date":
            let text = try Self.text(value)
            guard text.utf8.count == 10, epochSeconds(text + "T00:00:00Z") != nil else {
                throw FieldRefusal(reason: "a date is written YYYY-MM-DD")
            }
            return [key: .string(text)]
        case "enum":
            let id = try option(value)
            return [key: api == .v2 ? .int(id) : .string(String(id))]
        case "set":
            var ids: [Int64] = []
            for element in value.array ?? [value] { ids.append(try option(element)) }
            guard !ids.isEmpty else { throw FieldRefusal(reason: "a set needs one option at least") }
            return [
                key: api == .v2
                    ? .array(ids.map { .int($0) }) : .string(ids.map { String($0) }.joined(separator: ","))
            ]
        case "user", "org", "people":
            guard let id = value.int ?? value.string.flatMap({ Int64($0) }), id > 0 else {
                throw FieldRefusal(reason: "a \(type) field takes the number of a record")
            }
            return [key: .int(id)]
        case "monetary": return try monetary(value, api: api)
        case "address":
            let text = try Self.text(value)
            return [key: api == .v2 ? ["value": .string(text)] : .string(text)]
        default:
            throw FieldRefusal(reason: "fields of type \(VendorText.line(type, longest: 40)) are not supported")
        }
    }

    private func monetary(_ value: JSONValue, api: Settings.Generation) throws(FieldRefusal) -> [String: JSONValue] {
        guard let amount = value["value"] ?? value["amount"], let currency = value["currency"]?.string,
            currency.utf8.count == 3, currency.utf8.allSatisfy({ (65...90).contains($0) })
        else { throw FieldRefusal(reason: "money is written {\"value\":1,\"currency\":\"EUR\"}") }
        let number = try Self.number(amount)
        return api == .v2
            ? [key: ["value": number, "currency": .string(currency)]]
            : [key: number, key + "_currency": .string(currency)]
    }

    private func option(_ value: JSONValue) throws(FieldRefusal) -> Int64 {
        if let id = value.int, options.contains(where: { $0.id == id }) { return id }
        if let label = value.string {
            let exact = options.filter { $0.label == label }
            let hits = exact.isEmpty ? options.filter { $0.label.lowercased() == label.lowercased() } : exact
            if hits.count == 1 { return hits[0].id }
            if hits.count > 1 { throw FieldRefusal(reason: "several options are called \(label); use the option's id") }
        }
        throw FieldRefusal(reason: "the field has no such option")
    }

    private static func text(_ value: JSONValue) throws(FieldRefusal) -> String {
        if let text = value.string { return text }
        if let number = value.int { return String(number) }
        if let number = value.double { return String(number) }
        throw FieldRefusal(reason: "the field takes a text")
    }

    private static func number(_ value: JSONValue) throws(FieldRefusal) -> JSONValue {
        if value.double != nil { return value }
        if let text = value.string, let number = Double(text), number.isFinite {
            return Int64(text).map { .int($0) } ?? .double(number)
        }
        throw FieldRefusal(reason: "the field takes a number")
    }
}
