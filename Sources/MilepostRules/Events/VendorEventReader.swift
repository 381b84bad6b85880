// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// An event as somebody hands it in, checked.
public struct VendorEventDraft: Sendable, Equatable {
    public var topic: VendorEvent.Topic
    /// The sender's own id; what repeats it is the same event.
    public var id: String?
    public var at: Timestamp?
    public var data: JSONValue
}

/// Reads events of vendors from requests (HOOK-08). Pure; bytes from outside are bounded and judged here.
public enum VendorEventReader {
    public static let longestID = 256
    static let longestTitle = 1024

    /// - Parameter key: the request's `Idempotency-Key`, which stands for an id in the body.
    /// - Returns: the event, or everything that is wrong with it.
    public static func read(_ body: JSONValue, key: String? = nil) -> Result<VendorEventDraft, Rejected> {
        guard let members = body.object else {
            return .failure(
                Rejected([SettingError(pointer: "", code: "wrong_type", message: "the body must be a JSON object")]))
        }
        var reader = FieldReader(members, at: "", known: ["topic", "id", "at", "data"])
        if !reader.has("topic") { reader.fail("topic", "missing", "topic is missing") }
        let topic: VendorEvent.Topic? = reader.choice("topic")
        var id = reader.text("id", limit: longestID)
        if let key {
            if !(1...longestID).contains(key.utf8.count) || !key.utf8.allSatisfy({ (0x20...0x7e).contains($0) }) {
                reader.fail(nil, "wrong_type", "Idempotency-Key must be 1 to \(longestID) printable characters")
            } else if id.map({ $0 != key }) ?? false {
                reader.fail("id", "conflict", "id and Idempotency-Key name two different events; give one of them")
            }
            id = key
        }
        let at = time(&reader)
        if id == nil, !reader.has("id"), !reader.has("at") {
            // Or a deal that comes to a stage for the second time would be taken for a repetition.
            reader.fail(
                "id", "missing",
                "an event needs an id (or the header Idempotency-Key), or at, the time at which it happened, so that a "
                    + "repetition can be told from a second event")
        }
        guard var facts = reader.object("data", known: dealStageKeys) else { return .failure(Rejected(reader.errors)) }
        let data = dealStage(&facts)
        let errors = reader.errors + facts.errors
        guard errors.isEmpty, let topic else { return .failure(Rejected(errors)) }
        return .success(VendorEventDraft(topic: topic, id: id, at: at, data: data))
    }

    public struct Rejected: Error, Equatable {
        public let errors: [SettingError]
        init(_ errors: [SettingError]) { self.errors = errors }
    }

    private static func time(_ reader: inout FieldReader) -> Timestamp? {
        guard let value = reader.value("at") else { return nil }
        if let time = value.string.flatMap({ Timestamp(rfc3339: $0) }) { return time }
        reader.fail("at", "wrong_type", "at must be an RFC 3339 time such as 2026-11-21T07:00:00Z")
        return nil
    }

    // MARK: deal.stage_changed

    private static let dealStageKeys: Set = [
        "dealId", "dealTitle", "previousStage", "newStage", "personId", "value", "currency",
    ]

    private static func dealStage(_ reader: inout FieldReader) -> JSONValue {
        let deal = reader.required("dealId", limit: 256)
        let stage = reader.required("newStage", limit: 256)
        let value = money("value", &reader)
        let currency = reader.text("currency", limit: 3)
        if let currency, currency.utf8.count != 3 || !currency.utf8.allSatisfy({ (0x41...0x5a).contains($0) }) {
            reader.fail("currency", "wrong_type", "currency must be three capital letters such as EUR (ISO 4217)")
        }
        if value != nil, !reader.has("currency") {
            reader.fail("currency", "missing", "currency is missing; a value without one says nothing")
        }
        return [
            "dealId": JSONValue(deal), "dealTitle": JSONValue(reader.text("dealTitle", limit: longestTitle)),
            "previousStage": JSONValue(reader.word("previousStage", limit: 256)), "newStage": JSONValue(stage),
            "personId": JSONValue(reader.word("personId", limit: 256)), "value": JSONValue(value),
            "currency": JSONValue(currency),
        ]
    }

    /// Decimal text, or a whole number: a JSON number with a fraction may have lost cents before anybody sees it.
    private static func money(_ key: String, _ reader: inout FieldReader) -> String? {
        guard let value = reader.value(key) else { return nil }
        if let number = value.integer { return String(number) }
        if let text = value.string, isDecimal(text) { return text }
        reader.fail(
            key, "wrong_type",
            "\(key) must be decimal text such as \"5000.00\", of up to 18 digits and 8 more behind the point; a number with "
                + "a fraction is not taken, because it may not be exact")
        return nil
    }

    private static func isDecimal(_ text: String) -> Bool {
        let parts = (text.hasPrefix("-") ? text.dropFirst() : text[...])
            .split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
        func isDigits(_ part: Substring, _ most: Int) -> Bool {
            (1...most).contains(part.utf8.count) && part.utf8.allSatisfy { (0x30...0x39).contains($0) }
        }
        guard let whole = parts.first, isDigits(whole, 18) else { return false }
        return parts.count == 1 || isDigits(parts[1], 8)
    }
}
