// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

struct Tick: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Run the threshold schedule now, and wait until it is done.")
    @Flag(help: "Only the workspace named by --workspace.") var only = false
    @OptionGroup var common: Common

    func run() throws {
        let session = try common.session()
        let workspace = only || common.workspace != nil ? session.settings.workspace : nil
        let answer = try session.ask("POST", "/v1/admin/tick", query: ["workspace": workspace])
        session.show(answer) {
            session.pages.facts(
                $0,
                [
                    "duration_ms", "workspaces", "links_examined", "crossings", "delivered", "retrying", "uncertain",
                    "held",
                    "dead", "errors",
                ])
        }
    }
}
