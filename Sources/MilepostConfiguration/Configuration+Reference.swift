// SPDX-License-Identifier: Apache-2.0

extension Configuration {
    /// The complete configuration as YAML with comments: every key, its meaning and its default. Loading it changes nothing.
    public static func reference() -> String {
        let defaults = Configuration()
        var lines = [
            "# Milepost's configuration: every key with its default. A file needs only what differs.",
            "# conf.d/*.yaml beside it is merged over it in name order: maps key by key, lists and values whole.",
            "# The environment wins over files: MILEPOST_, the key in capitals, two underscores for each dot, such as",
            "# MILEPOST_SCHEDULE__THRESHOLD_INTERVAL=10s.",
            "# Keys marked (reload) take effect with 'milepost reload' or SIGHUP, all others when the daemon starts anew.",
        ]
        var section: String?
        for setting in settings {
            if setting.path.count == 1 || setting.path[0] != section { lines.append("") }
            let indent = setting.path.count == 1 ? "" : "  "
            if setting.path.count > 1, setting.path[0] != section { lines.append("\(setting.path[0]):") }
            section = setting.path[0]
            lines.append("\(indent)# \(setting.help)\(setting.appliesHot ? " (reload)" : "")")
            lines.append("\(indent)\(setting.path.last ?? ""): \(setting.write(defaults))")
        }
        lines += [
            "", "# Plans by name; a workspace without a plan, or an empty map, may do everything. One plan's keys:",
        ]
        lines += named("trial", Plan.settings, Plan()) + ["plans: {}"]
        lines += ["", "# Plugins by name: the file's stem, such as pipedrive. One plugin's keys:"]
        lines += named("pipedrive", Plugin.settings, Plugin()) + ["plugins: {}"]
        return lines.joined(separator: "\n") + "\n"
    }

    private static func named<Value>(_ name: String, _ settings: [Setting<Value>], _ defaults: Value) -> [String] {
        ["#   \(name):"]
            + settings.flatMap {
                ["#     # \($0.help)\($0.appliesHot ? " (reload)" : "")", "#     \($0.name): \($0.write(defaults))"]
            }
    }
}
