// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

struct Audit: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List who changed what, or compare totals with a recount.")
    @Option(help: "How many.") var limit = 50
    @Option(help: "Where to go on, from the answer before.") var cursor: String?
    @Flag(help: "Recount every link's clicks and list totals that differ; exit status 1 if one does.") var totals =
        false
    @OptionGroup var common: Common

    func run() throws {
        let session = try common.session()
        if totals {
            let answer = try session.ask("GET", "/v1/admin/audit-totals")
            let mismatches = answer["mismatches"]?.array ?? []
            session.show(answer) { _ in
                session.pages.list(
                    mismatches, ["workspace", "link", "stored", "recounted"], empty: "every total equals its recount")
            }
            if !mismatches.isEmpty { throw ExitCode(ExitStatus.failure.rawValue) }
            return
        }
        let answer = try session.ask("GET", "/v1/admin/audit", query: ["limit": String(limit), "cursor": cursor])
        session.show(answer) {
            session.pages.list(
                $0["entries"]?.array ?? [], ["at", "actor", "action", "target", "detail"], empty: "nothing yet")
                + ($0["next"]?.string.map { "\nmore: --cursor \($0)" } ?? "")
        }
    }
}
