// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

struct Links: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List, show and describe links.", subcommands: [List.self, Show.self, Set.self],
        defaultSubcommand: List.self)
    static let facts = [
        "id", "slug", "short_url", "destination", "title", "folder", "tags", "flags", "owner", "totals",
        "highest_threshold",
    ]

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List links with their totals.")
        @Option(help: "Only this folder.") var folder: String?
        @Option(help: "How many.") var limit = 50
        @Option(help: "Where to go on, from the answer before.") var cursor: String?
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            let answer = try session.ask(
                "GET", session.path("links"), query: ["folder": folder, "limit": String(limit), "cursor": cursor])
            session.show(answer) {
                session.pages.list(
                    $0["links"]?.array ?? [], ["id", "slug", "folder", "flags", "totals"], empty: "no links")
                    + ($0["next"]?.string.map { "\nmore: --cursor \($0)" } ?? "")
            }
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show one link.")
        @Argument(help: "The link's id.") var link: String
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            session.show(try session.ask("GET", session.path("links", link))) { session.pages.facts($0, Links.facts) }
        }
    }

    struct Set: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Set a link's facts.",
            discussion:
                "name=value with slug, short_url, destination, title, folder, owner, tags=[\"a\"], flags=[\"test\"]; null clears."
        )
        @Argument(help: "The link's id.") var link: String
        @Argument(help: "name=value, at least one.") var facts: [String]
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            let body = JSONValue.object(try ConnectRequest.facts(facts))
            session.show(try session.ask("PUT", session.path("links", link), body: body)) {
                session.pages.facts($0, Links.facts)
            }
        }
    }
}
