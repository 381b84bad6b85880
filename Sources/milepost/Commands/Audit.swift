// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

struct Audit: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List who changed what.")
    @Option(help: "How many.") var limit = 50
    @Option(help: "Where to go on, from the answer before.") var cursor: String?
    @OptionGroup var common: Common

    func run() throws {
        let session = try common.session()
        let answer = try session.ask("GET", "/v1/admin/audit", query: ["limit": String(limit), "cursor": cursor])
        session.show(answer) {
            session.pages.list(
                $0["entries"]?.array ?? [], ["at", "actor", "action", "target", "detail"], empty: "nothing yet")
                + ($0["next"]?.string.map { "\nmore: --cursor \($0)" } ?? "")
        }
    }
}
