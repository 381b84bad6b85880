// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

struct Plugins: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List plugins, their health and why one does not run.", subcommands: [List.self, Show.self],
        defaultSubcommand: List.self)

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List plugins with their health.")
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            session.show(try session.ask("GET", "/v1/admin/plugins")) {
                session.pages.list(
                    $0["plugins"]?.array ?? [],
                    ["name", "version", "state", "enabled", "isolation", "maturity", "restarts", "pid", "reason"],
                    empty: "no plugins found in plugin_dirs")
            }
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show one plugin, and where the vendor shows the credentials it needs.")
        @Argument(help: "The plugin's name, such as pipedrive.") var plugin: String
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            let answer = try session.ask("GET", "/v1/admin/plugins")
            guard let found = (answer["plugins"]?.array ?? []).first(where: { $0["name"]?.string == plugin }) else {
                throw ClientError(
                    code: "not_found", detail: "there is no plugin \(plugin) in plugin_dirs",
                    advice: "'milepost plugins' lists those that are there")
            }
            session.show(found) {
                session.pages.facts(
                    $0, ["name", "title", "version", "state", "enabled", "isolation", "maturity", "reason"])
                    + CredentialGuide.all(of: plugin, in: answer).map { "\n\n\($0.name)\n  \($0.text)" }.joined()
            }
        }
    }
}
