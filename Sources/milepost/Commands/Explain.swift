// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

struct Explain: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Say why something did or did not happen: for a link, a rolling rule, a contact or a click.")
    @Argument(help: "The link's id.") var link: String?
    @Option(help: "A rolling rule's id: who has come how far.") var rule: String?
    @Option(help: "A contact: how far it has come under each rolling rule.") var contact: String?
    @Option(help: "A click's id: what became of it at each connection, and what each rolling rule made of it.")
    var event: String?
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
        } else if let event {
            let sent = try session.ask("GET", session.path("events", event, "explain"))
            let rules = try session.ask("GET", session.path("rules", "explain"), query: ["event": event])
            let both = JSONValue.object((sent.object ?? [:]).merging(["rules": rules["explanations"] ?? []]) { $1 })
            session.show(both) { _ in
                [session.pages.explainEvent(sent), RulePages.explanations(rules, session.pages)]
                    .filter { !$0.isEmpty }.joined(separator: "\n")
            }
        } else {
            let answer = try session.ask("GET", session.path("rules", "explain"), query: ["contact": contact])
            session.show(answer) { RulePages.explanations($0, session.pages) }
        }
    }
}
