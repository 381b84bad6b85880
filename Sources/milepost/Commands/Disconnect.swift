// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

struct Disconnect: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Disconnect an account; its history stays.",
        discussion: "Crossings while disconnected are recorded as reached and not fired.")
    @Argument(help: "The plugin, or PLUGIN@NAME.") var integration: String
    @OptionGroup var common: Common

    func run() throws {
        let session = try common.session()
        let answer = try session.ask("DELETE", session.path("integrations", integration))
        session.show(answer) { $0 == .null ? "disconnected" : session.pages.connection($0) }
    }
}
