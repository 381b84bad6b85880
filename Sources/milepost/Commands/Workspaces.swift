// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

struct Workspaces: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List workspaces, and put one on a plan.", subcommands: [List.self, Set.self],
        defaultSubcommand: List.self)

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List workspaces.")
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            session.show(try session.ask("GET", "/v1/workspaces")) {
                session.pages.list(
                    $0["workspaces"]?.array ?? [], ["id", "plan", "created_at"], empty: "no workspaces yet")
            }
        }
    }

    struct Set: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Put a workspace on a plan of the configuration.")
        @Argument(help: "The workspace.") var id: String
        @Option(help: "The plan's name.") var plan: String?
        @Option(name: .customLong("trial-started-at"), help: "RFC 3339.") var trialStartedAt: String?
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            var body: [String: JSONValue] = [:]
            if let plan { body["plan"] = .string(plan) }
            if let trialStartedAt { body["trial_started_at"] = .string(trialStartedAt) }
            session.show(try session.ask("PUT", ClientRequest.path("v1", "workspaces", id), body: .object(body))) {
                session.pages.facts($0, ["id", "plan", "trial_started_at", "created_at"])
            }
        }
    }
}
