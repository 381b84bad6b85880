// SPDX-License-Identifier: Apache-2.0

public import MilepostModel

/// A judge's answer, read with strict limits: it comes from outside, through a plugin that may lie.
public enum InterceptAnswer: Sendable, Equatable {
    case proceed
    case change(DealChange)
    case drop
    /// Nil: ask again when the daemon sees fit.
    case hold(until: Timestamp?)

    /// What is wrong with an answer, for a person.
    public struct Malformed: Error, Sendable, Equatable {
        public let problem: String
        public init(_ problem: String) { self.problem = problem }
    }

    /// A hold may reach this far.
    static let longestHold = Duration.seconds(30 * 86_400)
    static let longestReason = 500

    /// - Returns: what it says, and the reason it gives, as one line.
    public static func read(
        _ json: JSONValue?, now: Timestamp
    ) throws(Malformed) -> (answer: InterceptAnswer, reason: String?) {
        guard let json, json.object != nil else { throw Malformed("the answer is no JSON object") }
        guard let verdict = json["verdict"] else { throw Malformed("the answer has no verdict") }
        let reason: String?
        switch json["reason"] {
        case nil, .null?: reason = nil
        case .string(let text)?: reason = line(text, longest: longestReason)
        default: throw Malformed("reason is no text")
        }
        if let deal = json["deal"], deal != .null, verdict.string != "modify" {
            throw Malformed("a verdict of \(shown(verdict)) comes with a changed deal; only modify may change one")
        }
        switch verdict.string {
        case "continue": return (.proceed, reason)
        case "modify": return (.change(try DealChange(json["deal"])), reason)
        case "drop": return (.drop, reason)
        case "hold": return (.hold(until: try until(json["until"], now)), reason)
        case "route": throw Malformed("a verdict of route is nothing that this daemon does")
        default: throw Malformed("the verdict \(shown(verdict)) is none of continue, modify, drop, hold")
        }
    }

    private static func until(_ value: JSONValue?, _ now: Timestamp) throws(Malformed) -> Timestamp? {
        guard let value, value != .null else { return nil }
        guard let moment = value.string.flatMap({ Timestamp(rfc3339: $0) }) else {
            throw Malformed("until is no RFC 3339 time: \(shown(value))")
        }
        guard moment <= now + longestHold else {
            throw Malformed("until is more than 30 days ahead: \(moment)")
        }
        return moment
    }

    /// One line without control characters.
    static func line(_ text: String, longest: Int) -> String? {
        let scalars = text.unicodeScalars.prefix(longest).map { $0.value < 0x20 || $0.value == 0x7F ? " " : $0 }
        var line = String(String.UnicodeScalarView(scalars))
        while line.last == " " || line.last == "." { line.removeLast() }
        while line.first == " " { line.removeFirst() }
        return line.isEmpty ? nil : line
    }

    /// Part of a sentence: a value from outside may be a page long.
    static func shown(_ value: JSONValue) -> String {
        let text = line(value.description, longest: 61) ?? "nothing"
        return text.unicodeScalars.count > 60 ? String(text.prefix(60)) + "…" : text
    }
}

/// What a judge wants to be different of a deal. Pipeline and stage are labels or ids; fields are labels or keys.
public struct DealChange: Sendable, Equatable {
    public var title: String?
    public var pipeline: JSONValue?
    public var stage: JSONValue?
    public var fields: [String: JSONValue]

    public static let maximumFields = 50
    static let longestTitle = 255
    static let longestName = 255
    static let longestText = 10_000
    static let longestList = 100

    init(_ json: JSONValue?) throws(InterceptAnswer.Malformed) {
        typealias Malformed = InterceptAnswer.Malformed
        guard let json, var members = json.object else { throw Malformed("a verdict of modify needs the object deal") }
        fields = [:]
        if let given = members.removeValue(forKey: "title"), given != .null {
            guard let text = given.string, let line = InterceptAnswer.line(text, longest: 4 * Self.longestTitle),
                text.count <= Self.longestTitle
            else { throw Malformed("deal.title is no text of 1 to \(Self.longestTitle) characters") }
            title = line
        }
        pipeline = try Self.choice(members.removeValue(forKey: "pipeline"), "pipeline")
        stage = try Self.choice(members.removeValue(forKey: "stage"), "stage")
        if let given = members.removeValue(forKey: "fields"), given != .null {
            guard let named = given.object, named.count <= Self.maximumFields else {
                throw Malformed("deal.fields is no object of up to \(Self.maximumFields) labels or keys")
            }
            for (name, value) in named.sorted(by: { $0.key < $1.key }) {
                guard !name.isEmpty, name.utf8.count <= Self.longestName else {
                    throw Malformed("deal.fields has a name that is empty or longer than \(Self.longestName) bytes")
                }
                guard Self.isValue(value) else {
                    throw Malformed(
                        "deal.fields.\(InterceptAnswer.shown(.string(name))) is no text of up to \(Self.longestText) "
                            + "bytes, number, true, false, null, or list of texts and numbers")
                }
            }
            fields = named
        }
        if let unknown = members.keys.min() {
            throw Malformed(
                "deal has \(InterceptAnswer.shown(.string(unknown))), which cannot be changed; "
                    + "title, pipeline, stage and fields can")
        }
        if title == nil, pipeline == nil, stage == nil, fields.isEmpty {
            throw Malformed("a verdict of modify changes nothing")
        }
    }

    private static func choice(
        _ value: JSONValue?, _ name: String
    ) throws(InterceptAnswer.Malformed) -> JSONValue? {
        guard let value, value != .null else { return nil }
        switch value {
        case .integer: return value
        case .string(let text) where !text.isEmpty && text.utf8.count <= longestName: return value
        default: throw InterceptAnswer.Malformed("deal.\(name) is neither a label nor an id")
        }
    }

    private static func isValue(_ value: JSONValue) -> Bool {
        switch value {
        case .null, .bool, .integer, .number: true
        case .string(let text): text.utf8.count <= longestText
        case .array(let items):
            items.count <= longestList
                && items.allSatisfy { item in
                    switch item {
                    case .integer, .number: true
                    case .string(let text): text.utf8.count <= longestName
                    default: false
                    }
                }
        case .object: false
        }
    }

    /// As it is kept: pipeline and stage are the vendor's own values by now.
    var json: JSONValue {
        var members: [String: JSONValue] = [:]
        if let title { members["title"] = .string(title) }
        if let pipeline { members["pipeline"] = pipeline }
        if let stage { members["stage"] = stage }
        if !fields.isEmpty { members["fields"] = .object(fields) }
        return .object(members)
    }

    /// The event as the next judge and the plugin see it: `deal` holds what differs from the settings.
    func applied(to event: JSONValue) -> JSONValue {
        var members = event.object ?? [:]
        var deal = members["deal"]?.object ?? [:]
        if let title { deal["title"] = .string(title) }
        if let pipeline { deal["pipeline"] = pipeline }
        if let stage { deal["stage"] = stage }
        if !deal.isEmpty { members["deal"] = .object(deal) }
        members["fields"] = .object((members["fields"]?.object ?? [:]).merging(fields) { $1 })
        return .object(members)
    }
}
