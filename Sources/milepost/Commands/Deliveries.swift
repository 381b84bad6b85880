// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

struct Deliveries: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List, show, replay, release and export deliveries.",
        subcommands: [List.self, Show.self, Again.self, Release.self, Out.self], defaultSubcommand: List.self)

    struct Filter: ParsableArguments {
        @Option(help: "pending, held, in_flight, uncertain, retrying, delivered, dropped or dead.") var state: String?
        @Option(help: "The plugin, or PLUGIN@NAME.") var integration: String?
        @Option(help: "The link's id.") var link: String?
        @Option(help: "Not older than this RFC 3339 time.") var since: String?

        var query: [String: String?] { ["state": state, "integration": integration, "link": link, "since": since] }
    }

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List deliveries, newest first.")
        @OptionGroup var filter: Filter
        @Option(help: "Text in the remote record or the reason.") var search: String?
        @Option(help: "How many.") var limit = 50
        @Option(help: "Where to go on, from the answer before.") var cursor: String?
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            var query = filter.query
            query["search"] = search
            query["limit"] = String(limit)
            query["cursor"] = cursor
            session.show(try session.ask("GET", session.path("deliveries"), query: query), session.pages.deliveries)
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show one delivery with its journal and every attempt.")
        @Argument(help: "The delivery's id.") var id: String
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            session.show(try session.ask("GET", session.path("deliveries", id)), session.pages.delivery)
        }
    }

    struct Again: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "replay", abstract: "Try a dead or dropped delivery again; finished steps are not repeated.")
        @Argument(help: "The delivery's id.") var id: String
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            session.show(try session.ask("POST", session.path("deliveries", id, "replay")), session.pages.delivery)
        }
    }

    struct Release: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Let one held delivery go now; no hook is asked about it again.",
            discussion: "What waits with its connection leaves once the connection is active, and cannot be released.")
        @Argument(help: "The delivery's id.") var id: String
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            session.show(try session.ask("POST", session.path("deliveries", id, "release")), session.pages.delivery)
        }
    }

    struct Out: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "export", abstract: "Print deliveries as NDJSON, one a line.")
        @OptionGroup var filter: Filter
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            let response = try session.client.send(
                ClientRequest("GET", session.path("deliveries", "export"), query: filter.query))
            print(String(decoding: response.body, as: UTF8.self), terminator: "")
        }
    }
}
