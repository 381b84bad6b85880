// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

struct Explain: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Say why each rule did or did not fire for a link, or what became of a click.")
    @Argument(help: "The link's id.") var link: String?
    @Option(help: "A click's id, in the link's place.") var event: String?
    @OptionGroup var common: Common

    func validate() throws {
        guard (link == nil) != (event == nil) else { throw ValidationError("Name a link, or a click with --event.") }
    }

    func run() throws {
        let session = try common.session()
        if let event {
            session.show(
                try session.ask("GET", session.path("events", event, "explain")), session.pages.explainEvent)
            return
        }
        guard let link else { return }
        session.show(try session.ask("GET", session.path("links", link, "explain")), session.pages.explain)
    }
}
