// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
import MilepostRules

/// The body of connect and of a change, split into what the core understands and what is the plugin's.
public struct ConnectionRequest: Sendable {
    /// By credential name; only as long as the call.
    public var credentials: [String: String]
    public var thresholds: [Int64]?
    public var aggregation: ThresholdPolicy.Aggregation?
    public var audience: Audience?
    public var bots: StreamPolicy.Bots?
    public var unknownContact: StreamPolicy.UnknownContact?
    public var excludedLinks: StreamPolicy.ExcludedLinks?
    /// Fire for what the totals have reached already (THR-19's setting).
    public var firesForCurrentState: Bool
    /// The plugin's settings; null removes one.
    public var settings: [String: JSONValue]

    /// - Throws: `EngineError.validationFailed` naming every field that is wrong.
    public init(_ body: JSONValue) throws(EngineError) {
        guard var members = body.object else {
            throw EngineError(code: .validationFailed, detail: "The body must be a JSON object.")
        }
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
            do { thresholds = try ThresholdRule.validated(given) } catch { errors.append(error) }
        }
        aggregation = Self.choice(members.removeValue(forKey: "aggregation"), "/aggregation", &errors)
        audience = Self.choice(members.removeValue(forKey: "count"), "/count", &errors)
        bots = Self.choice(members.removeValue(forKey: "bots"), "/bots", &errors)
        unknownContact = Self.choice(members.removeValue(forKey: "unknown_contact"), "/unknown_contact", &errors)
        excludedLinks = Self.choice(members.removeValue(forKey: "excluded_links"), "/excluded_links", &errors)
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
        _ given: JSONValue?, _ pointer: String, _ errors: inout [SettingError]
    ) -> Value? where Value.RawValue == String {
        guard let given else { return nil }
        if let value = given.string.flatMap(Value.init(rawValue:)) { return value }
        let allowed = Value.allCases.map(\.rawValue).joined(separator: " or ")
        errors.append(SettingError(pointer: pointer, code: "unknown_value", message: "\(given) is not \(allowed)"))
        return nil
    }

    /// The policy that results from this request on top of `base`.
    func policy(over base: ThresholdPolicy) -> ThresholdPolicy {
        ThresholdPolicy(
            thresholds: thresholds ?? base.thresholds, aggregation: aggregation ?? base.aggregation,
            audience: audience ?? base.audience, stream: stream(over: base.stream))
    }

    private func stream(over base: StreamPolicy?) -> StreamPolicy? {
        guard bots != nil || unknownContact != nil || excludedLinks != nil else { return base }
        var policy = base ?? StreamPolicy()
        policy.bots = bots ?? policy.bots
        policy.unknownContact = unknownContact ?? policy.unknownContact
        policy.excludedLinks = excludedLinks ?? policy.excludedLinks
        return policy
    }

    /// The plugin's settings on top of `base`.
    func settings(over base: JSONValue) -> JSONValue {
        var members = base.object ?? [:]
        for (key, value) in settings { members[key] = value == .null ? nil : value }
        return .object(members)
    }
}
