// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

struct Options: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "List what a vendor offers for a setting: pipelines, stages, …")
    @Argument(help: "The plugin, or PLUGIN@NAME.") var integration: String
    @Argument(help: "The picker, such as pipelines.") var picker: String
    @Option(name: .customLong("set"), help: "name=value that the picker depends on, such as pipeline_id=1.")
    var values: [String] = []
    @Option(help: "Only what contains this text.") var search: String?
    @Option(help: "Where to go on, from the answer before.") var page: String?
    @OptionGroup var common: Common

    func run() throws {
        let session = try common.session()
        var query: [String: String?] = ["search": search, "page": page]
        for (name, value) in try ConnectRequest.settings(values) { query[name] = value.cell }
        let answer = try session.ask("GET", session.path("integrations", integration, "options", picker), query: query)
        session.show(answer) {
            session.pages.list($0["items"]?.array ?? [], ["value", "label", "group"], empty: "nothing to choose from")
        }
    }
}
