// SPDX-License-Identifier: Apache-2.0

public import MilepostModel
import MilepostPluginHost

/// What judging asks of plugins.
public protocol InterceptPort: Sendable {
    /// The points at which the plugin offers to judge; nil when the plugin is not there, so that nobody knows.
    func hookPoints(of plugin: PluginName) -> [HookPoint]?
    /// The point that stands before an action of the plugin; nil when nobody may judge it.
    func hookPoint(before action: String, of plugin: PluginName) -> String?
    /// Asks a judge. It has `budget` for its answer.
    func intercept(
        _ question: JSONValue, about delivery: DeliveryID, by judge: Connection, within budget: Duration, ask: Int
    ) async -> InterceptReply
    /// A picker's choices of the plugin that will carry the action out; nil when it has no such picker.
    func targetChoices(
        _ picker: String, under value: JSONValue?, on connection: Connection
    ) async -> TargetChoices?
    /// Why the connection takes no crossings although its plugin does: a setting of its own says so.
    func switchedOff(_ action: String, on connection: Connection) -> Reason?
}

public struct HookPoint: Sendable, Equatable {
    public var name: String
    public var budget: Duration
    public var onFailure: InterceptPolicy.OnFailure

    public init(name: String, budget: Duration, onFailure: InterceptPolicy.OnFailure) {
        self.name = name
        self.budget = budget
        self.onFailure = onFailure
    }

    /// Before a threshold crossing is brought to a vendor.
    public static let beforeDeal = "deal.before"
    /// Before a rolling rule acts on a record.
    public static let beforeRule = "rule.before"
}

public enum InterceptReply: Sendable, Equatable {
    /// The plugin's whole answer; nil when it was no JSON.
    case answer(JSONValue?)
    case failed(Verdict)
}

public enum TargetChoices: Sendable, Equatable {
    case choices([PickerChoice])
    case failed(Verdict)
}

extension InterceptPort {
    public func hookPoints(of plugin: PluginName) -> [HookPoint]? { [] }
    public func hookPoint(before action: String, of plugin: PluginName) -> String? { nil }
    public func intercept(
        _ question: JSONValue, about delivery: DeliveryID, by judge: Connection, within budget: Duration, ask: Int
    ) async -> InterceptReply { .failed(Verdict(kind: .unsupported)) }
    public func targetChoices(
        _ picker: String, under value: JSONValue?, on connection: Connection
    ) async -> TargetChoices? { nil }
    public func switchedOff(_ action: String, on connection: Connection) -> Reason? { nil }
}

extension HostedPlugins {
    public func hookPoints(of plugin: PluginName) -> [HookPoint]? {
        manifest(of: plugin)?.hooks.map {
            HookPoint(name: $0.point, budget: .milliseconds($0.budgetMilliseconds), onFailure: $0.onFailure)
        }
    }

    public func hookPoint(before action: String, of plugin: PluginName) -> String? {
        switch manifest(of: plugin)?.actions?.first(where: { $0.name == action })?.trigger {
        case "threshold": HookPoint.beforeDeal
        case "rule": HookPoint.beforeRule
        default: nil
        }
    }

    /// The delivery is named to the host, so that a crash is charged to it and not to the judge alone (decisions 20).
    public func intercept(
        _ question: JSONValue, about delivery: DeliveryID, by judge: Connection, within budget: Duration, ask: Int
    ) async -> InterceptReply {
        var closed: ClosedBudget?
        let result = await perform(
            .intercept, body: question, on: judge, attempt: ask, records: [delivery], context: nil, alone: false,
            timeout: min(budget, operationTimeout), closed: &closed)
        guard result.status == .ok else { return .failed(VerbBody.error(of: result)) }
        return .answer(VerbBody.parsed(result))
    }

    public func targetChoices(
        _ picker: String, under value: JSONValue?, on connection: Connection
    ) async -> TargetChoices? {
        switch await listed(picker, under: value, on: connection) {
        case .none: nil
        case .some(.success(let choices)): .choices(choices)
        case .some(.failure(let failure)): .failed(VerbBody.error(of: failure.result))
        }
    }

    public func switchedOff(_ action: String, on connection: Connection) -> Reason? {
        guard let manifest = manifest(of: connection.integration.plugin),
            let setting = manifest.actions?.first(where: { $0.name == action })?.enabledBy
        else { return nil }
        let initial = manifest.configSchema?["properties"]?[setting]?["default"]?.bool ?? true
        guard !(connection.settings[setting]?.bool ?? initial) else { return nil }
        return Reason(
            code: "switched_off",
            message: "\(connection.integration) takes no crossings: its setting \(setting) is off. What is reached "
                + "meanwhile does not fire later.")
    }
}
