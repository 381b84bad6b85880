// SPDX-License-Identifier: Apache-2.0

/// What a reload would change.
public struct ConfigurationDifference: Sendable, Equatable {
    /// Keys that take effect with the reload, such as `log.level` or `plugins.pipedrive.enabled`; sorted.
    public var applied: [String] = []
    /// Keys that take effect only when the daemon starts anew; sorted.
    public var restartRequired: [String] = []

    public var isEmpty: Bool { applied.isEmpty && restartRequired.isEmpty }
}

/// One key that is not the same in two configurations.
public struct ConfigurationChange: Sendable, Equatable {
    public var key: String
    /// As the reference writes values; nil where the name (of a plugin or a plan) is not there.
    public var before: String?
    public var after: String?
    /// Whether a reload does not apply it.
    public var needsRestart: Bool
}

extension Configuration {
    /// Which keys differ between two configurations. Which of them a reload applies is said once, in the settings; the
    /// reference prints the same, and `takingHotKeys(of:)` does it.
    public static func diff(_ old: Configuration, _ new: Configuration) -> ConfigurationDifference {
        let changes = changes(from: old, to: new)
        return ConfigurationDifference(
            applied: changes.filter { !$0.needsRestart }.map(\.key),
            restartRequired: changes.filter(\.needsRestart).map(\.key))
    }

    /// The same with the values, by key.
    public static func changes(from old: Configuration, to new: Configuration) -> [ConfigurationChange] {
        var changes = settings.filter { $0.write(old) != $0.write(new) }.map {
            ConfigurationChange(
                key: $0.name, before: $0.write(old), after: $0.write(new), needsRestart: !$0.appliesHot)
        }
        changes += Self.changes("plans", old.plans, new.plans, Plan.settings)
        changes += Self.changes("plugins", old.plugins, new.plugins, Plugin.settings)
        return changes.sorted { $0.key < $1.key }
    }

    /// This configuration with the keys of another that need no restart: what is in force after a reload.
    public func takingHotKeys(of fresh: Configuration) -> Configuration {
        var result = self
        for setting in Self.settings where setting.appliesHot { setting.copy(fresh, &result) }
        if Plan.settings.allSatisfy(\.appliesHot) { result.plans = fresh.plans }
        if Plugin.settings.allSatisfy(\.appliesHot) { result.plugins = fresh.plugins }
        return result
    }

    /// A name that appears or goes counts as a change of its own, because an empty plan differs from none.
    private static func changes<Value>(
        _ section: String, _ old: [String: Value], _ new: [String: Value], _ settings: [Setting<Value>]
    ) -> [ConfigurationChange] {
        func whole(_ value: Value?) -> String? {
            value.map { value in "{ \(settings.map { "\($0.name): \($0.write(value))" }.joined(separator: ", ")) }" }
        }
        return Set(old.keys).union(new.keys).flatMap { name -> [ConfigurationChange] in
            guard let before = old[name], let after = new[name] else {
                return [
                    ConfigurationChange(
                        key: "\(section).\(name)", before: whole(old[name]), after: whole(new[name]),
                        needsRestart: !settings.allSatisfy(\.appliesHot))
                ]
            }
            return settings.filter { $0.write(before) != $0.write(after) }.map {
                ConfigurationChange(
                    key: "\(section).\(name).\($0.name)", before: $0.write(before), after: $0.write(after),
                    needsRestart: !$0.appliesHot)
            }
        }
    }
}
