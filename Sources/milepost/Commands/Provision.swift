// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

struct Provision: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Make what a plugin needs at the vendor: properties, event templates.",
        discussion: """
            Looks first and keeps what is there, so that it may be run again at any time. Objects of the vendor's app, which
            all connections share, are made with --app and the app's own key ('milepost app set').
            """)
    @Argument(help: "The plugin, or PLUGIN@NAME.") var integration: String
    @Flag(help: "Objects of the vendor's app, not of the account.") var app = false
    @Flag(help: "Take away instead, with what the objects hold.") var remove = false
    @Option(name: .customLong("object"), help: "Only this object, by its key; may be repeated.") var objects: [String] =
        []
    @OptionGroup var common: Common

    func run() throws {
        let session = try common.session()
        if remove, !app, objects.isEmpty {
            throw ValidationError("Name what is to be taken away: --object KEY, as 'milepost provision' shows them.")
        }
        if !common.json, Prompt.isPossible {
            Prompt.say("Looking and making; vendors take up to a minute to show what they made …")
        }
        let body: JSONValue = ["objects": .array(objects.map(JSONValue.string))]
        let answer =
            switch (app, remove) {
            case (false, false):
                try session.ask("POST", session.path("integrations", integration, "provision"), body: body)
            case (false, true):
                try session.ask("POST", session.path("integrations", integration, "deprovision"), body: body)
            case (true, false): try session.ask("POST", "/v1/admin/apps/\(integration)/provision", body: body)
            case (true, true): try session.ask("POST", "/v1/admin/apps/\(integration)/deprovision", body: body)
            }
        session.show(answer) {
            session.pages.list(
                $0["objects"]?.array ?? [], ["key", "state", "remote_id"], empty: "the plugin needs nothing there")
        }
    }
}
