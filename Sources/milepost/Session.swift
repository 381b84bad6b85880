// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import Glibc
import MilepostClient
import MilepostModel

/// Options every command has.
struct Common: ParsableArguments {
    @Flag(help: "Print the daemon's JSON answer.")
    var json = false

    @Option(name: .shortAndLong, help: "The workspace; else MILEPOST_WORKSPACE, else 'default'.")
    var workspace: String?

    func session() throws(ClientError) -> Session { try Session(self) }
}

/// One run of a command: who is asked, and how the answer is shown.
struct Session {
    let environment: [String: String]
    let settings: ClientSettings
    let client: RESTClient
    let pages: Pages
    let isJSON: Bool

    init(_ common: Common) throws(ClientError) {
        environment = ProcessEnvironment.current
        settings = try ClientSettings.resolve(environment: environment, workspace: common.workspace)
        client = try RESTClient(settings: settings)
        pages = Pages(terminal: .standardOutput(environment: environment), now: ProcessEnvironment.now)
        isJSON = common.json
    }

    /// `/v1/workspaces/<this one>/<parts>`, each part percent-encoded.
    func path(_ parts: String...) -> String {
        ClientRequest.path("v1", "workspaces", settings.workspace) + parts.map { ClientRequest.path($0) }.joined()
    }

    func ask(
        _ method: String, _ path: String, query: [String: String?] = [:], body: JSONValue? = nil
    ) throws(ClientError) -> JSONValue {
        try client.json(ClientRequest(method, path, query: query, body: body?.bytes))
    }

    func show(_ answer: JSONValue, _ page: (JSONValue) -> String) {
        print(isJSON ? answer.description : page(answer))
    }
}
