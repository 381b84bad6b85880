// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

struct Reload: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Apply changes of the configuration; exit status 1 if something is wrong with it.")
    @OptionGroup var common: Common

    func run() throws {
        let session = try common.session()
        let answer = try session.ask("POST", "/v1/admin/reload")
        session.show(answer) {
            let text = session.pages.facts($0, ["applied", "restart_required", "errors"])
            return text.isEmpty ? "nothing has changed" : text
        }
        if !(answer["errors"]?.array ?? []).isEmpty { throw ExitCode(ExitStatus.failure.rawValue) }
    }
}
