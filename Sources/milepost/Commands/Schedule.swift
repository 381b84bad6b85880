// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

struct Schedule: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show when each schedule ran and will run; exit status 1 if one is overdue.")
    @OptionGroup var common: Common

    func run() throws {
        let session = try common.session()
        let answer = try session.ask("GET", "/v1/admin/schedule")
        session.show(answer, session.pages.schedule)
        // THR-18: the status is what a monitor reads.
        if (answer["schedules"]?.array ?? []).contains(where: { $0["overdue"]?.bool == true }) {
            throw ExitCode(ExitStatus.failure.rawValue)
        }
    }
}
