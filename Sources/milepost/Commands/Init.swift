// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostConfiguration
import MilepostModel

struct Init: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make configuration, key, database and first token.",
        discussion: "Runs 'milepostd --init', which refuses while a daemon holds the data directory.")

    @Option(help: "The configuration file to make or to use.")
    var config = "/etc/milepost/milepost.yaml"
    @Flag(name: .customLong("no-save"), help: "Do not write the token file.")
    var isUnsaved = false
    @OptionGroup var common: Common

    func run() throws {
        let environment = ProcessEnvironment.current
        let answer = try DaemonInitialisation.run(
            configuration: config, template: Configuration.reference(),
            ownPath: DaemonInitialisation.ownPath(CommandLine.arguments), environment: environment)
        var saved: String?
        if !isUnsaved, let token = answer["token"]?.string {
            saved = try ClientSettings.save(token: token, environment: environment)
        }
        guard !common.json else { return print(answer) }
        print("configuration  \(answer["config"]?.string ?? config)")
        if let kek = answer["kek"]?.string { print("key            \(kek)   (keep a copy apart from backups)") }
        if let saved {
            print("token          saved in \(saved)")
        } else {
            print("token          \(answer["token"]?.string ?? "-")   (shown once)")
        }
        let isUsual = config == "/etc/milepost/milepost.yaml"
        let start =
            ServiceUnit(configuration: config) == nil
            ? "milepostd\(isUsual ? "" : " --config \(config)")" : "systemctl start \(ServiceUnit.shortName)"
        print("next           \(start), then: milepost connect PLUGIN")
    }
}
