// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
import MilepostRules

/// The body of connect and of a change, split into what the core understands and what is the plugin's.
public struct ConnectionRequest: Sendable {
    /// By credential name; only as long as the call.
    public var credentials: [String: String]
    /// Null in the body goes back to the default, as it does for aggregation and count.
    public var thresholds: [Int64]?
    public var aggregation: ThresholdPolicy.Aggregation?
    public var audience: Audience?
    public var bots: StreamPolicy.Bots?
    public var unknownContact: StreamPolicy.UnknownContact?
    public var excludedLinks: StreamPolicy.ExcludedLinks?
    public var anonymousClicks: StreamPolicy.AnonymousClicks?
    /// Empty: of every link again.
    public var onlyTags: [String]?
    public var onlyFolders: [String]?
    let endpoint: EndpointRequest
    public var intercept: InterceptRequest
    /// Fire for what the totals have reached already (THR-19's setting).
    public var firesForCurrentState: Bool
    /// The plugin's settings; null removes one.
    public var settings: [String: JSONValue]
    /// The body as it was given, without credentials and what only counts while connecting.
    public let given: [String: JSONValue]

    /// What the core itself understands, beside credentials and the plugin's settings.
    static let policyKeys =
        [
            "thresholds", "aggregation", "count", "fire_current", "bots", "unknown_contact", "excluded_links",
            "only_tags", "only_folders", "anonymous_clicks", "disable_after", "disable_after_failures",
        ] + InterceptRequest.keys

    /// - Throws: `EngineError.validationFailed` naming every field that is wrong.
    public init(_ body: JSONValue) throws(EngineError) {
        guard var members = body.object else {
            throw EngineError(code: .validationFailed, detail: "The body must be a JSON object.")
        }
        given = members.filter { $0.key != "credentials" && $0.key != "fire_current" }
        var errors: [SettingError] = []
        credentials = [:]
        if let given = members.removeValue(forKey: "credentials") {
            for (name, value) in given.object ?? [:] {
                if let text = value.string, !text.isEmpty, text.utf8.count <= Self.maximumSecretBytes {
                    credentials[name] = text
                } else {
                    errors.append(
                        SettingError(
                            pointer: "/credentials/\(name)", code: "wrong_type",
                            message: "\(name) must be text of 1 to \(Self.maximumSecretBytes) bytes"))
                }
            }
            if given.object == nil {
                errors.append(
                    SettingError(pointer: "/credentials", code: "wrong_type", message: "credentials must be an object"))
            }
        }
        thresholds = nil
        if let given = members.removeValue(forKey: "thresholds") {
            let given =
                given == .null ? JSONValue.array(ThresholdPolicy.defaultThresholds.map(JSONValue.integer)) : given
            do { thresholds = try ThresholdRule.validated(given) } catch { errors.append(error) }
        }
        aggregation = Self.choice(
            members.removeValue(forKey: "aggregation"), "/aggregation", ThresholdPolicy().aggregation, &errors)
        audience = Self.choice(members.removeValue(forKey: "count"), "/count", ThresholdPolicy().audience, &errors)
        bots = Self.choice(members.removeValue(forKey: "bots"), "/bots", StreamPolicy().bots, &errors)
        unknownContact = Self.choice(
            members.removeValue(forKey: "unknown_contact"), "/unknown_contact", StreamPolicy().unknownContact, &errors)
        excludedLinks = Self.choice(
            members.removeValue(forKey: "excluded_links"), "/excluded_links", StreamPolicy().excludedLinks, &errors)
        anonymousClicks = Self.choice(
            members.removeValue(forKey: "anonymous_clicks"), "/anonymous_clicks", .hold, &errors)
        onlyTags = Self.texts(members.removeValue(forKey: "only_tags"), "only_tags", &errors)
        onlyFolders = Self.texts(members.removeValue(forKey: "only_folders"), "only_folders", &errors)
        endpoint = EndpointRequest(taking: &members, &errors)
        intercept = InterceptRequest(taking: &members, &errors)
        firesForCurrentState = false
        if let given = members.removeValue(forKey: "fire_current") {
            if let value = given.bool {
                firesForCurrentState = value
            } else {
                errors.append(
                    SettingError(
                        pointer: "/fire_current", code: "wrong_type", message: "fire_current must be true or false"))
            }
        }
        settings = members
        guard errors.isEmpty else {
            throw EngineError(
                code: .validationFailed, detail: errors.map(\.message).joined(separator: "; "), errors: errors)
        }
    }

    /// OAuth access tokens may be 768 characters or longer (crm-apis.md 2.2); this leaves room.
    static let maximumSecretBytes = 16 * 1024

    private static func choice<Value: RawRepresentable & CaseIterable>(
        _ given: JSONValue?, _ pointer: String, _ initial: Value, _ errors: inout [SettingError]
    ) -> Value? where Value.RawValue == String {
        guard let given else { return nil }
        if given == .null { return initial }
        if let value = given.string.flatMap(Value.init(rawValue:)) { return value }
        let allowed = Value.allCases.map(\.rawValue).joined(separator: " or ")
        errors.append(SettingError(pointer: pointer, code: "unknown_value", message: "\(given) is not \(allowed)"))
        return nil
    }

    static let maximumNames = 100
    static let maximumNameBytes = 255

    /// A list of names; null and the empty list both mean none.
    private static func texts(_ given: JSONValue?, _ key: String, _ errors: inout [SettingError]) -> [String]? {
        guard let given else { return nil }
        if given == .null { return [] }
        let texts = given.array?.compactMap(\.string).filter { !$0.isEmpty && $0.utf8.count <= maximumNameBytes }
        if let texts, texts.count == given.array?.count, texts.count <= maximumNames { return texts }
        errors.append(
            SettingError(
                pointer: "/\(key)", code: "wrong_type",
                message: "\(key) must be a list of up to \(maximumNames) names of 1 to \(maximumNameBytes) bytes"))
        return nil
    }

    /// The policy that results from this request on top of `base`.
    func policy(over base: ThresholdPolicy) -> ThresholdPolicy {
        ThresholdPolicy(
            thresholds: thresholds ?? base.thresholds, aggregation: aggregation ?? base.aggregation,
            audience: audience ?? base.audience, stream: stream(over: base.stream),
            endpoint: endpoint.policy(over: base.endpoint), intercept: intercept.policy(over: base.intercept))
    }

    private func stream(over base: StreamPolicy?) -> StreamPolicy? {
        guard
            bots != nil || unknownContact != nil || excludedLinks != nil || onlyTags != nil || onlyFolders != nil
                || anonymousClicks != nil
        else { return base }
        var policy = base ?? StreamPolicy()
        policy.bots = bots ?? policy.bots
        policy.unknownContact = unknownContact ?? policy.unknownContact
        policy.excludedLinks = excludedLinks ?? policy.excludedLinks
        policy.anonymousClicks = anonymousClicks ?? policy.anonymousClicks
        if let onlyTags { policy.onlyTags = onlyTags.isEmpty ? nil : onlyTags }
        if let onlyFolders { policy.onlyFolders = onlyFolders.isEmpty ? nil : onlyFolders }
        return policy
    }

    /// The plugin's settings on top of `base`.
    func settings(over base: JSONValue) -> JSONValue {
        .object(Self.merged(settings, over: base.object ?? [:]))
    }

    /// `members` over `base`; null takes a member away. (`value == .null ? nil : value` would store null: `nil` is a
    /// `JSONValue` there.)
    static func merged(_ members: [String: JSONValue], over base: [String: JSONValue]) -> [String: JSONValue] {
        base.merging(members) { $1 }.filter { $0.value != .null }
    }
}
