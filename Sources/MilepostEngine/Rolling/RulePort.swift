// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
import MilepostPluginHost
public import MilepostRules
import MilepostStore

/// What rolling rules ask of plugins: which action a rule names, whom it may act on, and which stages there are.
public protocol RulePort: Sendable {
    /// The plugin's own name of the action that a rule calls `type`; nil when it has none, or is not there.
    func ruleAction(of plugin: PluginName, named type: String) -> String?
    func obstacle(for plugin: PluginName) -> Reason?
    /// The contact's records, read afresh. Changes nothing at the vendor.
    func targets(of person: JSONValue, pipeline: String, on connection: Connection) async -> TargetAnswer
    /// A picker's choices in the vendor's own order, all pages; nil when the plugin has no such picker.
    ///
    /// - Parameter value: of the picker that this one depends on.
    func choices(_ picker: String, under value: JSONValue?, on connection: Connection) async throws -> [PickerChoice]?
    /// What a connection by consent must have been granted for a feature of the core, each with its reason; empty for any
    /// other connection.
    func scopes(for feature: String, on connection: Connection) -> [ScopePlan.Wanted]
}

extension RulePort {
    public func scopes(for feature: String, on connection: Connection) -> [ScopePlan.Wanted] { [] }
}

public enum TargetAnswer: Sendable, Equatable {
    case targets([RuleTarget])
    case failed(Verdict)
}

public struct PickerChoice: Sendable, Equatable {
    public var value: JSONValue
    public var label: String

    public init(value: JSONValue, label: String) {
        self.value = value
        self.label = label
    }

    /// As a rule writes it: vendors number or name.
    public var word: String { value.string ?? value.integer.map(String.init) ?? value.description }
}

extension HostedPlugins: RulePort {
    public func scopes(for feature: String, on connection: Connection) -> [ScopePlan.Wanted] {
        guard let declaration = declaration(of: connection.integration.plugin),
            let oauth = connection.credential.flatMap({ declaration.oauth($0) })
        else { return [] }
        return oauth.featureScopes.filter { $0.feature == feature }.map {
            ScopePlan.Wanted(scope: $0.scope, feature: feature, reason: $0.reason)
        }
    }

    public func ruleAction(of plugin: PluginName, named type: String) -> String? {
        manifest(of: plugin)?.actions?.first {
            $0.trigger == "rule" && ($0.name == type || $0.aliases?.contains(type) == true)
        }?.name
    }

    public func targets(of person: JSONValue, pipeline: String, on connection: Connection) async -> TargetAnswer {
        let result = await perform(
            .query,
            body: ["query": "rule_targets", "arguments": ["contact": person, "pipeline": .string(pipeline)]],
            on: connection)
        guard result.status == .ok else { return .failed(VerbBody.error(of: result)) }
        guard let items = VerbBody.parsed(result)?["result"]?["targets"]?.array else {
            return .failed(
                Verdict(
                    kind: .pluginBug, code: "result_missing",
                    message: "The plugin's answer to rule_targets holds no list of targets."))
        }
        return .targets(items.prefix(Self.maximumTargets).compactMap(RuleTarget.init))
    }

    /// Records of one contact; more would be no contact.
    private static let maximumTargets = 1000
    /// Pages of a picker.
    private static let maximumPages = 50

    public func choices(
        _ picker: String, under value: JSONValue?, on connection: Connection
    ) async throws -> [PickerChoice]? {
        switch await listed(picker, under: value, on: connection) {
        case .none: return nil
        case .some(.success(let choices)): return choices
        case .some(.failure(let failure)): throw ConnectionService.failure(failure.result)
        }
    }

    struct PickerFailure: Error { let result: OperationResult }

    /// Nil when the plugin has no such picker.
    func listed(
        _ picker: String, under value: JSONValue?, on connection: Connection
    ) async -> Result<[PickerChoice], PickerFailure>? {
        guard let declared = manifest(of: connection.integration.plugin)?.pickers?.first(where: { $0.id == picker })
        else { return nil }
        var values: [String: JSONValue] = [:]
        if let value, let name = declared.depends?.first { values[name] = value }
        var found: [PickerChoice] = []
        var page: String?
        for _ in 0..<Self.maximumPages {
            let body: JSONValue = [
                "picker": .string(picker), "values": .object(values), "search": .null, "page": JSONValue(page),
            ]
            let result = await perform(.options, body: body, on: connection)
            guard result.status == .ok, let answer = VerbBody.parsed(result) else {
                return .failure(PickerFailure(result: result))
            }
            for item in answer["items"]?.array ?? [] {
                guard let value = item["value"] else { continue }
                found.append(PickerChoice(value: value, label: item["label"]?.string ?? ""))
            }
            page = answer["next"]?.string
            if page == nil { break }
        }
        return .success(found)
    }
}
