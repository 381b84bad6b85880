// SPDX-License-Identifier: Apache-2.0

/// What a reload would change.
public struct ConfigurationDifference: Sendable, Equatable {
    /// Keys that take effect with the reload, such as `schedule.window` or `plugins.pipedrive.enabled`; sorted.
    public var applied: [String] = []
    /// Keys that take effect only when the daemon starts anew; sorted.
    public var restartRequired: [String] = []

    public var isEmpty: Bool { applied.isEmpty && restartRequired.isEmpty }
}

extension Configuration {
    /// Which keys differ between two configurations.
    public static func diff(_ old: Configuration, _ new: Configuration) -> ConfigurationDifference {
        var difference = ConfigurationDifference()
        for setting in settings where setting.write(old) != setting.write(new) {
            if setting.appliesHot {
                difference.applied.append(setting.name)
            } else {
                difference.restartRequired.append(setting.name)
            }
        }
        difference.applied += changes("plans", old.plans, new.plans, Plan(), Plan.settings)
        difference.applied += changes("plugins", old.plugins, new.plugins, Plugin(), Plugin.settings)
        difference.applied.sort()
        difference.restartRequired.sort()
        return difference
    }

    /// A name that appears or goes counts as a change of its own, because an empty plan differs from none.
    private static func changes<Value>(
        _ section: String, _ old: [String: Value], _ new: [String: Value], _ defaults: Value,
        _ settings: [Setting<Value>]
    ) -> [String] {
        Set(old.keys).union(new.keys).flatMap { name -> [String] in
            guard let before = old[name], let after = new[name] else { return ["\(section).\(name)"] }
            return settings.filter { $0.write(before) != $0.write(after) }.map { "\(section).\(name).\($0.name)" }
        }
    }
}
