// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

extension Integrations {
    struct Event: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Hand in something that happened at the connection's vendor.",
            discussion:
                "Facts of deal.stage_changed: dealId, dealTitle, previousStage, newStage, personId, value (decimal "
                + "text), currency. An event that repeats an --id, or a time and facts, is taken once.")
        @Argument(help: "The plugin, or PLUGIN@NAME.") var integration: String
        @Argument(help: "name=value, such as dealId=42 newStage=won value=5000.00.") var facts: [String] = []
        @Option(help: "What happened.") var topic = VendorEvent.Topic.dealStageChanged.rawValue
        @Option(help: "Its id at the vendor.") var id: String?
        @Option(help: "When it happened, such as 2026-11-21T07:00:00Z.") var at: String?
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            var data: [String: JSONValue] = [:]
            for fact in facts {
                guard let sign = fact.firstIndex(of: "=") else {
                    throw ValidationError("\(fact) is not name=value, such as dealId=42.")
                }
                data[String(fact[..<sign])] = .string(String(fact[fact.index(after: sign)...]))
            }
            var body: [String: JSONValue] = ["topic": .string(topic), "data": .object(data)]
            if let id { body["id"] = .string(id) }
            if let at { body["at"] = .string(at) }
            let answer = try session.ask(
                "POST", session.path("integrations", integration, "events"), body: .object(body))
            session.show(answer) { session.pages.facts($0, ["id", "topic", "at", "data", "duplicate", "deliveries"]) }
        }
    }

    struct Events: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "List what was handed in for a connection, newest first, and what became of it.")
        @Argument(help: "The plugin, or PLUGIN@NAME.") var integration: String
        @Option(help: "Only of this topic.") var topic: String?
        @Option(help: "How many.") var limit = 50
        @Option(help: "Where to go on, from the answer before.") var cursor: String?
        @OptionGroup var common: Common

        func run() throws {
            let session = try common.session()
            let query: [String: String?] = ["topic": topic, "limit": String(limit), "cursor": cursor]
            let answer = try session.ask("GET", session.path("integrations", integration, "events"), query: query)
            session.show(answer) {
                let list = session.pages.list(
                    $0["events"]?.array ?? [], ["id", "topic", "at", "data", "deliveries"],
                    empty: "nothing was handed in")
                return $0["next"]?.string.map { "\(list)\nmore: --cursor \($0)" } ?? list
            }
        }
    }
}
