// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

struct Status: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show what the daemon does, and what is wrong with it.",
        discussion: """
            Exit status 0 when the daemon has answered, also with problems: 'milepost doctor' ends with 1 then. 3 when it \
            does not answer.
            """)
    @OptionGroup var common: Common

    func run() throws {
        let session = try common.session()
        session.show(try session.ask("GET", "/v1/admin/status"), session.pages.status)
    }
}
