// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

struct Held: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List clicks that wait until somebody knows whose they are, or did.")
    @Option(help: "held, due, released or expired.") var state: String?
    @Option(help: "The plugin, or PLUGIN@NAME.") var integration: String?
    @Option(help: "How many.") var limit = 50
    @Option(help: "Where to go on, from the answer before.") var cursor: String?
    @OptionGroup var common: Common

    func run() throws {
        let session = try common.session()
        let query: [String: String?] = [
            "state": state, "integration": integration, "limit": String(limit), "cursor": cursor,
        ]
        session.show(try session.ask("GET", session.path("held"), query: query), session.pages.held)
    }
}
