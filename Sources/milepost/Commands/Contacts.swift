// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

struct Export: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Print everything about a person.", subcommands: [Contact.self])

    struct Contact: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print clicks, deliveries and forms of a contact as JSON.")
        @Argument(help: "The contact's id.") var contact: String
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            let response = try session.client.send(ClientRequest("GET", session.path("contacts", contact, "export")))
            print(String(decoding: response.body, as: UTF8.self))
        }
    }
}

struct Erase: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Remove every trace of a person.", subcommands: [Contact.self])

    struct Contact: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Erase a contact; totals stay.")
        @Argument(help: "The contact's id.") var contact: String
        @Flag(help: "Do not ask.") var yes = false
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            if !yes {
                guard Prompt.isPossible, Prompt.line("Erase \(contact) for good? Type the id again: ") == contact else {
                    throw ClientError(code: "bad_input", detail: "nothing was erased", advice: "confirm with --yes")
                }
            }
            session.show(try session.ask("DELETE", session.path("contacts", contact))) {
                session.pages.facts($0, ($0.object ?? [:]).keys.sorted())
            }
        }
    }
}
