// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

struct Explain: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Say why each rule did or did not fire: for a link, a rolling rule, a contact or a click.")
    @Argument(help: "The link's id.") var link: String?
    @Option(help: "A rolling rule's id: who has come how far.") var rule: String?
    @Option(help: "A contact: how far it has come under each rolling rule.") var contact: String?
    @Option(help: "A click's id: what each rolling rule made of it.") var event: String?
    @OptionGroup var common: Common

    func validate() throws {
        guard [link, rule, contact, event].compactMap(\.self).count == 1 else {
            throw ValidationError("Give one of a link, --rule, --contact and --event.")
        }
    }

    func run() throws {
        let session = try common.session()
        if let link {
            session.show(try session.ask("GET", session.path("links", link, "explain")), session.pages.explain)
        } else if let rule {
            session.show(try session.ask("GET", session.path("rules", rule, "explain"))) {
                RulePages.explanations($0, session.pages)
            }
        } else {
            let answer = try session.ask(
                "GET", session.path("rules", "explain"), query: ["contact": contact, "event": event])
            session.show(answer) { RulePages.explanations($0, session.pages) }
        }
    }
}
