// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import MilepostConfiguration
import Testing

/// A folder of configuration files that goes away with the test.
final class ConfigurationFolder {
    let path: String

    init(_ files: [String: String]) throws {
        path = FileManager.default.temporaryDirectory.path + "/milepost-configuration-\(UUID().uuidString)"
        try FileManager.default.createDirectory(atPath: path + "/conf.d", withIntermediateDirectories: true)
        for (name, text) in files { try Data(text.utf8).write(to: URL(filePath: "\(path)/\(name)")) }
    }

    var main: String { path + "/milepost.yaml" }

    // Best effort: a folder left behind in the temporary directory harms nobody.
    deinit { try? FileManager.default.removeItem(atPath: path) }
}

@Suite("loading")
struct LoadTests {
    @Test("conf.d is merged in name order: maps key by key, lists and values whole")
    func merge() throws {
        let folder = try ConfigurationFolder([
            "milepost.yaml": "retention: {clicks_days: 10, deliveries_days: 5}\nplugin_dirs: [/a, /b]\n",
            "conf.d/20-b.yaml": "retention: {clicks_days: 30}\nplugins: {pipedrive: {enabled: true}}\n",
            "conf.d/10-a.yaml":
                "retention: {clicks_days: 20}\nplugin_dirs: [/c]\nplugins: {pipedrive: {isolation: inline}}\n",
            "conf.d/ignored.yml": "nonsense: true\n",
        ])
        let configuration = try Configuration.load(path: folder.main, environment: [:])
        #expect(configuration.retention.clicksDays == 30)
        #expect(configuration.retention.deliveriesDays == 5)
        #expect(configuration.pluginDirectories == ["/c"])
        #expect(configuration.plugins["pipedrive"]?.enabled == true)
        #expect(configuration.plugins["pipedrive"]?.isolation == .inline)
    }

