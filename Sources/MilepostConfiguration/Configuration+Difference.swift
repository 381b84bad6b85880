// SPDX-License-Identifier: Apache-2.0

/// What a reload would change.
public struct ConfigurationDifference: Sendable, Equatable {
    /// Keys that take effect with the reload, such as `log.level` or `plugins.pipedrive.enabled`; sorted.
    public var applied: [String] = []
    /// Keys that take effect only when the daemon starts anew; sorted.
    public var restartRequired: [String] = []

    public var isEmpty: Bool { applied.isEmpty && restartRequired.isEmpty }
}

extension Configuration {
    /// Which keys differ between two configurations. Which of them a reload applies is said once, in the settings; the
    /// reference prints the same, and `takingHotKeys(of:)` does it.
    public static func diff(_ old: Configuration, _ new: Configuration) -> ConfigurationDifference {
        var changes = settings.filter { $0.write(old) != $0.write(new) }.map {
            Change(name: $0.name, isHot: $0.appliesHot)
        }
        changes += Self.changes("plans", old.plans, new.plans, Plan.settings)
        changes += Self.changes("plugins", old.plugins, new.plugins, Plugin.settings)
        return ConfigurationDifference(
            applied: changes.filter(\.isHot).map(\.name).sorted(),
            restartRequired: changes.filter { !$0.isHot }.map(\.name).sorted())
    }

    /// This configuration with the keys of another that need no restart: what is in force after a reload.
    public func takingHotKeys(of fresh: Configuration) -> Configuration {
        var result = self
        for setting in Self.settings where setting.appliesHot { setting.copy(fresh, &result) }
        if Plan.settings.allSatisfy(\.appliesHot) { result.plans = fresh.plans }
        if Plugin.settings.allSatisfy(\.appliesHot) { result.plugins = fresh.plugins }
        return result
    }

    private struct Change {
        var name: String
        var isHot: Bool
    }

    /// A name that appears or goes counts as a change of its own, because an empty plan differs from none.
    private static func changes<Value>(
        _ section: String, _ old: [String: Value], _ new: [String: Value], _ settings: [Setting<Value>]
    ) -> [Change] {
        Set(old.keys).union(new.keys).flatMap { name -> [Change] in
            guard let before = old[name], let after = new[name] else {
                return [Change(name: "\(section).\(name)", isHot: settings.allSatisfy(\.appliesHot))]
            }
            return settings.filter { $0.write(before) != $0.write(after) }.map {
                Change(name: "\(section).\(name).\($0.name)", isHot: $0.appliesHot)
            }
        }
    }
}
