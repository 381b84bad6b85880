// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

struct Replay: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Try many dead deliveries again, or one by its id.")
    @Argument(help: "One delivery's id; without it the filters choose.") var id: String?
    @OptionGroup var filter: Deliveries.Filter
    @Option(help: "Only with this error code.") var code: String?
    @Option(help: "At most so many.") var limit: Int?
    @OptionGroup var common: Common

    func run() throws {
        let session = try common.session()
        if let id {
            return session.show(
                try session.ask("POST", session.path("deliveries", id, "replay")), session.pages.delivery)
        }
        var body: [String: JSONValue] = ["state": .string(filter.state ?? "dead")]
        for (name, value) in filter.query { if let value { body[name] = .string(value) } }
        if let code { body["code"] = .string(code) }
        if let limit { body["limit"] = .integer(Int64(limit)) }
        let answer = try session.ask("POST", session.path("deliveries", "replay"), body: .object(body))
        session.show(answer) { session.pages.facts($0, ["replayed"]) }
    }
}
