// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import FoundationEssentials
import MilepostClient
import MilepostModel

struct Plans: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Show or replace what each plan allows.",
        discussion: """
            A matrix that was set here counts before the configuration's 'plans', from the next tick on, without a
            restart. Which plan a workspace is on: milepost workspaces set NAME --plan PLAN
            """, subcommands: [Show.self, Set.self], defaultSubcommand: Show.self)

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show the plans that count now.")
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            session.show(try session.ask("GET", "/v1/admin/plans")) { Plans.page($0, session.pages) }
        }
    }

    struct Set: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Replace all plans by those of a file.",
            discussion: """
                The file holds {"plans": {"free": {"fires": false}, "trial": {"trial_days": 14},
                "pro": {"integrations": ["pipedrive"]}}}. Left out: fires is true, integrations are all, a trial has no
                end. {"plans": {}} goes back to the configuration's.
                """)
        @Argument(help: "A JSON file, or - for standard input.") var file: String
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            let source = try LineSource(path: file)
            var text: [UInt8] = []
            while let line = try source.next(), text.count <= 1 << 20 { text += line + [0x0a] }
            let body: JSONValue
            do { body = try JSONValue(parsing: text) } catch {
                throw ClientError(code: "bad_file", detail: "\(file) is no JSON: \(error)")
            }
            session.show(try session.ask("PUT", "/v1/admin/plans", body: body)) { Plans.page($0, session.pages) }
        }
    }

    static func page(_ answer: JSONValue, _ pages: Pages) -> String {
        let rows = (answer["plans"]?.object ?? [:]).sorted { $0.key < $1.key }.map { name, plan -> JSONValue in
            var row = plan.object ?? [:]
            row["plan"] = .string(name)
            if row["integrations"] == .null { row["integrations"] = "all" }
            return .object(row)
        }
        let source = answer["source"]?.string ?? "configuration"
        return pages.list(
            rows, ["plan", "fires", "integrations", "trial_days"], empty: "no plans: every workspace may do everything")
            + (rows.isEmpty ? "" : "\nfrom the \(source == "api" ? "API" : source)")
    }
}
