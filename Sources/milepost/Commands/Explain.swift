// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

struct Explain: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Say why each rule did or did not fire for a link.")
    @Argument(help: "The link's id.") var link: String
    @OptionGroup var common: Common

    func run() throws {
        let session = try common.session()
        session.show(try session.ask("GET", session.path("links", link, "explain")), session.pages.explain)
    }
}