    @Test("errors of all files come together, and name the file that holds them")
    func errorsOfAllFiles() throws {
        let folder = try ConfigurationFolder([
            "milepost.yaml": "lisen: a:1\n", "conf.d/a.yaml": "listen: [\n",
            "conf.d/b.yaml": "log: {level: info}\nlgo: 1\n",
        ])
        let error = try #require(throws: ConfigurationError.self) {
            try Configuration.load(path: folder.main, environment: [:])
        }
        #expect(error.issues.count == 3)
        #expect(error.issues.first?.description == "\(folder.main):1: unknown key 'lisen'; did you mean 'listen'?")
        #expect(error.issues.contains { $0.file.hasSuffix("conf.d/a.yaml") && $0.code == .notYAML })
        #expect(
            error.issues.last?.description == "\(folder.path)/conf.d/b.yaml:2: unknown key 'lgo'; did you mean 'log'?")
    }

    @Test("the environment wins over files, lists by commas, plugins by name")
    func environment() throws {
        let folder = try ConfigurationFolder(["milepost.yaml": "listen: 127.0.0.1:1\n"])
        let configuration = try Configuration.load(
            path: folder.main,
            environment: [
                "MILEPOST_LISTEN": "127.0.0.1:2,[::1]:3", "MILEPOST_SCHEDULE__THRESHOLD_INTERVAL": "10s",
                "MILEPOST_PLUGINS__CUSTOM_HOOK__ENABLED": "true", "MILEPOST_PLUGIN_DIRS": "[/x, /y]",
                "MILEPOST_PLUGINS__PIPEDRIVE__ENDPOINTS__API": "http://127.0.0.1:9",
                "MILEPOST_URL": "http://elsewhere", "MILEPOST_TOKEN": "secret", "PATH": "/bin",
                "MILEPOST_INCLUDE": "/usr/include", "MILEPOST_KIT": "/usr/share/milepost/MilepostKit",
            ])
        #expect(configuration.listen.map(\.description) == ["127.0.0.1:2", "[::1]:3"])
        #expect(configuration.schedule.thresholdInterval == .seconds(10))
        #expect(configuration.plugins["custom-hook"]?.enabled == true)
        #expect(configuration.plugins["pipedrive"]?.endpoints == ["api": "http://127.0.0.1:9"])
        #expect(configuration.pluginDirectories == ["/x", "/y"])
    }

    @Test("a mistyped variable below a section is an error; one an orchestrator sets is a warning")
    func unknownVariables() throws {
        let folder = try ConfigurationFolder(["milepost.yaml": ""])
        let error = try #require(throws: ConfigurationError.self) {
            try Configuration.load(path: folder.main, environment: ["MILEPOST_SCHEDULE__THRESHOLD_INTERVL": "10m"])
        }
        #expect(
            error.description
                == "environment: MILEPOST_SCHEDULE__THRESHOLD_INTERVL names no key; did you mean MILEPOST_SCHEDULE__THRESHOLD_INTERVAL?"
        )
        let loaded = try Configuration.examine(path: folder.main, environment: ["MILEPOST_SERVICE_HOST": "10.0.0.1"])
        #expect(loaded.warnings.map(\.code) == [.unknownVariable])
        let wrong = try #require(throws: ConfigurationError.self) {
            try Configuration.load(path: folder.main, environment: ["MILEPOST_RETENTION__CLICKS_DAYS": "soon"])
        }
        #expect(
            wrong.description.hasPrefix("environment MILEPOST_RETENTION__CLICKS_DAYS: retention.clicks_days: expected"))
    }

    @Test("systemd's credentials directory wins for the key")
    func credentialsDirectory() throws {
        let folder = try ConfigurationFolder(["milepost.yaml": "kms: {path: /elsewhere/kek}\n"])
        let configuration = try Configuration.load(
            path: folder.main, environment: ["CREDENTIALS_DIRECTORY": "/run/credentials/milepost.service"])
        #expect(configuration.kms.path == "/run/credentials/milepost.service/kek")
    }

    @Test("a missing file, a folder and a file that is too large are refused")
    func unreadable() throws {
        let folder = try ConfigurationFolder([
            "milepost.yaml": "listen: a:1\n", "large.yaml": String(repeating: "#", count: (1 << 20) + 1),
        ])
        for (path, code) in [
            (folder.path + "/missing.yaml", ConfigurationIssue.Code.unreadable), (folder.path + "/conf.d", .unreadable),
            (folder.path + "/large.yaml", .tooLarge),
        ] {
            let error = try #require(throws: ConfigurationError.self) {
                try Configuration.load(path: path, environment: [:])
            }
            #expect(error.issues.map(\.code) == [code])
        }
    }

    @Test("PLAN-05: plans are data, and none means no gate")
    func plans() throws {
        #expect(Configuration().plans.isEmpty)
        let plans = try Configuration.parse(
            "plans:\n  free: {integrations: [], fires: false}\n  trial: {trial_days: 14}\n  pro: {integrations: [pipedrive]}\n"
        ).plans
        #expect(plans["free"]?.fires == false && plans["free"]?.integrations == [])
        #expect(plans["trial"]?.trialDays == 14 && plans["trial"]?.integrations == nil)
        #expect(plans["pro"]?.integrations == ["pipedrive"])
    }

    @Test("EXT-15: a difference names the keys, and which of them need a restart")
    func difference() throws {
        let old = Configuration()
        let new = try Configuration.parse(
            "listen: 127.0.0.1:9\nlog: {level: debug}\nplugins: {pipedrive: {enabled: true}}\nplans: {free: {}}\n")
        let difference = Configuration.diff(old, new)
        #expect(difference.applied == ["log.level", "plugins.pipedrive"])
        #expect(difference.restartRequired == ["listen", "plans.free"])
        #expect(Configuration.diff(new, new).isEmpty)
        var changed = new
        changed.plugins["pipedrive"]?.ratePlan = "ultimate"
        #expect(Configuration.diff(new, changed).applied == ["plugins.pipedrive.rate_plan"])
        // The same with what is in force and what would be; a name that comes or goes is shown whole.
        let values = Configuration.changes(from: new, to: changed)
        #expect(values.map(\.key) == ["plugins.pipedrive.rate_plan"] && values[0].before != values[0].after)
        let named = Configuration.changes(from: old, to: new).first { $0.key == "plans.free" }
        #expect(named?.needsRestart == true && [named?.before, named?.after].compactMap { $0 }.count == 1)
        #expect([named?.before, named?.after].compactMap { $0 }.first?.contains("fires: ") == true)
    }

    @Test("EXT-15: a reload takes exactly the keys that the difference calls applied")
    func hotKeys() throws {
        let old = Configuration()
        let fresh = try Configuration.parse(
            """
            listen: 127.0.0.1:9
            plans: {free: {fires: false}}
            plugins: {pipedrive: {enabled: true, isolation: inline}}
            trusted_proxies: [10.0.0.0/8]
            log: {level: trace, format: json}
            metrics: {public: true}
            bots: {extra_agents: [probe]}
            retention: {clicks_days: 7, deliveries_days: 8, dedupe_days: 9}
            intake: {max_body: 2MiB, max_line: 1KiB, max_depth: 4, group_commit_max: 7, future_tolerance: 1s}
            limits: {connections: 5, idle_timeout: 5s, max_json_body: 2KiB, workspaces: 3, integrations_per_workspace: 2}
            """)
        let difference = Configuration.diff(old, fresh)
        let after = old.takingHotKeys(of: fresh)
        let (taken, left) = (Configuration.diff(old, after), Configuration.diff(after, fresh))
        #expect(taken.applied == difference.applied && taken.restartRequired.isEmpty)
        #expect(left.restartRequired == difference.restartRequired && left.applied.isEmpty)
        #expect(
            difference.restartRequired == [
                "intake.group_commit_max", "limits.connections", "limits.idle_timeout", "listen", "log.format",
                "plans.free",
            ])
        #expect(difference.applied.count == 15)
    }

    @Test("durations and sizes read as written", arguments: [("1h30m", 5400), ("90d", 7_776_000), ("2m5s", 125)])
    func durations(text: String, seconds: Int) throws {
        let yaml = "delivery: {max_age: \(text)}"
        let expected = Duration.seconds(seconds)
        if expected >= .seconds(60), expected <= .seconds(2_592_000) {
            #expect(try Configuration.parse(yaml).delivery.maxAge == expected)
        } else {
            #expect(throws: ConfigurationError.self) { try Configuration.parse(yaml) }
        }
    }
}
