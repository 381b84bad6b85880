// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

struct Keys: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List and rotate the keys that encrypt stored secrets.",
        subcommands: [List.self, New.self, Rewrap.self, Drop.self, Reread.self], defaultSubcommand: List.self)

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List keys and how many secrets each one wraps.")
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            session.show(try session.ask("GET", "/v1/admin/keys")) {
                session.pages.facts($0, ["current_key"]) + "\n"
                    + session.pages.list($0["keys"]?.array ?? [], ["id", "wraps"], empty: "no keys")
            }
        }
    }

    private static let original = """
        Where the daemon has a read-only copy of the ring (systemd's LoadCredential=), run this as root on its machine: the \
        original is changed, and the daemon takes it up when it is restarted.
        """

    struct Reread: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "reload", abstract: "Read the key ring again, after a key was added to it.")
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            session.show(try session.ask("POST", "/v1/admin/keys/reload")) {
                session.pages.facts($0, ["current_key", "keys"])
            }
        }
    }

    struct New: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Add a key to the ring and make it the current one; then run keys rewrap.",
            discussion: original)
        @OptionGroup var ring: OriginalRing
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            let answer: JSONValue
            do throws(ClientError) {
                answer = try session.ask("POST", "/v1/admin/keys")
            } catch {
                return try ring.change(["--new-key"], instead: error, session)
            }
            session.show(answer) { session.pages.facts($0, ["current_key"]) }
        }
    }

    struct Drop: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Take a key out of the ring that wraps nothing any more.", discussion: original)
        @OptionGroup var ring: OriginalRing
        @OptionGroup var common: Common
        @Argument(help: "The key's id, as keys list prints it.") var id: String

        func run() throws {
            let session = try common.session()
            let answer: JSONValue
            do throws(ClientError) {
                answer = try session.ask("DELETE", "/v1/admin/keys/\(id)")
            } catch {
                // The daemon has looked: nothing is wrapped by this key any more.
                return try ring.change(["--drop-key", id], instead: error, session)
            }
            session.show(answer) {
                session.pages.list($0["keys"]?.array ?? [], ["id", "wraps"], empty: "no keys")
            }
        }
    }

    struct Rewrap: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Wrap every secret with the current key, while the daemon runs.")
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            session.show(try session.ask("POST", "/v1/admin/keys/rewrap")) { session.pages.facts($0, ["rewrapped"]) }
        }
    }
}
