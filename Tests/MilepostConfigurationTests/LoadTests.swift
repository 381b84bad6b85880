// SPDX-License-Identifier: Apache-2.0

import FoundationEssentials
import MilepostConfiguration
import MilepostModel
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
            "milepost.yaml": "schedule: {threshold_interval: 10s, late_buffer: 5s}\nplugin_dirs: [/a, /b]\n",
            "conf.d/20-b.yaml": "schedule: {threshold_interval: 30s}\nplugins: {pipedrive: {enabled: true}}\n",
            "conf.d/10-a.yaml":
                "schedule: {threshold_interval: 20s}\nplugin_dirs: [/c]\nplugins: {pipedrive: {isolation: inline}}\n",
            "conf.d/ignored.yml": "nonsense: true\n",
        ])
        let configuration = try Configuration.load(path: folder.main, environment: [:])
        #expect(configuration.schedule.thresholdInterval == .seconds(30))
        #expect(configuration.schedule.lateBuffer == .seconds(5))
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
            try Configuration.load(path: folder.main, environment: ["MILEPOST_SCHEDULE__WINDW": "10m"])
        }
        #expect(
            error.description
                == "environment: MILEPOST_SCHEDULE__WINDW names no key; did you mean MILEPOST_SCHEDULE__WINDOW?")
        let loaded = try Configuration.examine(path: folder.main, environment: ["MILEPOST_SERVICE_HOST": "10.0.0.1"])
        #expect(loaded.warnings.map(\.code) == [.unknownVariable])
        let wrong = try #require(throws: ConfigurationError.self) {
            try Configuration.load(path: folder.main, environment: ["MILEPOST_SCHEDULE__WINDOW": "soon"])
        }
        #expect(
            wrong.description.hasPrefix("environment MILEPOST_SCHEDULE__WINDOW: schedule.window: expected a duration"))
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
            "plans:\n  free: {integrations: [], fires: false}\n  trial: {days: 14}\n  pro: {integrations: [pipedrive]}\n"
        ).plans
        #expect(plans["free"]?.fires == false && plans["free"]?.integrations == [])
        #expect(plans["trial"]?.days == 14 && plans["trial"]?.integrations == nil)
        #expect(plans["pro"]?.integrations == ["pipedrive"])
    }

    @Test("EXT-15: a difference names the keys, and which of them need a restart")
    func difference() throws {
        let old = Configuration()
        let new = try Configuration.parse(
            "listen: 127.0.0.1:9\nschedule: {window: 10m}\nplugins: {pipedrive: {enabled: true}}\n")
        let difference = Configuration.diff(old, new)
        #expect(difference.applied == ["plugins.pipedrive", "schedule.window"])
        #expect(difference.restartRequired == ["listen"])
        #expect(Configuration.diff(new, new).isEmpty)
        var changed = new
        changed.plugins["pipedrive"]?.memory = 32 << 20
        #expect(Configuration.diff(new, changed).applied == ["plugins.pipedrive.memory"])
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

    @Test("a plugin's own settings keep their types")
    func pluginSettings() throws {
        let yaml = "plugins: {x: {settings: {a: 1, b: '1', c: [true, 1.5], d: {e: text}, f: null}}}"
        let settings = try #require(try Configuration.parse(yaml).plugins["x"]?.settings)
        #expect(
            settings == [
                "a": 1, "b": "1", "c": .array([true, .number(1.5)]), "d": .object(["e": "text"]), "f": .null,
            ])
    }
}
