// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostConfiguration
import MilepostModel

struct Restore: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Put a backup in the place of the database.",
        discussion: """
            Runs 'milepostd --restore', which refuses while a daemon works on the data directory. The backup is checked, page \
            by page and by this version, before it takes anybody's place; what was there is kept beside it. The key ring is \
            no part of a backup.

            Refresh tokens in a backup may be dead: vendors replace them, and some end an installation when an old one \
            comes back. The daemon sends nothing with such a token until a person has decided.
            """)

    @Argument(help: "The backup, as 'milepost backup' made it.") var path: String
    @Option(help: "The configuration file, which names the data directory.") var config = "/etc/milepost/milepost.yaml"
    @OptionGroup var common: Common

    func run() throws {
        let answer = try DaemonInitialisation.restore(
            backup: path, configuration: config, ownPath: DaemonInitialisation.ownPath(CommandLine.arguments),
            environment: ProcessEnvironment.current)
        guard !common.json else { return print(answer) }
        print("restored       \(answer["restored"]?.string ?? path)")
        if let kept = answer["kept"]?.string { print("kept           \(kept)   (remove it when all is well)") }
        let chains = answer["connections"]?.array ?? []
        if !chains.isEmpty {
            print(
                """

                \(chains.count == 1 ? "1 connection holds" : "\(chains.count) connections hold") refresh tokens, and these may have been replaced since the backup. Milepost \
                sends nothing with those that were: such a connection waits with the reason "restored or copied \
                credentials" until it is connected again ('milepost connect … --oauth'), or until 'milepost app adopt' \
                says that no other daemon works with it. Once milepostd runs, 'milepost doctor' names those connections.
                """)
        }
        let isInstalled = ServiceUnit(configuration: config) != nil
        let start = isInstalled ? "systemctl start \(ServiceUnit.shortName)" : "start milepostd"
        print("next           \(start), then: milepost status")
    }
}
