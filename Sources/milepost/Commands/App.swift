// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

struct App: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Set and show the vendors' apps that connections are installed by (OAuth 2.0).",
        discussion: """
            An app is made once in the vendor's developer portal; it gives a client id and a client secret, and wants the
            redirect URI that 'milepost app show' prints. Secrets are stored encrypted and never shown again.
            """,
        subcommands: [Set.self, Show.self, Remove.self, Adopt.self], defaultSubcommand: Show.self)

    static let facts = ["plugin", "client_id", "app_id", "secrets", "redirect_uri", "updated_at"]

    struct Set: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Set an app's client id and secret.",
            discussion: "On a terminal the secret is asked for; else it is the first line of standard input.")
        @Argument(help: "The plugin.") var plugin: String
        @Option(name: .customLong("client-id"), help: "The app's client id; left out when only a secret changes.")
        var clientID: String?
        @Option(name: .customLong("app-id"), help: "The app's number at the vendor, where the vendor has one.")
        var appID: String?
        @Flag(name: .customLong("developer-key"), help: "Read a developer key after the secret, on its own line.")
        var readsDeveloperKey = false
        @Flag(name: .customLong("keep-secret"), help: "Leave the client secret as it is.")
        var keepsSecret = false
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            var body: [String: JSONValue] = [:]
            if let clientID { body["client_id"] = .string(clientID) }
            if let appID { body["app_id"] = .string(appID) }
            if !keepsSecret { body["client_secret"] = .string(try read("client secret")) }
            if readsDeveloperKey { body["developer_key"] = .string(try read("developer key")) }
            guard !body.isEmpty else { throw ValidationError("Name what is to be set, such as --client-id.") }
            let answer = try session.ask("PUT", "/v1/admin/apps/\(plugin)", body: .object(body))
            session.show(answer) { session.pages.facts($0, App.facts) }
        }

        private func read(_ what: String) throws -> String {
            let line = Prompt.isPossible ? Prompt.secret("\(plugin) \(what): ") : readLine()
            let text = ConnectRequest.trimmed(line ?? "")
            guard !text.isEmpty else {
                throw ClientError(
                    code: "bad_input", detail: "no \(what) for \(plugin)", advice: "pipe it in, or type it when asked")
            }
            return text
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show one app, or list all; secrets are never shown.")
        @Argument(help: "The plugin.") var plugin: String?
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            guard let plugin else {
                session.show(try session.ask("GET", "/v1/admin/apps")) {
                    session.pages.list(
                        $0["apps"]?.array ?? [], App.facts, empty: "no apps; 'milepost app set PLUGIN' makes one")
                }
                return
            }
            session.show(try session.ask("GET", "/v1/admin/apps/\(plugin)")) { session.pages.facts($0, App.facts) }
        }
    }

    struct Remove: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Forget an app and its secrets; its connections can no longer be refreshed.")
        @Argument(help: "The plugin.") var plugin: String
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            session.show(try session.ask("DELETE", "/v1/admin/apps/\(plugin)")) {
                session.pages.facts($0, ["plugin", "removed"])
            }
        }
    }

    struct Adopt: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Go on with restored or copied credentials.",
            discussion: """
                After a restore or a move Milepost sends nothing with tokens that another daemon may have replaced: a
                refresh would end that one's access. Run this only when no other daemon works with them.
                """)
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            session.show(try session.ask("POST", "/v1/admin/oauth/adopt")) { session.pages.facts($0, ["adopted"]) }
        }
    }
}
