// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

struct Tokens: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make, list and revoke API tokens.", subcommands: [List.self, Create.self, Revoke.self],
        defaultSubcommand: List.self)

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List tokens; their secrets are not kept.")
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            session.show(try session.ask("GET", "/v1/admin/tokens")) {
                session.pages.list(
                    $0["tokens"]?.array ?? [],
                    ["id", "name", "scopes", "workspace", "created_at", "expires_at"],
                    empty: "no tokens")
            }
        }
    }

    struct Create: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Make a token; it is shown once.")
        @Argument(help: "What it is for.") var name: String
        @Option(name: .customLong("scope"), help: "admin, operator, viewer or ingest; may be repeated.")
        var scopes: [String] = ["ingest"]
        @Option(name: .customLong("expires-at"), help: "RFC 3339; never without it.") var expiresAt: String?
        @Flag(name: .customLong("only"), help: "Good for the workspace named by --workspace only.") var isBound = false
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            var body: [String: JSONValue] = ["name": .string(name), "scopes": .array(scopes.map(JSONValue.string))]
            if isBound || common.workspace != nil { body["workspace"] = .string(session.settings.workspace) }
            if let expiresAt { body["expires_at"] = .string(expiresAt) }
            session.show(try session.ask("POST", "/v1/admin/tokens", body: .object(body))) {
                session.pages.facts($0, ["id", "token", "scopes", "workspace", "expires_at"])
            }
        }
    }

    struct Revoke: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Make a token worthless at once.")
        @Argument(help: "The token's id.") var id: String
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            session.show(try session.ask("DELETE", ClientRequest.path("v1", "admin", "tokens", id))) { _ in "revoked" }
        }
    }
}
