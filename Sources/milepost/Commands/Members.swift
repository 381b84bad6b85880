// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

struct Members: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show members and their opt-out.", subcommands: [Show.self, Set.self])

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show one member.")
        @Argument(help: "The member's id.") var member: String
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            session.show(try session.ask("GET", session.path("members", member))) {
                session.pages.facts($0, ["id", "crm_opt_out"])
            }
        }
    }

    struct Set: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Take a member's links out of the CRM, or back in.")
        @Argument(help: "The member's id.") var member: String
        @Option(name: .customLong("crm-opt-out"), help: "true or false.") var isOptedOut: Bool
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            let body: JSONValue = ["crm_opt_out": .bool(isOptedOut)]
            session.show(try session.ask("PUT", session.path("members", member), body: body)) {
                session.pages.facts($0, ["id", "crm_opt_out"])
            }
        }
    }
}
