// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

struct Integrations: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List, show and change connections.",
        subcommands: [
            List.self, Show.self, Set.self, Check.self, Enable.self, Event.self, Events.self, Rollout.self,
        ],
        defaultSubcommand: List.self)

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List the workspace's connections.")
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            session.show(try session.ask("GET", session.path("integrations"))) {
                session.pages.connections($0["integrations"]?.array ?? [])
            }
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show one connection, with cause and cure of its state.")
        @Argument(help: "The plugin, or PLUGIN@NAME.") var integration: String
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            session.show(try session.ask("GET", session.path("integrations", integration)), session.pages.connection)
        }
    }

    struct Check: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Ask the vendor whether the settings still fit.",
            discussion: "The daemon does so once a day. Exit status 1 when something does not.")
        @Argument(help: "The plugin, or PLUGIN@NAME.") var integration: String
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            let answer = try session.ask(
                "POST", session.path("integrations", integration, "check"), body: .object([:]))
            let problems = answer["problems"]?.array ?? []
            session.show(answer) { _ in
                session.pages.list(problems, ["code", "message"], empty: "\(integration): the settings fit")
            }
            if !problems.isEmpty { throw ExitCode(ExitStatus.failure.rawValue) }
        }
    }

    struct Enable: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Let a connection deliver again that was disabled because its endpoint failed or was gone.",
            discussion:
                "What waited leaves oldest first, a little at a time until the endpoint has shown that it works.")
        @Argument(help: "The plugin, or PLUGIN@NAME.") var integration: String
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            let answer = try session.ask("POST", session.path("integrations", integration, "enable"))
            session.show(answer, session.pages.connection)
        }
    }

    struct Rollout: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show how to begin with a plugin, and how far this connection has come.")
        @Argument(help: "The plugin, or PLUGIN@NAME.") var integration: String
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            session.show(try session.ask("GET", session.path("integrations", integration, "rollout"))) {
                session.pages.list(
                    $0["steps"]?.array ?? [], ["state", "title", "text", "due_at"],
                    empty: "\(integration) gives no advice on how to begin")
            }
        }
    }

    struct Set: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Change settings; thresholds never fire backwards.")
        @Argument(help: "The plugin, or PLUGIN@NAME.") var integration: String
        @Argument(help: "name=value, such as aggregation=folder or thresholds=[50,500].") var settings: [String] = []
        @Option(name: .customLong("credential"), help: "name=value, or name=@file: proven, then swapped in place.")
        var credentials: [String] = []
        @Option(help: "Totals that make a deal, such as 100,1000.") var thresholds: String?
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            var body = try ConnectRequest.settings(settings)
            if let thresholds { body["thresholds"] = try ConnectRequest.thresholds(thresholds) }
            if !credentials.isEmpty { body["credentials"] = .object(try ConnectRequest.credentials(credentials)) }
            guard !body.isEmpty else { throw ValidationError("Name at least one setting, such as aggregation=folder.") }
            let answer = try session.ask("PATCH", session.path("integrations", integration), body: .object(body))
            session.show(answer, session.pages.connection)
        }
    }
}
