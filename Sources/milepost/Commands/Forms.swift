// SPDX-License-Identifier: Apache-2.0

import ArgumentParser
import MilepostClient
import MilepostModel

struct Forms: ParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Record a form submission: the JSON object on standard input.")
    @OptionGroup var common: Common

    func run() throws {
        let session = try common.session()
        var text = ""
        while let line = readLine(strippingNewline: false), text.utf8.count < 1 << 20 { text += line }
        guard let body = try? JSONValue(parsing: text), body.object != nil else {
            throw ClientError(code: "bad_input", detail: "standard input holds no JSON object")
        }
        session.show(try session.ask("POST", session.path("forms"), body: body), \.cell)
    }
}
