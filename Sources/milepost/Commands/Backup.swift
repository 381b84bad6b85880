// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

struct Backup: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Copy the database while the daemon runs.",
        discussion:
            "The daemon writes the file, so its user needs the right to. The key ring is not in it: keep that apart.")
    @Argument(help: "The file to make, on the daemon's machine.") var path: String
    @OptionGroup var common: Common

    func run() throws {
        let session = try common.session()
        session.show(try session.ask("POST", "/v1/admin/backup", body: ["path": .string(path)])) {
            session.pages.facts($0, ["path", "bytes", "duration_ms"])
        }
    }
}
